// What a service may take a normalised path for, where servers disagree.
import fc from 'fast-check';
import t from 'tap';
import { normalizePath } from '../../src/http/path.ts';
import { otherReading } from '../../src/http/path-readings.ts';

t.test('a path that everybody reads alike has no other reading', async (t) => {
  for (const path of ['/', '/a/b', '/a%20b', '/a.b/..c', '/%C3%A9', '/100%25', '/a%25zz', '/a%2500'])
    t.equal(otherReading(path), null, path);
});

t.test('slashes in disguise, path parameters and double encoding are seen through', async (t) => {
  for (const [path, reading] of [
    ['/a%2Fb', '/a/b'],
    ['/a%2F..%2F..%2Fadmin', '/admin'],
    ['/a\\..\\admin', '/admin'],
    ['/a/..;/admin', '/admin'],
    ['/a/..;x=1;y/admin;z', '/admin'],
    ['/a/%252e%252e/admin', '/admin'],
    ['/a/%25252E%252e%255Cadmin', '/admin'],
    ['/%2561dmin', '/admin'],
    ['/a/%2500%2F..%2Fadmin', '/a/admin'],
    ['/;', '/'],
  ])
    t.equal(otherReading(path), reading, path);
});

t.test('nothing that servers disagree about is left in a reading', async (t) => {
  const part = fc.constantFrom(
    '/',
    '.',
    '..',
    ';',
    '\\',
    '%2f',
    '%5C',
    '%25',
    '%2e',
    '%252e',
    '%00',
    '2F',
    '2e',
    '00',
    '5c',
    'a',
    '%',
  );
  let readings = 0;
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
      const path = normalizePath(`/${parts.join('')}`)?.path;
      if (path === undefined) return true;
      const reading = otherReading(path);
      if (reading === null) return true;
      readings++;
      return !/%2F|%5C|[\\;]|\/\.{0,2}\//i.test(reading) && !/\/\.{1,2}$/.test(reading);
    }),
    { numRuns: 10_000, seed: 3 },
  );
  t.ok(readings > 1_000, `${readings} paths had another reading`);
});
