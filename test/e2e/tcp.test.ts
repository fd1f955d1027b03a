// TCP services over the mesh: whatever is inside, from an application's local port through two hops to the other application.
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type ConnectionOptions, connect as connectTls, createServer as createTlsServer } from 'node:tls';
import t from 'tap';
import { TestAuthority, TestSource } from '../support/mesh-authority.ts';
import { TestCa } from '../support/tls-fixture.ts';
import { freePort } from './support/ports.ts';
import { RunningProcess } from './support/process.ts';
import { closedPort, eventually, exchange } from './support/sockets.ts';
import { app, ask, counted, echo, open, readAll, tcpMesh } from './support/tcp-mesh.ts';

const ORDERS = 'spiffe://shop.internal/service/orders';

/** What a client sees that says something and ends: an answer, or null where it was cut. */
async function say(socket: Socket, text: string): Promise<string | null> {
  const answer = readAll(socket);
  socket.end(text);
  return answer;
}

t.test('bytes go through two hops and back, and both know who is at the other end', async (t) => {
  const { port } = await app(t, echo);
  const { orders, db, local } = await tcpMesh(t, { app: port });
  const client = await open(t, local);
  t.equal(await ask(client, 'one'), 'one');
  t.equal(await ask(client, '\x16\x03\x01'), '\x16\x03\x01', 'what looks like TLS is passed on as well');
  t.strictSame(await counted(orders, 'selvedge_tcp_open_connections', 'service', 'side'), { 'db outbound': 1 });
  t.strictSame(await counted(db, 'selvedge_tcp_bytes_total', 'side', 'direction'), {
    'inbound in': 6,
    'inbound out': 6,
  });
  client.end();
  await once(client, 'close');
  for (const [hop, side] of [
    [orders, 'outbound'],
    [db, 'inbound'],
  ] as const) {
    await eventually(() => hop.status.inFlight === 0, 'it is over');
    t.strictSame(await counted(hop, 'selvedge_tcp_connections_total', 'service', 'side', 'reason'), {
      [`db ${side} `]: 1,
    });
    t.strictSame(await counted(hop, 'selvedge_tcp_open_connections', 'side'), {});
  }
});

for (const mtls of ['strict', 'permissive', 'off']) {
  t.test(`mtls ${mtls}: 64 MiB arrive as they were sent, both ways at once`, async (t) => {
    const size = 64 * 1_048_576;
    const { port } = await app(t, echo);
    const { local } = await tcpMesh(t, { app: port, mtls });
    const client = await open(t, local);
    const block = randomBytes(1_048_576);
    const sent = createHash('sha256');
    const received = createHash('sha256');
    let bytes = 0;
    async function* source(): AsyncGenerator<Buffer> {
      for (let at = 0; at < size; at += block.length) {
        block.writeUInt32BE(at);
        const chunk = Buffer.from(block);
        sent.update(chunk);
        yield chunk;
      }
    }
    client.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      received.update(chunk);
    });
    const ended = once(client, 'end');
    await pipeline(Readable.from(source()), client, { end: true });
    await ended;
    t.equal(bytes, size);
    t.equal(received.digest('hex'), sent.digest('hex'));
  });
}

t.test('a client that ends still gets the answer, and a server that ends still gets the question', async (t) => {
  const asked: string[] = [];
  const { port } = await app(t, (socket) => {
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
      if (text === 'end first') socket.end('bye');
    });
    socket.on('end', () => {
      if (text !== '') asked.push(text);
      if (socket.writable) socket.end(`answer to ${text}`);
    });
  });
  const { local } = await tcpMesh(t, { app: port });
  t.equal(await say(await open(t, local), 'question'), 'answer to question');

  const client = await open(t, local);
  const answer = readAll(client);
  client.write('end first');
  t.equal(await answer, 'bye', 'the server has ended');
  client.end(', and more');
  await once(client, 'close');
  await eventually(() => asked.length === 2, 'the server has read to the end');
  t.equal(asked[1], 'end first, and more');
});

t.test('whoever reads slowly slows down whoever writes', async (t) => {
  const block = Buffer.alloc(1_048_576);
  let taken = 0;
  const { port } = await app(t, (socket) => {
    const write = (): void => {
      while (socket.write(block)) taken += block.length;
      taken += block.length;
      socket.once('drain', write);
    };
    write();
  });
  const { orders, db, local } = await tcpMesh(t, { app: port });
  const client = await open(t, local);
  client.pause();
  await eventually(() => taken > 0, 'it is connected');
  let before = -1;
  for (let calm = 0; calm < 20; calm = taken === before ? calm + 1 : 0) {
    before = taken;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  t.ok(taken < 64 * block.length, `${taken} bytes were taken`);
  client.destroy();
  await eventually(() => orders.status.inFlight + db.status.inFlight === 0, 'both hops let go');
  t.strictSame(await counted(orders, 'selvedge_tcp_connections_total', 'reason'), { client_aborted: 1 });
});

t.test('a reset on one side is a reset on the other, never an end', async (t) => {
  const { port, seen } = await app(t, (socket) => {
    socket.on('data', (chunk) => {
      if (String(chunk) === 'reset') socket.resetAndDestroy();
      else socket.write(chunk);
    });
    socket.on('end', () => socket.end());
  });
  const { local } = await tcpMesh(t, { app: port });
  const client = await open(t, local);
  await ask(client, 'hello');
  const end = readAll(client);
  client.write('reset');
  t.equal(await end, null, 'the client sees no end');

  const other = await open(t, local);
  await ask(other, 'hello');
  let ended = false;
  seen[1].on('end', () => {
    ended = true;
  });
  other.resetAndDestroy();
  await eventually(() => seen[1].destroyed, 'it is closed');
  t.notOk(ended, 'the server sees none either');
});

t.test('nobody but a peer of the mesh gets a byte to the application', async (t) => {
  const { port, seen } = await app(t, echo);
  const { authority, db, inbound } = await tcpMesh(t, { app: port });
  const strangers = await TestAuthority.make('shop.internal');
  const forged = await strangers.svid(ORDERS);
  const known = await authority.svid(ORDERS);
  const overTls = async (options: ConnectionOptions): Promise<string | null> => {
    const socket = connectTls({ port: inbound, host: '127.0.0.1', rejectUnauthorized: false, ...options });
    socket.on('error', () => {});
    t.teardown(() => socket.destroy());
    return say(socket, 'hello');
  };
  const plain = await open(t, inbound);
  t.not(await say(plain, 'hello'), 'hello', 'plain');
  t.not(await overTls({}), 'hello', 'no certificate');
  t.not(await overTls({ cert: forged.cert, key: forged.key }), 'hello', 'of another CA');
  t.not(await overTls({ cert: known.cert, key: known.key, ALPNProtocols: ['http/1.1'] }), 'hello', 'who speaks HTTP');
  t.equal(seen.length, 0, 'the application has seen nobody');
  t.equal(await overTls({ cert: known.cert, key: known.key }), 'hello', 'a client of another make');
  t.equal(seen.length, 1);
  const refused = await counted(db, 'selvedge_rejected_requests_total', 'code');
  t.ok((refused.SLV_PEER_REFUSED ?? 0) >= 3, 'they are counted');
});

t.test('a hop that is somebody else gets no byte', async (t) => {
  const { port, seen } = await app(t, echo);
  const authority = await TestAuthority.make('shop.internal');
  const source = new TestSource(authority);
  source.svid = (id) => TestSource.prototype.svid.call(source, id.replace('/db', '/cart'));
  await source.need(['spiffe://shop.internal/service/cart']);
  const { orders, local } = await tcpMesh(t, { app: port, authority, sources: { db: source } });
  t.equal(await say(await open(t, local), 'hello'), null);
  t.equal(seen.length, 0);
  await eventually(() => orders.status.inFlight === 0, 'it is over');
  t.strictSame(await counted(orders, 'selvedge_tcp_connections_total', 'reason'), { upstream_tls: 1 });
});

t.test('permissive: plain and TLS are served, the plain ones counted, and servers may speak first', async (t) => {
  const { port } = await app(t, (socket) => {
    socket.write('ready');
    socket.pipe(socket);
  });
  const { db, inbound, local } = await tcpMesh(t, { app: port, mtls: 'permissive' });
  t.equal(await say(await open(t, local), '!'), 'ready!', 'through both hops');
  t.strictSame(await counted(db, 'selvedge_tcp_plaintext_connections_total', 'caller'), {});
  t.equal(await say(await open(t, inbound), '!'), 'ready!', 'plain');
  const silent = await open(t, inbound);
  const [chunk] = await once(silent, 'data');
  t.equal(String(chunk), 'ready', 'to a client that waits to be spoken to');
  t.strictSame(await counted(db, 'selvedge_tcp_plaintext_connections_total', 'service', 'caller'), { 'db db': 2 });
});

t.test('permissive: a hop that does not speak TLS yet is called plainly', async (t) => {
  const { port } = await app(t, (socket) => {
    socket.write('+');
    socket.pipe(socket);
  });
  const { local } = await tcpMesh(t, {
    app: port,
    mtls: 'permissive',
    endpoints: () => [{ address: `127.0.0.1:${port}`, hop: `127.0.0.1:${port}` }],
  });
  t.equal(await say(await open(t, local), 'hello'), '+hello');
  t.equal(await say(await open(t, local), 'hello'), '+hello');
});

t.test('where one endpoint is down the next is taken, before a byte is', async (t) => {
  const { port } = await app(t, echo);
  const dead = await closedPort();
  const { orders, local } = await tcpMesh(t, {
    app: port,
    endpoints: (inbound) => [
      { address: `127.0.0.2:${port}`, hop: `127.0.0.1:${dead}` },
      { address: `127.0.0.1:${port}`, hop: `127.0.0.1:${inbound}` },
    ],
    db: { loadBalancing: 'round-robin' },
  });
  for (const text of ['a', 'b', 'c', 'd']) t.equal(await say(await open(t, local), text), text);
  await eventually(() => orders.status.inFlight === 0, 'all are over');
  const outcomes = await counted(orders, 'selvedge_tcp_connects_total', 'outcome');
  t.equal(outcomes.ok, 4);
  t.ok(outcomes.upstream_refused >= 1, 'the one that is down was tried');
});

t.test('an application that is down behind its hop is found out by the caller, and left out', async (t) => {
  const first = await app(t, echo);
  const { port } = first;
  const { port: spare } = await app(t, echo);
  const { orders, local } = await tcpMesh(t, {
    app: port,
    endpoints: (inbound) => [{ address: `127.0.0.1:${port}`, hop: `127.0.0.1:${inbound}` }, `127.0.0.1:${spare}`],
    db: { loadBalancing: 'round-robin', outlierDetection: { consecutive5xx: 2, maxEjected: '100%' } },
  });
  await first.close();
  for (let call = 0; call < 6; call++) t.equal(await say(await open(t, local), `call ${call}`), `call ${call}`);
  await eventually(() => orders.status.inFlight === 0, 'all are over');
  t.strictSame(await counted(orders, 'selvedge_tcp_connects_total', 'outcome'), { ok: 6, upstream_reset: 2 });
  t.strictSame(await counted(orders, 'selvedge_ejections_total', 'cause'), { consecutive_failures: 1 });
});

t.test('with nothing to connect to, the client is cut and the reason counted', async (t) => {
  const dead = await closedPort();
  const { orders, local } = await tcpMesh(t, { app: 9, endpoints: () => [`127.0.0.1:${dead}`] });
  t.equal(await say(await open(t, local), 'hello'), null);
  await eventually(() => orders.status.inFlight === 0, 'it is over');
  t.strictSame(await counted(orders, 'selvedge_tcp_connections_total', 'reason'), { upstream_refused: 1 });
});

t.test('an endpoint has as many connections as it may, and no more', async (t) => {
  const { port } = await app(t, echo);
  const { orders, local } = await tcpMesh(t, { app: port, db: { connections: { max: 2 } } });
  const [one, two] = [await open(t, local), await open(t, local)];
  t.equal(await ask(one, '1'), '1');
  t.equal(await ask(two, '2'), '2');
  t.equal(await say(await open(t, local), '3'), null);
  one.end();
  await once(one, 'close');
  await eventually(() => orders.status.inFlight === 1, 'one is over');
  t.equal(await say(await open(t, local), '4'), '4');
  t.equal((await counted(orders, 'selvedge_tcp_connections_total', 'reason')).pool_full, 1);
});

t.test('a connection that rests for longer than it may is cut at both ends', async (t) => {
  const { port, seen } = await app(t, echo);
  const { orders, db, local } = await tcpMesh(t, { app: port, db: { connections: { idleTimeout: '50ms' } } });
  const client = await open(t, local);
  t.equal(await ask(client, 'hello'), 'hello');
  t.equal(await readAll(client), null);
  await eventually(() => orders.status.inFlight + db.status.inFlight === 0 && seen[0].destroyed, 'it is over');
  const reasons = [orders, db].map((hop) => counted(hop, 'selvedge_tcp_connections_total', 'reason'));
  // Whichever hop notices first: the other sees a reset.
  t.ok((await Promise.all(reasons)).some(({ idle_timeout: cut }) => cut === 1));
});

t.test('a reload keeps open connections, and the next ones go by the new config', async (t) => {
  const { port } = await app(t, echo);
  const other = await app(t, (socket) => socket.end('other'));
  const { orders, db, local, config } = await tcpMesh(t, { app: port });
  const client = await open(t, local);
  t.equal(await ask(client, 'before'), 'before');
  const { db: service } = config.services as Record<string, Record<string, unknown>>;
  service.endpoints = [`127.0.0.1:${other.port}`];
  t.match(await orders.reload(), { applied: true });
  t.match(await db.reload(), { applied: true });
  t.equal(await ask(client, 'after'), 'after', 'the open connection goes on');
  t.equal(await say(await open(t, local), 'new'), 'other');
});

t.test('while it drains open connections go on, new ones are refused, and what is left is cut', async (t) => {
  const { port } = await app(t, echo);
  const { orders, local } = await tcpMesh(t, { app: port });
  const [finishes, stays] = [await open(t, local), await open(t, local)];
  t.equal(await ask(finishes, 'hello'), 'hello');
  t.equal(await ask(stays, 'hello'), 'hello');
  const closing = orders.close({ timeoutMs: 1_000 });
  await eventually(() => orders.status.state === 'draining', 'it drains');
  t.equal(await ask(finishes, 'still here'), 'still here');
  const refused = connect(local, '127.0.0.1');
  const [error] = await once(refused, 'error');
  t.equal((error as NodeJS.ErrnoException).code, 'ECONNREFUSED');
  finishes.end();
  await once(finishes, 'close');
  t.equal(await readAll(stays), null, 'cut');
  await closing;
  t.strictSame(await counted(orders, 'selvedge_tcp_connections_total', 'reason'), { '': 1, draining: 1 });
});

t.test('policies decide by caller and address, at the hop of the service', async (t) => {
  const { port, seen } = await app(t, echo);
  const { orders, db, local, config } = await tcpMesh(t, {
    app: port,
    top: { authorization: [{ name: 'cart-only', service: 'db', allow: [{ from: ['service/cart'] }] }] },
    db: { outlierDetection: { consecutive5xx: 1 } },
    endpoints: (inbound) => [
      { address: `127.0.0.1:${port}`, hop: `127.0.0.1:${inbound}` },
      { address: `127.0.0.2:${port}`, hop: `127.0.0.1:${inbound}` },
    ],
  });
  t.equal(await say(await open(t, local), 'hello'), null, 'denied');
  t.equal(seen.length, 0);
  await eventually(() => orders.status.inFlight + db.status.inFlight === 0, 'it is over');
  t.strictSame(await counted(db, 'selvedge_tcp_authorization_total', 'target', 'policy', 'verdict'), {
    'service db default deny of service db denied': 1,
  });
  t.strictSame(await counted(orders, 'selvedge_tcp_connects_total', 'outcome'), { forbidden: 1 }, 'no other is tried');
  t.strictSame(await counted(orders, 'selvedge_ejections_total', 'cause'), {}, 'and no endpoint is to blame');

  (config as Record<string, unknown>).authorization = [
    { name: 'orders', service: 'db', allow: [{ from: ['service/orders'], clientAddress: ['127.0.0.0/8'] }] },
  ];
  t.match(await db.reload(), { applied: true });
  t.equal(await say(await open(t, local), 'hello'), 'hello', 'allowed');

  (config as Record<string, unknown>).authorization = [
    { name: 'no-loopback', service: 'db', deny: [{ clientAddress: ['127.0.0.0/8'] }] },
  ];
  t.match(await db.reload(), { applied: true });
  t.equal(await say(await open(t, local), 'hello'), null, 'denied by address');
});

t.test('an endpoint outside the mesh may have TLS of its own, which is verified', async (t) => {
  const ca = new TestCa(t);
  const { cert, key } = ca.issue({ name: 'db.test', altNames: ['DNS:db.test'] });
  const server = createTlsServer(
    { cert: readFileSync(cert), key: readFileSync(key), allowHalfOpen: true },
    (socket) => {
      socket.on('error', () => {});
      socket.pipe(socket);
    },
  );
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const endpoints = () => [`127.0.0.1:${port}`];
  const named = await tcpMesh(t, { app: port, endpoints, db: { tls: { ca: ca.cert, serverName: 'db.test' } } });
  t.equal(await say(await open(t, named.local), 'hello'), 'hello');
  const wrong = await tcpMesh(t, { app: port, endpoints, db: { tls: { ca: ca.cert, serverName: 'else.test' } } });
  t.equal(await say(await open(t, wrong.local), 'hello'), null);
  await eventually(() => wrong.orders.status.inFlight === 0, 'it is over');
  t.strictSame(await counted(wrong.orders, 'selvedge_tcp_connections_total', 'reason'), { upstream_tls: 1 });
});

t.test('probes of a hop are nobody that was refused', async (t) => {
  const { port } = await app(t, echo);
  const healthCheck = { tcp: {}, interval: '200ms', timeout: '200ms' };
  const { db, orders, local } = await tcpMesh(t, { app: port, db: { healthCheck } });
  const healthy = async (): Promise<number> =>
    (await counted(orders, 'selvedge_health_check_changes_total', 'verdict')).healthy ?? 0;
  // Checks begin with the first connection.
  await say(await open(t, local), 'hello');
  while ((await healthy()) === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  t.equal(await say(await open(t, local), 'hello'), 'hello');
  t.strictSame(await counted(db, 'selvedge_rejected_requests_total', 'code'), {});
});

t.test('who is turned away as soon as his handshake is over costs the hop nothing', async (t) => {
  const first = await app(t, echo);
  const { authority, db, inbound, local } = await tcpMesh(t, {
    app: first.port,
    db: { healthCheck: { tcp: {}, interval: '20ms', timeout: '20ms', unhealthyAfter: 1 } },
    top: { authorization: [{ name: 'orders', service: 'db', allow: [{ from: ['service/orders'] }] }] },
  });
  const { cert, key } = await authority.svid('spiffe://shop.internal/service/cart');
  for (let call = 0; call < 20; call++) {
    const socket = connectTls({ port: inbound, host: '127.0.0.1', rejectUnauthorized: false, cert, key });
    socket.on('error', () => {});
    t.teardown(() => socket.destroy());
    t.equal(await say(socket, 'hello'), null, 'by a policy');
  }
  await first.close();
  for (let call = 0; call < 20; call++)
    t.equal(await say(await open(t, local), 'hello'), null, 'for want of an endpoint');
  await eventually(() => db.status.inFlight === 0, 'nobody is left');
  t.equal((await counted(db, 'selvedge_tcp_connections_total', 'reason')).forbidden, 20);
});

t.test('HTTP for a TCP service finds none, and a client that dials its port gets the service', async (t) => {
  const { port } = await app(t, echo);
  const { orders, local } = await tcpMesh(t, { app: port });
  const outbound = orders.addresses()['outbound/orders'].port;
  t.match(await exchange(t, outbound, 'GET / HTTP/1.1\r\nHost: db\r\n\r\n'), /^HTTP\/1.1 404 .*SLV_SERVICE_NOT_FOUND/s);
  t.equal(await say(await open(t, local), 'GET / HTTP/1.1\r\n\r\n'), 'GET / HTTP/1.1\r\n\r\n');
});

t.test('a service that comes to speak TCP is served so from the reload on', async (t) => {
  const { port } = await app(t, echo);
  const { orders, db, config, inbound } = await tcpMesh(t, { app: port, mtls: 'off', db: { protocol: 'http1' } });
  t.match(await exchange(t, inbound, 'GET / HTTP/1.1\r\nHost: db\r\n\r\n'), /^HTTP\/1.1 50/, 'an echo is no HTTP');
  (config.services as Record<string, Record<string, unknown>>).db.protocol = 'tcp';
  t.match(await db.reload(), { applied: true });
  t.match(await orders.reload(), { applied: true });
  t.equal(await say(await open(t, inbound), 'hello'), 'hello');
  t.equal(await say(await open(t, orders.addresses()['outbound/orders/db'].port), 'hello'), 'hello');
});

t.test('a local port that a reload takes away has its connections until drain.timeout', async (t) => {
  const { port } = await app(t, echo);
  const { orders, local, config } = await tcpMesh(t, { app: port, top: { drain: { grace: '0s', timeout: '50ms' } } });
  const client = await open(t, local);
  t.equal(await ask(client, 'hello'), 'hello');
  const { orders: service } = config.services as Record<string, { internal: { outbound: { ports: object } } }>;
  service.internal.outbound.ports = {};
  const cut = readAll(client);
  t.match(await orders.reload(), { applied: true });
  t.equal(await cut, null);
  await eventually(() => orders.status.inFlight === 0, 'it is over');
  t.strictSame(await counted(orders, 'selvedge_tcp_connections_total', 'reason'), { draining: 1 });
});

t.test('what was said about a connection stands in the access log once it is over', async (t) => {
  const { port } = await app(t, echo);
  const [inbound, local] = [await freePort(), await freePort()];
  const config = {
    version: 1,
    admin: false,
    mesh: { mtls: 'off' },
    services: {
      db: {
        protocol: 'tcp',
        endpoints: [{ address: `127.0.0.1:${port}`, hop: `127.0.0.1:${inbound}` }],
        internal: {
          inbound: { host: '127.0.0.1', port: inbound },
          outbound: { port: 0, ports: { db: `127.0.0.1:${local}` } },
        },
        authorization: [{ name: 'near', allow: [{ clientAddress: ['127.0.0.1'] }] }],
      },
    },
  };
  const running = await RunningProcess.start(t, join(t.testdir({}), 'c.json'), config);
  await running.after('connection', async () => {
    await say(await open(t, local), 'hello');
  });
  await eventually(() => running.count('connection') === 2, 'both sides have told');
  const lines = running.lines.filter(({ msg }) => msg === 'connection') as unknown as Record<string, unknown>[];
  const common = {
    owner: 'db',
    service: 'db',
    endpoint: `127.0.0.1:${port}`,
    bytesIn: 5,
    bytesOut: 5,
    protocol: 'TCP',
  };
  const bySide = new Map(lines.map((line) => [line.role, line]));
  t.match(bySide.get('outbound'), { ...common, listener: 'db' });
  t.match(bySide.get('inbound'), { ...common, listener: 'inbound', verdict: 'allowed', policy: 'near' });
});
