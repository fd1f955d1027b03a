// What crashed, leaked or hung other proxies on this stack must cost one request at most.
import { readFileSync } from 'node:fs';
import { get, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { edgeTo, run } from './support/gateway.ts';
import { closedPort, eventually, exchange, httpUpstream, RawClient, rawUpstream, statusOf } from './support/sockets.ts';

setFlagsFromString('--expose-gc');
/** A full garbage collection: what is left afterwards is held by something. */
const collect = runInNewContext('gc') as () => void;

const HANDSHAKE =
  'GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

t.test('a burst on a refused upstream ends nothing', async (t) => {
  const edge = await run(t, edgeTo([await closedPort()]));
  const answers = await Promise.all(Array.from({ length: 300 }, async () => (await fetch(edge.url)).status));
  t.ok(answers.every((status) => status === 502));
  t.equal(edge.selvedge.status.inFlight, 0);
});

t.test('cancellations leave no upstream stream behind', async (t) => {
  const { port, sockets } = await rawUpstream(t, (socket) =>
    socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n'),
  );
  const edge = await run(t, edgeTo([port]));
  await Promise.all(
    Array.from({ length: 200 }, async () => {
      const client = await RawClient.open(t, edge.port);
      await client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n').until((text) => text.includes('hello'));
      client.socket.destroy();
    }),
  );
  await eventually(() => sockets.size === 0, 'every upstream connection is closed');
  await eventually(() => edge.selvedge.status.inFlight === 0, 'nothing is in flight');
  t.pass();
});

t.test('requests reset at any moment end nothing', async (t) => {
  const { port } = await httpUpstream(t, (req, res) => {
    req.resume();
    setTimeout(() => res.end('x'.repeat(100_000)), 2);
  });
  const edge = await run(t, edgeTo([port]));
  for (let round = 0; round < 100; round++) {
    const client = await RawClient.open(t, edge.port);
    client
      .send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n')
      .send('x'.repeat((round * 977) % 100_001));
    await new Promise((resolve) => setTimeout(resolve, round % 5));
    client.socket.resetAndDestroy();
  }
  await eventually(() => edge.selvedge.status.inFlight === 0, 'nothing is in flight');
  t.equal((await fetch(edge.url)).status, 200);
});

t.test('one connection cannot have more than a hundred requests under way', async (t) => {
  const waiting: (() => void)[] = [];
  const { port } = await httpUpstream(t, (_req, res) => waiting.push(() => res.end('ok')));
  const edge = await run(t, edgeTo([port]));
  const client = await RawClient.open(t, edge.port);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(300));
  await eventually(() => waiting.length === 100, 'a hundred requests arrive');
  for (const answer of waiting) answer();
  const received = await client.closed();
  t.equal(waiting.length, 100, 'and no more');
  t.equal(received.match(/HTTP\/1\.1 200 OK/g)?.length, 100);
  t.match(received, /HTTP\/1\.1 503 [\s\S]*SLV_CONNECTION_LIMIT/);
  await eventually(() => edge.selvedge.status.inFlight === 0, 'nothing is in flight');
});

t.test('a plugin that throws costs its own request and is named in the log alone', async (t) => {
  const { port } = await httpUpstream(t, (_req, res) => res.end('ok'));
  const plugin = new URL('./support/throwing-plugin.ts', import.meta.url).pathname;
  const edge = await run(t, edgeTo([port], { route: { plugins: [plugin] } }));
  for (const phase of ['onRequest', 'callback', 'preHandler', 'onSend']) {
    const response = await fetch(edge.url, { headers: { 'x-fail': phase } });
    t.equal(response.status, 500, phase);
    const body = await response.text();
    t.match(body, /SLV_PLUGIN_FAILED/, phase);
    t.notMatch(body, /failed"|throwing/, `${phase}: nothing of the error reaches the client`);
  }
  t.equal((await fetch(edge.url, { headers: { 'x-fail': 'onResponse' } })).status, 200);
  t.equal((await fetch(edge.url)).status, 200);
  t.equal(edge.selvedge.status.inFlight, 0);
});

t.test('after 10,000 mixed good, bad and aborted requests nothing is left', async (t) => {
  const { port, server } = await httpUpstream(t, (req, res) => {
    req.resume();
    const { url } = req;
    if (url === '/reset') req.socket.destroy();
    else if (url === '/cut') res.writeHead(200, { 'content-length': '100' }).write('half', () => req.socket.destroy());
    else if (url === '/stream') res.write('first');
    else res.end('ok');
  });
  server.keepAliveTimeout = 60_000;
  const edge = await run(t, edgeTo([port], { route: { timeout: { request: '2s' } } }));
  const open = (): number => process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length;

  const good = (): Promise<void> =>
    settle((done) => get(`${edge.url}/good`, (res) => res.resume().on('end', done)).on('error', done));
  const upload = (): Promise<void> =>
    settle((done) =>
      request(`${edge.url}/upload`, { method: 'POST' }, (res) => res.resume().on('end', done))
        .on('error', done)
        .end('x'.repeat(10_000)),
    );
  const broken = (path: string) => (): Promise<void> =>
    settle((done) =>
      get(`${edge.url}${path}`, (res) =>
        res
          .on('error', () => undefined)
          .resume()
          .on('close', done),
      ).on('error', done),
    );
  const aborted = (): Promise<void> =>
    settle((done) => {
      const call = get(`${edge.url}/stream`, (res) => {
        res.on('error', () => undefined).once('data', () => call.destroy());
      });
      call.on('error', () => undefined).on('close', done);
    });
  const malformed = async (): Promise<void> => {
    const client = await RawClient.open(t, edge.port);
    await client.send('GET / HTTP/1.1\r\nBad Header: x\r\n\r\n').closed();
    client.socket.destroy();
  };
  const upgrade = async (): Promise<void> => {
    const client = await RawClient.open(t, edge.port);
    await client.send(HANDSHAKE).until((text) => text.includes('ok'));
    client.socket.destroy();
  };
  const kinds = [
    good,
    good,
    good,
    upload,
    broken('/reset'),
    broken('/cut'),
    broken('/../%zz'),
    aborted,
    malformed,
    upgrade,
  ];
  const round = async (count: number): Promise<void> => {
    for (let done = 0; done < count; done += 50) {
      await Promise.all(Array.from({ length: 50 }, (_, i) => kinds[(done + i) % kinds.length]()));
    }
  };
  await round(1_000);
  await eventually(() => edge.selvedge.status.inFlight === 0, 'nothing is in flight after the warm-up');
  await eventually(() => open() < 150, 'sockets settle');
  const socketsBefore = open();
  collect();
  const heapBefore = process.memoryUsage().heapUsed;
  await round(10_000);
  await eventually(() => edge.selvedge.status.inFlight === 0, 'nothing is in flight');
  await eventually(() => open() <= socketsBefore + 60, `open sockets: ${socketsBefore} before, ${open()} after`);
  collect();
  const grown = process.memoryUsage().heapUsed - heapBefore;
  t.ok(grown < 16 << 20, `the heap grew by ${(grown / 1048576).toFixed(1)} MiB`);
  t.equal(statusOf(await exchange(t, edge.port, 'GET /good HTTP/1.1\r\nHost: a\r\n\r\n')), 200);
});

function settle(start: (done: () => void) => void): Promise<void> {
  return new Promise((resolve) => start(() => resolve()));
}

t.test('a client that takes nothing of its answer is left, and so is its service', async (t) => {
  const { port, server } = await httpUpstream(t, (req, res) => {
    const size = Number((req.url as string).slice(1));
    res.writeHead(200, { 'content-length': String(size) }).end(Buffer.alloc(size));
  });
  const open = new Set<Socket>();
  server.on('connection', (socket) => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
  });
  const file = join(t.testdir(), 'access.log');
  const plugins = [{ 'access-log': { destination: file } }];
  const edge = await run(t, edgeTo([port], { gateway: { plugins }, route: { timeout: { idle: '300ms' } } }));
  const logged = () => readFileSync(file, 'utf8').match(/"reason":"client_stalled"/g)?.length ?? 0;
  // Far more, and little more, than the kernel takes for a client that reads nothing.
  for (const [times, size] of [64_000_000, 6_000_000].entries()) {
    const socket = connect({ port: edge.port, host: '127.0.0.1' });
    t.teardown(() => socket.destroy());
    socket.on('error', () => undefined).pause();
    socket.write(`GET /${size} HTTP/1.1\r\nHost: a\r\n\r\n`);
    await eventually(() => logged() === times + 1, `${size} bytes: broken off, and in the log`);
  }
  await eventually(() => edge.selvedge.status.inFlight === 0, 'nothing is in flight');
  await eventually(() => open.size <= 1, 'no service is held back');
});
