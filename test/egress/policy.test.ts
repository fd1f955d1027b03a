// Judging one call beyond the mesh: by rules, by what cannot be seen, and by where names lead.
import * as fc from 'fast-check';
import t from 'tap';
import type { Egress, EgressRule, PathMatch } from '../../src/config/model.ts';
import { addressClass, canonicalAddress } from '../../src/egress/address-class.ts';
import { compileEgress, type EgressCall, type Judgement } from '../../src/egress/policy.ts';

const at = { file: 'c.yaml', line: 1, column: 1 };

function rule(changes: Partial<EgressRule>): EgressRule {
  return {
    name: 'rule',
    at,
    from: null,
    hosts: [],
    ports: [],
    cidrs: [],
    methods: [],
    paths: [],
    tls: true,
    ...changes,
  };
}

function egress(changes: Partial<Egress>): Egress {
  return { default: 'deny', audit: false, deny: [], allow: [], ...changes };
}

function call(changes: Partial<EgressCall> = {}): EgressCall {
  return {
    from: 'cart',
    host: 'api.example.com',
    port: 443,
    http: { method: 'GET', path: '/', ambiguous: false },
    ...changes,
  };
}

const PUBLIC = ['93.184.216.34'];

/** `rule`, or `!rule` where it denies. */
function verdict(config: Partial<Egress>, asked: EgressCall, addresses: readonly string[] = PUBLIC): string {
  const judgement = compileEgress(egress(config)).judge(asked, addresses);
  return judgement.allowed ? judgement.policy : `!${judgement.policy}`;
}

t.test('nothing is allowed but what a rule allows, and deny rules come first', async (t) => {
  const allow = [rule({ name: 'api', from: ['cart'], hosts: ['api.example.com'], ports: [443] })];
  t.equal(verdict({ allow }, call()), 'api');
  t.equal(verdict({ allow }, call({ from: 'orders' })), '!egress.default');
  t.equal(verdict({ allow }, call({ port: 80 })), '!egress.default');
  t.equal(verdict({ allow }, call({ host: 'api.example.com.evil.test' })), '!egress.default');
  t.equal(verdict({ allow, deny: [rule({ name: 'no' })] }, call()), '!no');
  t.equal(verdict({ default: 'allow' }, call()), 'egress.default');
});

t.test('a wildcard is any name below it, at any depth, and never the name itself', async (t) => {
  const allow = [rule({ name: 'any', hosts: ['*.example.com'] })];
  for (const host of ['a.example.com', 'a.b.example.com']) t.equal(verdict({ allow }, call({ host })), 'any', host);
  for (const host of ['example.com', 'aexample.com', 'example.com.test'])
    t.equal(verdict({ allow }, call({ host })), '!egress.default', host);
});

t.test('a tunnel is let through by no rule with methods or paths, and denied by such a rule', async (t) => {
  for (const seen of [{ methods: ['GET'] }, { paths: [{ kind: 'prefix' as const, value: '/' }] }]) {
    t.equal(verdict({ allow: [rule(seen)] }, call()), 'rule');
    t.equal(verdict({ allow: [rule(seen)] }, call({ http: null })), '!egress.default');
    t.equal(verdict({ default: 'allow', deny: [rule(seen)] }, call({ http: null })), '!rule');
  }
});

t.test('a path that the other side may read in two ways is let through by no rule with paths', async (t) => {
  const paths: PathMatch[] = [{ kind: 'prefix', value: '/v1' }];
  const asked = (path: string, ambiguous: boolean) => call({ http: { method: 'GET', path, ambiguous } });
  t.equal(verdict({ allow: [rule({ paths })] }, asked('/v1/a', false)), 'rule');
  t.equal(verdict({ allow: [rule({ paths })] }, asked('/v1/..%2Fadmin', true)), '!egress.default');
  t.equal(verdict({ default: 'allow', deny: [rule({ paths })] }, asked('/x%2F..%2Fv1', true)), '!rule');
  t.equal(verdict({ allow: [rule({})] }, asked('/group%2Fproject', true)), 'rule');
});

t.test('a name is judged without its addresses where they cannot change the verdict', async (t) => {
  const { judge } = compileEgress(
    egress({ allow: [rule({ hosts: ['a.test'] })], deny: [rule({ name: 'no', hosts: ['b.test'] })] }),
  );
  t.equal(judge(call({ host: 'a.test' }), null), null);
  t.strictSame(judge(call({ host: 'b.test' }), null), { allowed: false, policy: 'no' });
  t.strictSame(judge(call({ host: 'c.test' }), null), { allowed: false, policy: 'egress.default' });
});

t.test('addresses that are not public are reached only where a narrow network lists them', async (t) => {
  const listed = (...cidrs: string[]) => ({ allow: [rule({ cidrs })] });
  for (const address of [
    '127.0.0.1',
    '10.1.2.3',
    '192.168.0.1',
    '169.254.1.1',
    '::1',
    'fc00::1',
    'fe80::1',
    '0.0.0.0',
    '255.255.255.255',
    '224.0.0.1',
  ]) {
    t.equal(verdict({ default: 'allow', allow: [rule({})] }, call(), [address]), '!egress.addresses', address);
    t.equal(
      verdict(listed('0.0.0.0/0', '::/0'), call(), [address]),
      '!egress.addresses',
      `${address} by a network that means anywhere`,
    );
    t.equal(verdict(listed(address), call(), [address]), 'rule', address);
  }
  t.equal(verdict(listed('10.0.0.0/8'), call(), ['10.9.9.9']), 'rule');
  t.equal(verdict(listed('fc00::/7'), call(), ['fd12::1']), 'rule');
  t.equal(verdict(listed('0.0.0.0/0'), call(), PUBLIC), 'rule');
  t.equal(verdict(listed('10.0.0.0/8'), call(), PUBLIC), '!egress.addresses', 'a list is a bound too');
});

t.test('metadata addresses are reached only by a network that is meant for them', async (t) => {
  const listed = (cidr: string) => ({ allow: [rule({ cidrs: [cidr] })] });
  for (const [address, wide, own] of [
    ['169.254.169.254', '169.254.0.0/16', '169.254.169.254/32'],
    ['fd00:ec2::254', 'fc00::/7', 'fd00:ec2::254'],
    ['100.100.100.200', '100.64.0.0/10', '100.100.100.0/24'],
    ['64:ff9b::a9fe:a9fe', '64:ff9b::/96', '169.254.169.254'],
  ]) {
    t.equal(verdict(listed(wide), call(), [address]), '!egress.addresses', wide);
    t.equal(addressClass(address), 'metadata');
    if (!address.startsWith('64:')) t.equal(verdict(listed(own), call(), [address]), 'rule', own);
  }
});

t.test('only the addresses that the deciding rule allows are dialled', async (t) => {
  const { judge } = compileEgress(
    egress({
      deny: [rule({ name: 'no', cidrs: ['93.184.0.0/16'] })],
      allow: [rule({ name: 'inside', cidrs: ['10.0.0.0/8'], tls: false }), rule({ name: 'outside' })],
    }),
  );
  t.strictSame(judge(call(), ['10.0.0.1', '10.0.0.2', '127.0.0.1', '1.1.1.1']), {
    allowed: true,
    policy: 'inside',
    addresses: ['10.0.0.1', '10.0.0.2'],
    tls: false,
  });
  t.strictSame(judge(call(), ['93.184.216.34', '1.1.1.1']), {
    allowed: true,
    policy: 'outside',
    addresses: ['1.1.1.1'],
    tls: true,
  });
  t.strictSame(judge(call(), ['93.184.216.34', '::1']), { allowed: false, policy: 'no' });
  t.strictSame(judge(call(), ['64:ff9b::5db8:d822']), { allowed: false, policy: 'no' }, 'behind NAT64 as well');
});

t.test('an address has one spelling and one kind', async (t) => {
  for (const [written, canonical] of [
    ['127.0.0.1', '127.0.0.1'],
    ['::ffff:127.0.0.1', '127.0.0.1'],
    ['::FFFF:7f00:1', '127.0.0.1'],
    ['0:0:0:0:0:ffff:a9fe:a9fe', '169.254.169.254'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['FE80::0001', 'fe80::1'],
    ['fe80::1%eth0', null],
    ['0177.0.0.1', null],
    ['2130706433', null],
    ['a.test', null],
  ]) {
    t.equal(canonicalAddress(written as string), canonical, written as string);
  }
  for (const [address, kind] of Object.entries({
    '1.1.1.1': 'public',
    '2606:4700::1': 'public',
    '172.15.0.1': 'public',
    '172.32.0.1': 'public',
    '172.31.255.255': 'private',
    '100.64.0.1': 'private',
    'fdff::1': 'private',
    '2002:a00:1::': 'private',
    '64:ff9b::808:808': 'public',
    '64:ff9b::7f00:1': 'special',
    '2002:7f00:1::1': 'special',
    '::7f00:1': 'special',
    '2001:0:1::1': 'special',
    'ff02::1': 'special',
    '::': 'special',
    '168.63.129.16': 'metadata',
  })) {
    t.equal(addressClass(address), kind, address);
  }
});

/** The same in the plainest words: no sets, no early answers, addresses one by one. */
function naive(config: Egress, asked: EgressCall, addresses: readonly string[]): Judgement {
  const hostFits = (host: string) =>
    host.startsWith('*.')
      ? asked.host.endsWith(host.slice(1)) && asked.host.length >= host.length
      : asked.host === host;
  const pathFits = ({ kind, value }: PathMatch, path: string) =>
    kind === 'exact'
      ? path === value
      : kind === 'prefix'
        ? `${path}/`.startsWith(value === '/' ? '/' : `${value}/`)
        : new RegExp(`^(?:${value})$`).test(path);
  const names = (rule: EgressRule, deny: boolean) => {
    if (rule.from !== null && !rule.from.includes(asked.from)) return false;
    if (rule.hosts.length > 0 && !rule.hosts.some(hostFits)) return false;
    if (rule.ports.length > 0 && !rule.ports.includes(asked.port)) return false;
    const { http } = asked;
    if (http === null) return deny || (rule.methods.length === 0 && rule.paths.length === 0);
    if (rule.methods.length > 0 && !rule.methods.includes(http.method)) return false;
    if (rule.paths.length === 0) return true;
    return http.ambiguous ? deny : rule.paths.some((path) => pathFits(path, http.path));
  };
  const inside = (address: string, cidr: string) => {
    const [network, bits] = cidr.split('/');
    const number = (text: string) => text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
    const size = 2 ** (32 - Number(bits));
    return Math.floor(number(address) / size) === Math.floor(number(network) / size);
  };
  const isPublic = (address: string) => !['10.', '127.'].some((start) => address.startsWith(start));
  const opens = (rule: EgressRule, address: string) =>
    rule.cidrs.length === 0
      ? isPublic(address)
      : rule.cidrs.some((cidr) => inside(address, cidr) && (isPublic(address) || Number(cidr.split('/')[1]) >= 8));
  let denied: string | null = null;
  for (const rule of config.deny)
    if (names(rule, true) && rule.cidrs.length === 0) return { allowed: false, policy: rule.name };
  if (config.default === 'deny' && !config.allow.some((rule) => names(rule, false)))
    return { allowed: false, policy: 'egress.default' };
  const found: { address: string; rule: EgressRule | null }[] = [];
  for (const address of addresses) {
    const denier = config.deny.find((rule) => names(rule, true) && rule.cidrs.some((cidr) => inside(address, cidr)));
    if (denier !== undefined) {
      denied ??= denier.name;
      continue;
    }
    const allower = config.allow.find((rule) => names(rule, false) && opens(rule, address));
    if (allower !== undefined) found.push({ address, rule: allower });
    else if (config.default === 'allow' && isPublic(address)) found.push({ address, rule: null });
  }
  if (found.length === 0) return { allowed: false, policy: denied ?? 'egress.addresses' };
  const [{ rule }] = found;
  return {
    allowed: true,
    policy: rule?.name ?? 'egress.default',
    addresses: found.filter((one) => one.rule === rule).map(({ address }) => address),
    tls: rule?.tls ?? true,
  };
}

t.test('judges as a naive reading of the rules does', async (t) => {
  const some = <T>(...items: T[]) => fc.subarray(items, { maxLength: 2 });
  const rules = fc.array(
    fc.record({
      from: fc.oneof(fc.constant(null), some('cart', 'orders')),
      hosts: some('a.test', 'b.a.test', '*.a.test', '*.test', '10.0.0.1'),
      ports: some(80, 443),
      cidrs: some('10.0.0.0/8', '127.0.0.1/32', '1.0.0.0/8', '0.0.0.0/0', '10.0.0.0/7'),
      methods: some('GET', 'POST'),
      paths: some<PathMatch>(
        { kind: 'prefix', value: '/a' },
        { kind: 'exact', value: '/a/b' },
        { kind: 'regex', value: '/[ab]' },
        { kind: 'prefix', value: '/' },
      ),
      tls: fc.boolean(),
    }),
    { maxLength: 4 },
  );
  const named = (kind: string) =>
    rules.map((list) => list.map((one, index) => rule({ ...one, name: `${kind}[${index}]` })));
  const configs = fc.record({
    default: fc.constantFrom('allow' as const, 'deny' as const),
    audit: fc.constant(false),
    deny: named('deny'),
    allow: named('allow'),
  });
  const calls = fc.record({
    from: fc.constantFrom('cart', 'orders', 'stock'),
    host: fc.constantFrom('a.test', 'b.a.test', 'c.b.a.test', 'test', 'xa.test', '10.0.0.1'),
    port: fc.constantFrom(80, 443, 22),
    http: fc.oneof(
      { weight: 1, arbitrary: fc.constant(null) },
      {
        weight: 3,
        arbitrary: fc.record({
          method: fc.constantFrom('GET', 'POST', 'PUT'),
          path: fc.constantFrom('/', '/a', '/a/b', '/ab', '/b'),
          ambiguous: fc.boolean(),
        }),
      },
    ),
  });
  const addresses = fc.subarray(['10.0.0.1', '11.0.0.1', '127.0.0.1', '127.0.0.2', '1.1.1.1', '8.8.8.8'], {
    minLength: 1,
  });
  let allowed = 0;
  fc.assert(
    fc.property(configs, calls, addresses, (config, asked, found) => {
      const expected = naive(config, asked, found);
      if (expected.allowed) allowed += 1;
      const policy = compileEgress(config);
      t.strictSame(policy.judge(asked, found), expected);
      const early = policy.judge(asked, null);
      if (early !== null) t.strictSame(early, expected, 'what is judged by name stays so');
    }),
    { numRuns: 2_000, seed: 7, verbose: 1 },
  );
  t.ok(allowed > 200, `${allowed} of 2,000 were allowed`);
});
