import t from 'tap';
import type { ClientAddress, Config, Hop, ServiceConfig } from '../../src/config/model.ts';
import { clientAddressOf, compileTrust } from '../../src/gateway/trust.ts';
import { defaultHopPlugins, HOP_LIMITS, hopListeners } from '../../src/internal/internal.ts';

const at = { file: 'selvedge.yaml', line: 7, column: 3 };
const portAt = { file: 'selvedge.yaml', line: 9, column: 3 };

const INBOUND_ONLY: Hop = { at, inbound: { host: '::', port: 1 }, outbound: null, apps: [] };

function configWith(internal: Hop | null, gateways: readonly Partial<ClientAddress>[] = []): Config {
  const common = { trustedProxies: [], header: 'x-forwarded-for', hops: null };
  return {
    mesh: { trustDomain: 'shop.internal' },
    services: [{ name: 'orders', mtls: 'strict', internal } as ServiceConfig],
    gateways: gateways.map((changes) => ({ clientAddress: { ...common, ...changes } })),
  } as unknown as Config;
}

t.test('a hop listens for peers, for its application, and on a local port a service', async (t) => {
  const config = configWith({
    at,
    inbound: { host: '0.0.0.0', port: 15001 },
    outbound: {
      host: '127.0.0.1',
      port: 15002,
      ports: [{ service: 'inventory', host: '::1', port: 7001, at: portAt }],
    },
    apps: ['127.0.0.1:3000'],
  });
  const specs = hopListeners(config, 'orders');
  t.match(specs, [
    {
      key: 'inbound/orders',
      role: 'inbound',
      name: 'inbound',
      host: '0.0.0.0',
      port: 15001,
      mesh: { id: 'spiffe://shop.internal/service/orders', mode: 'strict' },
      fixedService: null,
      at,
    },
    {
      key: 'outbound/orders',
      role: 'outbound',
      name: 'outbound',
      host: '127.0.0.1',
      port: 15002,
      fixedService: null,
      at,
    },
    {
      key: 'outbound/orders/inventory',
      role: 'outbound',
      name: 'inventory',
      host: '::1',
      port: 7001,
      fixedService: 'inventory',
      at: portAt,
    },
  ]);
  for (const spec of specs) t.match(spec, { owner: 'orders', tls: null, limits: HOP_LIMITS });
});

t.test('where a service speaks TCP, its inbound side and the local ports to it do', async (t) => {
  const ports = ['db', 'cart'].map((service) => ({ service, host: '127.0.0.1', port: 0, at: portAt }));
  const hop: Hop = { ...INBOUND_ONLY, outbound: { host: '127.0.0.1', port: 0, ports } };
  const config = {
    ...configWith(null),
    services: [
      { name: 'db', protocol: 'tcp', mtls: 'strict', internal: hop },
      { name: 'cart', protocol: 'http1', mtls: 'strict', internal: hop },
    ],
  } as unknown as Config;
  const protocols = (service: string) => hopListeners(config, service).map(({ key, protocol }) => [key, protocol]);
  t.strictSame(protocols('db'), [
    ['inbound/db', 'tcp'],
    ['outbound/db', undefined],
    ['outbound/db/db', 'tcp'],
    ['outbound/db/cart', undefined],
  ]);
  t.strictSame(protocols('cart')[0], ['inbound/cart', undefined]);
});

t.test('a hop without outbound listens for peers only; a service without hop has none', async (t) => {
  const specs = hopListeners(configWith(INBOUND_ONLY), 'orders');
  t.same(
    specs.map(({ key, host }) => [key, host]),
    [['inbound/orders', '::']],
  );
  t.same(hopListeners(configWith(null), 'orders'), []);
  t.same(hopListeners(configWith(null), 'other'), []);
});

t.test('a hop finds the client that the edge found, not one that a stranger wrote', async (t) => {
  const clientOf = (gateways: readonly Partial<ClientAddress>[], list?: string) => {
    const [spec] = hopListeners(configWith(INBOUND_ONLY, gateways), 'orders');
    return clientAddressOf(compileTrust(spec.clientAddress), '10.9.9.9', { 'x-forwarded-for': list });
  };
  t.same(clientOf([]), { address: '10.9.9.9', trusted: true }, 'called by an application: its own address');
  t.same(clientOf([{}], '203.0.113.9'), { address: '203.0.113.9', trusted: true }, 'the edge names its peer');
  t.equal(clientOf([{}], '198.51.100.1, 203.0.113.9').address, '203.0.113.9');
  const proxies = { trustedProxies: ['192.0.2.0/24'] };
  t.equal(clientOf([proxies, {}], '198.51.100.1, 203.0.113.9, 192.0.2.1').address, '203.0.113.9');
  t.equal(clientOf([{ hops: 1 }], '198.51.100.1, 203.0.113.9, 192.0.2.1').address, '203.0.113.9');
  t.equal(clientOf([{ hops: 0 }], '198.51.100.1, 203.0.113.9').address, '203.0.113.9');
  t.equal(
    clientOf([{ hops: 2 }, { hops: 1 }], '198.51.100.1, 203.0.113.9, 192.0.2.1').address,
    '192.0.2.1',
    'in doubt the nearest',
  );
});

t.test('the chain of a hop takes the id of its caller over', async (t) => {
  const metrics = { buckets: [], maxSeries: 100 };
  for (const side of ['inbound', 'outbound'] as const) {
    t.same(
      defaultHopPlugins(
        { metrics, accessLog: null, tracing: null, services: [], authorization: [] } as unknown as Config,
        side,
        'orders',
      ),
      [
        { name: 'request-id', options: { trust: true } },
        ...(side === 'inbound' ? [{ name: 'mtls', options: {} }] : []),
        { name: 'metrics', options: metrics },
      ],
    );
  }
  const accessLog = { sample: 1, always: { errors: true, slowMs: null }, redact: [], fields: {}, headers: [] };
  t.match(
    defaultHopPlugins(
      { metrics, accessLog, tracing: null, services: [], authorization: [] } as unknown as Config,
      'inbound',
      'orders',
    ).at(-1),
    {
      name: 'access-log',
      options: accessLog,
    },
  );
});

t.test('a hop goes by what the edge decided about a trace, whatever the gateways do', async (t) => {
  const tracing = { otlp: 'http://127.0.0.1:4318', sample: 0.05, propagate: ['w3c'], headers: {}, trustParent: false };
  for (const side of ['inbound', 'outbound'] as const) {
    const chain = defaultHopPlugins(
      { metrics: {}, accessLog: null, tracing, services: [], authorization: [] } as unknown as Config,
      side,
      'orders',
    );
    t.match(chain[1], { name: 'tracing', options: { ...tracing, trustParent: true } });
  }
});

t.test('who may call is asked where the calls arrive, of the policies of that service', async (t) => {
  const policy = (name: string, service: string) => ({
    name,
    at,
    target: { kind: 'service', name: service },
    effect: 'deny',
    audit: false,
    rules: [],
  });
  const authorization = [policy('own', 'orders'), policy('all', '*'), policy('other', 'cart')];
  const config = { metrics: {}, accessLog: null, tracing: null, services: [], authorization } as unknown as Config;
  const last = (side: 'inbound' | 'outbound', service: string) => defaultHopPlugins(config, side, service).at(-1);
  const rules = (name: string) => ({ name, effect: 'deny', audit: false, rules: [] });
  t.same(last('inbound', 'orders'), {
    name: 'authorization',
    options: { target: 'service orders', policies: [rules('own'), rules('all')] },
  });
  t.match(last('inbound', 'search'), { options: { policies: [rules('all')] } });
  t.equal(last('outbound', 'orders')?.name, 'metrics', 'not where they leave');
});
