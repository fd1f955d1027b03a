// Who may call what: the order of policies, what a missing attribute means, and every verdict held against a naive evaluator.
import fc from 'fast-check';
import t from 'tap';
import {
  type AuthorizationRules,
  type AuthorizedRequest,
  authorize,
  compileAuthorization,
  explainAuthorization,
} from '../../src/policies/authorization.ts';
import { allow, audit, deny, peer, request } from './support/authorization.ts';
import { naiveVerdict } from './support/naive-authorization.ts';

const CART = ['spiffe://shop.internal/service/cart'];

function verdict(policies: readonly AuthorizationRules[], parts: Partial<AuthorizedRequest> = {}): string {
  const { verdict, policy } = authorize(compileAuthorization('service orders', policies), request(parts));
  return `${verdict} by ${policy}`;
}

t.test('without a policy everybody may', async (t) => {
  t.equal(verdict([]), 'allowed by null');
});

t.test('a deny alone leaves everybody else in', async (t) => {
  const policies = [deny('no-deletes', { methods: ['DELETE'] })];
  t.equal(verdict(policies), 'allowed by null');
  t.equal(verdict(policies, { method: 'DELETE' }), 'denied by no-deletes');
});

t.test('once anybody is allowed, whoever is not named is denied', async (t) => {
  const policies = [allow('cart', { from: CART, methods: ['GET'], paths: [{ kind: 'prefix', value: '/orders' }] })];
  t.equal(verdict(policies, { path: '/orders/1' }), 'allowed by cart');
  t.equal(verdict(policies, { path: '/orders2' }), 'denied by default deny of service orders');
  t.equal(verdict(policies, { method: 'POST' }), 'denied by default deny of service orders');
  t.equal(verdict(policies, { peer: peer('service/search') }), 'denied by default deny of service orders');
  t.equal(verdict(policies, { peer: null }), 'denied by default deny of service orders');
});

t.test('an allow without rules lets nobody in; a rule without conditions lets everybody in', async (t) => {
  t.equal(verdict([allow('nobody')]), 'denied by default deny of service orders');
  t.equal(verdict([allow('everybody', {})], { peer: null }), 'allowed by everybody');
});

t.test('deny comes before allow, wherever it stands', async (t) => {
  const policies = [allow('all', {}), deny('no-admin', { paths: [{ kind: 'prefix', value: '/admin' }] })];
  t.equal(verdict(policies), 'allowed by all');
  t.equal(verdict(policies, { path: '/admin/x' }), 'denied by no-admin');
});

t.test('an empty list holds for nothing, and its absence for anything', async (t) => {
  for (const part of ['from', 'methods', 'paths', 'hosts', 'clientAddress'] as const) {
    t.equal(verdict([allow('a', { [part]: [] })]), 'denied by default deny of service orders', part);
    t.equal(verdict([allow('a', { [part]: null })]), 'allowed by a', part);
  }
});

t.test('callers', async (t) => {
  const from = (pattern: string, who: AuthorizedRequest['peer']) =>
    verdict([allow('a', { from: [pattern] })], { peer: who }).startsWith('allowed');

  t.test('a wildcard holds for everything below, and for nothing beside it', async (t) => {
    t.ok(from('spiffe://shop.internal/service/*', peer('service/cart')));
    t.notOk(from('spiffe://shop.internal/service/*', peer('gateway/public')));
    t.notOk(from('spiffe://shop.internal/service/*', peer('service')));
    t.notOk(from('spiffe://shop.internal/service/cart', peer('service/cart2')));
    t.notOk(from('spiffe://shop.internal/service/cart', peer('service/cart/x')));
  });

  t.test('anybody of the mesh is not anybody of a trust domain whose name begins alike', async (t) => {
    t.ok(from('spiffe://shop.internal/*', peer('gateway/public')));
    t.notOk(from('spiffe://shop.internal/*', peer('service/cart', 'shop.internal.evil')));
    t.notOk(from('spiffe://shop.internal/*', peer('service/cart', 'partner.internal')));
  });

  t.test('a common name that looks like an id is none', async (t) => {
    t.notOk(from('spiffe://shop.internal/service/cart', peer('spiffe://shop.internal/service/cart', null)));
  });
});

t.test('what is missing never allows', async (t) => {
  const cases: [string, Parameters<typeof allow>[1], Partial<AuthorizedRequest>][] = [
    ['caller', { from: CART }, { peer: null }],
    ['caller in not', { not: { ...deny('', {}).rules[0], from: CART } }, { peer: null }],
    ['claim', { claims: [{ name: 'sub', kind: 'prefix', value: '' }] }, { claims: null }],
    ['claim in not', { not: { ...deny('', {}).rules[0], claims: [{ name: 'sub', kind: 'exact', value: 'eve' }] } }, {}],
    ['header', { headers: [{ name: 'x-a', kind: 'regex', value: '.*' }] }, {}],
    ['header in not', { not: { ...deny('', {}).rules[0], headers: [{ name: 'x-a', kind: 'exact', value: 'a' }] } }, {}],
    ['host in not', { not: { ...deny('', {}).rules[0], hosts: ['evil.example'] } }, { host: '' }],
    ['address in not', { not: { ...deny('', {}).rules[0], clientAddress: ['10.0.0.0/8'] } }, { clientAddress: '' }],
    ['list of claims', { claims: [{ name: 'groups', kind: 'present', value: '' }] }, { claims: { groups: [] } }],
  ];
  for (const [what, rule, parts] of cases)
    t.equal(verdict([allow('a', rule)], parts), 'denied by default deny of service orders', what);
});

t.test('what is missing denies where a deny needs it to be there', async (t) => {
  const but = (parts: object) => [deny('d', { not: { ...deny('', {}).rules[0], ...parts } })];
  t.equal(verdict(but({ from: CART }), { peer: null }), 'denied by d');
  t.equal(verdict(but({ from: CART })), 'allowed by null');
  t.equal(verdict(but({ claims: [{ name: 'sub', kind: 'present', value: '' }] })), 'denied by d');
  t.equal(verdict([deny('d', { headers: [{ name: 'x-a', kind: 'absent', value: '' }] })]), 'denied by d');
  t.equal(verdict([deny('d', { from: CART })], { peer: null }), 'allowed by null', 'who is nobody is not cart');
});

t.test('in the not of an allow, a condition that certainly fails outweighs one that cannot be told', async (t) => {
  const rule = { not: { ...deny('', {}).rules[0], from: CART, methods: ['DELETE'] } };
  t.equal(verdict([allow('a', rule)], { peer: null, method: 'GET' }), 'allowed by a');
  t.equal(verdict([allow('a', rule)], { peer: null, method: 'DELETE' }), 'denied by default deny of service orders');
});

t.test('claims', async (t) => {
  const may = (name: string, value: string, claims: unknown) =>
    verdict([allow('a', { claims: [{ name, kind: 'exact', value }] })], { claims }).startsWith('allowed');
  t.ok(may('role', 'admin', { role: 'admin' }));
  t.ok(may('role', 'admin', { role: ['user', 'admin'] }), 'any of a list');
  t.ok(may('realm.role', 'admin', { realm: { role: 'admin' } }), 'dots lead inside');
  t.ok(may('https://a.example/role', 'admin', { 'https://a.example/role': 'admin' }), 'a name may hold dots');
  t.ok(may('verified', 'true', { verified: true }));
  t.ok(may('level', '3', { level: 3 }));
  t.notOk(may('role', 'admin', { role: { admin: true } }));
  t.notOk(may('constructor.name', 'Object', {}), 'nothing inherited is a claim');
  t.notOk(may('role', 'a,b', { role: ['a', 'b'] }));
});

t.test('an inherited name is no header', async (t) => {
  const headers = [{ name: 'constructor', kind: 'present', value: '' } as const];
  t.equal(verdict([allow('a', { headers })]), 'denied by default deny of service orders');
});

t.test('under audit', async (t) => {
  t.test('a deny only says what it would do', async (t) => {
    t.equal(verdict([audit(deny('d', {}))]), 'audit_denied by d');
    t.equal(verdict([audit(deny('d', {})), allow('a', {})]), 'audit_denied by d');
    t.equal(verdict([audit(deny('d', {})), deny('e', {})]), 'denied by e');
  });

  t.test('an allow closes nothing, and says whom it would not let in', async (t) => {
    t.equal(verdict([audit(allow('a', { methods: ['GET'] }))]), 'allowed by null');
    t.equal(
      verdict([audit(allow('a', { methods: ['GET'] }))], { method: 'POST' }),
      'audit_denied by default deny of service orders',
    );
  });

  t.test('an allow lets nobody in who is denied without it', async (t) => {
    const policies = [allow('strict', { methods: ['GET'] }), audit(allow('wide', {}))];
    t.equal(verdict(policies, { method: 'POST' }), 'denied by default deny of service orders');
  });
});

t.test('a path that services read in two ways is judged in both', async (t) => {
  const admin = [deny('no-admin', { paths: [{ kind: 'prefix', value: '/admin' }] })];
  const open = [allow('public', { paths: [{ kind: 'prefix', value: '/public' }] })];
  for (const path of [
    '/public/..;/admin',
    '/public%2F..%2Fadmin',
    '/public\\..\\admin',
    '/public/..;a=b/admin;x',
    '/admin;x',
  ]) {
    t.equal(verdict(admin, { path }), 'denied by no-admin', path);
    t.equal(verdict(open, { path }), 'denied by default deny of service orders', path);
  }
  t.equal(verdict(open, { path: '/public/a%2Fb;v=1' }), 'allowed by public', 'harmless in both');
});

t.test('an explanation names the first condition that failed in every rule', async (t) => {
  const policies = [
    allow(
      'cart',
      { from: CART, methods: ['GET', 'HEAD'] },
      { claims: [{ name: 'role', kind: 'exact', value: 'admin' }] },
    ),
    deny('old', { headers: [{ name: 'x-old', kind: 'present', value: '' }] }),
    allow('others', { not: { ...deny('', {}).rules[0], from: CART } }),
  ];
  const compiled = compileAuthorization('service orders', policies);
  t.strictSame(explainAuthorization(compiled, request({ method: 'POST', claims: { role: ['user'] } })).policies, [
    {
      name: 'old',
      effect: 'deny',
      audit: false,
      matched: false,
      rules: ['header x-old: wanted present, got none'],
    },
    {
      name: 'cart',
      effect: 'allow',
      audit: false,
      matched: false,
      rules: ['method: wanted GET or HEAD, got POST', 'claim role: wanted exact "admin", got ["user"]'],
    },
    { name: 'others', effect: 'allow', audit: false, matched: false, rules: ['not: all of it holds'] },
  ]);
  t.match(explainAuthorization(compiled, request({ peer: null })).policies, [
    {},
    {
      rules: [
        'from: wanted spiffe://shop.internal/service/cart, got no identity',
        'claim role: wanted exact "admin", got none',
      ],
    },
    { rules: ['not: cannot be told (from: wanted spiffe://shop.internal/service/cart, got no identity)'] },
  ]);
});

t.test('an explanation is about the reading of the path that decided', async (t) => {
  const compiled = compileAuthorization('service orders', [
    deny('no-admin', { paths: [{ kind: 'prefix', value: '/admin' }] }),
  ]);
  t.match(explainAuthorization(compiled, request({ path: '/a/..;/admin' })), {
    verdict: { verdict: 'denied', policy: 'no-admin' },
    path: '/admin',
    policies: [{ matched: true, rules: [null] }],
  });
  t.match(explainAuthorization(compiled, request({ path: '/a;b' })), { verdict: { verdict: 'allowed' }, path: '/a;b' });
});

const pick = <const T>(...values: T[]) => fc.constantFrom(...values);
const some = <T>(arbitrary: fc.Arbitrary<T>) =>
  fc.oneof(
    { arbitrary: fc.constant(null), weight: 3 },
    { arbitrary: fc.array(arbitrary, { maxLength: 3 }), weight: 2 },
  );
const PATHS = ['/', '/a', '/a/b', '/a/', '/ab', '/a;x', '/a/..;/b', '/b', '/a%2Fb', '/b%2F..%2Fa', '/a\\b', '/a/c.d'];
const values = (names: readonly string[]) =>
  fc.array(
    fc.record({
      name: pick(...names),
      kind: pick('exact', 'prefix', 'regex', 'present', 'absent'),
      value: pick('a', 'b', 'ab', ''),
    }),
    { maxLength: 2 },
  );
const conditions = {
  from: some(
    pick('spiffe://shop/service/a', 'spiffe://shop/service/*', 'spiffe://shop/*', 'spiffe://partner/gateway/a'),
  ),
  methods: some(pick('GET', 'POST')),
  paths: some(
    fc.oneof(
      fc.record({ kind: pick('exact', 'prefix'), value: pick('/', '/a', '/b', '/a/b') }),
      fc.record({ kind: pick('regex'), value: pick('/a/?', '/[ab]', '/a/.*', '.*') }),
    ),
  ),
  hosts: some(pick('a.example', '*.example', '*.a.example')),
  headers: values(['x-a', 'x-b']),
  claims: values(['role', 'realm.role']),
  clientAddress: some(pick('10.0.0.0/8', '10.1.0.0/16', '10.1.2.3')),
};
const policy = fc.record({
  effect: pick('allow', 'deny'),
  audit: fc.boolean(),
  rules: fc.array(fc.record({ ...conditions, not: fc.option(fc.record(conditions), { freq: 2 }) }), { maxLength: 3 }),
});
const asked: fc.Arbitrary<AuthorizedRequest> = fc.record({
  peer: pick(
    null,
    { id: 'spiffe://shop/service/a', trustDomain: 'shop' },
    { id: 'spiffe://shop/gateway/a', trustDomain: 'shop' },
    { id: 'spiffe://partner/gateway/a', trustDomain: 'partner' },
    { id: 'spiffe://shop/service/a', trustDomain: null },
  ),
  method: pick('GET', 'POST', 'HEAD'),
  path: pick(...PATHS),
  host: pick('', 'example', 'a.example', 'b.a.example'),
  headers: fc.record({ 'x-a': pick('a', 'ab', ''), 'x-b': pick('b') }, { requiredKeys: [] }),
  claims: pick<unknown>(
    undefined,
    null,
    { role: 'a' },
    { role: ['b', 'ab'], realm: { role: 'a' } },
    { role: [], realm: { role: null } },
    { role: { a: 'a' }, realm: 'a' },
  ),
  clientAddress: pick('', '10.0.0.1', '10.1.2.3', '192.0.2.1'),
});

t.test('twenty thousand random policies and requests end as the naive evaluator says', async (t) => {
  const seen = new Map<string, number>();
  fc.assert(
    fc.property(fc.array(policy, { maxLength: 4 }), asked, (written, given) => {
      const policies = written.map((one, index) => ({ ...one, name: `p${index}` }));
      const expected = naiveVerdict('service orders', policies, given);
      const found = authorize(compileAuthorization('service orders', policies), given);
      const kind = `${expected.verdict} ${expected.policy === null ? 'by nobody' : expected.policy.replace(/\d/, '')}`;
      seen.set(kind, (seen.get(kind) ?? 0) + 1);
      return found.verdict === expected.verdict && found.policy === expected.policy;
    }),
    { numRuns: 20_000, seed: 7 },
  );
  t.strictSame(
    [...seen.keys()].sort(),
    [
      'allowed by nobody',
      'allowed p',
      'audit_denied default deny of service orders',
      'audit_denied p',
      'denied default deny of service orders',
      'denied p',
    ],
    'every kind of verdict came up',
  );
  for (const [kind, times] of seen) t.ok(times > 100, `${kind}: ${times}`);
});
