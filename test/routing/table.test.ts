import t from 'tap';
import type { RouteConfig } from '../../src/config/model.ts';
import { parseCookies, parseQuery } from '../../src/routing/request-view.ts';
import { type RequestView, RouteTable } from '../../src/routing/table.ts';
import { Slices } from '../../src/slices.ts';
import { at, exact, match, route, view } from './support/fixtures.ts';
import { naiveLookup } from './support/naive.ts';
import { below, pick, randomRequest, randomTable, type Scale, seeded } from './support/random-tables.ts';

function tableOf(routes: readonly RouteConfig[]): RouteTable<string> {
  return new RouteTable(routes.map((route) => ({ route, value: route.name })));
}

function chosen(routes: readonly RouteConfig[], parts: Partial<RequestView>): string | null {
  return tableOf(routes).lookup(view(parts))?.value ?? null;
}

const path = (kind: 'exact' | 'prefix' | 'regex', value: string) => [match({ path: { kind, value } })];

t.test('hosts: exact before wildcard, more labels before fewer, any host last', async (t) => {
  const routes = [
    route('any'),
    route('wide', { hosts: ['*.b'] }),
    route('narrow', { hosts: ['*.a.b'] }),
    route('exact', { hosts: ['x.a.b'] }),
  ];
  t.equal(chosen(routes, { host: 'x.a.b' }), 'exact');
  t.equal(chosen(routes, { host: 'y.a.b' }), 'narrow');
  t.equal(chosen(routes, { host: 'z.y.a.b' }), 'narrow', 'a wildcard stands for several labels');
  t.equal(chosen(routes, { host: 'a.b' }), 'wide', 'a wildcard needs at least one label');
  t.equal(chosen(routes, { host: 'b' }), 'any');
  t.equal(chosen(routes, { host: '' }), 'any');
  t.equal(chosen(routes, { host: '[::1]' }), 'any');
});

t.test('a less specific host is asked when no rule of the more specific one holds', async (t) => {
  const routes = [
    route('any-exact', { matches: path('exact', '/orders') }),
    route('wildcard', { hosts: ['*.example.com'], matches: path('prefix', '/orders') }),
    route('shop', { hosts: ['shop.example.com'], matches: path('prefix', '/cart') }),
  ];
  t.equal(chosen(routes, { path: '/orders' }), 'wildcard', 'the host counts before the path');
  t.equal(chosen(routes, { path: '/cart' }), 'shop');
  t.equal(chosen(routes, { path: '/else' }), null);
});

t.test('paths: exact before regex before the longest prefix, by whole segments', async (t) => {
  const routes = [
    route('root'),
    route('orders', { matches: path('prefix', '/orders') }),
    route('archive', { matches: path('prefix', '/orders/archive/') }),
    route('number', { matches: path('regex', '/orders/[0-9]+') }),
    route('one', { matches: path('exact', '/orders/1') }),
  ];
  t.equal(chosen(routes, { path: '/orders' }), 'orders');
  t.equal(chosen(routes, { path: '/orders/' }), 'orders');
  t.equal(chosen(routes, { path: '/orders/x' }), 'orders');
  t.equal(chosen(routes, { path: '/orders2' }), 'root');
  t.equal(chosen(routes, { path: '/Orders' }), 'root', 'case matters');
  t.equal(chosen(routes, { path: '/orders/1' }), 'one');
  t.equal(chosen(routes, { path: '/orders/2' }), 'number');
  t.equal(chosen(routes, { path: '/orders/2/x' }), 'orders', 'a regex matches the whole path');
  t.equal(chosen(routes, { path: '/orders/archive' }), 'archive', 'a trailing slash of a prefix means nothing');
  t.equal(chosen(routes, { path: '/orders/archive2' }), 'orders');
  t.equal(chosen(routes, { path: '*' }), null, 'OPTIONS * is no path');
});

t.test('when all rules of the best path fail on conditions, regexes and shorter prefixes get their turn', async (t) => {
  const beta = [exact('x-group', 'beta')];
  const routes = [
    route('exact', { matches: [match({ path: { kind: 'exact', value: '/a/b' }, headers: beta })] }),
    route('regex', { matches: [match({ path: { kind: 'regex', value: '/a/.' }, methods: ['POST'] })] }),
    route('long', { matches: [match({ path: { kind: 'prefix', value: '/a/b' }, query: [exact('v', '2')] })] }),
    route('short', { matches: path('prefix', '/a') }),
  ];
  t.equal(chosen(routes, { path: '/a/b', headers: { 'x-group': 'beta' } }), 'exact');
  t.equal(chosen(routes, { path: '/a/b', method: 'POST' }), 'regex');
  t.equal(chosen(routes, { path: '/a/b', query: 'v=2' }), 'long');
  t.equal(chosen(routes, { path: '/a/b' }), 'short');
});

t.test(
  'one path: a method, then more headers, then more parameters, then more cookies, then declaration order',
  async (t) => {
    const routes = [
      route('first'),
      route('second'),
      route('cookie', { matches: [match({ cookies: [exact('c', '1')] })] }),
      route('query', { matches: [match({ query: [exact('q', '1')] })] }),
      route('header', { matches: [match({ headers: [exact('h', '1')] })] }),
      route('headers', { matches: [match({ headers: [exact('h', '1'), exact('i', '1')] })] }),
      route('method', { matches: [match({ methods: ['GET'] })] }),
    ];
    const all = { headers: { h: '1', i: '1', cookie: 'c=1' }, query: 'q=1' };
    t.equal(chosen(routes, all), 'method');
    t.equal(chosen(routes, { ...all, method: 'PUT' }), 'headers');
    t.equal(chosen(routes, { ...all, method: 'PUT', headers: { h: '1', cookie: 'c=1' } }), 'header');
    t.equal(chosen(routes, { ...all, method: 'PUT', headers: { cookie: 'c=1' } }), 'query');
    t.equal(chosen(routes, { method: 'PUT', headers: { cookie: 'c=1' } }), 'cookie');
    t.equal(chosen(routes, { method: 'PUT' }), 'first');
    t.equal(chosen(routes, { method: 'HEAD' }), 'first', 'GET does not stand for HEAD');
  },
);

t.test('conditions see values as a service would', async (t) => {
  const by = (parts: object) => [route('r', { matches: [match(parts)] })];
  const a1 = exact('a', '1 2');
  t.equal(chosen(by({ query: [a1] }), { query: 'a=1+2' }), 'r');
  t.equal(chosen(by({ query: [a1] }), { query: '%61=1%202' }), 'r');
  t.equal(chosen(by({ query: [a1] }), { query: 'a=1%202&a=x' }), 'r', 'the first of a name counts');
  t.equal(chosen(by({ query: [a1] }), { query: 'a=x&a=1%202' }), null);
  t.equal(chosen(by({ query: [exact('a', '%zz+')] }), { query: 'a=%zz+' }), 'r', 'an invalid escape stays as written');
  t.equal(chosen(by({ query: [exact('a', '')] }), { query: '&&a&' }), 'r');
  t.equal(
    chosen(by({ headers: [exact('h', 'x, y')] }), { headers: { h: ['x', 'y'] } }),
    'r',
    'repeated headers are joined',
  );
  t.equal(chosen(by({ headers: [{ name: 'constructor', kind: 'present', value: '' }] }), { headers: {} }), null);
  t.equal(chosen(by({ headers: [{ name: '__proto__', kind: 'absent', value: '' }] }), { headers: {} }), 'r');
  t.equal(chosen(by({ cookies: [exact('ab', 'b')] }), { headers: { cookie: 'x=1;  ab=b ; ab=c' } }), 'r');
  t.equal(chosen(by({ cookies: [exact('ab', 'b')] }), { headers: { cookie: 'ab="b"' } }), 'r');
  t.equal(chosen(by({ cookies: [exact('ab', 'b')] }), { headers: { cookie: 'ab' } }), null);
  t.strictSame(
    [...parseQuery('__proto__=1&b')],
    [
      ['__proto__', '1'],
      ['b', ''],
    ],
  );
  t.strictSame(
    [...parseCookies(['a=1', 'b=2'])],
    [
      ['a', '1'],
      ['b', '2'],
    ],
  );
});

t.test('a lookup says which prefix a rewrite replaces', async (t) => {
  const prefix = (matches: ReturnType<typeof path>, at: string) =>
    tableOf([route('r', { matches })]).lookup(view({ path: at }))?.matchedPrefix;
  t.equal(prefix(path('prefix', '/orders/'), '/orders/1'), '/orders');
  t.equal(prefix(path('prefix', '/'), '/orders/1'), '/');
  t.equal(prefix(path('exact', '/orders/1'), '/orders/1'), '/orders/1');
  t.equal(prefix(path('regex', '/.*'), '/orders/1'), '');
});

t.test('a regex that check would refuse is refused by the table too', async (t) => {
  t.throws(() => tableOf([route('r', { matches: path('regex', '(a)\\1') })]), /cannot run in linear time/);
});

t.test('consider lists every match in the order of precedence with the first condition that failed', async (t) => {
  const routes = [
    route('other-host', { hosts: ['api.example.com'] }),
    route('fallback'),
    route('orders', {
      hosts: ['*.example.com', 'shop.example.com'],
      matches: [
        match({ path: { kind: 'prefix', value: '/orders' }, methods: ['POST', 'PUT'] }),
        match({ path: { kind: 'prefix', value: '/orders' }, headers: [exact('x-group', 'beta')], at: at(9) }),
        match({ path: { kind: 'prefix', value: '/orders' }, cookies: [exact('ab', 'b')] }),
        match({ path: { kind: 'prefix', value: '/orders' }, query: [{ name: 'v', kind: 'absent', value: '' }] }),
        match({ path: { kind: 'exact', value: '/cart' } }),
      ],
    }),
  ];
  const table = tableOf(routes);
  t.equal(table.size, 3);
  const rows = table.consider(view({ path: '/orders/1', headers: { 'x-group': 'alpha' } }));
  t.strictSame(
    rows.map(({ route, matchIndex, host, failed, chosen }) => [route.name, matchIndex, host, failed, chosen]),
    [
      ['orders', 4, 'shop.example.com', 'path: wanted exact "/cart", got "/orders/1"', false],
      ['orders', 0, 'shop.example.com', 'method: wanted POST or PUT, got GET', false],
      ['orders', 1, 'shop.example.com', 'header x-group: wanted exact "beta", got "alpha"', false],
      ['orders', 3, 'shop.example.com', null, true],
      ['orders', 2, 'shop.example.com', 'cookie ab: wanted exact "b", got none', false],
      ['fallback', 0, '*', null, false],
      ['other-host', 0, null, 'host: wanted api.example.com, got shop.example.com', false],
    ],
  );
});

/** Pairs of (table, request); the first disagreement with the naive matcher, or null. */
async function disagreement(seed: number, scale: Scale, requests: number, tally: Tally): Promise<string | null> {
  const draw = seeded(seed);
  const routes = randomTable(draw, scale);
  const entries = routes.map((route) => ({ route, value: route.name }));
  const table = seed % 2 === 0 ? new RouteTable(entries) : await RouteTable.build(entries, new Slices());
  for (let i = 0; i < requests; i += 1) {
    const request = randomRequest(draw, routes, scale);
    const found = table.lookup(request);
    const got = found === null ? null : { route: found.value, match: found.route.matches.indexOf(found.match) };
    const wanted = naiveLookup(routes, request);
    tally.pairs += 1;
    if (wanted !== null) tally.found += 1;
    if (JSON.stringify(got) !== JSON.stringify(wanted)) return describe(seed, request, wanted, got);
    if (scale.routes > 40) continue;
    const first = table.consider(request).find((row) => row.failed === null) ?? null;
    const explained = first === null ? null : { route: first.route.name, match: first.matchIndex };
    if (JSON.stringify(explained) !== JSON.stringify(got) || (first !== null && !first.chosen)) {
      return `consider: ${describe(seed, request, got, explained)}`;
    }
  }
  return null;
}

interface Tally {
  pairs: number;
  found: number;
}

function describe(seed: number, request: RequestView, wanted: unknown, got: unknown): string {
  return `seed ${seed}: ${JSON.stringify({ request, wanted, got })}`;
}

t.test('agrees with a naive linear matcher on random tables of 1 to 2,000 routes', async (t) => {
  const tally: Tally = { pairs: 0, found: 0 };
  const draw = seeded(20_260_101);
  let failed: string | null = null;
  for (let seed = 1; seed <= 1500 && failed === null; seed += 1) {
    const scale = { routes: 1 + below(draw, 40), hostCount: pick(draw, [1, 3]), pathCount: 3, valueCount: 3 };
    failed = await disagreement(seed, scale, 8, tally);
  }
  for (let seed = 1; seed <= 40 && failed === null; seed += 1) {
    const routes = seed === 40 ? 2000 : 60 + below(draw, 1000);
    const few = seed % 2 === 0;
    const scale = { routes, hostCount: few ? 2 : 300, pathCount: few ? 2 : 500, valueCount: few ? 400 : 5 };
    failed = await disagreement(100_000 + seed, scale, 60, tally);
  }
  t.equal(failed, null);
  t.ok(tally.pairs >= 10_000, `${tally.pairs} pairs`);
  t.ok(tally.found > tally.pairs / 3 && tally.found < tally.pairs, 'requests both match and miss');
});

t.test('10,000 routes on one path, told apart by one header, parameter or cookie, are all found', async (t) => {
  const many = (conditions: (i: number) => object): RouteConfig[] =>
    Array.from({ length: 10_000 }, (_, i) => route(`r${i}`, { matches: [match(conditions(i))] }));
  const tenant = (i: number) => [exact('tenant', `t${i}`)];
  const byHeader = tableOf(many((i) => ({ headers: [exact('env', 'prod'), ...tenant(i)] })));
  const byQuery = tableOf(many((i) => ({ query: tenant(i) })));
  const byCookie = tableOf(many((i) => ({ cookies: tenant(i) })));
  const byName = tableOf(many((i) => ({ headers: [{ name: `x-${i}`, kind: 'present', value: '' }] })));
  const bySegment = tableOf(many((i) => ({ path: { kind: 'regex', value: `/s${i}/[0-9]+` } })));
  for (const i of [0, 1, 4999, 9999]) {
    t.equal(byHeader.lookup(view({ headers: { env: 'prod', tenant: `t${i}` } }))?.value, `r${i}`);
    t.equal(byHeader.lookup(view({ headers: { env: 'test', tenant: `t${i}` } })), null);
    t.equal(byQuery.lookup(view({ query: `tenant=t${i}` }))?.value, `r${i}`);
    t.equal(byCookie.lookup(view({ headers: { cookie: `tenant=t${i}` } }))?.value, `r${i}`);
    t.equal(byName.lookup(view({ headers: { [`x-${i}`]: '' } }))?.value, `r${i}`);
    t.equal(bySegment.lookup(view({ path: `/s${i}/7` }))?.value, `r${i}`);
  }
});
