// Reads one YAML or JSON file into trees, one per document: every syntax error, every value with its line and column.
import { shieldReferences } from './flow-references.ts';
import type { ItemsRead } from './items-read.ts';
import { readPlainYaml, type YamlReading } from './read-plain-yaml.ts';
import { type SubstitutionContext, substitute } from './substitute.ts';
import { plainSource, type ReadResult, type SourceFile } from './tree.ts';

export async function readYaml(
  written: string,
  file: SourceFile,
  context: Omit<SubstitutionContext, 'dir'>,
): Promise<ReadResult> {
  // JSON indents with tabs, YAML never does; a space keeps the columns.
  const isJson = file.display.endsWith('.json');
  const { text, show } = shieldReferences(
    isJson ? written.replace(/^[\t ]+/gm, (indent) => ' '.repeat(indent.length)) : written,
  );
  const within = { ...context, dir: file.dir };
  const { earlier } = context;
  const before = earlier?.get(file.display);
  const read: ItemsRead = { file, items: new Map() };
  const reading: YamlReading = {
    file,
    show,
    known: before?.file.dir === file.dir ? before : undefined,
    read: earlier === undefined ? undefined : read,
    leaf(value, at) {
      if (typeof value !== 'string' || !value.includes('$'))
        return { kind: 'leaf', value, source: plainSource(at, file) };
      const filled = substitute(show(value), within);
      const { text, variables, secret, problems: faults } = filled;
      return { kind: 'leaf', value: text, source: { place: at, file, variables, secret, faults } };
    },
  };
  const tree = readPlainYaml(text, reading);
  if (tree !== null) {
    earlier?.set(file.display, read);
    return { trees: [tree], problems: [] };
  }
  const { readAnyYaml } = await import('./read-any-yaml.ts');
  return readAnyYaml(text, reading);
}
