// The keep-alive race with real sockets: requests that arrive just when the upstream closes. No GET fails, and no request comes twice.
import { createServer as createHttpServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { TimerWheel } from '../../src/timer-wheel.ts';
import { Http1Pool } from '../../src/upstream/http1/pool.ts';
import { Recorder, requestOf } from '../upstream/http1/raw-upstream.ts';

const CONNECTIONS = 100;

interface Upstream {
  readonly pool: Http1Pool;
  /** How often each id has come. */
  readonly deliveries: ReadonlyMap<string, number>;
}

async function start(t: Test, server: Server, deliveries: Map<string, number>): Promise<Upstream> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const pool = new Http1Pool({
    host: '127.0.0.1',
    port: (server.address() as AddressInfo).port,
    tls: null,
    maxConnections: CONNECTIONS,
    maxPending: CONNECTIONS,
    connectTimeoutMs: 10_000,
    idleTimeoutMs: 60_000,
    wheel: new TimerWheel(),
  });
  t.teardown(() => {
    pool.destroy();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { pool, deliveries };
}

/** It reads one request at a time, answers it, and closes once it has waited this long for the next one. */
function closesAfter(t: Test, idleMs: number): Promise<Upstream> {
  const deliveries = new Map<string, number>();
  const server = createServer((socket) => {
    let timer: NodeJS.Timeout | undefined;
    let text = '';
    socket.on('close', () => clearTimeout(timer));
    socket.on('data', (chunk) => {
      clearTimeout(timer);
      text += chunk.toString('latin1');
      if (!text.endsWith('\r\n\r\n')) return;
      count(deliveries, text.split(' ', 2)[1]);
      text = '';
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
      // What comes later is not read: the sender gets a reset.
      timer = setTimeout(() => socket.destroy(), idleMs);
    });
  });
  return start(t, server, deliveries);
}

function count(deliveries: Map<string, number>, id: string): void {
  deliveries.set(id, (deliveries.get(id) ?? 0) + 1);
}

interface Race {
  readonly failedGets: number;
  readonly failedPosts: number;
  /** Failures that did not say that the connection was a kept one. */
  readonly unexplained: number;
  readonly repeated: number;
  /** GETs and POSTs that were answered and never came. */
  readonly lost: number;
}

let ids = 0;

/** One request for each connection, at `idleMs` give or take 3 ms after all were last used; again and again. */
async function race({ pool, deliveries }: Upstream, idleMs: number, rounds: number): Promise<Race> {
  const outcome = { failedGets: 0, failedPosts: 0, unexplained: 0, repeated: 0, lost: 0 };
  for (let round = 0; round < rounds; round++) {
    await Promise.all(
      Array.from({ length: CONNECTIONS }, async (_, i) => {
        await new Promise((resolve) => setTimeout(resolve, idleMs - 3 + (i % 7)));
        const method = i % 4 === 0 ? 'POST' : 'GET';
        const path = `/${method}/${ids++}`;
        const recorder = new Recorder();
        pool.dispatch(requestOf({ method, path }), recorder);
        const { error } = await recorder.over;
        const came = deliveries.get(path) ?? 0;
        if (error !== null) outcome[method === 'GET' ? 'failedGets' : 'failedPosts'] += 1;
        if (error !== null && !error.reused) outcome.unexplained += 1;
        if (error === null && came === 0) outcome.lost += 1;
        if (came > 1) outcome.repeated += 1;
      }),
    );
  }
  return outcome;
}

t.test('2,000 requests for each upstream, every one of them when it closes', async (t) => {
  await Promise.all(
    [50, 100].map(async (idleMs) => {
      const upstream = await closesAfter(t, idleMs);
      const outcome = await race(upstream, idleMs, 20);
      t.match(outcome, { failedGets: 0, unexplained: 0, repeated: 0, lost: 0 }, `${idleMs} ms`);
    }),
  );
});

t.test('once the timeout is known no POST fails either', async (t) => {
  const idleMs = 250;
  const upstream = await closesAfter(t, idleMs);
  let learning = 0;
  while (upstream.pool.stats.upstreamIdleMs === null) {
    // A round in which nobody comes, so that the upstream closes them all; then one that meets the closing.
    t.match(await race(upstream, idleMs * 1.5, 1), { failedGets: 0, unexplained: 0, repeated: 0, lost: 0 });
    t.match(await race(upstream, idleMs, 1), { failedGets: 0, unexplained: 0, repeated: 0, lost: 0 });
    if (++learning === 20) return t.fail('never learned');
  }
  t.ok((upstream.pool.stats.upstreamIdleMs as number) > idleMs / 2, 'not just anything');
  t.strictSame(await race(upstream, idleMs, 10), {
    failedGets: 0,
    failedPosts: 0,
    unexplained: 0,
    repeated: 0,
    lost: 0,
  });
});

t.test('a Node server that announces a second, and one that keeps it to itself', async (t) => {
  await Promise.all(
    [true, false].map(async (announces) => {
      const deliveries = new Map<string, number>();
      const server = createHttpServer({ keepAliveTimeout: 1_000 }, (request: IncomingMessage, response) => {
        count(deliveries, request.url as string);
        // Node says `Keep-Alive: timeout=1` unless the handler speaks of the connection itself.
        if (!announces) response.setHeader('connection', 'keep-alive');
        response.end();
      });
      // Newer versions add a second of their own, so that their announcement is safe.
      (server as { keepAliveTimeoutBuffer?: number }).keepAliveTimeoutBuffer = 0;
      const upstream = await start(t, server, deliveries);
      const outcome = await race(upstream, 1_000, 3);
      t.match(outcome, { failedGets: 0, unexplained: 0, repeated: 0, lost: 0 }, announces ? 'announced' : 'silent');
      if (announces) t.match(outcome, { failedPosts: 0 }, 'an announcement is believed at once');
    }),
  );
});
