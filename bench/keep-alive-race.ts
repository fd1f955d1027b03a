// The keep-alive race against Node's own HTTP server, each in a process of its own: requests that arrive just when it closes idle
// connections. Prints what failed, what was sent once more, and what came twice. Run by hand: node bench/keep-alive-race.ts (a minute).
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { DispatchHandler } from '../src/dispatch.ts';
import { TimerWheel } from '../src/timer-wheel.ts';
import { Http1Pool } from '../src/upstream/http1/pool.ts';

const CONNECTIONS = 200;
const ROUNDS = 10;

const [role, timeoutMs, announces] = process.argv.slice(2);
if (role === 'server') serve(Number(timeoutMs), announces === 'true');
else await measure();

function serve(keepAliveTimeout: number, announced: boolean): void {
  const deliveries = new Map<string, number>();
  const server = createServer({ keepAliveTimeout }, (request, response) => {
    const id = request.url as string;
    deliveries.set(id, (deliveries.get(id) ?? 0) + 1);
    if (!announced) response.setHeader('connection', 'keep-alive');
    response.end();
  });
  // Newer versions of Node add a second to what they announce; the older ones, and the race, are without it.
  (server as { keepAliveTimeoutBuffer?: number }).keepAliveTimeoutBuffer = 0;
  server.listen(0, '127.0.0.1', 1024, () => process.send?.((server.address() as AddressInfo).port));
  process.on('message', () => process.send?.([...deliveries.values()].filter((times) => times > 1).length));
  process.on('disconnect', () => process.exit());
}

async function measure(): Promise<void> {
  const runs = [1_000, 2_000, 5_000].flatMap((ms) => [run(ms, true), run(ms, false)]);
  console.table(await Promise.all(runs));
}

async function run(keepAliveMs: number, announced: boolean) {
  const child = fork(import.meta.filename, ['server', String(keepAliveMs), String(announced)]);
  const pool = new Http1Pool({
    host: '127.0.0.1',
    port: await answerOf(child),
    tls: null,
    maxConnections: CONNECTIONS,
    maxPending: CONNECTIONS,
    connectTimeoutMs: 10_000,
    idleTimeoutMs: 60_000,
    wheel: new TimerWheel(),
  });
  const failed = { get: 0, post: 0, postOnceKnown: 0 };
  let requests = 0;
  let bare = 0;
  await burst(() => exchange(pool, 'GET', '/warm'), 0);
  for (let round = 0; round < ROUNDS; round++) {
    const known = pool.stats.upstreamIdleMs !== null;
    await burst(async (i) => {
      const method = i % 4 === 0 ? 'POST' : 'GET';
      const error = await exchange(pool, method, `/${round}/${i}`);
      requests += 1;
      if (error === null) return;
      failed[method === 'GET' ? 'get' : known ? 'postOnceKnown' : 'post'] += 1;
      if ((error as { readonly reused?: boolean }).reused !== true) bare += 1;
    }, keepAliveMs);
  }
  const { resent, upstreamIdleMs } = pool.stats;
  pool.destroy();
  child.send('repeated?');
  // The warming requests share one path.
  const repeated = (await answerOf(child)) - 1;
  child.disconnect();
  return {
    keepAliveMs,
    announced,
    requests,
    'GET failed': failed.get,
    'POST failed, unknown': failed.post,
    'POST failed, known': failed.postOnceKnown,
    'not said to be reused': bare,
    'sent once more': resent,
    'came twice': repeated,
    'known (ms)': upstreamIdleMs,
  };
}

/** One for each connection, at this time give or take 3 ms. */
async function burst(send: (i: number) => Promise<unknown>, ms: number): Promise<void> {
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async (_, i) => {
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, ms - 3 + (i % 7))));
      await send(i);
    }),
  );
}

function exchange(pool: Http1Pool, method: string, path: string): Promise<Error | null> {
  return new Promise((resolve) => {
    const handler: DispatchHandler = {
      onResponseEnd: () => resolve(null),
      onResponseError: (_, error) => resolve(error),
    };
    const headers = ['host', 'bench'];
    const rest = { body: null, contentLength: null, upgrade: null, expectContinue: false, rawOnly: true };
    pool.dispatch({ method, path, headers, ...rest }, handler);
  });
}

async function answerOf(child: ChildProcess): Promise<number> {
  const [answer] = await once(child, 'message');
  return answer as number;
}
