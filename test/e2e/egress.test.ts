// What leaves the mesh through the outbound side of a hop, with real sockets: plain HTTP and tunnels, allowed, denied and on trial.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import type { LookupAll } from '../../src/egress/resolve.ts';
import { builtins } from '../../src/plugins/index.ts';
import { Runtime } from '../../src/runtime/control.ts';
import { rolesOf } from '../../src/runtime/roles.ts';
import { inputSource } from '../../src/runtime/source.ts';
import { TestCa } from '../support/tls-fixture.ts';
import { freePort } from './support/ports.ts';
import { RunningProcess } from './support/process.ts';
import { closedPort, eventually, exchange, httpUpstream, RawClient, rawUpstream, statusOf } from './support/sockets.ts';

/** Where the names of these tests lead; every name beyond them does not exist. */
const NAMES: Readonly<Record<string, readonly string[]>> = {
  'api.shop.test': ['127.0.0.1'],
  'other.shop.test': ['127.0.0.1'],
  'rebinding.test': ['127.0.0.1'],
  'mapped.test': ['::ffff:127.0.0.1'],
  'metadata.test': ['169.254.169.254'],
  'two.shop.test': ['127.0.0.9', '127.0.0.1'],
};

interface Hop {
  /** Of the outbound side of `cart`. */
  readonly port: number;
  readonly registry: Registry;
  readonly looked: string[];
  inFlight(): number;
  close(): Promise<void>;
  reload(egress: object | undefined): Promise<void>;
}

/** The hop of `cart`, with this policy. */
async function hop(t: Test, egress: object | undefined, options: { names?: typeof NAMES } = {}): Promise<Hop> {
  const registry = new Registry();
  const looked: string[] = [];
  const names = options.names ?? NAMES;
  const lookup: LookupAll = async (host) => {
    looked.push(host);
    const found = names[host];
    if (found === undefined) throw new Error('no such name');
    return found;
  };
  const inbound = await freePort();
  const outbound = await freePort();
  const configOf = (policy: object | undefined) => ({
    version: 1,
    admin: false,
    telemetry: { accessLog: false },
    mesh: { mtls: 'off' },
    services: {
      cart: {
        endpoints: [{ address: '127.0.0.1:9', hop: `127.0.0.1:${inbound}` }],
        internal: { inbound: { host: '127.0.0.1', port: inbound }, outbound: { host: '127.0.0.1', port: outbound } },
      },
    },
    ...(policy === undefined ? {} : { egress: policy }),
  });
  let policy = egress;
  const runtime = new Runtime({
    source: { load: () => inputSource(configOf(policy) as never, { cwd: process.cwd(), env: {} }).load() },
    roles: rolesOf(undefined, undefined),
    builtins,
    logger: pino({ level: 'silent' }),
    registry,
    version: '0',
    watch: false,
    openAdmin: () => () => Promise.reject(new Error('no admin here')),
    lookup,
  });
  await runtime.start();
  t.teardown(() => runtime.close({ timeoutMs: 0 }));
  return {
    port: outbound,
    registry,
    looked,
    inFlight: () => runtime.inFlight,
    close: () => runtime.close({ timeoutMs: 0 }),
    async reload(next) {
      policy = next;
      await runtime.reload('test');
    },
  };
}

/** Says what arrived. */
async function outside(t: Test): Promise<{ port: number; seen: { url: string; headers: Record<string, unknown> }[] }> {
  const seen: { url: string; headers: Record<string, unknown> }[] = [];
  const { port } = await httpUpstream(t, (req, res) => {
    seen.push({ url: `${req.method} ${req.url}`, headers: req.headers });
    let size = 0;
    req.on('data', (chunk) => {
      size += chunk.length;
    });
    req.on('end', () => res.end(`outside ${size}`));
  });
  return { port, seen };
}

const LOOPBACK = { cidrs: ['127.0.0.0/8'] };

async function counted({ registry }: Hop): Promise<Record<string, number>> {
  const metric = await registry.getSingleMetric('selvedge_egress_total')?.get();
  return Object.fromEntries(
    (metric?.values ?? []).map(({ labels, value }) => [`${labels.owner} ${labels.policy} ${labels.verdict}`, value]),
  );
}

function get(url: string, extra = ''): string {
  return `GET ${url} HTTP/1.1\r\nHost: ignored\r\n${extra}\r\n`;
}

function codeOf(answer: string): string {
  return /"code":"(\w+)"/.exec(answer)?.[1] ?? '';
}

t.test('an allowed call reaches the outside, by absolute form and by Host, and says nothing of the mesh', async (t) => {
  const { port, seen } = await outside(t);
  const cart = await hop(t, {
    allow: [{ name: 'api', from: ['service/cart'], hosts: ['api.shop.test'], ...LOOPBACK }],
  });
  const mesh = 'x-selvedge-endpoint: 10.0.0.1:1\r\nx-selvedge-timeout-ms: 9000\r\nproxy-authorization: Basic x\r\n';
  const absolute = await exchange(t, cart.port, get(`http://API.shop.test.:${port}/v1?a=b`, mesh));
  t.match(absolute, /^HTTP\/1\.1 200/);
  t.match(absolute, /outside 0$/);
  t.equal(seen[0].url, 'GET /v1?a=b');
  t.equal(
    seen[0].headers.host,
    `API.shop.test.:${port}`,
    'the Host is the one that was judged (RFC 9112 section 3.2.2)',
  );
  for (const name of Object.keys(seen[0].headers)) t.notMatch(name, /^x-selvedge-|^proxy-/, name);
  const byHost = await exchange(
    t,
    cart.port,
    `PUT /up HTTP/1.1\r\nHost: api.shop.test:${port}\r\nContent-Length: 5\r\n\r\nhello`,
  );
  t.match(byHost, /outside 5$/);
  t.strictSame(cart.looked, ['api.shop.test'], 'looked up once, and connected to the very address');
  t.strictSame(await counted(cart), { 'cart api allowed': 2 });
});

t.test('without the key a call beyond the mesh is 404 as ever, and nothing is looked up', async (t) => {
  const cart = await hop(t, undefined);
  const answer = await exchange(t, cart.port, get('http://api.shop.test/'));
  t.equal(codeOf(answer), 'SLV_SERVICE_NOT_FOUND');
  const tunnel = await exchange(t, cart.port, 'CONNECT api.shop.test:443 HTTP/1.1\r\nHost: api.shop.test:443\r\n\r\n');
  t.match([statusOf(tunnel), codeOf(tunnel)], [404, 'SLV_SERVICE_NOT_FOUND']);
  t.strictSame(cart.looked, []);
});

t.test('a denied call is 403, tells the client no policy, and is never looked up', async (t) => {
  const { port, seen } = await outside(t);
  const cart = await hop(t, {
    deny: [{ name: 'no-admin', paths: ['/admin'] }],
    allow: [{ name: 'api', hosts: ['api.shop.test'], ports: [port], methods: ['GET'], ...LOOPBACK }],
  });
  for (const [request, policy] of [
    [get(`http://evil.test:${port}/`), 'egress.default'],
    [get('http://api.shop.test:1/'), 'egress.default'],
    [get(`http://api.shop.test:${port}/admin/x`), 'no-admin'],
    [get(`http://api.shop.test:${port}/a%2fb`), 'no-admin'],
    [get(`http://api.shop.test:${port}/`).replace('GET', 'DELETE'), 'egress.default'],
  ]) {
    const before = (await counted(cart))[`cart ${policy} denied`] ?? 0;
    const answer = await exchange(t, cart.port, request);
    t.match([statusOf(answer), codeOf(answer)], [403, 'SLV_EGRESS_DENIED'], request);
    t.notMatch(answer, /no-admin|egress\./);
    t.equal((await counted(cart))[`cart ${policy} denied`], before + 1, policy);
  }
  t.strictSame(seen, []);
  t.strictSame(cart.looked, [], 'a lookup would carry data out as well');
});

t.test(
  'a name that leads to loopback, link-local or metadata addresses is denied, however they are written',
  async (t) => {
    const { port, seen } = await outside(t);
    const cart = await hop(t, { default: 'allow' });
    for (const host of [
      'rebinding.test',
      'mapped.test',
      'metadata.test',
      '127.0.0.1',
      '[::1]',
      '[::ffff:7f00:1]',
      '169.254.169.254',
      '0.0.0.0',
      '[fe80::1]',
      '[64:ff9b::7f00:1]',
      '10.0.0.1',
    ]) {
      const answer = await exchange(t, cart.port, get(`http://${host}:${port}/`));
      t.match([statusOf(answer), codeOf(answer)], [403, 'SLV_EGRESS_DENIED'], host);
    }
    for (const host of [
      '2130706433',
      '0x7f000001',
      '0177.0.0.1',
      '127.1',
      '0x7f.0.0.1',
      '127.0.0.1..',
      'api.shop.test@127.0.0.1',
    ]) {
      const answer = await exchange(t, cart.port, get(`http://${host}:${port}/`));
      t.equal(statusOf(answer), 400, host);
    }
    t.strictSame(seen, []);
    t.strictSame(Object.keys(await counted(cart)), ['cart egress.addresses denied']);
  },
);

t.test('a name that cannot be resolved is 502, https by absolute form is 400', async (t) => {
  const cart = await hop(t, { default: 'allow' });
  const answer = await exchange(t, cart.port, get('http://nowhere.test/'));
  t.match([statusOf(answer), codeOf(answer)], [502, 'SLV_UPSTREAM_DNS']);
  const https = await exchange(t, cart.port, get('https://api.shop.test/'));
  t.match([statusOf(https), codeOf(https)], [400, 'SLV_BAD_REQUEST']);
});

t.test(
  'of several addresses only the allowed ones are tried, and one that refuses is followed by the next',
  async (t) => {
    const { port } = await outside(t);
    const both = await hop(t, { allow: [{ hosts: ['two.shop.test'], ...LOOPBACK }] });
    for (let call = 0; call < 4; call++)
      t.match(await exchange(t, both.port, get(`http://two.shop.test:${port}/`)), /outside 0$/);
    const one = await hop(t, { allow: [{ hosts: ['two.shop.test'], cidrs: ['127.0.0.9'] }] });
    t.equal(statusOf(await exchange(t, one.port, get(`http://two.shop.test:${port}/`))), 502);
  },
);

t.test('audit lets through what would be denied and counts it, but opens neither loopback nor metadata', async (t) => {
  const { port } = await outside(t);
  const cart = await hop(t, { audit: true, deny: [{ name: 'never', hosts: ['api.shop.test'] }] });
  const answer = await exchange(t, cart.port, get(`http://api.shop.test:${port}/`));
  t.equal(statusOf(answer), 403, 'a trial does not hand out this machine');
  t.strictSame(await counted(cart), { 'cart egress.addresses denied': 1 });
});

t.test('hosts of applications become no labels', async (t) => {
  const { port } = await outside(t);
  const cart = await hop(t, { allow: [{ hosts: ['*.shop.test'], ...LOOPBACK }] });
  for (const name of ['api', 'other']) await exchange(t, cart.port, get(`http://${name}.shop.test:${port}/`));
  await exchange(t, cart.port, get('http://secret-name.test/'));
  const text = await cart.registry.metrics();
  t.notMatch(text, /shop\.test|secret-name/);
  t.notMatch(text, new RegExp(`127\\.0\\.0\\.1:${port}`));
  t.match(
    text,
    /selvedge_requests_total\{role="outbound",owner="cart",route="egress",service="egress",code="200",reason=""\} 2/,
  );
});

t.test('a reload changes the policy and keeps the connections', async (t) => {
  const sockets = new Set<unknown>();
  const { port } = await httpUpstream(t, (req, res) => {
    sockets.add(req.socket);
    res.end('outside');
  });
  const allow = [{ hosts: ['api.shop.test'], ...LOOPBACK }];
  const cart = await hop(t, { allow });
  t.equal(statusOf(await exchange(t, cart.port, get(`http://api.shop.test:${port}/`))), 200);
  await cart.reload({ allow, deny: [{ ports: [1] }] });
  t.equal(statusOf(await exchange(t, cart.port, get(`http://api.shop.test:${port}/`))), 200);
  t.equal(sockets.size, 1);
  await cart.reload({ deny: [{ hosts: ['api.shop.test'] }] });
  t.equal(statusOf(await exchange(t, cart.port, get(`http://api.shop.test:${port}/`))), 403);
});

t.test('a WebSocket leaves the mesh like any request', async (t) => {
  const { port } = await rawUpstream(t, (socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n');
    socket.on('data', (chunk) => socket.write(`echo ${chunk}`));
  });
  const cart = await hop(t, { allow: [{ hosts: ['api.shop.test'], ...LOOPBACK }] });
  const client = await RawClient.open(t, cart.port);
  client.send(get(`http://api.shop.test:${port}/`, 'Connection: upgrade\r\nUpgrade: websocket\r\n'));
  await client.until('101 Switching');
  client.send('hello');
  await client.until('echo hello');
});

/** A TLS server for this name that echoes. */
async function tlsOutside(t: Test, name: string): Promise<{ port: number; ca: string; names: unknown[] }> {
  const ca = new TestCa(t);
  const { cert, key } = ca.issue({ name, altNames: [`DNS:${name}`] });
  const names: unknown[] = [];
  const server = createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) }, (socket) => {
    names.push(socket.servername);
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return { port: (server.address() as AddressInfo).port, ca: readFileSync(ca.cert, 'utf8'), names };
}

/** A client whose CONNECT was answered 200. */
async function tunnel(t: Test, port: number, authority: string, first = ''): Promise<RawClient> {
  const client = await RawClient.open(t, port);
  client.send(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n${first}`);
  await client.until('\r\n\r\n');
  return client;
}

/** The socket of a client, for somebody else to go on with. */
function takeOver({ socket }: RawClient): Socket {
  return socket.removeAllListeners('data').removeAllListeners('end');
}

t.test('a tunnel carries TLS to the host that it was opened for, both ways, with backpressure', async (t) => {
  const { port, ca, names } = await tlsOutside(t, 'api.shop.test');
  const cart = await hop(t, { allow: [{ name: 'api', hosts: ['api.shop.test'], ports: [port], ...LOOPBACK }] });
  const client = await tunnel(t, cart.port, `API.shop.test:${port}`);
  t.equal(client.received, 'HTTP/1.1 200 Connection Established\r\n\r\n');
  const tls = connectTls({ socket: takeOver(client), servername: 'api.shop.test', ca });
  await once(tls, 'secureConnect');
  t.ok(tls.authorized);
  const sent = Buffer.alloc(3_000_000, 'abcdefg');
  tls.write(sent);
  const got: Buffer[] = [];
  let size = 0;
  await new Promise<void>((resolve) => {
    tls.on('data', (chunk: Buffer) => {
      got.push(chunk);
      size += chunk.length;
      if (size === sent.length) resolve();
    });
  });
  t.ok(Buffer.concat(got).equals(sent));
  t.strictSame(names, ['api.shop.test']);
  tls.end();
  await once(tls, 'close');
  t.strictSame(await counted(cart), { 'cart api allowed': 1 });
  await eventually(() => cart.inFlight() === 0, 'the request is over');
  t.match(await cart.registry.metrics(), /selvedge_requests_total\{.*service="egress",code="200",reason=""\} 1/);
});

t.test(
  'a tunnel whose TLS names another host, or none, is closed with an alert before anything goes out',
  async (t) => {
    const got: string[] = [];
    const server = createServer((socket) => {
      socket.on('data', (chunk) => got.push(chunk.toString('latin1')));
      socket.on('error', () => undefined);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.teardown(() => server.close());
    const { port } = server.address() as AddressInfo;
    const cart = await hop(t, { allow: [{ name: 'api', hosts: ['api.shop.test'], ...LOOPBACK }] });
    for (const servername of ['other.shop.test', '']) {
      const client = await tunnel(t, cart.port, `api.shop.test:${port}`);
      const tls = connectTls({ socket: takeOver(client), servername });
      const [error] = await once(tls, 'error');
      t.match((error as NodeJS.ErrnoException).code, /UNRECOGNIZED_NAME/, servername);
    }
    t.strictSame(got, []);
    await eventually(() => cart.inFlight() === 0, 'both are over');
    t.strictSame(await counted(cart), { 'cart api denied': 2 });
  },
);

t.test('a tunnel without TLS inside needs a rule that says so', async (t) => {
  const { port } = await rawUpstream(t, (socket, head) =>
    socket.end(`HTTP/1.1 200 OK\r\n\r\ninside ${head.split(' ')[1]}`),
  );
  const strict = await hop(t, { allow: [{ hosts: ['api.shop.test'], ...LOOPBACK }] });
  const refused = await tunnel(t, strict.port, `api.shop.test:${port}`);
  refused.send('GET /x HTTP/1.1\r\n\r\n');
  t.notMatch(await refused.closed(), /inside/);
  const plain = await hop(t, { allow: [{ hosts: ['api.shop.test'], tls: false, ...LOOPBACK }] });
  const client = await tunnel(t, plain.port, `api.shop.test:${port}`, 'GET /early HTTP/1.1\r\n\r\n');
  t.match(await client.closed(), /inside \/early$/, 'what came right behind the CONNECT goes along');
});

t.test('a tunnel that is denied, fails or is malformed is answered as what it is', async (t) => {
  const closed = await closedPort();
  const cart = await hop(t, {
    allow: [
      { name: 'get-only', hosts: ['api.shop.test'], methods: ['GET'], ...LOOPBACK },
      { name: 'open', hosts: ['other.shop.test'], ...LOOPBACK },
    ],
  });
  for (const [authority, status, code] of [
    ['evil.test:443', 403, 'SLV_EGRESS_DENIED'],
    ['api.shop.test:443', 403, 'SLV_EGRESS_DENIED'],
    [`other.shop.test:${closed}`, 502, 'SLV_UPSTREAM_REFUSED'],
    ['other.shop.test', 400, 'SLV_BAD_HOST'],
    ['2130706433:443', 400, 'SLV_BAD_HOST'],
  ] as const) {
    const client = await RawClient.open(t, cart.port);
    client.send(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
    const answer = await client.until('"requestId"');
    t.match([statusOf(answer), codeOf(answer)], [status, code], authority);
  }
  t.strictSame(await counted(cart), { 'cart egress.default denied': 2, 'cart open allowed': 1 });
});

t.test('a tunnel counts as in flight, outlives a reload and is cut at the end', async (t) => {
  const { port } = await rawUpstream(t, () => undefined);
  const allow = [{ hosts: ['api.shop.test'], tls: false, ...LOOPBACK }];
  const cart = await hop(t, { allow });
  const client = await tunnel(t, cart.port, `api.shop.test:${port}`);
  t.equal(cart.inFlight(), 1);
  await cart.reload({ default: 'deny' });
  t.equal(cart.inFlight(), 1);
  t.equal(client.ended, null);
  await cart.close();
  await client.closed();
  t.equal(cart.inFlight(), 0);
});

t.test('the access log names host, port, rule and verdict', async (t) => {
  const { port } = await outside(t);
  const inbound = await freePort();
  const outbound = await freePort();
  const file = join(t.testdir({}), 'selvedge.yaml');
  const running = await RunningProcess.start(t, file, {
    version: 1,
    admin: false,
    mesh: { mtls: 'off' },
    services: {
      cart: {
        endpoints: [{ address: '127.0.0.1:9', hop: `127.0.0.1:${inbound}` }],
        internal: { inbound: { host: '127.0.0.1', port: inbound }, outbound: { host: '127.0.0.1', port: outbound } },
      },
    },
    egress: { allow: [{ name: 'here', hosts: ['127.0.0.1'], ports: [port], tls: false, ...LOOPBACK }] },
  });
  const seen = (): object[] => running.lines.filter(({ msg }) => msg === 'request');
  await exchange(t, outbound, get(`http://127.0.0.1:${port}/a`));
  await exchange(t, outbound, get('http://evil.test/b'));
  const client = await tunnel(
    t,
    outbound,
    `127.0.0.1:${port}`,
    'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
  );
  await client.closed();
  client.socket.end();
  await eventually(() => seen().length === 3, 'three lines');
  t.match(seen(), [
    {
      owner: 'cart',
      host: '127.0.0.1',
      port,
      path: '/a',
      status: 200,
      decidedBy: 'here',
      verdict: 'allowed',
      service: 'egress',
    },
    {
      owner: 'cart',
      host: 'evil.test',
      status: 403,
      reason: 'egress_denied',
      decidedBy: 'egress.default',
      verdict: 'denied',
    },
    {
      method: 'CONNECT',
      host: '127.0.0.1',
      port,
      status: 200,
      decidedBy: 'here',
      verdict: 'allowed',
      endpoint: `127.0.0.1:${port}`,
    },
  ]);
});
