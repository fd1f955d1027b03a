// Two identities on every call, and nothing between hops that a stranger could read, forge or slip into.
import { once } from 'node:events';
import { get } from 'node:http';
import { type AddressInfo, connect, createServer } from 'node:net';
import { type ConnectionOptions, connect as connectTls, type SecureVersion } from 'node:tls';
import t, { type Test } from 'tap';
import { issueSvid } from '../../src/identity/authority.ts';
import type { Svid } from '../../src/index.ts';
import { type ConfigInput, createSelvedge, type Selvedge } from '../../src/index.ts';
import { TestAuthority, TestSource } from '../support/mesh-authority.ts';
import { freePort } from './support/ports.ts';
import { eventually, exchange, httpUpstream, statusOf } from './support/sockets.ts';

const CART = 'spiffe://shop.internal/service/cart';

interface App {
  readonly port: number;
  readonly seen: Record<string, string>[];
}

async function app(t: Test): Promise<App> {
  const seen: Record<string, string>[] = [];
  const { port } = await httpUpstream(t, (req, res) => {
    seen.push(req.headers as Record<string, string>);
    res.end('from orders');
  });
  return { port, seen };
}

/** Passes everything on between two ports, and remembers what went by. */
async function relay(t: Test, to: number): Promise<{ port: number; text(): string }> {
  const passed: Buffer[] = [];
  const server = createServer((client) => {
    const upstream = connect(to, '127.0.0.1');
    for (const [from, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.on('data', (chunk: Buffer) => {
        passed.push(chunk);
        other.write(chunk);
      });
      from.on('error', () => other.destroy());
      from.on('close', () => other.destroy());
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return { port: (server.address() as AddressInfo).port, text: () => Buffer.concat(passed).toString('latin1') };
}

interface MeshOptions {
  readonly app: number;
  readonly inbound: number;
  /** What callers dial; default the inbound port. */
  readonly hop?: number;
  readonly mtls?: string;
  readonly mesh?: object;
  readonly service?: object;
}

function shop({ app, inbound, hop = inbound, mtls = 'strict', mesh = {}, service = {} }: MeshOptions): ConfigInput {
  return {
    version: 1,
    admin: false,
    telemetry: { accessLog: false },
    drain: { grace: '0s', timeout: '2s' },
    mesh: { trustDomain: 'shop.internal', mtls, ...mesh },
    gateways: { public: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] } },
    services: {
      orders: {
        endpoints: [{ address: `127.0.0.1:${app}`, hop: `127.0.0.1:${hop}` }],
        internal: { inbound: { host: '127.0.0.1', port: inbound }, app: `127.0.0.1:${app}` },
        ...service,
      },
    },
    routes: [{ name: 'orders', to: 'orders' }],
  } as ConfigInput;
}

interface Part {
  readonly selvedge: Selvedge;
  readonly source: TestSource;
  readonly url: string;
}

/** One process of the mesh: the gateway, the hop of orders, or both. */
async function part(
  t: Test,
  config: ConfigInput,
  authority: TestAuthority,
  roles?: { gateways?: string[]; internal?: string[] },
  others: Record<string, string> = {},
): Promise<Part> {
  const source = new TestSource(authority, others);
  const selvedge = await createSelvedge({
    config,
    roles,
    logger: false,
    identity: async () => source,
  });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  const gateway = selvedge.addresses()['gateway/public/http'];
  return { selvedge, source, url: `http://127.0.0.1:${gateway?.port ?? 0}/` };
}

const GATEWAY = { gateways: ['public'], internal: [] };
const HOP = { gateways: [], internal: ['orders'] };

async function status(url: string): Promise<number> {
  const response = await fetch(url);
  await response.arrayBuffer();
  return response.status;
}

/** A request over raw TLS with this certificate: what came back, or why nothing did. */
async function overTls(port: number, options: ConnectionOptions): Promise<string> {
  const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options });
  let received = '';
  socket.on('data', (chunk) => {
    received += chunk;
  });
  socket.on('secureConnect', () => socket.write('GET / HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n'));
  return new Promise((resolve) => {
    socket.on('error', (error) => resolve(received || `error ${error.message}`));
    socket.on('close', () => resolve(received || 'closed'));
  });
}

t.test('a call through two hops has two verified identities, and only TLS goes over the wire', async (t) => {
  const authority = await TestAuthority.make('shop.internal');
  const { port, seen } = await app(t);
  const inbound = await freePort();
  const wire = await relay(t, inbound);
  const config = shop({ app: port, inbound, hop: wire.port });
  await part(t, config, authority, HOP);
  const edge = await part(t, config, authority, GATEWAY);
  const response = await fetch(edge.url, {
    headers: { 'x-forwarded-client-cert': 'URI=spiffe://shop.internal/admin' },
  });
  t.equal(await response.text(), 'from orders');
  t.match(
    seen[0]['x-forwarded-client-cert'],
    /^Hash=[0-9a-f]{64};Subject="";URI=spiffe:\/\/shop\.internal\/gateway\/public$/,
  );
  t.equal(wire.text().charCodeAt(0), 0x16, 'a handshake');
  for (const word of ['GET', 'HTTP/1.1', 'from orders', 'x-request-id']) t.notMatch(wire.text(), word);
  for (let n = 0; n < 20; n++) t.equal(await status(edge.url), 200);
  t.equal(wire.text().split('\x16\x03\x01').length - 1, 1, 'one handshake for all of them');
});

t.test('who has no good certificate reaches no application', async (t) => {
  const authority = await TestAuthority.make('shop.internal');
  const stranger = await TestAuthority.make('shop.internal');
  const partner = await TestAuthority.make('partner.internal');
  const { port, seen } = await app(t);
  const inbound = await freePort();
  const { selvedge } = await part(t, shop({ app: port, inbound }), authority, HOP, {
    'partner.internal': partner.roots,
  });
  const of = ({ cert, key }: Svid): ConnectionOptions => ({ cert, key });
  const hour = 3_600_000;
  const good = await authority.svid(CART);
  const cases: Record<string, ConnectionOptions> = {
    'no certificate': {},
    'a certificate of another authority': of(await stranger.svid(CART)),
    "a partner's certificate for one of our names": of(await partner.svid(CART)),
    'one that has expired': of(await issueSvid(authority.issuer, CART, { now: Date.now() - 3 * hour, lifeMs: hour })),
    'one that is not valid yet': of(await issueSvid(authority.issuer, CART, { now: Date.now() + 3 * hour })),
    'the certificate of the authority itself': {
      cert: authority.issuer.certificate.toString(),
      key: authority.issuer.key.export({ type: 'pkcs8', format: 'pem' }) as string,
    },
    'one without its intermediate': { ...of(good), cert: good.cert.slice(0, good.cert.indexOf('-----END') + 26) },
  };
  for (const version of ['TLSv1.2', 'TLSv1.3'] as SecureVersion[]) {
    for (const [what, options] of Object.entries(cases)) {
      const answer = await overTls(inbound, { ...options, minVersion: version, maxVersion: version });
      t.notMatch(answer, /HTTP\/1\.1 200/, `${version}: ${what}`);
      t.notMatch(answer, /from orders/, `${version}: ${what}`);
    }
    const allowed = await overTls(inbound, { ...of(good), minVersion: version, maxVersion: version });
    t.match(allowed, /HTTP\/1\.1 200/, `${version}: a good one`);
  }
  t.match(await exchange(t, inbound, 'GET / HTTP/1.1\r\nHost: orders\r\n\r\n'), '', 'plain');
  const refused = await selvedge.registry.getSingleMetric('selvedge_rejected_requests_total')?.get();
  t.match(refused?.values, [
    { labels: { owner: 'orders', code: 'SLV_PEER_REFUSED' }, value: 2 * Object.keys(cases).length + 1 },
  ]);
  t.equal(seen.length, 2);
  const known = await overTls(inbound, of(await partner.svid('spiffe://partner.internal/service/billing')));
  t.match(known, /HTTP\/1\.1 200/, 'a partner under its own name is known');
  t.match(seen.at(-1)!['x-forwarded-client-cert'], /URI=spiffe:\/\/partner\.internal\/service\/billing/);
});

t.test('a hop that is not the service that was dialled gets nothing', async (t) => {
  const authority = await TestAuthority.make('shop.internal');
  const { port, seen } = await app(t);
  const inbound = await freePort();
  await part(t, shop({ app: port, inbound }), authority, HOP);
  const config = shop({ app: port, inbound });
  // The same address, but the config calls it another service.
  const services = (config as { services: Record<string, object> }).services;
  const other = {
    ...config,
    services: { stock: services.orders },
    routes: [{ name: 'stock', to: 'stock' }],
  } as ConfigInput;
  const edge = await part(t, other, authority, GATEWAY);
  const response = await fetch(edge.url);
  t.equal(response.status, 502);
  t.match(await response.text(), /SLV_UPSTREAM_TLS/);
  t.equal(seen.length, 0);
});

t.test('permissive serves plain and TLS, and counts the plain ones', async (t) => {
  const authority = await TestAuthority.make('shop.internal');
  const { port, seen } = await app(t);
  const inbound = await freePort();
  const hop = await part(t, shop({ app: port, inbound, mtls: 'permissive' }), authority, HOP);
  const spoofed =
    'GET / HTTP/1.1\r\nHost: orders\r\nX-Forwarded-Client-Cert: URI=spiffe://shop.internal/service/cart\r\n\r\n';
  t.equal(statusOf(await exchange(t, inbound, spoofed)), 200);
  t.notOk('x-forwarded-client-cert' in seen[0], 'a plain peer is nobody');
  const { cert, key } = await authority.svid(CART);
  t.match(await overTls(inbound, { cert, key }), /HTTP\/1\.1 200/);
  t.match(seen[1]['x-forwarded-client-cert'], /URI=spiffe:\/\/shop\.internal\/service\/cart/);
  t.match(
    await hop.selvedge.registry.metrics(),
    /selvedge_plaintext_requests_total\{service="orders",caller="orders"\} 1/,
    'by the name that the config has for the address',
  );
});

t.test('certificates and roots change under load, and no request fails', async (t) => {
  const authority = await TestAuthority.make('shop.internal');
  const { port, seen } = await app(t);
  const inbound = await freePort();
  const config = shop({ app: port, inbound });
  const hop = await part(t, config, authority, HOP);
  const edge = await part(t, config, authority, GATEWAY);
  const results: number[] = [];
  let going = true;
  const load = Array.from({ length: 8 }, async () => {
    while (going) results.push(await status(edge.url));
  });
  /** Every one of the load has begun and ended a request under what is in force now. */
  const pause = async (): Promise<void> => {
    const enough = results.length + 3 * load.length;
    while (results.length < enough) await new Promise((resolve) => setTimeout(resolve, 5));
  };
  for (let round = 0; round < 5; round++) {
    await hop.source.rotate();
    await pause();
    await edge.source.rotate();
    await pause();
  }
  // A new root: first everybody trusts it, then certificates come from it, then the old one goes.
  await authority.addRoot();
  for (const { source } of [hop, edge]) source.updateTrust();
  await pause();
  for (const { source } of [edge, hop]) await source.rotate();
  await pause();
  authority.roots = authority.root.certificate.toString();
  for (const { source } of [hop, edge]) source.updateTrust();
  await pause();
  going = false;
  await Promise.all(load);
  t.ok(results.length > 30, `${results.length} requests`);
  t.same(
    results.filter((code) => code !== 200),
    [],
  );
  t.equal(seen.length, results.length);
});

t.test('a mesh goes from plain to strict by way of permissive, and no request fails', async (t) => {
  const authority = await TestAuthority.make('shop.internal');
  const { port, seen } = await app(t);
  const inbound = await freePort();
  const parts = { hop: 'off', edge: 'off' };
  const running: Record<string, Selvedge> = {};
  for (const [name, roles] of [
    ['hop', HOP],
    ['edge', GATEWAY],
  ] as const) {
    const source = new TestSource(authority);
    // The config as each process has it just now.
    const config = new Proxy({} as ConfigInput, {
      ownKeys: () => Reflect.ownKeys(shop({ app: port, inbound, mtls: parts[name] })),
      get: (_target, key) => Reflect.get(shop({ app: port, inbound, mtls: parts[name] }), key),
      getOwnPropertyDescriptor: (_target, key) =>
        Reflect.getOwnPropertyDescriptor(shop({ app: port, inbound, mtls: parts[name] }), key),
    });
    const selvedge = await createSelvedge({ config, roles, logger: false, identity: async () => source });
    await selvedge.start();
    t.teardown(() => selvedge.close({ timeoutMs: 0 }));
    running[name] = selvedge;
  }
  const url = `http://127.0.0.1:${running.edge.addresses()['gateway/public/http'].port}/`;
  const results: number[] = [];
  let going = true;
  const load = Array.from({ length: 6 }, async () => {
    while (going) results.push(await status(url));
  });
  const steps: readonly ['hop' | 'edge', string][] = [
    ['edge', 'permissive'],
    ['hop', 'permissive'],
    ['hop', 'strict'],
    ['edge', 'strict'],
  ];
  for (const [name, mode] of steps) {
    // Before the hop is strict, whoever still calls it in the clear is to have found out that it speaks TLS.
    if (name === 'hop' && mode === 'strict')
      await eventually(() => seen.at(-1)?.['x-forwarded-client-cert'] !== undefined, 'calls come by TLS', 15_000);
    parts[name] = mode;
    const { applied, problems } = await running[name].reload();
    t.ok(applied, problems.map(({ message }) => message).join());
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
  going = false;
  await Promise.all(load);
  t.same(
    results.filter((code) => code !== 200),
    [],
    `${results.length} requests`,
  );
  t.match(seen.at(-1)?.['x-forwarded-client-cert'], /gateway\/public/);
  t.equal(seen.length, results.length, 'each arrived once');
});

t.test('no certificate to be had: the config is refused, and says why', async (t) => {
  const inbound = await freePort();
  const config = shop({ app: 1, inbound });
  const identity = async () => {
    throw new Error('the CA at https://ca.internal:9443 refuses the token');
  };
  const selvedge = await createSelvedge({ config, logger: false, identity });
  await t.rejects(selvedge.start(), { message: /mesh\.identity.*refuses the token/ });
  const reached = await new Promise((resolve) => {
    get({ port: inbound, host: '127.0.0.1' }, () => resolve(true)).on('error', () => resolve(false));
  });
  t.notOk(reached, 'nothing listens');
});
