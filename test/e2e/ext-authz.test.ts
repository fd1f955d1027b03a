// ext-authz at real sockets: whatever becomes of the authorization service, nothing passes that it did not let through.
import { createServer, type Server, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { createSelvedge } from '../../src/index.ts';
import { TestAuthority, TestSource } from '../support/mesh-authority.ts';
import { edgeTo, run } from './support/gateway.ts';
import { freePort } from './support/ports.ts';
import { eventually, exchange, httpUpstream, RawClient, statusOf } from './support/sockets.ts';

type Respond = (socket: Socket, head: string) => void;

/** An authorization service that says the bytes it is told to, and may be gone for a while. */
class AuthService {
  readonly port: number;
  readonly heads: string[] = [];
  /** Of questions that were broken off by whoever asked. */
  closed = 0;
  respond: Respond = yes;
  readonly #sockets = new Set<Socket>();
  #server: Server | null = null;

  constructor(port: number) {
    this.port = port;
  }

  start(): Promise<void> {
    const server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => {
        this.#sockets.delete(socket);
        this.closed += 1;
      });
      socket.on('error', () => {});
      socket.on('data', (chunk) => {
        this.heads.push(chunk.toString('latin1'));
        this.respond(socket, chunk.toString('latin1'));
      });
    });
    this.#server = server;
    return new Promise((resolve) => server.listen(this.port, '127.0.0.1', resolve));
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    for (const socket of this.#sockets) socket.destroy();
    if (server !== null) await new Promise((resolve) => server.close(resolve));
  }
}

const say =
  (text: string): Respond =>
  (socket) =>
    void socket.write(text, 'latin1');
const yes = say('HTTP/1.1 200 OK\r\nx-user: ann\r\ncontent-length: 0\r\n\r\n');

async function edge(t: Test, options: object = {}, more: object = {}) {
  const auth = new AuthService(await freePort());
  await auth.start();
  t.teardown(() => auth.stop());
  const seen: { headers: Record<string, unknown>; body: string }[] = [];
  const { port: upstream } = await httpUpstream(t, (req, res) => {
    let body = '';
    req.on('data', (chunk) => {
      body += chunk;
    });
    req.on('end', () => {
      seen.push({ headers: req.headers, body });
      res.end('served');
    });
  });
  const config = edgeTo([upstream], {
    gateway: { plugins: [{ 'ext-authz': { service: 'auth', allowedUpstreamHeaders: ['x-user'], ...options } }] },
    ...more,
  });
  const services = {
    ...(config.services as object),
    auth: { endpoints: [`127.0.0.1:${auth.port}`], outlierDetection: false },
  };
  const { port } = await run(t, { ...config, services } as never);
  const ask = (lines = '', body = '') => {
    const method = body === '' ? 'GET' : 'POST';
    const head = `${method} /orders HTTP/1.1\r\nHost: shop.example.com\r\n${lines}Connection: close\r\n\r\n`;
    return exchange(t, port, `${head}${body}`);
  };
  return { auth, seen, port, ask };
}

const failures: Record<string, Respond> = {
  'says nothing': () => {},
  resets: (socket) => socket.resetAndDestroy(),
  closes: (socket) => socket.destroy(),
  'answers 500': say('HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops'),
  'answers 503 and hangs': say('HTTP/1.1 503 Oops\r\ncontent-length: 4\r\n\r\n'),
  'says garbage': say('%%% what is this\r\n\r\n'),
  'says another protocol': say('SSH-2.0-OpenSSH_9.2\r\n'),
  'says half a head': say('HTTP/1.1 200 OK\r\nx-user: ann\r\n'),
  'trickles its head': (socket) => {
    const timer = setInterval(() => socket.write('x'), 20);
    socket.write('HTTP/1.1 200 OK\r\nx: ');
    socket.once('close', () => clearInterval(timer));
  },
  'has a head without end': (socket) => {
    socket.write(`HTTP/1.1 200 OK\r\nx: ${'x'.repeat(100_000)}\r\n`);
  },
  'has two lengths': say('HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx'),
  'switches protocols': say('HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n'),
  'refuses in gRPC': say(
    'HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 7\r\ncontent-length: 0\r\n\r\n',
  ),
};

t.test('however the authorization service fails, nothing passes; and where it may, everything does', async (t) => {
  for (const onFailure of ['deny', 'allow']) {
    const { auth, seen, ask } = await edge(t, { onFailure });
    for (const [what, respond] of Object.entries(failures)) {
      auth.respond = respond;
      const answer = await ask('x-user: forged\r\nX_User: forged\r\n');
      t.equal(statusOf(answer), onFailure === 'deny' ? 503 : 200, `${what}, ${onFailure}`);
      if (onFailure === 'deny') t.match(answer, '"code":"SLV_AUTH_UNAVAILABLE"');
    }
    await auth.stop();
    t.equal(statusOf(await ask()), onFailure === 'deny' ? 503 : 200, `refused, ${onFailure}`);
    t.equal(seen.length, onFailure === 'deny' ? 0 : Object.keys(failures).length + 1);
    for (const { headers } of seen) t.notOk('x-user' in headers || 'x_user' in headers);

    await auth.start();
    auth.respond = yes;
    t.equal(statusOf(await ask()), 200, 'as soon as it is back');
    t.equal(seen[seen.length - 1].headers['x-user'], 'ann');
  }
});

t.test('a no is a no whatever becomes of its body', async (t) => {
  const { auth, seen, ask } = await edge(t, { onFailure: 'allow' });
  const head = 'HTTP/1.1 401 No\r\nwww-authenticate: Bearer\r\nx-internal: 1\r\n';
  const cases: [string, Respond, RegExp][] = [
    ['whole', say(`${head}content-length: 2\r\n\r\nno`), /\r\n\r\nno$/],
    ['hangs', say(`${head}content-length: 9\r\n\r\nno`), /\r\n\r\n$/],
    [
      'never ends',
      (socket) => void socket.write(`${head}content-length: 9999999\r\n\r\n${'x'.repeat(200_000)}`),
      /\r\n\r\n$/,
    ],
    ['resets', (socket) => void socket.write(`${head}content-length: 9\r\n\r\n`, () => socket.destroy()), /\r\n\r\n$/],
  ];
  for (const [what, respond, body] of cases) {
    auth.respond = respond;
    const answer = await ask();
    t.equal(statusOf(answer), 401, what);
    t.match(answer, /\r\nwww-authenticate: Bearer\r\n/);
    t.match(answer, body, what);
    t.notMatch(answer, /x-internal/);
  }
  auth.respond = say(
    'HTTP/1.1 302 Found\r\nlocation: https://login.example.com/\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 0\r\n\r\n',
  );
  const redirected = await ask();
  t.equal(statusOf(redirected), 302);
  t.match(redirected, /\r\nlocation: https:\/\/login\.example\.com\/\r\n/);
  t.match(redirected, /\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n/);
  t.equal(seen.length, 0);
});

t.test('a yes counts from its head: what hangs or never ends behind it holds nobody up', async (t) => {
  const { auth, seen, ask } = await edge(t, { timeout: '60s' });
  for (const rest of ['', 'x'.repeat(200_000)]) {
    auth.respond = say(`HTTP/1.1 200 OK\r\nx-user: ann\r\ncontent-length: 9999999\r\n\r\n${rest}`);
    t.equal(statusOf(await ask()), 200);
  }
  t.equal(seen.length, 2);
});

t.test('gRPC clients get a status of gRPC, and the service is never asked in gRPC', async (t) => {
  const { auth, seen, ask } = await edge(t, { protocol: 'forward-auth', allowedHeaders: ['*'], withBody: {} });
  auth.respond = say('HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno');
  const answer = await ask('Content-Type: application/grpc+proto\r\nContent-Length: 5\r\n', 'hello');
  t.equal(statusOf(answer), 200);
  t.match(answer, /\r\ngrpc-status: 7\r\n/);
  t.notMatch(auth.heads.join(''), /application\/grpc/i);
  t.equal(seen.length, 0);
});

t.test('a client that leaves ends the question', async (t) => {
  const { auth, seen, port } = await edge(t, { timeout: '60s' });
  auth.respond = () => {};
  const client = await RawClient.open(t, port);
  client.send('GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n');
  await eventually(() => auth.heads.length === 1, 'the service is asked');
  client.socket.destroy();
  await eventually(() => auth.closed === 1, 'the question is broken off');
  t.equal(seen.length, 0);
});

t.test('with the body: whole to the one, unchanged to the other; too large or too slow to neither', async (t) => {
  const { auth, seen, port, ask } = await edge(t, { withBody: { maxBytes: 16, timeout: '100ms' } });
  t.equal(statusOf(await ask('Content-Length: 5\r\n', 'hello')), 200);
  t.match(auth.heads[0], /^POST \/orders HTTP\/1\.1\r\n[\s\S]*\r\ncontent-length: 5\r\n\r\nhello$/);
  t.equal(seen[0].body, 'hello');
  t.equal(seen[0].headers['content-length'], '5');
  t.notOk('transfer-encoding' in seen[0].headers);

  t.equal(statusOf(await ask('Transfer-Encoding: chunked\r\n', '5\r\nhello\r\n0\r\n\r\n')), 200);
  t.equal(seen[1].body, 'hello');

  const waits = await RawClient.open(t, port);
  waits.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n');
  await waits.until('HTTP/1.1 100 Continue\r\n\r\n');
  waits.send('hello');
  t.match(await waits.until('served'), /HTTP\/1\.1 200 OK/);

  const before = auth.heads.length;
  t.equal(statusOf(await ask('Content-Length: 17\r\n', 'x'.repeat(17))), 413);
  t.equal(statusOf(await ask('Transfer-Encoding: chunked\r\n', `11\r\n${'x'.repeat(17)}\r\n0\r\n\r\n`)), 413);
  t.equal(statusOf(await ask('Content-Length: 5\r\n', 'hell')), 408);
  t.equal(auth.heads.length, before);
  t.equal(seen.length, 3);
});

t.test('in the mesh the question goes from hop to hop by mTLS, and never on behalf of itself', async (t) => {
  const [ordersIn, authIn] = [await freePort(), await freePort()];
  const asked: Record<string, unknown>[] = [];
  const { port: authApp } = await httpUpstream(t, (req, res) => {
    asked.push(req.headers);
    res.writeHead(req.headers.authorization === 'Bearer ok' ? 200 : 401, { 'x-user': 'ann' }).end();
  });
  const seen: Record<string, unknown>[] = [];
  const { port: ordersApp } = await httpUpstream(t, (req, res) => {
    seen.push(req.headers);
    res.end('served');
  });
  const authority = await TestAuthority.make('shop.internal');
  const guard = (service: string) => ({ 'ext-authz': { service, allowedUpstreamHeaders: ['x-user'] } });
  const meshed = (app: number, hop: number, plugins: object[]) => ({
    endpoints: [{ address: `127.0.0.1:${app}`, hop: `127.0.0.1:${hop}` }],
    internal: { inbound: { host: '127.0.0.1', port: hop } },
    plugins,
  });
  const start = async (authPlugins: object[]) => {
    const selvedge = await createSelvedge({
      config: {
        version: 1,
        admin: false,
        telemetry: { accessLog: false },
        drain: { grace: '0s', timeout: '2s' },
        mesh: { trustDomain: 'shop.internal' },
        gateways: { public: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] } },
        services: {
          orders: meshed(ordersApp, ordersIn, [guard('auth')]),
          auth: meshed(authApp, authIn, authPlugins),
        },
        routes: [{ name: 'orders', to: 'orders' }],
      } as never,
      identity: async () => new TestSource(authority),
      logger: false,
    });
    await selvedge.start();
    return { selvedge, port: selvedge.addresses()['gateway/public/http'].port };
  };
  const ask = (port: number, lines = '') =>
    exchange(t, port, `GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n${lines}\r\n`);

  const first = await start([]);
  t.equal(statusOf(await ask(first.port, 'Authorization: Bearer ok\r\nX-User: forged\r\n')), 200);
  t.equal(seen[0]['x-user'], 'ann');
  t.match(String(asked[0]['x-forwarded-client-cert']), 'spiffe://shop.internal/service/orders');
  t.equal(statusOf(await ask(first.port)), 401);
  await first.selvedge.close({ timeoutMs: 0 });

  await t.rejects(start([guard('auth')]), /about every question/);
  const round = await start([guard('orders')]);
  t.teardown(() => round.selvedge.close({ timeoutMs: 0 }));
  const before = seen.length;
  t.equal(statusOf(await ask(round.port, 'Authorization: Bearer ok\r\n')), 503);
  t.equal(seen.length, before, 'orders asks auth, whose hop asks orders, whose hop sees that it goes round');
});
