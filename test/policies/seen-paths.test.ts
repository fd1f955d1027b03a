// Paths that were seen, as patterns: exact where words repeat, variable where they do not, never wider than what was asked.
import fc from 'fast-check';
import { RE2JS } from 're2js';
import t from 'tap';
import { type SeenPath, SeenPaths } from '../../src/policies/seen-paths.ts';

function seen(paths: readonly string[], budget = { left: 10_000 }): SeenPaths {
  const tree = new SeenPaths(budget);
  for (const path of paths) tree.add(path, 'GET');
  return tree;
}

const words = (tree: SeenPaths) =>
  tree
    .list()
    .map(({ kind, value, methods }) => `${kind} ${value} ${[...methods].map((pair) => pair.join(' ')).join(', ')}`);

t.test('a path stays what it is, and its methods are counted', async (t) => {
  const tree = seen(['/', '/orders', '/orders', '/orders/']);
  tree.add('/orders', 'POST');
  t.strictSame(words(tree), ['exact / GET 1', 'exact /orders GET 2, POST 1', 'exact /orders/ GET 1']);
});

t.test('numbers, UUIDs and long mixtures of letters and digits are variables', async (t) => {
  const paths = ['/o/1/items', '/o/22/items', '/o/8c1d5f6e-1111-2222-3333-444455556666/items', '/o/search', '/o/a1'];
  t.strictSame(words(seen(paths)), ['regex /o/[^/]+/items GET 3', 'exact /o/a1 GET 1', 'exact /o/search GET 1']);
  t.strictSame(words(seen([`/t/${'x'.repeat(65)}`])), ['regex /t/[^/]+ GET 1'], 'long words, too');
  t.strictSame(words(seen(['/t/eyJhbGciOiJIUzI1NiJ9x'])), ['regex /t/[^/]+ GET 1']);
});

t.test('more than twenty words in one place are a variable, with what came before and after', async (t) => {
  const names = Array.from({ length: 26 }, (_, i) => `/users/${String.fromCharCode(97 + i)}/name`);
  t.strictSame(words(seen(names.slice(0, 20))).length, 20);
  t.strictSame(words(seen([...names, '/users/', '/users/z/name'])), [
    'exact /users/ GET 1',
    'regex /users/[^/]+/name GET 27',
  ]);
});

t.test('what is special in a regex is quoted', async (t) => {
  const [{ value }] = seen(['/a.b(c)/1']).list();
  t.equal(value, '/a\\.b\\(c\\)/[^/]+');
});

t.test('what is deeper than twelve segments is known by its beginning', async (t) => {
  const deep = `/${'a/'.repeat(20)}b`;
  t.strictSame(words(seen([deep])), [`prefix ${'/a'.repeat(12)} GET 1`]);
});

t.test('past the budget paths are left out and counted, never widened', async (t) => {
  const tree = seen(['/a/b', '/c', '/a'], { left: 2 });
  t.strictSame(words(tree), ['exact /a GET 1', 'exact /a/b GET 1']);
  t.equal(tree.leftOut, 1);
});

function holds({ kind, value }: SeenPath, path: string): boolean {
  if (kind === 'exact') return path === value;
  return kind === 'prefix' ? path.startsWith(`${value}/`) : RE2JS.compile(value).testExact(path);
}

t.test('every path that was seen is covered, and every request is counted once', async () => {
  const segment = fc.oneof(
    fc.constantFrom('a', 'b', 'c.d', ''),
    fc.integer({ min: 0, max: 60 }).map((n) => `w${n}`),
    fc.integer({ min: 0, max: 99 }).map(String),
  );
  const path = fc.array(segment, { maxLength: 15 }).map((segments) => `/${segments.join('/')}`);
  fc.assert(
    fc.property(fc.array(path, { maxLength: 200 }), (paths) => {
      const tree = seen(paths);
      const patterns = tree.list();
      const counted = patterns.reduce((sum, { methods }) => sum + (methods.get('GET') ?? 0), 0);
      return counted === paths.length && paths.every((one) => patterns.some((pattern) => holds(pattern, one)));
    }),
    { numRuns: 500, seed: 11 },
  );
});
