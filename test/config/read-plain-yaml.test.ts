// The plain reader against the full parser: what it takes it reads alike, to the column; what it does not know it leaves alone.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { readAnyYaml } from '../../src/config/read-any-yaml.ts';
import { readPlainYaml, type YamlReading } from '../../src/config/read-plain-yaml.ts';
import { plainSource, type Tree } from '../../src/config/tree.ts';

const file = { display: 'c.yaml', dir: '/nowhere' };
const reading: YamlReading = {
  file,
  show: (text) => text,
  leaf: (value, at) => ({ kind: 'leaf', value, source: plainSource(at, file) }),
};

/** What the full parser makes of it; null: it refuses it, or finds several documents. */
function fully(text: string): Tree | null {
  const { trees, problems } = readAnyYaml(text, reading);
  return problems.length === 0 && trees.length === 1 ? trees[0] : null;
}

/** With -0 and the order of keys. */
function shown(tree: Tree): unknown {
  const { line, column } = tree.source.place;
  const at = `${line}:${column}`;
  if (tree.kind === 'leaf') return [at, Object.is(tree.value, -0) ? '-0' : tree.value];
  if (tree.kind === 'list') return [at, tree.items.map(shown)];
  return [
    at,
    [...tree.entries].map(([name, { keyPlace, value }]) => [name, `${keyPlace.line}:${keyPlace.column}`, shown(value)]),
  ];
}

t.test(
  'reads every example and config of this project that it takes as the full parser does, and takes nearly all',
  async (t) => {
    const root = join(import.meta.dirname, '../..');
    const texts = ['config', 'demo', 'docs', 'docs/plugins', 'test/config/golden']
      .flatMap((folder) => readdirSync(join(root, folder)).map((name) => join(root, folder, name)))
      .flatMap((path) => {
        if (/\.(?:yaml|json)$/.test(path)) return [readFileSync(path, 'utf8')];
        if (!path.endsWith('.md')) return [];
        return [...readFileSync(path, 'utf8').matchAll(/^```yaml\n(.*?)^```/gms)].map(([, text]) => text);
      })
      .filter((text) => !text.includes('${'));
    let taken = 0;
    for (const text of texts) {
      const plain = readPlainYaml(text, reading);
      if (plain === null) continue;
      taken++;
      t.same(shown(plain), shown(fully(text) as Tree), text.slice(0, 60));
    }
    t.ok(texts.length > 50 && taken / texts.length > 0.9, `${taken} of ${texts.length}`);
  },
);

const CASES: Readonly<Record<string, string>> = {
  'block and flow': 'a:\n  b: 1\n  c: [x, {y: "z", w: 1.50}]\nd: { e: f }\n',
  'lists at the column of their key': 'a:\n- b: 1\n  c: 2\n- d\ne:\n  - - 1\n    - 2\n  -\n    f: g\n',
  'comments and empty lines': '# one\n\na: b # two\n\n  # three\nc: # four\n  - d#e\n# five\n  - f # six\n',
  'empty values': 'a:\n  b:\n  c:   \n  d: # nothing\n  e: x\nf:\n',
  'flow over several lines': 'a: { b: c, # why\n  d: [\n    e,\n    f, ], }\n',
  'maps of one key in flow lists': 'a: [b: 1, "c": { d: e }, f, http://g:80/h, 127.0.0.1:9]\n',
  quotes: `a: "b \\"c\\" \\u00e9 \\n"\nd: 'it''s'\n"e f": x\n'g': { "h":1, "i": "j" }\n`,
  scalars:
    'a: [true, False, NULL, ~, yes, -1, -0, 0, 1.5, 12345678901234567, 1e3, .5, 0x1f, 007, +1, 1., -.inf, .nan]\n',
  'plain text': 'a: b c: d\n',
  'plain text with colons and hashes': 'a: x:y z#w {b} [c]\nb: http://x:1/#y\nc: -x\nd: a, b\n',
  'text over two lines': 'a: b\n  c\nd: "e\n  f"\n',
  'block scalars': 'a: |\n  b\n  c\nd: >\n  e\n',
  'anchors, aliases, tags and merge keys': 'a: &x { b: c }\nd: *x\ne: !!str 1\nf:\n  <<: *x\n',
  'a key set twice': 'a: 1\na: 2\n',
  'several documents': 'a: 1\n---\nb: 2\n',
  json: '{\n "a": [1, "b", null],\n "c": {"d": true}\n}\n',
  'without a line end': 'a: [b]',
  'less indented than it should be': 'a:\n    b: 1\n  c: 2\n',
  'a flow collection that ends too far left': 'a: {\n  b: c\n}\nd: 1\n',
  'tabs and carriage returns': 'a:\tb\r\nc: d\n',
  'text beyond ASCII': 'a: "Größe 🎉"\nb: naïve\n',
  'a list item in a map': 'a: 1\n- b\n',
};

t.test('takes or leaves, never guesses', async (t) => {
  for (const [name, text] of Object.entries(CASES)) {
    const plain = readPlainYaml(text, reading);
    if (plain === null) t.pass(`${name}: left to the full parser`);
    else t.same(shown(plain), shown(fully(text) as Tree), name);
  }
  for (const name of [
    'block and flow',
    'lists at the column of their key',
    'comments and empty lines',
    'empty values',
    'json',
  ])
    t.not(readPlainYaml(CASES[name], reading), null, name);
});

t.test('reads pieces of YAML in any order as the full parser does, where it takes them', async (t) => {
  const piece = fc.constantFrom(
    ...[
      'a',
      'b1',
      '-1',
      '0.5',
      'true',
      '~',
      'x y',
      '"q"',
      "'s'",
      '"k": ',
      'a: ',
      'b: ',
      'c:',
      ':',
      '- ',
      '-',
      '\n',
      '\n  ',
      '\n    ',
      '\n- ',
    ],
    ...[
      ' ',
      '{',
      '}',
      '[',
      ']',
      ', ',
      ',',
      '{ a: 1 }',
      '[1, b]',
      ' # c',
      '#',
      '"',
      "'",
      '?',
      '&a ',
      '*a',
      '!t ',
      '|',
      '>',
      '%',
      '@',
      '\\',
      '/p',
      '1e3',
      '.',
      '..',
      '...',
      '---',
    ],
  );
  let taken = 0;
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 24 }), (pieces) => {
      const text = pieces.join('');
      const plain = readPlainYaml(text, reading);
      if (plain === null) return true;
      taken++;
      const full = fully(text);
      return full !== null && JSON.stringify(shown(plain)) === JSON.stringify(shown(full));
    }),
    { numRuns: 20_000 },
  );
  t.ok(taken > 500, `${taken} taken`);
});

t.test('reads whatever it would write itself as the full parser does', async (t) => {
  const scalar = fc.oneof(
    {
      weight: 30,
      arbitrary: fc.constantFrom(
        'true',
        '12',
        '-0.25',
        'null',
        'a b',
        '"x: y"',
        "'#'",
        'http://h:1/p?q#r',
        '5s',
        '10.0.0.0/8',
        '[]',
        '{}',
      ),
    },
    { weight: 10, arbitrary: fc.stringMatching(/^[a-z][a-z0-9/.-]{0,8}$/) },
    { weight: 1, arbitrary: fc.stringMatching(/^[a-z][a-z0-9 :#,{}'"-]{0,8}$/) },
  );
  const key = fc.stringMatching(/^[a-z][a-z0-9_.-]{0,5}$/);
  const { tree } = fc.letrec<{ tree: Written }>((tie) => ({
    tree: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      scalar,
      fc.record({
        style: fc.constantFrom('block', 'flow'),
        list: fc.array(tie('tree'), { minLength: 1, maxLength: 4 }),
      }),
      fc.record({
        style: fc.constantFrom('block', 'flow'),
        map: fc.dictionary(key, tie('tree'), { minKeys: 1, maxKeys: 4 }),
      }),
    ),
  }));
  let taken = 0;
  fc.assert(
    fc.property(fc.dictionary(key, tree, { minKeys: 1 }), fc.integer({ min: 0, max: 3 }), (map, extra) => {
      const text = `${write({ style: 'block', map }, 0, extra)}\n`;
      const plain = readPlainYaml(text, reading);
      if (plain === null) return true;
      taken++;
      const full = fully(text);
      return full !== null && JSON.stringify(shown(plain)) === JSON.stringify(shown(full));
    }),
    { numRuns: 5_000 },
  );
  t.ok(taken > 500, `${taken} taken`);
});

type Written =
  | string
  | { readonly style: string; readonly list: readonly Written[] }
  | { readonly style: string; readonly map: Readonly<Record<string, Written>> };

function write(value: Written, indent: number, extra: number): string {
  if (typeof value === 'string') return value;
  const pad = '\n'.padEnd(indent + 1);
  const deeper = indent + 1 + extra;
  const below = (inner: Written): string =>
    typeof inner !== 'string' && inner.style === 'block'
      ? `${''.padEnd(extra)}${extra > 1 ? ' # …' : ''}\n${''.padEnd(deeper)}${write(inner, deeper, extra)}`
      : ` ${write(inner, indent, extra)}`;
  if ('list' in value) {
    const items = value.list;
    if (value.style === 'flow') return `[${items.map((item) => write(flow(item), 0, 0)).join(', ')}]`;
    return items.map((item) => `-${below(item)}`).join(pad);
  }
  const entries = Object.entries(value.map);
  if (value.style === 'flow')
    return `{ ${entries.map(([name, inner]) => `${name}: ${write(flow(inner), 0, 0)}`).join(', ')} }`;
  return entries.map(([name, inner]) => `${name}:${below(inner)}`).join(pad);
}

function flow(value: Written): Written {
  return typeof value === 'string' ? value : { ...value, style: 'flow' };
}
