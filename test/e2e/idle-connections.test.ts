// Clients that connect and stay.
import { execFileSync } from 'node:child_process';
import t from 'tap';
import { edgeTo, run } from './support/gateway.ts';
import { exchange, httpUpstream, RawClient, statusOf } from './support/sockets.ts';

const IDLE = 2_000;
/** Both ends of each are in this process. */
const files = Number(execFileSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }).replace('unlimited', '1e9'));
const few = files < 3 * IDLE ? `only ${files} files may be open` : false;

t.test(`${IDLE} idle connections stand in nobody's way, and leave nothing behind`, { skip: few }, async (t) => {
  const { port } = await httpUpstream(t, (_req, res) => res.end('ok'));
  const limits = { connections: IDLE + 1, headerTimeout: '60s' };
  const edge = await run(t, edgeTo([port], { listener: { limits } }));
  const connections = async (): Promise<number> =>
    (await edge.selvedge.registry.getSingleMetric('selvedge_connections')?.get())?.values[0]?.value ?? 0;
  const idle: RawClient[] = [];
  while (idle.length < IDLE)
    idle.push(...(await Promise.all(Array.from({ length: 100 }, () => RawClient.open(t, edge.port)))));
  // Half of them have had an answer and are kept; half have said nothing.
  for (const client of idle.slice(0, IDLE / 2)) client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  for (const client of idle.slice(0, IDLE / 2)) await client.until('ok');
  const answer = await exchange(t, edge.port, 'GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n');
  t.equal(statusOf(answer), 200, 'the last one that there is room for');
  t.equal(await connections(), IDLE + 1);
  const beyond = await RawClient.open(t, edge.port);
  t.equal(await beyond.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n').closed(), '', 'one more is closed');
  for (const client of idle) client.socket.destroy();
  for (const giveUpAt = performance.now() + 10_000; (await connections()) > 1 && performance.now() < giveUpAt; )
    await new Promise((resolve) => setTimeout(resolve, 20));
  t.equal(await connections(), 1, 'only the one that is still open');
});
