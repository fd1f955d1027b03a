// How applications use their hops, with real sockets and real clients: CONNECT, loops, readiness.
import { execFile } from 'node:child_process';
import { createServer, get, type Server } from 'node:http';
import { connect as connectTcp } from 'node:net';
import { Writable } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { ProxyAgent, fetch as undiciFetch } from 'undici';
import { type ConfigInput, createSelvedge, type Selvedge } from '../../src/index.ts';
import { freePort } from './support/ports.ts';
import { eventually, exchange, httpUpstream, RawClient, statusOf } from './support/sockets.ts';

interface Started {
  readonly selvedge: Selvedge;
  readonly ports: Readonly<Record<string, number>>;
  /** What it has logged, the access log not included. */
  readonly log: () => string;
}

async function start(t: Test, config: object): Promise<Started> {
  let text = '';
  const logger = pino(
    { level: 'info' },
    new Writable({
      write(chunk, _encoding, done) {
        text += chunk;
        done();
      },
    }),
  );
  const whole = { version: 1, admin: false, telemetry: { accessLog: false }, mesh: { mtls: 'off' }, ...config };
  const selvedge = await createSelvedge({ config: whole as ConfigInput, logger });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  const ports = Object.fromEntries(Object.entries(selvedge.addresses()).map(([key, { port }]) => [key, port]));
  return { selvedge, ports, log: () => text };
}

/** `orders` with a hop, and `stock` and `Ledger` as services that it calls; the latter by a host of an internal route too. */
async function callers(t: Test): Promise<Started & { readonly seen: string[] }> {
  const seen: string[] = [];
  const { port } = await httpUpstream(t, (req, res) => {
    const chunks: Buffer[] = [];
    req.on('data', (chunk) => chunks.push(chunk));
    req.on('end', () => {
      seen.push(`${req.method} ${req.headers.host}${req.url} ${Buffer.concat(chunks)}`);
      res.end(`stock ${req.url}`);
    });
  });
  const [inbound, local] = [await freePort(), await freePort()];
  const started = await start(t, {
    services: {
      orders: {
        endpoints: [{ address: `127.0.0.1:${port}`, hop: `127.0.0.1:${inbound}` }],
        internal: {
          inbound: { host: '127.0.0.1', port: inbound },
          outbound: { host: '127.0.0.1', port: 0, ports: { stock: `127.0.0.1:${local}` } },
        },
      },
      stock: { endpoints: [`127.0.0.1:${port}`] },
    },
    routes: [
      { name: 'named', internal: ['stock'], hosts: ['*.shop.test'], to: 'stock' },
      { name: 'closed', internal: ['stock'], match: [{ path: '/no' }], respond: { status: 403, body: 'not here' } },
    ],
  });
  return { ...started, seen };
}

/** Opens a tunnel; what comes behind the 200 is in `received`. */
async function tunnel(t: Test, port: number, authority: string, pipelined = ''): Promise<RawClient> {
  const client = await RawClient.open(t, port);
  client.send(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n${pipelined}`);
  const head = await client.until((text) => text.includes('\r\n\r\n'));
  t.match(head, /^HTTP\/1\.1 200 Connection Established\r\n\r\n/, authority);
  return client;
}

function responses(text: string): number {
  return text.split('HTTP/1.1 ').length - 1;
}

t.test('CONNECT to a service is opened, and what is inside is HTTP like any other', async (t) => {
  const { ports, seen, selvedge } = await callers(t);
  const client = await tunnel(t, ports['outbound/orders'], 'stock:80');
  client.send('GET /a HTTP/1.1\r\nHost: stock\r\n\r\n');
  t.match(await client.until((text) => text.endsWith('stock /a')), /200 OK/);
  client.send('POST /b HTTP/1.1\r\nHost: stock\r\nContent-Length: 4\r\n\r\nbody');
  await client.until((text) => text.endsWith('stock /b'));
  client.send('GET /no HTTP/1.1\r\nHost: stock\r\n\r\n');
  t.match(
    await client.until((text) => text.endsWith('not here')),
    /403 Forbidden/,
    'the routes of the mesh are in force',
  );
  t.same(seen, ['GET stock/a ', 'POST stock/b body']);
  t.equal(responses(client.received), 4, 'all on one connection');
  t.equal(selvedge.status.inFlight, 0, 'an open tunnel without a request is nothing in flight');
});

t.test('any port is as good as another, and so are the hosts of routes and letters of any case', async (t) => {
  const { ports } = await callers(t);
  for (const [authority, host] of [
    ['stock:8080', 'stock:8080'],
    ['STOCK:443', 'Stock'],
    ['a.shop.test:80', 'a.shop.test'],
  ]) {
    const client = await tunnel(t, ports['outbound/orders'], authority);
    client.send(`GET /x HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    t.match(await client.until((text) => text.endsWith('stock /x')), /200 OK/, authority);
  }
});

t.test('bytes behind CONNECT are not lost, wherever the packets end', async (t) => {
  const { ports, seen } = await callers(t);
  const one = 'POST /1 HTTP/1.1\r\nHost: stock\r\nContent-Length: 5\r\n\r\nfirst';
  const two = 'GET /2 HTTP/1.1\r\nHost: stock\r\n\r\n';
  const head = 'CONNECT stock:80 HTTP/1.1\r\nHost: stock:80\r\n\r\n';
  const text = head + one + two;
  for (const at of [head.length - 1, head.length, head.length + 1, head.length + 20, text.length - 3, text.length]) {
    seen.length = 0;
    const client = await RawClient.open(t, ports['outbound/orders']);
    client.send(text.slice(0, at));
    await new Promise((resolve) => setImmediate(resolve));
    if (at < text.length) client.send(text.slice(at));
    await client.until((received) => received.endsWith('stock /2'));
    t.same(seen.sort(), ['GET stock/2 ', 'POST stock/1 first'], `split at ${at}`);
    t.equal(responses(client.received), 3);
  }
});

t.test('CONNECT behind a request on the same connection waits for its response', async (t) => {
  const { ports } = await callers(t);
  const client = await RawClient.open(t, ports['outbound/orders']);
  client.send(
    'GET /1 HTTP/1.1\r\nHost: stock\r\n\r\nCONNECT stock:80 HTTP/1.1\r\nHost: stock:80\r\n\r\nGET /2 HTTP/1.1\r\nHost: stock\r\n\r\n',
  );
  const text = await client.until((received) => received.endsWith('stock /2'));
  t.match(text, /^HTTP\/1\.1 200 OK[\s\S]*stock \/1HTTP\/1\.1 200 Connection Established\r\n\r\nHTTP\/1\.1 200 OK/);
});

t.test('CONNECT elsewhere is answered as an unknown service; a target that is no authority is malformed', async (t) => {
  const { ports, selvedge } = await callers(t);
  const ask = (authority: string, more = '') =>
    exchange(t, ports['outbound/orders'], `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${more}\r\n`);
  const elsewhere = await ask('example.com:443');
  t.match(elsewhere, /^HTTP\/1\.1 404 [\s\S]*"code":"SLV_SERVICE_NOT_FOUND"/);
  t.match(elsewhere, /connection: close/i);
  for (const malformed of ['stock', 'stock:', ':80'])
    t.match(await ask(malformed), /^HTTP\/1\.1 400 [\s\S]*"code":"SLV_BAD_/, malformed);
  t.match(await ask('stock:80', 'Content-Length: 5\r\n'), /^HTTP\/1\.1 400 /, 'no content, so no doubt where it ends');
  t.match(await ask('stock:80', 'Transfer-Encoding: chunked\r\n'), /^HTTP\/1\.1 400 /);
  await eventually(() => selvedge.status.inFlight === 0, 'refused ones are over');
});

t.test('only an outbound side is a proxy, and once a connection', async (t) => {
  const { ports } = await callers(t);
  const text = 'CONNECT stock:80 HTTP/1.1\r\nHost: stock:80\r\n\r\n';
  for (const listener of ['inbound/orders', 'outbound/orders/stock'])
    t.equal(statusOf(await exchange(t, ports[listener], text)), 501, listener);
  const client = await tunnel(t, ports['outbound/orders'], 'stock:80');
  t.match(await client.send(text).closed(), /HTTP\/1\.1 501 [\s\S]*SLV_METHOD_UNSUPPORTED/);
});

t.test('TLS inside CONNECT to a service is refused, and the log says what to do', async (t) => {
  const { ports, log } = await callers(t);
  const client = await tunnel(t, ports['outbound/orders'], 'stock:443');
  const tls = connectTls({ socket: client.socket, servername: 'stock' });
  const error = await new Promise<Error>((resolve) => tls.once('error', resolve));
  t.match(error.message, /wrong version number|packet length|SSL/i, 'what comes back is no TLS');
  await eventually(() => /TLS inside CONNECT[^}]*call it by http/.test(log()), 'it is logged');
  t.match(log(), /"authority":"stock:443"/);
});

t.test('a tunnel lets a WebSocket through, and its end ends everything', async (t) => {
  const { port, server } = await httpUpstream(t, (_req, res) => res.end());
  server.on('upgrade', (_req, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhello');
    socket.on('data', (chunk) => socket.write(`echo ${chunk}`));
    socket.on('end', () => socket.end());
    socket.on('error', () => undefined);
  });
  const { ports, selvedge } = await start(t, {
    services: {
      socket: {
        endpoints: [`127.0.0.1:${port}`],
        internal: {
          app: `127.0.0.1:${port}`,
          inbound: { host: '127.0.0.1', port: 0 },
          outbound: { host: '127.0.0.1', port: 0 },
        },
      },
    },
  });
  const client = await tunnel(t, ports['outbound/socket'], 'socket:80');
  client.send('GET / HTTP/1.1\r\nHost: socket\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  await client.until((text) => text.endsWith('hello'));
  t.match(await client.send('ping').until((text) => text.endsWith('ping')), /echo ping$/);
  client.socket.destroy();
  await eventually(() => selvedge.status.inFlight === 0, 'nothing is in flight');
});

t.test('a tunnel drains like any connection: its last response says close, then it ends', async (t) => {
  const { ports, selvedge } = await callers(t);
  const idle = await tunnel(t, ports['outbound/orders'], 'stock:80');
  const used = await tunnel(t, ports['outbound/orders'], 'stock:80');
  used.send('GET /1 HTTP/1.1\r\nHost: stock\r\n\r\n');
  await used.until((text) => text.endsWith('stock /1'));
  await selvedge.close();
  await Promise.all([idle.closed(), used.closed()]);
  t.pass('both are closed');
});

t.test('fetch as Node 22 and 24 have it, which tunnels plain HTTP, reaches a service by its name', async (t) => {
  const { ports, seen } = await callers(t);
  // Node 26 asks in absolute form; this is the agent of those before it.
  const dispatcher = new ProxyAgent({ uri: `http://127.0.0.1:${ports['outbound/orders']}`, proxyTunnel: true });
  t.teardown(() => dispatcher.close());
  for (const path of ['/a', '/b']) {
    const response = await undiciFetch(`http://stock${path}`, { method: 'POST', body: 'text', dispatcher });
    t.equal(await response.text(), `stock ${path}`);
  }
  t.same(seen, ['POST stock/a text', 'POST stock/b text']);
});

t.test('curl tunnels plain HTTP through the hop', async (t) => {
  const { ports } = await callers(t);
  const proxy = `http://127.0.0.1:${ports['outbound/orders']}`;
  const output = await new Promise<string | null>((resolve, reject) => {
    const args = ['-sS', '--noproxy', '', '-p', '-x', proxy, 'http://stock/a', 'http://stock/b'];
    execFile('curl', args, { timeout: 15_000 }, (error, stdout) => {
      if (error === null) resolve(stdout);
      else if (error.code === 'ENOENT') resolve(null);
      else reject(error);
    });
  });
  if (output === null) t.comment('curl is not installed');
  else t.equal(output, 'stock /astock /b');
});

t.test('who opens a tunnel and leaves is forgotten', async (t) => {
  const { ports, selvedge } = await callers(t);
  const socket = connectTcp(ports['outbound/orders'], '127.0.0.1');
  socket.end('CONNECT stock:80 HTTP/1.1\r\nHost: stock:80\r\n\r\n');
  await new Promise((resolve) => socket.resume().once('close', resolve));
  const metrics = async () => (await selvedge.registry.getSingleMetricAsString('selvedge_connections')) as string;
  let open = await metrics();
  for (let round = 0; /outbound[^\n]* [1-9]/.test(open) && round < 200; round++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    open = await metrics();
  }
  t.notMatch(open, /outbound[^\n]* [1-9]/, 'no connection is left');
});

/** A service whose hop leads where `app` says, as callers of the outbound side of `orders` see it. */
const looping = (app: string, inbound: number, more: object = {}) => ({
  endpoints: [{ address: app, hop: `127.0.0.1:${inbound}` }],
  internal: { inbound: { host: '127.0.0.1', port: inbound }, ...more },
});

t.test('a hop whose application is its own inbound side answers 508 and names the circle', async (t) => {
  const port = await freePort();
  const { ports, log, selvedge } = await start(t, { services: { orders: looping(`127.0.0.1:${port}`, port) } });
  const answer = await exchange(t, ports['inbound/orders'], 'GET / HTTP/1.1\r\nHost: orders\r\n\r\n');
  t.match(answer, /^HTTP\/1\.1 508 [\s\S]*"code":"SLV_LOOP_DETECTED"/);
  t.match(answer, /proxy-status: selvedge; error=proxy_loop_detected/);
  t.match(log(), /inbound\/orders > inbound\/orders > inbound\/orders/);
  t.notMatch(answer, /inbound\/orders/, 'clients are not told');
  await eventually(() => selvedge.status.inFlight === 0, 'nothing is left of it');
});

t.test(
  'an endpoint that is an outbound side is a circle too: its own, or that of another that leads back',
  async (t) => {
    const [a, b, own, inA, inB] = await Promise.all([freePort(), freePort(), freePort(), freePort(), freePort()]);
    const outbound = (port: number) => ({ outbound: { host: '127.0.0.1', port } });
    const { ports, log } = await start(t, {
      services: {
        alpha: looping(`127.0.0.1:${inB}`, inA, outbound(a)),
        beta: looping(`127.0.0.1:${inA}`, inB, outbound(b)),
        self: { endpoints: [`127.0.0.1:${a}`] },
        mixed: looping(`127.0.0.1:${a}`, own),
      },
    });
    for (const [listener, host] of [
      ['outbound/alpha', 'self'],
      ['outbound/alpha', 'alpha'],
      ['inbound/beta', 'beta'],
      ['outbound/beta', 'mixed'],
    ]) {
      const answer = await exchange(t, ports[listener], `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
      t.match(answer, /^HTTP\/1\.1 508 [\s\S]*"code":"SLV_LOOP_DETECTED"/, `${host} at ${listener}`);
    }
    t.match(log(), /outbound\/alpha > outbound\/alpha/);
  },
);

t.test('a circle over two processes is found as well', async (t) => {
  const [inA, inB] = [await freePort(), await freePort()];
  const services = { alpha: looping(`127.0.0.1:${inB}`, inA), beta: looping(`127.0.0.1:${inA}`, inB) };
  const first = await start(t, { services: { alpha: services.alpha } });
  await start(t, { services: { beta: services.beta } });
  const answer = await exchange(t, first.ports['inbound/alpha'], 'GET / HTTP/1.1\r\nHost: alpha\r\n\r\n');
  t.match(answer, /^HTTP\/1\.1 508 /);
});

t.test('services that call each other in turn are no circle, even where they copy every header', async (t) => {
  const [inA, inB, outA, outB] = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
  /** Asks the other one until the number in the path is used up. */
  const application = async (other: string, outbound: number) => {
    const { port } = await httpUpstream(t, (req, res) => {
      const left = Number((req.url as string).slice(1));
      if (left === 0) {
        res.end('bottom');
        return;
      }
      const headers = { ...req.headers, host: other };
      get({ host: '127.0.0.1', port: outbound, path: `/${left - 1}`, headers, agent: false }, (inner) => {
        res.writeHead(inner.statusCode as number);
        inner.pipe(res);
      });
    });
    return `127.0.0.1:${port}`;
  };
  const [orders, stock] = [await application('stock', outA), await application('orders', outB)];
  const { ports } = await start(t, {
    services: {
      orders: looping(orders, inA, { outbound: { host: '127.0.0.1', port: outA } }),
      stock: looping(stock, inB, { outbound: { host: '127.0.0.1', port: outB } }),
    },
  });
  const answer = await exchange(t, ports['outbound/stock'], 'GET /8 HTTP/1.1\r\nHost: orders\r\n\r\n');
  t.match(answer, /^HTTP\/1\.1 200 OK[\s\S]*bottom/);
});

interface Readiness {
  readonly status: number;
  readonly reasons: readonly string[];
}

/** Asks until the answer is this one; the last answer. */
async function readiness(selvedge: Selvedge, wanted: number): Promise<Readiness> {
  const url = `http://127.0.0.1:${selvedge.adminAddress()!.port}/readyz`;
  for (let round = 0; ; round++) {
    const response = await fetch(url);
    const { reasons } = (await response.json()) as Readiness;
    const untried = reasons.some((reason) => reason.endsWith('has not been tried yet'));
    if ((response.status === wanted && !untried) || round === 1_000) return { status: response.status, reasons };
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function listenAt(t: Test, port: number, status: () => number = () => 200): Promise<Server> {
  const server = createServer((_req, res) => res.writeHead(status()).end());
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  t.teardown(() => stopListening(server));
  return server;
}

function stopListening(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(() => resolve()));
}

const ADMIN = { host: '127.0.0.1', port: 0 };

t.test('a hop is ready while its application accepts connections, whichever starts or ends first', async (t) => {
  const [app, inbound] = [await freePort(), await freePort()];
  const { selvedge, log } = await start(t, {
    admin: ADMIN,
    services: { orders: looping(`127.0.0.1:${app}`, inbound) },
  });
  const silent = [`application of "orders" does not accept connections at 127.0.0.1:${app}`];
  t.same(await readiness(selvedge, 503), { status: 503, reasons: silent });
  const first = await listenAt(t, app);
  t.same(await readiness(selvedge, 200), { status: 200, reasons: [] });
  await stopListening(first);
  t.same(await readiness(selvedge, 503), { status: 503, reasons: silent });
  await selvedge.reload();
  t.same(await readiness(selvedge, 503), { status: 503, reasons: silent }, 'a reload changes nothing about it');
  await listenAt(t, app);
  t.equal((await readiness(selvedge, 200)).status, 200);
  t.match(
    log(),
    /does not accept connections yet[\s\S]*accepts connections[\s\S]*does not accept connections"[\s\S]*accepts connections/,
  );
});

t.test('of several applications behind one hop one is enough', async (t) => {
  const [one, two, inbound] = [await freePort(), await freePort(), await freePort()];
  const { selvedge } = await start(t, {
    admin: ADMIN,
    services: {
      orders: {
        endpoints: [one, two].map((port) => ({ address: `127.0.0.1:${port}`, hop: `127.0.0.1:${inbound}` })),
        internal: { inbound: { host: '127.0.0.1', port: inbound } },
      },
    },
  });
  t.equal((await readiness(selvedge, 503)).reasons.length, 2);
  await listenAt(t, two);
  t.equal((await readiness(selvedge, 200)).status, 200);
});

t.test('where the service has health checks they say whether its application is well', async (t) => {
  const [app, inbound] = [await freePort(), await freePort()];
  let status = 500;
  await listenAt(t, app, () => status);
  const healthCheck = { http: { path: '/healthz' }, interval: '50ms', timeout: '40ms', unhealthyAfter: 1 };
  const { selvedge } = await start(t, {
    admin: ADMIN,
    services: { orders: { ...looping(`127.0.0.1:${app}`, inbound), healthCheck } },
  });
  while ((await readiness(selvedge, 503)).reasons.some((reason) => reason.includes('not been checked')));
  t.same((await readiness(selvedge, 503)).reasons, [
    `application of "orders" fails its health checks at 127.0.0.1:${app}`,
  ]);
  status = 200;
  t.equal((await readiness(selvedge, 200)).status, 200);
});

t.test('with gateways in the process the applications of its hops count, and no other endpoints', async (t) => {
  const [app, inbound, nobody] = [await freePort(), await freePort(), await freePort()];
  const { selvedge } = await start(t, {
    admin: ADMIN,
    gateways: { edge: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] } },
    services: { orders: looping(`127.0.0.1:${app}`, inbound), other: { endpoints: [`127.0.0.1:${nobody}`] } },
    routes: [{ name: 'all', to: 'other' }],
  });
  t.equal((await readiness(selvedge, 503)).reasons.length, 1);
  await listenAt(t, app);
  t.equal((await readiness(selvedge, 200)).status, 200);
});
