import fc from 'fast-check';
import t from 'tap';
import type { ClientAddress, Config, Gateway, Listener } from '../../src/config/model.ts';
import { defaultEdgePlugins, gatewayListeners } from '../../src/gateway/gateway.ts';
import { clientAddressOf, compileTrust } from '../../src/gateway/trust.ts';
import { HOP_LIMITS } from '../../src/internal/internal.ts';

const at = { file: 'selvedge.yaml', line: 7, column: 3 };

function client(remote: string, list: string | string[] | undefined, changes: Partial<ClientAddress>) {
  const trust = compileTrust({ trustedProxies: [], header: 'x-forwarded-for', hops: null, ...changes });
  return clientAddressOf(trust, remote, { [trust.header]: list });
}

const address = (...args: Parameters<typeof client>): string => client(...args).address;

t.test('without trusted proxies the client is the TCP peer, whatever the headers say', async (t) => {
  t.same(client('198.51.100.7', '10.0.0.1', {}), { address: '198.51.100.7', trusted: false });
  t.same(client('198.51.100.7', '10.0.0.1', { hops: 0 }), { address: '198.51.100.7', trusted: false });
  t.same(client('10.1.1.1', '10.0.0.1', { hops: 0, trustedProxies: ['10.0.0.0/8'] }), {
    address: '10.1.1.1',
    trusted: false,
  });
  t.same(client('198.51.100.7', '203.0.113.9', { trustedProxies: ['10.0.0.0/8'] }), {
    address: '198.51.100.7',
    trusted: false,
  });
});

t.test('the client is the rightmost address that is not a trusted proxy', async (t) => {
  const trusting = { trustedProxies: ['10.0.0.0/8', '2001:db8:ffff::/48'] };
  t.same(client('10.0.0.1', undefined, trusting), { address: '10.0.0.1', trusted: true });
  t.same(client('10.0.0.1', '203.0.113.9', trusting), { address: '203.0.113.9', trusted: true });
  t.equal(
    address('10.0.0.1', '198.51.100.1, 203.0.113.9, 10.0.0.2', trusting),
    '203.0.113.9',
    'what is left of it is hearsay',
  );
  t.equal(address('10.0.0.1', '10.0.0.3,10.0.0.2', trusting), '10.0.0.3', 'all trusted: the outermost');
  t.equal(address('10.0.0.1', ' 203.0.113.9 ,\t10.0.0.2 ', trusting), '203.0.113.9');
  t.equal(address('2001:db8:ffff::1', '2001:db8::9', trusting), '2001:db8::9');
  t.equal(address('10.0.0.1', ['203.0.113.8', '203.0.113.9, 10.0.0.2'], trusting), '203.0.113.9');
});

t.test('addresses are read with port, brackets and zone, and a malformed one stops the walk', async (t) => {
  const trusting = { trustedProxies: ['10.0.0.0/8', 'fe80::/10'] };
  const read: [string, string][] = [
    ['203.0.113.9:4711', '203.0.113.9'],
    ['[2001:DB8::9]:4711', '2001:db8::9'],
    ['[2001:db8::9]', '2001:db8::9'],
    ['2001:db8::9', '2001:db8::9'],
    ['2001:db8::9%eth0', '2001:db8::9'],
    ['203.0.113.9, fe80::1%eth0', '203.0.113.9'],
    ['::ffff:203.0.113.9', '203.0.113.9'],
    ['203.0.113.9, ::ffff:10.0.0.2', '203.0.113.9'],
  ];
  for (const [list, expected] of read) t.equal(address('10.0.0.1', list, trusting), expected, list);
  for (const bad of [
    '',
    'unknown',
    'proxy.example',
    '256.1.1.1',
    '203.0.113.9:',
    '[203.0.113',
    '203.0.113.9 10.0.0.2',
    '"203.0.113.9"',
    '_x',
  ]) {
    t.equal(address('10.0.0.1', bad, trusting), '10.0.0.1', JSON.stringify(bad));
    t.equal(address('10.0.0.1', `203.0.113.9,${bad},10.0.0.2`, trusting), '10.0.0.2', `behind ${JSON.stringify(bad)}`);
  }
});

t.test('`hops` passes exactly so many proxies', async (t) => {
  const list = '198.51.100.1, 203.0.113.9, 192.0.2.2';
  t.equal(address('192.0.2.1', list, { hops: 1 }), '192.0.2.2');
  t.equal(address('192.0.2.1', list, { hops: 2 }), '203.0.113.9');
  t.same(client('192.0.2.1', list, { hops: 9 }), { address: '198.51.100.1', trusted: true });
  t.equal(address('192.0.2.1', 'junk, 203.0.113.9', { hops: 2 }), '203.0.113.9');
  t.same(client('192.0.2.1', list, { hops: 1, trustedProxies: ['10.0.0.0/8'] }), {
    address: '192.0.2.1',
    trusted: false,
  });
  t.equal(address('10.0.0.1', list, { hops: 1, trustedProxies: ['10.0.0.0/8'] }), '192.0.2.2');
});

t.test('another header can carry the client', async (t) => {
  const any = { trustedProxies: ['10.0.0.0/8'] };
  t.equal(address('10.0.0.1', '203.0.113.9', { ...any, header: 'cf-connecting-ip' }), '203.0.113.9');
  const forwarded = { ...any, header: 'forwarded' };
  t.equal(
    address('10.0.0.1', 'for=198.51.100.1, for=203.0.113.9;proto=https, by=x; For="10.0.0.2:80"', forwarded),
    '203.0.113.9',
  );
  t.equal(address('10.0.0.1', 'proto=https;for="[2001:db8::9]:4711"', forwarded), '2001:db8::9');
  t.equal(address('10.0.0.1', 'for=203.0.113.9, for=unknown', forwarded), '10.0.0.1');
});

t.test('a stranger cannot choose the address that is taken for its own', async () => {
  const written = fc.array(fc.oneof(fc.ipV4(), fc.ipV6(), fc.string(), fc.constantFrom('10.0.0.9', ',', '"', '[')), {
    maxLength: 6,
  });
  fc.assert(
    fc.property(written, fc.nat({ max: 3 }), (list, proxies) => {
      const appended = ['203.0.113.9', ...Array.from({ length: proxies }, (_, i) => `10.0.0.${i + 2}`)];
      const header = [...list, ...appended].join(', ');
      return (
        address('10.0.0.1', header, { trustedProxies: ['10.0.0.0/8'] }) === '203.0.113.9' &&
        address('10.0.0.1', header, { hops: proxies + 1 }) === '203.0.113.9'
      );
    }),
    { numRuns: 500 },
  );
});

t.test('a gateway listens where its listeners say, with their limits and its trust', async (t) => {
  const shape = { name: 'http', at, host: '0.0.0.0', port: 8080, tls: null, limits: HOP_LIMITS, redirect: null };
  const listener: Listener = { ...shape, plugins: [] };
  const tls = { certificates: [], minVersion: 'TLSv1.2', clientCertificate: null } as const;
  const clientAddress = { trustedProxies: ['10.0.0.0/8'], header: 'x-forwarded-for', hops: null, proxyProtocol: false };
  const gateway: Gateway = {
    name: 'public',
    at,
    clientAddress,
    listeners: [listener, { ...listener, name: 'https', host: '::', port: 8443, tls }],
    errorPages: [],
    plugins: [],
  };
  const config = { gateways: [gateway], mesh: { trustDomain: 'mesh.internal' } } as unknown as Config;
  const common = {
    role: 'gateway',
    owner: 'public',
    limits: HOP_LIMITS,
    clientAddress,
    mesh: null,
    meshDomain: 'mesh.internal',
    fixedService: null,
    at,
  };
  t.same(gatewayListeners(config, 'public'), [
    { ...common, key: 'gateway/public/http', name: 'http', host: '0.0.0.0', port: 8080, tls: null },
    { ...common, key: 'gateway/public/https', name: 'https', host: '::', port: 8443, tls },
  ]);
  t.same(gatewayListeners(config, 'other'), []);
});

t.test(
  'the edge chain begins with request-id, metrics, the access log where it is on, and load shedding',
  async (t) => {
    const metrics = { buckets: [0.1, 1], maxSeries: 100 };
    const accessLog = {
      sample: 0.5,
      always: { errors: true, slowMs: 100 },
      redact: ['cookie'],
      fields: {},
      headers: [],
    };
    t.same(
      defaultEdgePlugins(
        { metrics, accessLog, tracing: null, gateways: [], authorization: [] } as unknown as Config,
        'public',
      ),
      [
        { name: 'request-id', options: { trust: false } },
        { name: 'metrics', options: metrics },
        { name: 'access-log', options: accessLog },
        { name: 'load-shedding', options: {} },
      ],
    );
    t.same(
      defaultEdgePlugins(
        { metrics, accessLog: null, tracing: null, gateways: [], authorization: [] } as unknown as Config,
        'public',
      ).map(({ name }) => name),
      ['request-id', 'metrics', 'load-shedding'],
    );
  },
);

t.test('where traces are exported, every request is traced right after it has its id', async (t) => {
  const tracing = { otlp: 'http://127.0.0.1:4318', sample: 0.05, propagate: ['w3c'], headers: {}, trustParent: false };
  const chain = defaultEdgePlugins(
    { metrics: {}, accessLog: null, tracing, gateways: [], authorization: [] } as unknown as Config,
    'public',
  );
  t.same(
    chain.map(({ name }) => name),
    ['request-id', 'tracing', 'metrics', 'load-shedding'],
  );
  t.same(chain[1].options, tracing);
});

t.test('a gateway asks its own policies, and those of every gateway', async (t) => {
  const policy = (name: string, kind: string, target: string) => ({
    name,
    at: { file: 'a.yaml', line: 1, column: 1 },
    target: { kind, name: target },
    effect: 'allow',
    audit: true,
    rules: [],
  });
  const authorization = [
    policy('own', 'gateway', 'public'),
    policy('all', 'gateway', '*'),
    policy('namesake', 'service', 'public'),
  ];
  const config = { metrics: {}, accessLog: null, tracing: null, gateways: [], authorization } as unknown as Config;
  t.same(defaultEdgePlugins(config, 'public').at(-1), {
    name: 'authorization',
    options: {
      target: 'gateway public',
      policies: [
        { name: 'own', effect: 'allow', audit: true, rules: [] },
        { name: 'all', effect: 'allow', audit: true, rules: [] },
      ],
    },
  });
});
