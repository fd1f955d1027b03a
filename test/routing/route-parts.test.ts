import fc from 'fast-check';
import t from 'tap';
import type { Redirect } from '../../src/config/model.ts';
import { pickBackend } from '../../src/routing/pick.ts';
import { compileRegex, literalStart } from '../../src/routing/regex.ts';
import { type RedirectedRequest, redirectLocation, rewritePath } from '../../src/routing/rewrite.ts';
import { routesFor } from '../../src/routing/scope.ts';
import { RouteTable } from '../../src/routing/table.ts';
import { backend, config, gateway, route, service, view } from './support/fixtures.ts';
import { seeded } from './support/random-tables.ts';

t.test('ReplacePrefixMatch follows the table of the Gateway API', async (t) => {
  const table: [string, string, string, string][] = [
    ['/foo/bar', '/foo', '/xyz', '/xyz/bar'],
    ['/foo/bar', '/foo', '/xyz/', '/xyz/bar'],
    ['/foo/bar', '/foo/', '/xyz', '/xyz/bar'],
    ['/foo/bar', '/foo/', '/xyz/', '/xyz/bar'],
    ['/foo', '/foo', '/xyz', '/xyz'],
    ['/foo/', '/foo', '/xyz', '/xyz/'],
    ['/foo/bar', '/foo', '', '/bar'],
    ['/foo/', '/foo', '', '/'],
    ['/foo', '/foo', '', '/'],
    ['/foo/', '/foo', '/', '/'],
    ['/foo', '/foo', '/', '/'],
    ['/foo/bar', '/', '/xyz', '/xyz/foo/bar'],
    ['/foo/bar', '/', '/', '/foo/bar'],
    ['/foo/bar', '/foo/bar', '/xyz', '/xyz'],
    ['/foo/bar', '', '/xyz', '/foo/bar'],
  ];
  for (const [path, matched, prefix, expected] of table) {
    t.equal(rewritePath({ prefix, path: null }, path, matched), expected, `${path} by ${matched} to "${prefix}"`);
  }
  t.equal(rewritePath({ prefix: null, path: '/whole' }, '/foo/bar', '/foo'), '/whole');
  t.equal(rewritePath({ prefix: null, path: null }, '/foo/bar', '/foo'), '/foo/bar');
  t.equal(
    rewritePath({ prefix: '/café/../x', path: null }, '/foo/bar%20', '/foo'),
    '/x/bar%20',
    'what is sent is normal',
  );
  t.equal(rewritePath({ prefix: null, path: '/café' }, '/', ''), '/caf%C3%A9');
});

function location(redirect: Partial<Redirect>, request: Partial<RedirectedRequest> = {}): string {
  return redirectLocation(
    { scheme: null, host: null, port: null, path: null, prefix: null, status: 302, ...redirect },
    {
      scheme: 'http',
      host: 'shop.example.com',
      port: 8080,
      path: '/orders/1',
      query: '',
      matchedPrefix: '/orders',
      ...request,
    },
  );
}

t.test('a redirect keeps what it does not name and leaves well-known ports out', async (t) => {
  t.equal(location({}), 'http://shop.example.com:8080/orders/1');
  t.equal(location({}, { port: 80 }), 'http://shop.example.com/orders/1');
  t.equal(location({}, { port: null }), 'http://shop.example.com/orders/1');
  t.equal(location({ scheme: 'https' }), 'https://shop.example.com/orders/1', 'a new scheme means its own port');
  t.equal(location({ scheme: 'https', port: 8443 }), 'https://shop.example.com:8443/orders/1');
  t.equal(location({ scheme: 'https', port: 443 }), 'https://shop.example.com/orders/1');
  t.equal(location({ scheme: 'https', port: 80 }), 'https://shop.example.com:80/orders/1');
  t.equal(location({ port: 80 }), 'http://shop.example.com/orders/1');
  t.equal(location({ host: 'new.example.com' }, { port: 80 }), 'http://new.example.com/orders/1');
  t.equal(location({ prefix: '/v2' }, { query: 'a=%zz&b' }), 'http://shop.example.com:8080/v2/1?a=%zz&b');
  t.equal(location({ path: '/login' }, { query: 'a' }), 'http://shop.example.com:8080/login?a');
});

t.test('nothing of a request can lead a redirect to another host or end the header', async (t) => {
  t.equal(location({ prefix: '//evil.example' }), 'http://shop.example.com:8080/evil.example/1');
  t.equal(location({}, { path: '/\\evil.example' }), 'http://shop.example.com:8080/\\evil.example');
  t.equal(
    location({}, { query: 'a=\r\nSet-Cookie: x\u00e9' }),
    'http://shop.example.com:8080/orders/1?a=%0D%0ASet-Cookie:%20x%E9',
  );
  t.equal(location({ path: '/café' }), 'http://shop.example.com:8080/caf%C3%A9');
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string(), (path, query) => {
      const written = location({ path: `/${path}` }, { query });
      return /^[\x21-\x7e]+$/.test(written) && new URL(written).host === 'shop.example.com:8080';
    }),
    { numRuns: 500 },
  );
});

t.test('backends are chosen by weight, never one of weight 0', async (t) => {
  const backends = [
    backend('none', { weight: 0 }),
    backend('v1', { weight: 90 }),
    backend('v2', { weight: 10 }),
    backend('off', { weight: 0 }),
  ];
  const at = (value: number) => pickBackend(backends, () => value)?.service;
  t.equal(at(0), 'v1');
  t.equal(at(0.8999), 'v1');
  t.equal(at(0.9), 'v2');
  t.equal(at(1 - Number.EPSILON), 'v2');
  t.equal(at(1), 'v2', 'even beyond the scale');
  t.equal(pickBackend([backend('one')], () => 0.5)?.service, 'one');
  t.equal(pickBackend([backend('one', { weight: 0 })]), null);
  t.equal(pickBackend([]), null);
  const draw = seeded(7);
  let second = 0;
  for (let i = 0; i < 20_000; i += 1) if (pickBackend(backends, draw)?.service === 'v2') second += 1;
  t.ok(Math.abs(second / 20_000 - 0.1) < 0.01, `${second} of 20,000 for a share of 10%`);
});

t.test('regexes run in RE2 syntax on whole values, or are refused with the reason', async (t) => {
  const holds = (source: string, value: string): boolean => {
    const regex = compileRegex(source);
    return 'test' in regex && regex.test(value);
  };
  t.ok(holds('/orders/[0-9]+', '/orders/12'));
  t.notOk(holds('/orders/[0-9]+', '/orders/12/x'));
  t.notOk(holds('orders', '/orders'));
  t.ok(holds('a|/b', '/b'));
  t.ok(holds('^/a$', '/a'));
  const refused = (source: string): string => {
    const regex = compileRegex(source);
    return 'problem' in regex ? regex.problem : 'accepted';
  };
  t.match(refused('(?=a)b'), /linear time/);
  t.match(refused('(a)\\1'), /linear time/);
  t.match(refused('['), /missing closing/);
  t.match(refused('a'.repeat(5000)), /longer than/);
  t.match(refused('(a{900}){2}'), /invalid repeat|more than/);
  t.match(refused('[ab]{1000}c{900}'), /more than/);
  const hostile = compileRegex('(a+)+$');
  t.ok('test' in hostile && !hostile.test(`${'a'.repeat(30_000)}!`), 'a pattern that hangs a backtracking engine ends');
});

t.test('the literal start of a regex is never more than every match begins with', async (t) => {
  const table: [string, string][] = [
    ['/orders/[0-9]+', '/orders/'],
    ['^/a\\.b/.*', '/a.b/'],
    ['/ab*', '/a'],
    ['/ab?c', '/a'],
    ['/ab{0}c', '/a'],
    ['/a|/b', ''],
    ['/a(b|c)', '/a'],
    ['/x[|]y', '/x'],
    ['/x[]|]y', '/x'],
    ['(/x)|y', ''],
    ['(?i)/a', ''],
    ['/a\\d', '/a'],
    ['/a\\Q|\\E', ''],
    ['/a\\|b', '/a|b'],
  ];
  for (const [source, start] of table) t.equal(literalStart(source), start, source);
  const atom = fc.constantFrom('a', 'b', '/', '.', '\\.', '\\|', '[a|b]', '[^]a]', '(a|b)', '(?:b)', '|', '(?i)', '^');
  const repeated = fc
    .tuple(atom, fc.constantFrom('', '', '*', '?', '+', '{0}', '{0,2}'))
    .map((parts) => parts.join(''));
  const sources = fc.array(repeated, { minLength: 1, maxLength: 5 }).map((parts) => parts.join(''));
  const values = fc
    .array(fc.constantFrom('a', 'b', '/', '.', '|', 'A', ']'), { maxLength: 5 })
    .map((chars) => chars.join(''));
  fc.assert(
    fc.property(sources, values, (source, value) => {
      let native: RegExp;
      try {
        native = new RegExp(`^(?:${source.replaceAll('[^]a]', '[^\\]a]')})$`);
      } catch {
        return true;
      }
      return 'problem' in compileRegex(source) || !native.test(value) || value.startsWith(literalStart(source));
    }),
    { numRuns: 3000 },
  );
});

t.test('each listener serves its own routes', async (t) => {
  const shop = config({
    gateways: [
      gateway('public', [
        { name: 'http', port: 80 },
        { name: 'https', port: 443 },
      ]),
      gateway('partner', [{ name: 'http', port: 81 }]),
    ],
    services: [service('orders'), service('Cart')],
    routes: [
      route('everywhere', { gateways: ['public', 'partner'] }),
      route('secure', { listeners: ['https'] }),
      route('slow-orders', { gateways: [], internal: ['orders'] }),
      route('by-host', { gateways: [], internal: ['orders', 'Cart'], hosts: ['api.orders'] }),
    ],
  });
  const names = (scope: Parameters<typeof routesFor>[1]) =>
    routesFor(shop, scope).map((route) => `${route.name}(${route.hosts})`);
  t.strictSame(names({ role: 'gateway', owner: 'public', listener: 'http' }), ['everywhere()']);
  t.strictSame(names({ role: 'gateway', owner: 'public', listener: 'https' }), ['everywhere()', 'secure()']);
  t.strictSame(names({ role: 'gateway', owner: 'partner', listener: 'http' }), ['everywhere()']);
  t.strictSame(names({ role: 'outbound', owner: 'Cart' }), [
    'slow-orders(orders)',
    'by-host(api.orders)',
    'internal/orders(orders)',
    'internal/Cart(cart)',
  ]);
  t.strictSame(names({ role: 'outbound', owner: 'Cart', fixedService: 'orders' }), [
    'slow-orders()',
    'by-host()',
    'internal/orders()',
  ]);
  t.strictSame(names({ role: 'inbound', owner: 'orders' }), ['inbound/orders()']);
  t.strictSame(names({ role: 'inbound', owner: 'nobody' }), []);

  const outbound = new RouteTable(
    routesFor(shop, { role: 'outbound', owner: 'Cart' }).map((route) => ({ route, value: route.name })),
  );
  t.equal(
    outbound.lookup(view({ host: 'orders' }))?.value,
    'slow-orders',
    'a written route goes before the implicit one',
  );
  t.equal(outbound.lookup(view({ host: 'cart' }))?.value, 'internal/Cart');
  t.equal(outbound.lookup(view({ host: 'nobody' })), null);

  const [implicit] = routesFor(shop, { role: 'inbound', owner: 'orders' });
  t.match(implicit, { keepEncodedSlashes: true, timeouts: { requestMs: 15_000, perTryMs: 0, idleMs: 300_000 } });
  t.match(implicit.action, { kind: 'forward', backends: [{ service: 'orders', weight: 1 }] });
});
