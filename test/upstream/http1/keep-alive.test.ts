// Kept connections and the upstream that closes them: which request may have which connection, and what happens to those that meet the closing.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { PassThrough } from 'node:stream';
import { createServer as createTlsServer } from 'node:tls';
import t from 'tap';
import { TestCa } from '../../support/tls-fixture.ts';
import { type Accepted, doubtSettled, RawUpstream, Recorder, type Setup, settle, setUp } from './raw-upstream.ts';

const OK = 'HTTP/1.1 200 OK\r\n';
const EMPTY = `${OK}Content-Length: 0\r\n\r\n`;

/** One whole exchange on a connection that is opened for it and then left idle. */
async function exchangeOn({ upstream, send }: Setup, response = EMPTY): Promise<Accepted> {
  const recorder = send();
  const connection = await upstream.next();
  await connection.head();
  connection.write(response);
  await recorder.over;
  return connection;
}

/** One exchange, and then the upstream ends the connection after this time. */
async function idlesFor(setup: Setup, ms: number): Promise<void> {
  const connection = await exchangeOn(setup);
  setup.clock.advance(ms);
  connection.socket.end();
  await connection.closed;
  await settle();
}

async function answer(connection: Accepted, recorder: Recorder): Promise<void> {
  await connection.head();
  connection.write(EMPTY);
  await recorder.over;
}

t.test('what the upstream does twice is known: from then on ours are retired a second sooner', async (t) => {
  const setup = await setUp(t);
  await idlesFor(setup, 5_000);
  t.match(setup.pool.stats, { connections: 0, upstreamIdleMs: null });
  await idlesFor(setup, 5_000);
  t.equal(setup.pool.stats.upstreamIdleMs, 5_000);
  const kept = await exchangeOn(setup);
  setup.clock.advance(3_900);
  t.equal(setup.pool.stats.idle, 1);
  setup.clock.advance(150);
  t.equal(setup.pool.stats.idle, 0);
  await kept.closed;
});

t.test('half the time where the upstream keeps them for less than two seconds', async (t) => {
  const setup = await setUp(t);
  for (let round = 0; round < 2; round++) await idlesFor(setup, 600);
  await exchangeOn(setup);
  setup.clock.advance(280);
  t.equal(setup.pool.stats.idle, 1);
  setup.clock.advance(60);
  t.match(setup.pool.stats, { idle: 0, upstreamIdleMs: 600 });
});

t.test('a 408 ahead of the closing teaches the same', async (t) => {
  const setup = await setUp(t);
  for (let round = 0; round < 2; round++) {
    const connection = await exchangeOn(setup);
    setup.clock.advance(10_000);
    connection.socket.end('HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n');
    await connection.closed;
  }
  t.equal(setup.pool.stats.upstreamIdleMs, 10_000);
});

t.test('requests that meet the closing teach it too', async (t) => {
  const setup = await setUp(t);
  let stale = await exchangeOn(setup);
  for (let round = 0; round < 2; round++) {
    setup.clock.advance(3_000);
    const recorder = setup.send();
    await stale.head();
    stale.socket.end();
    stale = await setup.upstream.next();
    await answer(stale, recorder);
  }
  t.match(setup.pool.stats, { upstreamIdleMs: 3_000, resent: 2 });
});

t.test('a connection that never served teaches nothing', async (t) => {
  const { upstream, send, pool, clock } = await setUp(t);
  for (let round = 0; round < 3; round++) {
    const first = send();
    const serving = await upstream.next();
    await serving.head();
    const second = send();
    // The first connection takes the second request while another one is still being opened for it.
    serving.write(EMPTY);
    await first.over;
    await serving.head();
    serving.write(`${OK}Connection: close\r\nContent-Length: 0\r\n\r\n`);
    await second.over;
    const spare = await upstream.next();
    await settle();
    t.match(pool.stats, { connections: 1, idle: 1 });
    clock.advance(2_000);
    spare.socket.end();
    await spare.closed;
    await settle();
  }
  t.match(pool.stats, { connections: 0, upstreamIdleMs: null });
});

t.test('the age is checked when a request comes, not only when a sweep does', async (t) => {
  const setup = await setUp(t, { idleTimeoutMs: 510 });
  const old = await exchangeOn(setup);
  setup.clock.advance(512);
  t.equal(setup.pool.stats.idle, 1, 'no sweep came yet');
  const recorder = setup.send();
  await old.closed;
  await answer(await setup.upstream.next(), recorder);
  t.equal(old.text, '');
});

t.test('while nothing is known, a request that cannot go twice takes none idle for over half a second', async (t) => {
  for (const [method, body] of [
    ['POST', null],
    ['PATCH', Buffer.from('ab')],
    ['PUT', new PassThrough().end('ab')],
  ] as const) {
    const setup = await setUp(t);
    const { upstream, send, clock, pool } = setup;
    const old = await exchangeOn(setup);
    clock.advance(501);
    const careful = send({ method, body });
    const fresh = await upstream.next();
    await fresh.until(body === null ? '\r\n\r\n' : Buffer.isBuffer(body) ? 'ab' : '0\r\n\r\n');
    fresh.write(EMPTY);
    t.match(await careful.over, { status: 200 }, method);
    t.equal(pool.stats.idle, 2, 'the old one stays for others');
    await answer(fresh, send({ method: 'POST' }));
    // Both are taken now: the second GET is content with the old one.
    const both = [send(), send()];
    await answer(fresh, both[0]);
    await answer(old, both[1]);
    t.equal(upstream.accepted.length, 2);
  }
});

t.test('at the limit of connections it takes the place of the old one', async (t) => {
  const setup = await setUp(t, { maxConnections: 1 });
  const old = await exchangeOn(setup);
  setup.clock.advance(501);
  const careful = setup.send({ method: 'POST' });
  await old.closed;
  await answer(await setup.upstream.next(), careful);
  t.equal(old.text, '');
  t.match(setup.pool.stats, { connections: 1, pending: 0 });
});

t.test('once it is known how long the upstream keeps them, an older connection is as good as any', async (t) => {
  const announced = await setUp(t);
  const kept = await exchangeOn(announced, `${OK}Keep-Alive: timeout=60\r\nContent-Length: 0\r\n\r\n`);
  t.equal(announced.pool.stats.upstreamIdleMs, 60_000);
  announced.clock.advance(30_000);
  await answer(kept, announced.send({ method: 'POST' }));
  const learned = await setUp(t);
  for (let round = 0; round < 2; round++) await idlesFor(learned, 20_000);
  const own = await exchangeOn(learned);
  learned.clock.advance(15_000);
  await answer(own, learned.send({ method: 'POST' }));
  t.equal(learned.upstream.accepted.length, 3);
});

t.test(
  'after ten minutes one connection is left to the upstream, unused, to see whether it still closes then',
  async (t) => {
    const setup = await setUp(t, { maxConnections: 3 });
    const { upstream, pool, clock } = setup;
    for (let round = 0; round < 2; round++) await idlesFor(setup, 5_000);
    clock.advance(10 * 60_000);
    const left = await exchangeOn(setup);
    clock.advance(4_900);
    t.equal(pool.stats.idle, 1);
    const recorder = setup.send();
    await answer(await upstream.next(), recorder);
    t.equal(left.text, '', 'no request was sent on it');
    clock.advance(100);
    left.socket.end();
    await left.closed;
    await settle();
    t.equal(pool.stats.upstreamIdleMs, 5_000);
    clock.advance(60_000);
    t.equal(pool.stats.idle, 0, 'confirmed: from here they are retired again');
    clock.advance(10 * 60_000);
    const outlives = await exchangeOn(setup);
    clock.advance(8_000);
    t.match(pool.stats, { idle: 1, upstreamIdleMs: null }, 'refuted: it is forgotten');
    await answer(outlives, setup.send());
  },
);

t.test('the connection that is left to the upstream gives way to a request', async (t) => {
  const setup = await setUp(t, { maxConnections: 1 });
  for (let round = 0; round < 2; round++) await idlesFor(setup, 5_000);
  setup.clock.advance(10 * 60_000);
  const left = await exchangeOn(setup);
  setup.clock.advance(4_900);
  const recorder = setup.send();
  await left.closed;
  await answer(await setup.upstream.next(), recorder);
  t.match(setup.pool.stats, { connections: 1, pending: 0 });
});

t.test('of whose request nothing was written goes once more, whatever its method', async (t) => {
  for (const body of [null, Buffer.from('ab'), Buffer.alloc(100_000, 'x')]) {
    const setup = await setUp(t);
    const stale = await exchangeOn(setup);
    // The reset has arrived and nobody has read it: the system refuses the write.
    stale.socket.resetAndDestroy();
    const recorder = setup.send({ method: 'POST', body });
    const fresh = await setup.upstream.next();
    await fresh.until(body === null ? '\r\n\r\n' : body.toString('latin1').slice(-2));
    fresh.write(EMPTY);
    t.match(await recorder.over, { status: 200, error: null, calls: ['request', 'start 200', 'end'] });
    t.equal(setup.pool.stats.resent, 1);
    t.equal(stale.text, '', 'it came once');
  }
});

t.test('a streamed body is not there any more, but it is said that nothing of the request was written', async (t) => {
  const setup = await setUp(t);
  const stale = await exchangeOn(setup);
  stale.socket.resetAndDestroy();
  const recorder = setup.send({ method: 'POST', body: new PassThrough().end('ab') });
  t.match((await recorder.over).error, { code: 'SLV_UPSTREAM_RESET', reused: true, unsent: true });
  t.equal(setup.pool.stats.resent, 0);
});

t.test('a closing that has arrived unread is met by the request, which then goes once more where it may', async (t) => {
  for (const [method, resent] of [
    ['GET', 1],
    ['POST', 0],
  ] as const) {
    const setup = await setUp(t);
    const stale = await exchangeOn(setup);
    stale.socket.end();
    const recorder = setup.send({ method });
    if (resent === 1) await answer(await setup.upstream.next(), recorder);
    else
      t.match((await doubtSettled(setup, recorder)).error, { code: 'SLV_UPSTREAM_RESET', reused: true, unsent: false });
    t.equal(setup.pool.stats.resent, resent);
    await settle();
    t.equal(setup.upstream.accepted.length, 1 + resent);
  }
});

t.test('a POST that came after the connection was closed was read by nobody, and goes once more', async (t) => {
  for (const [body, sent] of [
    [null, '\r\n\r\n'],
    [Buffer.from('ab'), 'ab'],
  ] as const) {
    const setup = await setUp(t);
    const stale = await exchangeOn(setup);
    // Unlike `end`, which leaves a process to read on: what comes now is answered by a reset.
    stale.socket.destroy();
    const recorder = setup.send({ method: 'POST', body });
    await settle();
    t.equal(recorder.calls.length, 1, 'it waits for the reset');
    setup.clock.advance(50);
    const fresh = await setup.upstream.next();
    await fresh.until(sent);
    fresh.write(EMPTY);
    t.match(await recorder.over, { status: 200, error: null });
    t.equal(setup.pool.stats.resent, 1);
    t.equal(stale.text, '', 'it came once');
  }
});

t.test('a streamed body that was read by nobody is handed back', async (t) => {
  for (const contentLength of [2, null]) {
    const setup = await setUp(t);
    const stale = await exchangeOn(setup);
    stale.socket.destroy();
    const recorder = setup.send({ method: 'POST', body: new PassThrough().end('ab'), contentLength });
    t.match((await doubtSettled(setup, recorder)).error, {
      code: 'SLV_UPSTREAM_RESET',
      reused: true,
      unsent: true,
      body: Buffer.from('ab'),
    });
  }
});

t.test('a streamed body of which more was sent meanwhile may have been read in part', async (t) => {
  const setup = await setUp(t);
  const stale = await exchangeOn(setup);
  stale.socket.destroy();
  const body = new PassThrough();
  body.write('ab');
  const recorder = setup.send({ method: 'POST', body });
  await settle();
  body.write('c');
  t.match((await doubtSettled(setup, recorder)).error, { code: 'SLV_UPSTREAM_RESET', reused: true, unsent: false });
});

t.test('what is larger than a segment may have been read in part, and does not go again', async (t) => {
  const setup = await setUp(t);
  const stale = await exchangeOn(setup);
  stale.socket.destroy();
  const recorder = setup.send({ method: 'POST', body: Buffer.alloc(2_000, 'x') });
  t.match((await recorder.over).error, { code: 'SLV_UPSTREAM_RESET', reused: true, unsent: false });
});

t.test('who leaves while it is in doubt is done with', async (t) => {
  const setup = await setUp(t);
  const stale = await exchangeOn(setup);
  stale.socket.destroy();
  const recorder = setup.send({ method: 'POST' });
  await settle();
  recorder.controller?.abort(new Error('left'));
  t.match((await recorder.over).error, { message: 'left' });
  setup.clock.advance(50);
  await settle();
  t.match(setup.pool.stats, { connections: 0, resent: 0 });
  t.equal(setup.upstream.accepted.length, 1);
});

t.test('an upload that waits for 100 Continue on a stale connection goes once more with its whole body', async (t) => {
  for (const [how, method] of [
    ['end', 'PUT'],
    ['resetAndDestroy', 'POST'],
  ] as const) {
    const setup = await setUp(t);
    const stale = await exchangeOn(setup);
    stale.socket[how]();
    const body = new PassThrough();
    const recorder = setup.send({ method, body, contentLength: 4, expectContinue: true });
    const fresh = await setup.upstream.next();
    await fresh.head();
    body.end('abcd');
    fresh.write('HTTP/1.1 100 Continue\r\n\r\n');
    t.equal(await fresh.until('abcd'), 'abcd', how);
    fresh.write(EMPTY);
    t.match(await recorder.over, { status: 200, error: null });
    t.equal(setup.wheel.waiting, 1, 'the sweep');
  }
});

t.test('what goes once more keeps to the bound of connections', async (t) => {
  const setup = await setUp(t, { maxConnections: 2, maxPending: 10 });
  const { upstream, send, pool } = setup;
  const first = [send(), send()];
  const connections = [await upstream.next(), await upstream.next()];
  for (const [i, connection] of connections.entries()) {
    await connection.head();
    connection.write(EMPTY);
    await first[i].over;
  }
  const recorders = Array.from({ length: 6 }, () => send());
  for (const connection of connections) connection.socket.end();
  await settle();
  t.equal(pool.stats.connections, 2);
  const served = [await upstream.next(), await upstream.next()];
  for (const connection of served) connection.socket.on('data', () => connection.write(EMPTY));
  for (const connection of served) if (connection.text !== '') connection.write(EMPTY);
  for (const recorder of recorders) t.match(await recorder.over, { status: 200, error: null });
  t.match(pool.stats, { connections: 2, resent: 2 });
  t.equal(upstream.accepted.length, 4);
});

t.test('nothing is written to a connection whose upstream has ended its side', async (t) => {
  const upstream = await RawUpstream.start(t, createServer({ allowHalfOpen: true }));
  const setup = await setUp(t, {}, upstream);
  const idle = await exchangeOn(setup);
  idle.socket.end();
  await idle.closed;
  t.match(setup.pool.stats, { connections: 0 });
  const post = setup.send({ method: 'POST' });
  await answer(await upstream.next(), post);
  t.equal(idle.text, '');
});

t.test('an end right behind the answer is met by whoever is sent next', async (t) => {
  for (const method of ['GET', 'POST']) {
    const setup = await setUp(t);
    const recorder = new Recorder();
    let next: Recorder | null = null;
    recorder.onResponseEnd = function (...facts) {
      next = setup.send({ method });
      Recorder.prototype.onResponseEnd.apply(this, facts);
    };
    setup.send({}, recorder);
    const connection = await setup.upstream.next();
    await connection.head();
    connection.socket.end(EMPTY);
    await recorder.over;
    const second = next as unknown as Recorder;
    if (method === 'GET') await answer(await setup.upstream.next(), second);
    await doubtSettled(setup, second);
    if (method === 'GET') t.match(second, { status: 200, error: null });
    else t.match(second.error, { code: 'SLV_UPSTREAM_RESET', reused: true });
  }
});

t.test('with TLS it is the same', async (t) => {
  const ca = new TestCa(t);
  const { cert, key } = ca.issue({ name: 'a', altNames: ['DNS:a.test'] });
  const server = createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) });
  const upstream = await RawUpstream.start(
    t,
    server.on('tlsClientError', () => undefined),
    'secureConnection',
  );
  const setup = await setUp(t, { tls: { ca: ca.pem, servername: 'a.test' } }, upstream);
  for (let round = 0; round < 2; round++) await idlesFor(setup, 5_000);
  t.match(setup.pool.stats, { connections: 0, upstreamIdleMs: 5_000 }, 'close_notify is a closing');
  setup.clock.advance(1_000);
  for (const [how, idleMs] of [
    ['end', 700],
    ['destroy', 1_700],
  ] as const) {
    const stale = await exchangeOn(setup);
    setup.clock.advance(idleMs);
    const recorder = setup.send();
    stale.socket[how]();
    await answer(await upstream.next(), recorder);
    t.match(recorder, { status: 200, error: null });
    setup.clock.advance(4_500);
  }
  t.equal(setup.pool.stats.resent, 2);
  const stale = await exchangeOn(setup);
  setup.clock.advance(3_000);
  const post = setup.send({ method: 'POST' });
  stale.socket.end();
  t.match((await post.over).error, { code: 'SLV_UPSTREAM_RESET', reused: true });
  const half = await exchangeOn(setup, `${OK}Connection: keep-alive\r\nContent-Length: 0\r\n\r\n`);
  half.socket.end();
  await half.closed;
  t.match(setup.pool.stats, { connections: 0 });
});
