import t from 'tap';
import type { RouteConfig } from '../../src/config/model.ts';
import { formatProblem } from '../../src/config/problem.ts';
import { findRouteConflicts } from '../../src/routing/conflicts.ts';
import { RouteTable } from '../../src/routing/table.ts';
import { at, config, exact, gateway, match, route } from './support/fixtures.ts';
import { below, randomRequest, randomTable, seeded } from './support/random-tables.ts';

function problems(
  routes: readonly RouteConfig[],
  gateways = [
    gateway('public', [
      { name: 'http', port: 80 },
      { name: 'https', port: 443 },
    ]),
  ],
): string[] {
  return findRouteConflicts(config({ gateways, routes })).map(formatProblem);
}

const orders = { kind: 'prefix', value: '/orders' } as const;

t.test('two routes with one match at one host of one listener are an error that names both places', async (t) => {
  const a = route('a', {
    hosts: ['x', 'y'],
    matches: [match({ path: orders, methods: ['GET', 'PUT'], headers: [exact('h', '1'), exact('i', '2')], at: at(4) })],
  });
  const b = route('b', {
    hosts: ['y'],
    listeners: ['https'],
    matches: [
      match(),
      match({
        path: { kind: 'prefix', value: '/orders/' },
        methods: ['PUT', 'GET'],
        headers: [exact('i', '2'), exact('h', '1')],
        at: at(9),
      }),
    ],
  });
  t.strictSame(problems([a, b]), [
    'shop.yaml:9:3 routes[1].match[1]: routes "b" and "a" (shop.yaml:4:3) cannot be told apart at gateway public, listener https, host y: remove one, or give it another condition',
  ]);
});

t.test('routes that share no listener, no host or no condition are no conflict', async (t) => {
  const same = [match({ path: orders })];
  t.strictSame(
    problems([route('a', { matches: same, listeners: ['http'] }), route('b', { matches: same, listeners: ['https'] })]),
    [],
  );
  t.strictSame(
    problems([
      route('a', { matches: same, hosts: ['x'] }),
      route('b', { matches: same, hosts: ['*.x'] }),
      route('c', { matches: same }),
    ]),
    [],
  );
  t.strictSame(problems([route('a', { matches: same }), route('b', { matches: same, gateways: ['absent'] })]), []);
  t.strictSame(
    problems([
      route('a', { matches: [match({ methods: ['GET'] })] }),
      route('b', { matches: [match({ methods: ['GET', 'PUT'] })] }),
    ]),
    [],
    'PUT is left',
  );
  t.strictSame(
    problems([
      route('a', { matches: [match({ headers: [exact('h', '1')] })] }),
      route('b', { matches: [match({ query: [exact('h', '1')] })] }),
    ]),
    [],
  );
  t.strictSame(
    problems([route('a', { matches: same }), route('b', { matches: same, gateways: [], internal: ['orders'] })]),
    [],
  );
});

t.test('internal routes of one service meet at its name', async (t) => {
  const internal = (name: string, parts: Partial<RouteConfig> = {}) =>
    route(name, { gateways: [], internal: ['orders'], ...parts });
  t.match(problems([internal('a'), internal('b', { internal: ['cart', 'orders'] })]), [
    /cannot be told apart at internal calls, host orders/,
  ]);
  t.strictSame(problems([internal('a'), internal('b', { hosts: ['api.orders'] })]), []);
});

t.test('a match that an earlier one leaves nothing for is a warning', async (t) => {
  const warned = (first: object, second: object): boolean => {
    const found = problems([
      route('a', { matches: [match({ path: orders, ...first })] }),
      route('b', { matches: [match({ path: orders, ...second })] }),
    ]);
    for (const problem of found) t.match(problem, /^shop\.yaml warning: routes\[1\]\.match\[0\]: .* never reached/);
    return found.length === 1;
  };
  const by = (kind: 'exact' | 'prefix' | 'regex' | 'present' | 'absent', value: string) => ({
    headers: [{ name: 'h', kind, value }],
  });
  t.ok(warned({ methods: ['GET', 'PUT'] }, { methods: ['PUT'] }));
  t.ok(warned(by('present', ''), by('exact', 'x')));
  t.ok(warned(by('present', ''), by('regex', 'x.*')));
  t.ok(warned(by('prefix', 'ab'), by('exact', 'abc')));
  t.ok(warned(by('prefix', 'ab'), by('prefix', 'abc')));
  t.ok(warned(by('regex', 'a.*'), by('exact', 'abc')));
  t.ok(warned({ ...by('regex', 'a.*'), methods: ['GET', 'PUT'] }, { ...by('exact', 'abc'), methods: ['PUT'] }));
  t.ok(
    warned({ path: { kind: 'regex', value: '^/.*$' } }, { headers: [exact('h', '1')] }),
    'a regex of every path goes before every prefix',
  );
  t.notOk(warned(by('exact', 'abc'), by('prefix', 'ab')));
  t.notOk(warned(by('prefix', 'abc'), by('prefix', 'ab')));
  t.notOk(warned(by('absent', ''), by('exact', 'x')));
  t.notOk(warned(by('present', ''), by('absent', '')));
  t.notOk(warned(by('regex', 'a.*'), by('exact', 'b')));
  t.notOk(warned({}, by('exact', 'x')), 'more conditions go first');
  t.notOk(warned({ methods: ['PUT'] }, { methods: ['PUT', 'GET'] }));
  t.notOk(warned({ path: { kind: 'regex', value: '/.*' } }, { path: { kind: 'exact', value: '/orders' } }));
  t.notOk(warned({ path: { kind: 'regex', value: '/.*' }, methods: ['GET'] }, {}));
});

t.test('a match is reported only when it is hidden at every host and listener it has', async (t) => {
  const narrow = route('a', { hosts: ['x'], matches: [match({ methods: ['GET', 'PUT'] })] });
  const later = (hosts: readonly string[]) => route('b', { hosts, matches: [match({ methods: ['GET'] })] });
  t.equal(problems([narrow, later(['x'])]).length, 1);
  t.equal(problems([narrow, later(['x', 'y'])]).length, 0);
  t.equal(problems([{ ...narrow, listeners: ['http'] }, later(['x'])]).length, 0);
  t.match(
    problems([
      route('a', { matches: [match({ methods: ['GET'] }), match({ methods: ['PUT'] })] }),
      route('b', { matches: [match({ methods: ['PUT', 'GET'] })] }),
    ]),
    [/routes\[1\].*never reached/],
    'two may hide one together',
  );
  t.match(problems([route('a', { matches: [match(), match()] })]), [/routes\[0\]\.match\[1\].*the same route/]);
});

t.test('no request ever reaches a match that was reported', async (t) => {
  const draw = seeded(11);
  let reported = 0;
  for (let round = 0; round < 250; round += 1) {
    const scale = { routes: 2 + below(draw, 60), hostCount: 1, pathCount: 1, valueCount: 1 };
    const routes = randomTable(draw, scale);
    const only = [gateway('public', [{ name: 'http', port: 80 }])];
    const found = findRouteConflicts(config({ gateways: only, routes })).filter(
      (problem) => problem.severity === 'warning',
    );
    const dead = new Set(found.map((problem) => problem.path));
    reported += dead.size;
    const table = new RouteTable(routes.map((route, index) => ({ route, value: index })));
    for (let i = 0; i < 40; i += 1) {
      const answer = table.lookup(randomRequest(draw, routes, scale));
      if (answer === null) continue;
      const path = `routes[${answer.value}].match[${answer.route.matches.indexOf(answer.match)}]`;
      if (dead.has(path)) t.fail(`${path} of round ${round} was reached`);
    }
  }
  t.ok(reported > 50, `${reported} matches were reported`);
});

t.test('10,000 routes are searched without comparing each with each', async (t) => {
  const many = Array.from({ length: 10_000 }, (_, i) =>
    route(`r${i}`, {
      matches: [match({ headers: [{ name: 'h', kind: i % 2 === 0 ? 'regex' : 'exact', value: `t${i}x+` }] })],
    }),
  );
  t.strictSame(
    problems([...many, route('again', { matches: [match({ headers: [exact('h', 't9999x+')] })] })]).length,
    1,
  );
});
