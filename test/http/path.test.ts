import fc from 'fast-check';
import t from 'tap';
import { normalizeHost, normalizePath, normalizeWrittenPath, splitTarget } from '../../src/http/path.ts';

t.test('a path is matched, authorised and sent in one normal form', async (t) => {
  const table: [string, string][] = [
    ['/', '/'],
    ['/orders/1', '/orders/1'],
    ['/orders/', '/orders/'],
    ['/a//b///c', '/a/b/c'],
    ['//evil.example/x', '/evil.example/x'],
    ['/a/./b', '/a/b'],
    ['/a/.', '/a/'],
    ['/a/..', '/'],
    ['/a/b/..', '/a/'],
    ['/a/b/../c', '/a/c'],
    ['/a//../b', '/b'],
    ['/../../etc/passwd', '/etc/passwd'],
    ['/..', '/'],
    ['/%2e%2e/a', '/a'],
    ['/a/.%2E/b', '/b'],
    ['/a/%2e/b', '/a/b'],
    ['/.well-known/x', '/.well-known/x'],
    ['/a/.../b', '/a/.../b'],
    ['/a/..b/c..', '/a/..b/c..'],
    ['/%61%7Euser%2d%5F', '/a~user-_'],
    ['/a%20b%c3%a9', '/a%20b%C3%A9'],
    ['/%252e%252e/a', '/%252e%252e/a'],
    ['/%25%32%65', '/%252e'],
    ['/caf\u00e9', '/caf%E9'],
    ['/a;b=c,d!$&\'()*+:@|^"<>`{}', '/a;b=c,d!$&\'()*+:@|^"<>`{}'],
    ['/a%0d%0aX', '/a%0D%0AX'],
  ];
  for (const [raw, path] of table) {
    t.strictSame(normalizePath(raw), { path, encodedSlash: false }, JSON.stringify(raw));
  }
});

t.test('encoded slashes and backslashes stay where they are and are told', async (t) => {
  t.strictSame(normalizePath('/a%2fb/../c'), { path: '/c', encodedSlash: true });
  t.strictSame(normalizePath('/a/..%2fb'), { path: '/a/..%2Fb', encodedSlash: true });
  t.strictSame(normalizePath('/a%5cb'), { path: '/a%5Cb', encodedSlash: true });
  t.strictSame(normalizePath('/a\\b'), { path: '/a\\b', encodedSlash: true });
  t.strictSame(normalizePath('/a%252fb'), { path: '/a%252fb', encodedSlash: false });
});

t.test('what no client should send is refused', async (t) => {
  const bad = [
    '',
    'a',
    '*',
    '/a\0',
    '/a%00',
    '/%zz',
    '/%4',
    '/%',
    '/a%',
    '/%%32e',
    '/a\r\nb',
    '/a\x7f',
    '/a#b',
    '/a?b',
    '/a b',
    '/%2e/\t',
    '/\u00e9#',
  ];
  for (const raw of bad) t.equal(normalizePath(raw), null, JSON.stringify(raw));
});

t.test('normalising is idempotent and leaves nothing that a second reader could resolve or decode', async () => {
  const piece = fc.constantFrom(
    '/',
    '//',
    '.',
    '..',
    '%2e',
    '%2E',
    '%25',
    '%2f',
    '%5C',
    '\\',
    'a',
    'B',
    '%41',
    '%7e',
    '%e9',
    '\u00e9',
    '%00',
    '%',
    '2e',
    ';',
    '~',
    '%0a',
  );
  const paths = fc.oneof(
    fc.array(piece, { maxLength: 12 }).map((pieces) => `/${pieces.join('')}`),
    fc.string(),
  );
  fc.assert(
    fc.property(paths, (raw) => {
      const once = normalizePath(raw);
      if (once === null) return true;
      const { path } = once;
      const slashes = /%2F|%5C|\\/.test(path);
      const twice = normalizePath(path);
      if (twice === null || twice.path !== path || twice.encodedSlash !== slashes) return false;
      if (slashes && !once.encodedSlash) return false;
      if (!path.startsWith('/') || path.includes('//')) return false;
      if (path.split('/').some((segment) => segment === '.' || segment === '..')) return false;
      if (/[^\x21-\x7e]|%(?![0-9A-F]{2})/.test(path)) return false;
      return !/%(2[DE]|5F|7E|3[0-9]|[46][1-9A-F]|[57][0-9A])/.test(path);
    }),
    { numRuns: 5000 },
  );
});

t.test('a path written in a config may hold any character', async (t) => {
  t.equal(normalizeWrittenPath('/café/€')?.path, '/caf%C3%A9/%E2%82%AC');
  t.equal(normalizeWrittenPath('/a b'), null);
});

t.test('a host is lower-case, without port and without one trailing dot', async (t) => {
  const table: [string, string | null][] = [
    ['Shop.Example.COM', 'shop.example.com'],
    ['shop.example.com:8080', 'shop.example.com'],
    ['shop.example.com.', 'shop.example.com'],
    ['shop.example.com.:443', 'shop.example.com'],
    ['orders_v2', 'orders_v2'],
    ['127.0.0.1:1', '127.0.0.1'],
    ['a:', 'a'],
    ['[::1]:8080', '[::1]'],
    ['[2001:DB8:0::1]', '[2001:db8::1]'],
    ['', null],
    ['.', null],
    [':80', null],
    ['a..b', null],
    ['.a', null],
    ['a..', null],
    ['a:80:80', null],
    ['a:x', null],
    ['a:65536', null],
    ['a b', null],
    ['a,b', null],
    ['a/b', null],
    ['user@a', null],
    ['exämple', null],
    ['%61', null],
    ['::1', null],
    ['[::1', null],
    ['[::1]x', null],
    ['[::1]:', '[::1]'],
    ['[fe80::1%eth0]', null],
    ['[1.2.3.4]', null],
    [`${'a'.repeat(64)}.b`, null],
    [`${'abcdefg.'.repeat(32)}b`, null],
  ];
  for (const [raw, host] of table) t.equal(normalizeHost(raw), host, JSON.stringify(raw));
});

t.test('a target is split in origin, absolute and asterisk form', async (t) => {
  const split = (path: string, query = '', authority: string | null = null, scheme: string | null = null) => ({
    path,
    query,
    authority,
    scheme,
  });
  t.strictSame(splitTarget('/a?b=c?d&%zz'), split('/a', 'b=c?d&%zz'));
  t.strictSame(splitTarget('/a?'), split('/a'));
  t.strictSame(splitTarget('//evil/x'), split('//evil/x'));
  t.strictSame(splitTarget('http://h:1/x?y'), split('/x', 'y', 'h:1', 'http'));
  t.strictSame(splitTarget('HTTPS://H'), split('/', '', 'H', 'https'));
  t.strictSame(splitTarget('http://h?x'), split('/', 'x', 'h', 'http'));
  t.strictSame(splitTarget('*'), split('*'));
  for (const bad of [
    '',
    'h:443',
    'http://',
    'http:///x',
    'http://u:p@h/',
    'ftp://h/',
    'javascript:x',
    '/a#b',
    '/a?b#c',
    '/a?b c',
    '/a?b\r\n',
    'http://h#x',
  ]) {
    t.equal(splitTarget(bad), null, JSON.stringify(bad));
  }
});
