// The faulty upstream does what its behaviours say: what the scenarios prove rests on it.
import { get, request } from 'node:http';
import t, { type Test } from 'tap';
import { eventually } from '../e2e/support/sockets.ts';
import type { Behaviour, ResetPhase, UpstreamOptions } from './behaviour.ts';
import { spawnFaultyUpstream } from './faulty-process.ts';
import { startFaultyUpstream, type Upstream } from './faulty-upstream.ts';
import { openLoad } from './open-load.ts';
import { dial, RawClient } from './raw-client.ts';

async function start(t: Test, behaviour: Behaviour, options: UpstreamOptions = {}): Promise<Upstream> {
  const upstream = await startFaultyUpstream({ ...options, behaviour });
  t.teardown(() => upstream.close());
  return upstream;
}

/** `200 body`, or the code of the error. */
function ask(port: number, number = 0, method = 'GET'): Promise<string> {
  return new Promise((resolve) => {
    let responding = false;
    const call = request(
      { port, host: '127.0.0.1', method, headers: { 'x-request-no': number }, agent: false },
      (res) => {
        let body = '';
        responding = true;
        res.on('data', (chunk) => {
          body += chunk;
        });
        res.on('error', (error: NodeJS.ErrnoException) => resolve(`cut ${error.code}`));
        res.on('end', () => resolve(`${res.statusCode} ${body}`));
      },
    );
    call.on('error', (error: NodeJS.ErrnoException) => {
      if (!responding) resolve(String(error.code));
    });
    call.end();
  });
}

const REQUEST = 'GET / HTTP/1.1\r\nHost: a\r\nx-request-no: 7\r\n\r\n';

t.test('counts each request by number and method, in its own process or not', async (t) => {
  const spawned = await spawnFaultyUpstream();
  t.teardown(() => spawned.close());
  for (const upstream of [await start(t, { mode: 'ok', bodyBytes: 3 }), spawned]) {
    await ask(upstream.port, 1);
    await ask(upstream.port, 2, 'POST');
    await ask(upstream.port, 2, 'POST');
    const deliveries = upstream.deliveries();
    t.equal(deliveries.total, 3);
    t.equal(deliveries.count('POST'), 2);
    t.strictSame(
      [...deliveries.byNumber()],
      [
        [1, 1],
        [2, 2],
      ],
    );
  }
});

t.test('a killed process refuses, its deliveries stay, and another takes its port', async (t) => {
  const upstream = await spawnFaultyUpstream();
  t.teardown(() => upstream.close());
  await upstream.behave({ mode: 'status', status: 503 });
  t.equal(await ask(upstream.port, 1), '503 failure');
  await upstream.kill();
  t.equal(await ask(upstream.port, 2), 'ECONNREFUSED');
  t.strictSame([...upstream.deliveries().byNumber().keys()], [1]);
  await upstream.restart();
  t.match(await ask(upstream.port, 3), /^200 /);
  t.equal(upstream.deliveries().total, 2);
});

t.test('refuses, and listens again on the same port', async (t) => {
  const upstream = await start(t, { mode: 'ok' });
  const client = await RawClient.open(t, upstream.port);
  await client.send(REQUEST).until('xxx');
  await upstream.behave({ mode: 'refuse' });
  await client.closed();
  t.equal(client.ended, 'end', 'an idle connection closes cleanly');
  t.equal(await ask(upstream.port), 'ECONNREFUSED');
  await upstream.behave({ mode: 'ok' });
  t.match(await ask(upstream.port), /^200 /);
});

t.test('resets in each phase', async (t) => {
  const expected: Record<ResetPhase, [string, number]> = {
    accept: ['ECONNRESET', 0],
    head: ['ECONNRESET', 1],
    body: ['ECONNRESET', 1],
    'response-head': ['ECONNRESET', 1],
    'response-body': ['cut ECONNRESET', 1],
    reused: [`200 ${'x'.repeat(128)}`, 1],
  };
  for (const [phase, [outcome, delivered]] of Object.entries(expected)) {
    const upstream = await start(t, { mode: 'reset', phase: phase as ResetPhase });
    t.equal(await ask(upstream.port), outcome, phase);
    t.equal(upstream.deliveries().total, delivered, `${phase}: delivered`);
  }
  const upstream = await start(t, { mode: 'reset', phase: 'reused' });
  const client = await RawClient.open(t, upstream.port);
  await client.send(REQUEST).until('xxx');
  await client.send(REQUEST).closed();
  t.equal(client.ended, 'reset', 'the second request of a connection');
});

t.test('a black hole reads and a half-open endpoint does not; neither answers', async (t) => {
  const hole = await start(t, { mode: 'black-hole' });
  const client = await RawClient.open(t, hole.port);
  client.send(REQUEST);
  await eventually(() => hole.deliveries().total === 1, 'the request is read');
  const upstream = await start(t, { mode: 'ok' });
  const kept = await RawClient.open(t, upstream.port);
  await kept.send(REQUEST).until('xxx');
  await upstream.behave({ mode: 'half-open' });
  kept.send(REQUEST);
  const fresh = (await RawClient.open(t, upstream.port)).send(REQUEST);
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(upstream.deliveries().total, 1);
  t.equal(client.received + fresh.received, '');
  await upstream.behave({ mode: 'ok' });
  await fresh.closed();
  t.match(await ask(upstream.port), /^200 /);
});

t.test('is slow to begin and slow to go on', async (t) => {
  const upstream = await start(t, { mode: 'slow', firstByteMs: 30, trickleMs: 2, bodyBytes: 5 });
  const client = await RawClient.open(t, upstream.port);
  const startedAt = performance.now();
  await client.send(REQUEST).until('HTTP/1.1 200');
  t.ok(performance.now() - startedAt >= 29);
  await client.until('xxxxx');
});

t.test('fails by share, and says when to come again', async (t) => {
  const upstream = await start(t, { mode: 'status', status: 500, share: 0.25 });
  const statuses: string[] = [];
  for (let round = 0; round < 8; round++) statuses.push((await ask(upstream.port)).slice(0, 3));
  t.equal(statuses.filter((status) => status === '500').length, 2);
  const retryAfter = async (): Promise<string | undefined> =>
    new Promise((resolve) =>
      get({ port: upstream.port, agent: false }, (res) => resolve(res.resume().headers['retry-after'])),
    );
  await upstream.behave({ mode: 'status', status: 503, retryAfter: { seconds: 2 } });
  t.equal(await retryAfter(), '2');
  await upstream.behave({ mode: 'status', status: 503, retryAfter: { dateInMs: 60_000 } });
  const ahead = Date.parse((await retryAfter()) as string) - Date.now();
  t.ok(ahead > 50_000 && ahead <= 60_000);
});

t.test('flaps by requests and by time', async (t) => {
  const between = [
    { mode: 'ok', bodyBytes: 0 },
    { mode: 'status', status: 503 },
  ] as const;
  const upstream = await start(t, { mode: 'flapping', between, every: { requests: 2 } });
  const statuses: string[] = [];
  for (let round = 0; round < 6; round++) statuses.push((await ask(upstream.port)).slice(0, 3));
  t.strictSame(statuses, ['200', '200', '503', '503', '200', '200']);
  await upstream.behave({ mode: 'flapping', between: [{ mode: 'ok' }, { mode: 'refuse' }], every: { ms: 20 } });
  const seen = new Set<string>();
  await eventually(() => {
    void ask(upstream.port).then((answer) => seen.add(answer.slice(0, 3)));
    return seen.has('200') && seen.has('ECO');
  }, 'both faces are seen');
});

t.test('closes idle connections in silence', async (t) => {
  const upstream = await start(t, { mode: 'ok' }, { closeIdleMs: 20 });
  const client = dial(upstream.port, REQUEST);
  t.notMatch(await client.closed(), /^keep-alive:/im);
  t.equal(client.ended, 'end');
});

t.test('the load keeps its pace though nothing answers, and writes down each request once', async (t) => {
  const hole = await start(t, { mode: 'black-hole' });
  const load = openLoad({ port: hole.port, rate: 200, seconds: 0.5, postShare: 0.2, patienceMs: 100 });
  const answers = await load.done;
  t.equal(answers.length, 100);
  t.equal(answers.filter(({ method }) => method === 'POST').length, 20);
  t.ok(answers.every(({ status, error }) => status === 0 && error === 'no answer'));
  t.equal(hole.deliveries().byNumber().size, 100);
  const burst = await openLoad({
    port: (await start(t, { mode: 'ok' })).port,
    rate: 100,
    seconds: 0.4,
    burstEveryMs: 100,
  }).done;
  t.ok(burst.every(({ status }) => status === 200));
  t.equal(new Set(burst.map(({ sentMs }) => Math.round(sentMs / 100))).size, 4, 'four bursts');
});
