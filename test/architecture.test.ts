// The picture in docs/concepts.md as a test: parts of src/ import in one direction only, and no modules form a ring.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import t from 'tap';

const src = join(import.meta.dirname, '../src');

/**
 * From the ground up: a part imports its own files and parts of rows above its own in this list.
 * A part is a folder or a file of src/; a file named with its folder has a place of its own.
 */
const layers: readonly (readonly string[])[] = [
  [
    'errors',
    'units',
    'timer-wheel',
    'linked-list',
    'slices',
    'dispatch',
    'lines',
    'watch',
    'private-files',
    'process-secret',
  ],
  ['http', 'schema-parts', 'identity/spiffe-id'],
  ['policies'],
  ['plugin'],
  ['config'],
  ['runtime/listener-spec'],
  ['routing', 'upstream', 'gateway', 'internal', 'identity'],
  ['egress'],
  ['proxy'],
  ['runtime'],
  ['admin'],
  ['assemble'],
  ['index'],
  ['cli'],
  ['main'],
];

/** Built-in plugins reach what a user's plugin reaches; only the library and the commands know the list. */
const plugins = {
  may: ['plugin', 'errors', 'policies', 'http', 'units', 'dispatch', 'lines', 'private-files'],
  importedBy: ['assemble', 'cli'],
} as const;

const level = new Map(layers.flatMap((row, index) => row.map((part) => [part, index] as const)));

/** Every specifier of an import, a re-export, an `import()` and an `import('…')` type: type-only ones count like all others. */
function specifiers(source: string): string[] {
  const code = source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  const found = [
    ...code.matchAll(/^\s*(?:import|export)\s(?:[^'";]*?\sfrom\s*)?['"]([^'"]+)['"]/gm),
    ...code.matchAll(/\bimport\(\s*['"]([^'"]+)['"]\s*\)/g),
  ];
  return found.map((match) => match[1]);
}

/** `proxy/chain.ts` → `proxy`, `errors.ts` → `errors`, `runtime/listener-spec.ts` → itself. */
function partOf(file: string): string {
  const name = file.replace(/\.ts$/, '');
  return level.has(name) ? name : name.split('/')[0];
}

function mayImport(from: string, to: string): boolean {
  if (from === to) return true;
  if (from === 'plugins') return (plugins.may as readonly string[]).includes(to);
  if (to === 'plugins') return (plugins.importedBy as readonly string[]).includes(from);
  return (level.get(to) ?? Number.POSITIVE_INFINITY) < (level.get(from) ?? -1);
}

/** The first ring that is found, as the files along it; null where there is none. */
function ring(graph: ReadonlyMap<string, readonly string[]>): string[] | null {
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): string[] | null => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return null;
    path.push(file);
    for (const next of graph.get(file) ?? []) {
      const found = visit(next);
      if (found !== null) return found;
    }
    path.pop();
    done.add(file);
    return null;
  };
  for (const file of graph.keys()) {
    const found = visit(file);
    if (found !== null) return found;
  }
  return null;
}

const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
const graph = new Map(
  files.map((file) => {
    const local = specifiers(readFileSync(join(src, file), 'utf8')).filter((specifier) => specifier.startsWith('.'));
    return [file, local.map((specifier) => relative(src, resolve(src, dirname(file), specifier)))] as const;
  }),
);

t.test('the check reads every way to write an import', async (t) => {
  const source = [
    "import 'a';",
    "import b, { type B } from 'b';",
    "import type { C } from 'c';",
    'import {',
    '  d,',
    "} from 'd';",
    "export * from 'e';",
    "export type { F } from 'f';",
    "const g = await import('g');",
    "type H = import('h').H;",
    "// import 'not';",
    "/** import 'not'; */",
    "export const text = 'not';",
  ];
  t.strictSame(specifiers(source.join('\n')).sort(), ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']);
});

t.test('the check finds a ring and a wrong arrow', async (t) => {
  t.strictSame(ring(new Map(Object.entries({ a: ['b'], b: ['c'], c: ['b'] }))), ['b', 'c', 'b']);
  t.equal(ring(new Map(Object.entries({ a: ['b', 'c'], b: ['c'], c: [] }))), null);
  t.notOk(mayImport('routing', 'proxy'), 'upwards');
  t.notOk(mayImport('routing', 'upstream'), 'sideways');
  t.notOk(mayImport('plugins', 'proxy'), 'a plugin into the engine');
  t.notOk(mayImport('runtime', 'plugins'), 'the engine into a plugin');
  t.notOk(mayImport('main', 'new-part'), 'a part that is in no layer');
});

t.test('imports point one way', async (t) => {
  t.ok(files.length > 50, `${files.length} modules were read`);
  const arrows = [...graph].flatMap(([file, targets]) => targets.map((target) => ({ file, target })));
  t.ok(arrows.length > files.length, `${arrows.length} imports were read`);

  const wrong = arrows.filter(({ file, target }) => !mayImport(partOf(file), partOf(target)));
  t.strictSame(
    wrong.map(({ file, target }) => `${file} imports ${target}`),
    [],
  );
  const missing = arrows.filter(({ target }) => !graph.has(target));
  t.strictSame(
    missing.map(({ file, target }) => `${file} imports ${target}, which does not exist`),
    [],
  );
});

t.test('every part has its place', async (t) => {
  const parts = new Set(files.map(partOf));
  t.strictSame(
    [...parts].filter((part) => part !== 'plugins' && !level.has(part)),
    [],
  );
});

t.test('no modules import each other in a ring', async (t) => {
  t.equal(ring(graph)?.join(' → ') ?? null, null);
});

t.test('docs/concepts.md draws this picture', async (t) => {
  const concepts = readFileSync(join(src, '../docs/concepts.md'), 'utf8');
  const drawn = /```text layers\n([\s\S]*?)```/.exec(concepts)?.[1].trim().split('\n') ?? [];
  t.strictSame(
    drawn.map((line) => line.replace(/\s{2,}.*$/, '').split(/[\s,]+/)),
    layers,
  );
});
