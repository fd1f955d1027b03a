// Reads a config that is code: `export default defineConfig({…})` of a file, or an object that a program hands over.
import { pathToFileURL } from 'node:url';
import type { Problem } from './problem.ts';
import { type SubstitutionContext, substitute } from './substitute.ts';
import { type Entry, MAX_DEPTH, plainSource, type ReadResult, type SourceFile, type Tree, wholeFile } from './tree.ts';

/** Grows with every import: modules are cached by address, and an edited file must be read again. */
let reading = 0;

export async function readModule(
  path: string,
  file: SourceFile,
  context: Omit<SubstitutionContext, 'dir'>,
): Promise<ReadResult> {
  let config: unknown;
  try {
    const module = (await import(`${pathToFileURL(path).href}?reading=${++reading}`)) as { default?: unknown };
    config = module.default;
  } catch (error) {
    return { trees: [], problems: [problem(file, importMessage(error))] };
  }
  if (config === undefined)
    return {
      trees: [],
      problems: [problem(file, 'has no default export: write "export default defineConfig({ … })"')],
    };
  return readObject(config, file, context);
}

/** Values keep the file as their place; strings may hold references as in YAML. */
export function readObject(config: unknown, file: SourceFile, context: Omit<SubstitutionContext, 'dir'>): ReadResult {
  const place = wholeFile(file);
  const plain = plainSource(place, file);

  const read = (value: unknown, depth: number): Tree => {
    if (depth > MAX_DEPTH) throw new RangeError(`nested more than ${MAX_DEPTH} deep`);
    if (Array.isArray(value)) return { kind: 'list', items: value.map((item) => read(item, depth + 1)), source: plain };
    if (isPlainObject(value)) {
      const entries = new Map<string, Entry>();
      for (const [name, inner] of Object.entries(value)) {
        if (inner === undefined) continue;
        entries.set(name, { keyPlace: place, value: read(inner, depth + 1) });
      }
      return { kind: 'dict', entries, source: plain };
    }
    if (typeof value !== 'string') return { kind: 'leaf', value, source: plain };
    const { text, variables, secret, problems } = substitute(value, { ...context, dir: file.dir });
    return { kind: 'leaf', value: text, source: { ...plain, variables, secret, faults: problems } };
  };

  try {
    return { trees: [read(config, 0)], problems: [] };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return { trees: [], problems: [problem(file, error.message)] };
  }
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // Another realm (a test runner, a vm) has an Object.prototype of its own; it too has no prototype above.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function importMessage(error: unknown): string {
  const { code, message, name } = error as NodeJS.ErrnoException;
  switch (code) {
    case 'ERR_UNKNOWN_FILE_EXTENSION':
      return `Node ${process.versions.node} cannot read TypeScript: use Node 22.18 or later, or write the config in YAML, JSON or JavaScript (.mjs)`;
    case 'ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING':
      return 'Node reads no TypeScript below node_modules: move the config out of it';
    case 'ERR_MODULE_NOT_FOUND':
      return `imports what does not exist: ${firstLine(message)}`;
    default:
      return `failed while it was read: ${name ?? 'Error'}: ${firstLine(message ?? String(error))}`;
  }
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0];
}

function problem(file: SourceFile, message: string): Problem {
  return { severity: 'error', place: wholeFile(file), path: '', message };
}
