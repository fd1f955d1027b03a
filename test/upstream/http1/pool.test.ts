// The connections behind the exchanges: how many, which one, for how long, what their ends mean, and that nothing is left behind.
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { createServer as createTlsServer, TLSSocket, type TlsOptions } from 'node:tls';
import t, { type Test } from 'tap';
import { TestCa } from '../../support/tls-fixture.ts';
import {
  type Accepted,
  doubtSettled,
  RawUpstream,
  Recorder,
  requestOf,
  type Setup,
  settle,
  setUp,
} from './raw-upstream.ts';

const OK = 'HTTP/1.1 200 OK\r\n';
const EMPTY = `${OK}Content-Length: 0\r\n\r\n`;

/** One whole exchange, which leaves its connection idle. */
async function exchangeOn({ upstream, send }: Setup, response = EMPTY): Promise<Accepted> {
  const recorder = send();
  const connection = await upstream.next();
  await connection.head();
  connection.write(response);
  await recorder.over;
  return connection;
}

t.test(
  'opens no more connections than allowed, queues no more requests than allowed, and serves them in their order',
  async (t) => {
    const { upstream, send, pool } = await setUp(t, { maxConnections: 2, maxPending: 2 });
    const recorders = ['/1', '/2', '/3', '/4'].map((path) => send({ path }));
    t.match(pool.stats, { connections: 2, idle: 0, active: 0, pending: 4 });
    const refused = await send({ path: '/5' }).over;
    t.match(refused.error, { code: 'SLV_POOL_FULL', unsent: true, statusCode: 503 });
    const connections = [await upstream.next(), await upstream.next()];
    for (const connection of connections) await connection.head();
    t.match(pool.stats, { connections: 2, active: 2, pending: 2 });
    connections[1].write(EMPTY);
    await recorders[1].over;
    t.match(await connections[1].head(), /^GET \/3 /);
    connections[1].write(EMPTY);
    t.match(await connections[1].head(), /^GET \/4 /);
    connections[0].write(EMPTY);
    connections[1].write(EMPTY);
    for (const recorder of recorders) t.match(await recorder.over, { status: 200, error: null });
    await settle();
    t.match(pool.stats, { connections: 2, idle: 2, active: 0, pending: 0 });
    t.equal(upstream.accepted.length, 2);
  },
);

t.test('prefers the connection that was used last', async (t) => {
  const setup = await setUp(t);
  const { upstream, send } = setup;
  const both = [send(), send()];
  const connections = [await upstream.next(), await upstream.next()];
  for (const connection of connections) await connection.head();
  connections[1].write(EMPTY);
  await both[1].over;
  connections[0].write(EMPTY);
  await both[0].over;
  for (let i = 0; i < 3; i++) {
    const recorder = send();
    await connections[0].head();
    connections[0].write(EMPTY);
    await recorder.over;
  }
  t.equal(connections[1].text, '');
});

t.test('idle connections are retired in time', async (t) => {
  for (const [response, idleTimeoutMs, staysMs, goneMs] of [
    [EMPTY, 60_000, 58_000, 60_100],
    [EMPTY, 100, 40, 150],
    [`${OK}Keep-Alive: timeout=5, max=100\r\nContent-Length: 0\r\n\r\n`, 60_000, 3_000, 4_100],
    [`${OK}Keep-Alive: timeout=600\r\nContent-Length: 0\r\n\r\n`, 10_000, 9_000, 10_100],
    [`${OK}Keep-Alive: max=100, timeout=2\r\nContent-Length: 0\r\n\r\n`, 0, 900, 1_050],
    [`${OK}Keep-Alive: timeout=1\r\nContent-Length: 0\r\n\r\n`, 60_000, 450, 550],
  ] as const) {
    const setup = await setUp(t, { idleTimeoutMs });
    const connection = await exchangeOn(setup, response);
    setup.clock.advance(staysMs);
    t.equal(setup.pool.stats.idle, 1, `still there after ${staysMs} ms`);
    setup.clock.advance(goneMs - staysMs);
    t.match(setup.pool.stats, { connections: 0, idle: 0 }, `gone after ${goneMs} ms`);
    await connection.closed;
    t.equal(setup.wheel.waiting, 0, 'no timer is left');
  }
  const atOnce = await setUp(t);
  await exchangeOn(atOnce, `${OK}Keep-Alive: timeout=0\r\nContent-Length: 0\r\n\r\n`);
  t.match(atOnce.pool.stats, { connections: 0 }, 'one that the upstream does not keep is not kept');
});

t.test('a connection serves once only when either side says so', async (t) => {
  for (const response of [
    `${OK}Connection: close\r\nContent-Length: 1\r\n\r\na`,
    'HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na',
    `${OK}Content-Length: 1\r\n\r\nab`,
    `${OK}Content-Length: 1\r\n\r\na${EMPTY}`,
    `${OK}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n\r\n`,
  ]) {
    const setup = await setUp(t);
    const recorder = setup.send();
    const connection = await setup.upstream.next();
    await connection.head();
    connection.write(response);
    t.match(await recorder.over, { status: 200, body: 'a', error: null }, 'the response stays good');
    t.match(setup.pool.stats, { connections: 0 });
    await connection.closed;
  }
});

t.test('what comes unasked on an idle connection ends it', async (t) => {
  const setup = await setUp(t);
  for (const unasked of [EMPTY, 'HTTP/1.1 408 Timeout\r\n\r\n', '\r\n']) {
    const connection = await exchangeOn(setup);
    connection.write(unasked);
    await connection.closed;
    t.match(setup.pool.stats, { connections: 0, idle: 0 });
  }
  const closedByUpstream = await exchangeOn(setup);
  closedByUpstream.socket.end();
  await closedByUpstream.closed;
  await settle();
  t.match(setup.pool.stats, { connections: 0, idle: 0 });
});

t.test('a body where none may be poisons nothing, even when it comes later', async (t) => {
  for (const [method, head] of [
    ['HEAD', `${OK}Content-Length: 5\r\n\r\n`],
    ['GET', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n'],
    ['GET', 'HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n'],
    ['GET', 'HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n'],
  ]) {
    for (const later of [false, true]) {
      const { upstream, send, pool } = await setUp(t, { maxConnections: 1 });
      const sloppy = send({ method });
      const connection = await upstream.next();
      await connection.head();
      connection.write(later ? head : `${head}hello`);
      t.match(await sloppy.over, { body: '', error: null });
      const next = send();
      if (later) connection.write('hello');
      await connection.closed;
      const fresh = await upstream.next();
      await fresh.head();
      fresh.write(`${OK}Content-Length: 2\r\n\r\nok`);
      t.match(await next.over, { status: 200, body: 'ok' }, `${method} ${head.slice(9, 12)}`);
      t.match(pool.stats, { connections: 1 });
    }
  }
});

t.test('a connection rests for a moment after an announced body that did not come, then serves on', async (t) => {
  const { upstream, send, pool, clock } = await setUp(t, { maxConnections: 1 });
  const first = send({ method: 'HEAD' });
  const connection = await upstream.next();
  await connection.head();
  connection.write(`${OK}Content-Length: 5\r\n\r\n`);
  await first.over;
  t.match(pool.stats, { connections: 1, idle: 0, active: 0 });
  const waiting = send();
  clock.advance(200);
  await connection.head();
  connection.write(EMPTY);
  t.match(await waiting.over, { status: 200 });
  t.equal(upstream.accepted.length, 1);
});

t.test('what dies on a reused connection ahead of any answer goes once more, when that is safe', async (t) => {
  for (const [options, resent] of [
    [{ method: 'GET' }, true],
    [{ method: 'PUT', body: Buffer.from('ab') }, true],
    [{ method: 'POST' }, false],
    [{ method: 'POST', body: Buffer.from('ab') }, false],
    [{ method: 'PATCH', body: Buffer.from('ab') }, false],
  ] as [Partial<ReturnType<typeof requestOf>>, boolean][]) {
    for (const how of ['end', 'resetAndDestroy'] as const) {
      const setup = await setUp(t);
      const stale = await exchangeOn(setup);
      const recorder = setup.send(options);
      stale.socket[how]();
      if (resent) {
        const fresh = await setup.upstream.next();
        await fresh.until(options.body ? 'ab' : '\r\n\r\n');
        fresh.write(EMPTY);
        t.match(await recorder.over, { status: 200, error: null, calls: ['request', 'start 200', 'end'] });
      } else {
        t.match((await doubtSettled(setup, recorder)).error, {
          code: 'SLV_UPSTREAM_RESET',
          reused: true,
          unsent: false,
        });
        await settle();
        t.equal(setup.upstream.accepted.length, 1);
      }
    }
  }
});

t.test('it goes once more only once, only on a fresh connection, and never after a byte of the answer', async (t) => {
  const setup = await setUp(t);
  const stale = await exchangeOn(setup);
  const recorder = setup.send();
  stale.socket.end();
  const fresh = await setup.upstream.next();
  await fresh.head();
  fresh.socket.end();
  t.match((await recorder.over).error, { code: 'SLV_UPSTREAM_RESET', reused: false });
  const again = await exchangeOn(setup);
  const answered = setup.send();
  await again.head();
  again.socket.end('H');
  t.match((await answered.over).error, { code: 'SLV_UPSTREAM_RESET', reused: false });
  const streamed = await exchangeOn(setup);
  const body = new PassThrough();
  const put = setup.send({ method: 'PUT', body });
  body.write('abc');
  await streamed.until('abc');
  streamed.socket.end();
  t.match((await doubtSettled(setup, put)).error, { code: 'SLV_UPSTREAM_RESET', reused: true });
  t.equal(setup.upstream.accepted.length, 4);
});

t.test('an upstream that closes after every answer loses no request', async (t) => {
  const upstream = await RawUpstream.start(t);
  upstream.server.on('connection', (socket) => {
    let served = 0;
    socket.on('data', () => {
      served += 1;
      socket.write(EMPTY);
      // As idle closing does: at any moment around the next request.
      if (served === 2) socket.destroySoon();
    });
  });
  const { send, pool } = await setUp(t, { maxConnections: 8, maxPending: 100 }, upstream);
  let failed = 0;
  for (let round = 0; round < 60; round++) {
    const burst = await Promise.all(Array.from({ length: 8 }, () => send().over));
    failed += burst.filter(({ error, status }) => error !== null || status !== 200).length;
  }
  t.equal(failed, 0);
  t.match(pool.stats, { active: 0, pending: 0 });
});

t.test('names what went wrong on the way to the endpoint', async (t) => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  const { port } = taken.address() as { port: number };
  await new Promise((resolve) => taken.close(resolve));
  for (const [options, code] of [
    [{ port }, 'SLV_UPSTREAM_REFUSED'],
    [{ host: 'localhost', port }, 'SLV_UPSTREAM_REFUSED'],
    [{ host: 'no-such-host.invalid' }, 'SLV_UPSTREAM_DNS'],
    [{ port: 70_000 }, 'SLV_UPSTREAM_RESET'],
  ] as const) {
    const { send, pool, wheel } = await setUp(t, options);
    t.match((await send().over).error, { code, unsent: true, cause: Error }, JSON.stringify(options));
    t.match(pool.stats, { connections: 0, idle: 0, active: 0, pending: 0 });
    t.equal(wheel.waiting, 0);
  }
});

t.test('a burst on an endpoint that refuses fails wholly and at once', async (t) => {
  const { send, pool } = await setUp(t, { port: 1, maxConnections: 2, maxPending: 100 });
  const burst = await Promise.all(Array.from({ length: 102 }, () => send().over));
  t.equal(burst.filter(({ error }) => error?.code === 'SLV_UPSTREAM_REFUSED' && error.unsent).length, 102);
  t.match(pool.stats, { connections: 0, idle: 0, active: 0, pending: 0 });
});

t.test('connecting has a limit that covers TCP and TLS', async (t) => {
  // It accepts and says nothing, so TLS never comes to stand.
  const { send, pool, clock, upstream, wheel } = await setUp(t, { tls: {}, connectTimeoutMs: 1_000 });
  const recorders = [send(), send(), send()];
  const connection = await upstream.next();
  clock.advance(900);
  await settle();
  t.match(pool.stats, { connections: 2, pending: 3 });
  clock.advance(200);
  for (const recorder of recorders) {
    t.match((await recorder.over).error, { code: 'SLV_CONNECT_TIMEOUT', unsent: true, statusCode: 504 });
  }
  await connection.closed;
  t.match(pool.stats, { connections: 0, idle: 0, active: 0, pending: 0 });
  t.equal(wheel.waiting, 0);
});

t.test('aborting frees what the request holds, in every phase, and tells the reason once', async (t) => {
  const reason = new Error('the client left');
  const expectAborted = async (t: Test, recorder: Recorder) => {
    recorder.controller?.abort(reason);
    recorder.controller?.abort(new Error('again'));
    t.equal(recorder.error, reason, 'at once');
    t.match(recorder.controller, { aborted: true, reason });
    await settle();
    t.equal(recorder.calls.filter((call) => call === 'error').length, 1);
    t.notOk(recorder.calls.includes('end'));
  };

  t.test('from within onRequestStart', async (t) => {
    const { pool, upstream } = await setUp(t);
    const recorder = new Recorder();
    recorder.onRequestStart = function (controller) {
      Recorder.prototype.onRequestStart.call(this, controller);
      controller.abort(reason);
    };
    pool.dispatch(requestOf(), recorder);
    await expectAborted(t, recorder);
    t.match(pool.stats, { connections: 0, pending: 0 });
    t.equal(upstream.accepted.length, 0);
  });

  t.test('connecting', async (t) => {
    const { pool, send, wheel } = await setUp(t, { tls: {} });
    const recorder = send();
    t.match(pool.stats, { connections: 1, pending: 1 });
    await expectAborted(t, recorder);
    t.match(pool.stats, { connections: 0, pending: 0 });
    t.equal(wheel.waiting, 0);
  });

  t.test('queued', async (t) => {
    const { pool, send, upstream } = await setUp(t, { maxConnections: 1, maxPending: 3 });
    const [first, second, third, fourth] = [
      send({ path: '/1' }),
      send({ path: '/2' }),
      send({ path: '/3' }),
      send({ path: '/4' }),
    ];
    const connection = await upstream.next();
    await connection.head();
    await expectAborted(t, third);
    t.match(pool.stats, { connections: 1, pending: 2 });
    connection.write(EMPTY);
    t.match(await connection.head(), /^GET \/2 /);
    connection.write(EMPTY);
    t.match(await connection.head(), /^GET \/4 /);
    connection.write(EMPTY);
    for (const recorder of [first, second, fourth]) t.match(await recorder.over, { status: 200 });
  });

  t.test('sending the body', async (t) => {
    const { pool, send, upstream } = await setUp(t);
    const body = new PassThrough();
    const recorder = send({ method: 'POST', body });
    body.write('abc');
    const connection = await upstream.next();
    await connection.until('abc');
    await expectAborted(t, recorder);
    await connection.closed;
    t.match(pool.stats, { connections: 0 });
    t.notOk(body.destroyed);
    t.equal(body.listenerCount('data') + body.listenerCount('end') + body.listenerCount('close'), 0);
  });

  t.test('waiting for 100 Continue', async (t) => {
    const { send, upstream, wheel } = await setUp(t);
    const recorder = send({ method: 'POST', body: Buffer.from('a'), expectContinue: true });
    const connection = await upstream.next();
    await connection.head();
    await expectAborted(t, recorder);
    await connection.closed;
    t.equal(wheel.waiting, 0);
  });

  t.test('waiting for the answer', async (t) => {
    const { send, upstream, pool } = await setUp(t, { maxConnections: 1 });
    const recorder = send();
    const waiting = send();
    const connection = await upstream.next();
    await connection.head();
    await expectAborted(t, recorder);
    await connection.closed;
    const next = await upstream.next();
    await next.head();
    next.write(EMPTY);
    t.match(await waiting.over, { status: 200 }, 'and the next in the queue gets its turn');
    t.match(pool.stats, { connections: 1, idle: 1 });
  });

  for (const call of ['onResponseStart', 'onResponseData'] as const) {
    t.test(`from within ${call}`, async (t) => {
      const { send, upstream, pool } = await setUp(t);
      const recorder = new Recorder();
      const tell = recorder[call].bind(recorder) as (...facts: unknown[]) => void;
      recorder[call] = (...facts: unknown[]) => {
        tell(...facts);
        recorder.controller?.abort(reason);
      };
      send({}, recorder);
      const connection = await upstream.next();
      await connection.head();
      connection.write(`${OK}Content-Length: 3\r\n\r\nabc`);
      await recorder.over;
      await expectAborted(t, recorder);
      await connection.closed;
      t.equal(recorder.body, call === 'onResponseData' ? 'abc' : '');
      t.match(pool.stats, { connections: 0 });
    });
  }

  t.test('streaming, while paused', async (t) => {
    const { send, upstream } = await setUp(t);
    const recorder = send();
    const connection = await upstream.next();
    await connection.head();
    connection.write(`${OK}Content-Length: 9\r\n\r\nabc`);
    await recorder.started;
    recorder.controller?.pause();
    connection.write('def');
    await settle();
    await expectAborted(t, recorder);
    await connection.closed;
    recorder.controller?.resume();
    await settle();
    t.equal(recorder.body, 'abc');
  });

  t.test('after the end it does nothing', async (t) => {
    const setup = await setUp(t);
    const recorder = setup.send();
    const connection = await setup.upstream.next();
    await connection.head();
    connection.write(EMPTY);
    await recorder.over;
    recorder.controller?.abort(reason);
    recorder.controller?.pause();
    t.notOk(recorder.controller?.aborted);
    t.equal(recorder.error, null);
    t.match(setup.pool.stats, { idle: 1 });
  });
});

t.test('a body that fails while its request waits for a connection takes the request with it', async (t) => {
  const { send, pool } = await setUp(t, { tls: {}, maxConnections: 1 });
  const [dialing, queued] = [new PassThrough(), new PassThrough()];
  const recorders = [send({ method: 'POST', body: dialing }), send({ method: 'POST', body: queued })];
  queued.destroy(new Error('gone'));
  dialing.destroy();
  for (const recorder of recorders) t.match((await recorder.over).error, { code: 'SLV_CLIENT_ABORTED' });
  t.match(pool.stats, { connections: 0, pending: 0 });
});

t.test('an upgrade takes a connection of its own, in its turn when all are taken', async (t) => {
  const { upstream, send, pool } = await setUp(t, { maxConnections: 1 });
  const first = send();
  const upgrade = send({ upgrade: 'websocket' });
  t.match(pool.stats, { connections: 1, pending: 2 });
  const connection = await upstream.next();
  await connection.head();
  connection.write(EMPTY);
  await first.over;
  await connection.closed;
  const own = await upstream.next();
  t.match(await own.head(), 'upgrade: websocket');
  own.write('HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n');
  const { socket } = await upgrade.over;
  t.match(pool.stats, { connections: 0, pending: 0 });
  const idle = await exchangeOn({ upstream, send, pool } as Setup);
  const second = send({ upgrade: 'websocket' });
  await idle.closed;
  const another = await upstream.next();
  await another.head();
  second.controller?.abort(new Error('enough'));
  await another.closed;
  socket?.destroy();
  await own.closed;
});

t.test('close lets what was taken finish, and takes no more', async (t) => {
  const setup = await setUp(t, { maxConnections: 1 });
  const { upstream, send, pool, wheel } = setup;
  const first = send();
  const queued = send();
  const connection = await upstream.next();
  await connection.head();
  let closed = false;
  const closing = pool.close().then(() => {
    closed = true;
  });
  t.match((await send().over).error, { code: 'SLV_UPSTREAM_RESET', unsent: true });
  connection.write(EMPTY);
  t.match(await first.over, { status: 200 });
  await connection.head();
  t.notOk(closed);
  connection.write(EMPTY);
  t.match(await queued.over, { status: 200 });
  await closing;
  await connection.closed;
  t.equal(wheel.waiting, 0);
  await pool.close();
  const idle = await setUp(t);
  const kept = await exchangeOn(idle);
  await idle.pool.close();
  await kept.closed;
  t.equal(idle.wheel.waiting, 0);
});

t.test('destroy fails everything at once, with the reason', async (t) => {
  const { upstream, send, pool, wheel } = await setUp(t, { maxConnections: 2 });
  const active = send();
  const connection = await upstream.next();
  await connection.head();
  const dialing = send();
  const queued = send();
  const reason = new Error('drained');
  pool.destroy(reason);
  for (const { error } of [active, dialing, queued]) t.equal(error, reason);
  t.match(pool.stats, { connections: 0, idle: 0, active: 0, pending: 0 });
  t.equal(wheel.waiting, 0);
  await connection.closed;
  await pool.close();
});

t.test('TLS', async (t) => {
  const ca = new TestCa(t);
  const { cert, key } = ca.issue({ name: 'a', altNames: ['DNS:a.test'] });
  const server = { cert: readFileSync(cert), key: readFileSync(key) };
  const start = (t: Test, options: TlsOptions = {}) =>
    RawUpstream.start(
      t,
      createTlsServer({ ...server, ...options }).on('tlsClientError', () => undefined),
      'secureConnection',
    );

  t.test('a request whose own connection is still being opened takes one that is free sooner', async (t) => {
    const front = await RawUpstream.start(t);
    const behind = new RawUpstream(createTlsServer(server), 'secureConnection');
    // The second connection never gets beyond TCP.
    front.server.once('connection', (socket) => behind.server.emit('connection', socket));
    const { send, pool } = await setUp(t, { tls: { ca: ca.pem, servername: 'a.test' } }, front);
    const first = send();
    const connection = await behind.next();
    await connection.head();
    const second = send();
    const third = send();
    t.match(pool.stats, { connections: 2, active: 1, pending: 2 });
    for (const recorder of [first, second, third]) {
      connection.write(EMPTY);
      t.match(await recorder.over, { status: 200 });
      if (recorder !== third) await connection.head();
    }
    t.match(pool.stats, { connections: 2, idle: 1, active: 0, pending: 0 });
  });

  t.test('verifies chain and name, and says what does not hold', async (t) => {
    const upstream = await start(t);
    for (const [tls, cause] of [
      [{ servername: 'a.test' }, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'],
      [{ servername: 'b.test', ca: ca.pem }, 'ERR_TLS_CERT_ALTNAME_INVALID'],
      [{ ca: ca.pem }, 'ERR_TLS_CERT_ALTNAME_INVALID'],
      [{ ca: 'no certificate', servername: 'a.test' }, undefined],
    ] as const) {
      const { send, pool } = await setUp(t, { tls }, upstream);
      const { error } = await send().over;
      t.match(error, { code: 'SLV_UPSTREAM_TLS', unsent: true }, String(cause));
      if (cause !== undefined) t.match(error, { cause: { code: cause } });
      t.match(pool.stats, { connections: 0, pending: 0 });
    }
    t.ok(
      upstream.accepted.every(({ text }) => text === ''),
      'nothing was sent',
    );
  });

  t.test('a connection counts as opened once TLS stands', async (t) => {
    const upstream = await start(t);
    let opened = 0;
    const onOpened = (): void => {
      opened += 1;
    };
    const stranger = await setUp(t, { tls: { servername: 'a.test' }, onOpened }, upstream);
    t.match((await stranger.send().over).error, { code: 'SLV_UPSTREAM_TLS' });
    t.equal(opened, 0);
    const known = await setUp(t, { tls: { ca: ca.pem, servername: 'a.test' }, onOpened }, upstream);
    const connection = await exchangeOn(known);
    t.equal(opened, 1);
    const again = known.send();
    await connection.head();
    connection.write(EMPTY);
    t.match(await again.over, { status: 200 });
    t.equal(opened, 1);
  });

  t.test('a peer that speaks no TLS is a TLS failure', async (t) => {
    const upstream = await RawUpstream.start(t);
    upstream.server.on('connection', (socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    const { send } = await setUp(t, { tls: {} }, upstream);
    t.match((await send().over).error, { code: 'SLV_UPSTREAM_TLS', unsent: true });
    const silent = await RawUpstream.start(t);
    silent.server.on('connection', (socket) => socket.end());
    const other = await setUp(t, { tls: {} }, silent);
    t.match((await other.send().over).error, { code: 'SLV_UPSTREAM_TLS', unsent: true });
  });

  t.test('a client certificate that is missing is a TLS failure', async (t) => {
    const upstream = await start(t, { requestCert: true, ca: ca.pem });
    const { send } = await setUp(t, { tls: { ca: ca.pem, servername: 'a.test' } }, upstream);
    t.match((await send().over).error, { code: 'SLV_UPSTREAM_TLS' });
    const own = ca.issue({ name: 'client' });
    const identity = { cert: readFileSync(own.cert), key: readFileSync(own.key) };
    const allowed = await setUp(t, { tls: { ca: ca.pem, servername: 'a.test', ...identity } }, upstream);
    const recorder = allowed.send();
    const connection = await upstream.next();
    await connection.head();
    connection.write(EMPTY);
    t.match(await recorder.over, { status: 200 });
  });

  t.test('an answer that comes before the write of its request is reported done costs no connection', async (t) => {
    const upstream = await start(t);
    const setup = await setUp(t, { tls: { ca: ca.pem, servername: 'a.test' } }, upstream);
    const { send, pool, clock } = setup;
    const connection = await exchangeOn(setup);
    const answer = async (recorder: Recorder, end = '\r\n\r\n'): Promise<void> => {
      await connection.until(end);
      connection.write(EMPTY);
      t.match(await recorder.over, { status: 200, error: null });
    };
    let unreported = 64;
    Object.defineProperty(TLSSocket.prototype, 'writableLength', { get: () => unreported, configurable: true });
    t.teardown(() => Reflect.deleteProperty(TLSSocket.prototype, 'writableLength'));
    for (let n = 0; n < 3; n++) await answer(send());
    t.match(pool.stats, { connections: 1, idle: 1 });

    await answer(send({ method: 'POST', body: Buffer.from('x') }), 'x');
    await settle();
    t.match(pool.stats, { connections: 1, idle: 0 }, 'part of a body may be on its way still');
    unreported = 0;
    clock.advance(100);
    t.match(pool.stats, { connections: 1, idle: 1 });

    unreported = 64;
    await answer(send({ method: 'POST', body: Buffer.from('x') }), 'x');
    await settle();
    clock.advance(100);
    t.match(pool.stats, { connections: 0 }, 'and one that is stuck ends the connection');
    t.equal(upstream.accepted.length, 1);
  });

  t.test('carries bodies both ways and resumes its session', async (t) => {
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const upstream = await start(t, { maxVersion });
      const { send, pool } = await setUp(t, { tls: { ca: ca.pem, servername: 'a.test' } }, upstream);
      const large = Array.from({ length: 50_000 }, (_, i) => String(i).padStart(6)).join('');
      for (const resumed of [false, true]) {
        const body = new PassThrough();
        const recorder = send({ method: 'POST', body });
        const connection = await upstream.next();
        body.write(large);
        body.end();
        await connection.until('0\r\n\r\n');
        t.equal((connection.socket as import('node:tls').TLSSocket).isSessionReused(), resumed, maxVersion);
        let paused = 0;
        recorder.onResponseData = function (controller, chunk) {
          if (controller.paused) t.fail('data while paused');
          Recorder.prototype.onResponseData.call(this, controller, chunk);
          if (++paused % 3 !== 0) return;
          controller.pause();
          setImmediate(() => controller.resume());
        };
        connection.write(`${OK}Connection: close\r\nContent-Length: ${large.length}\r\n\r\n${large}`);
        const { body: received, error } = await recorder.over;
        t.equal(error, null);
        t.ok(received === large, 'all of it');
        await connection.closed;
      }
      t.match(pool.stats, { connections: 0 });
    }
  });

  t.test(
    'another identity resumes no session of the one before, not even one whose handshake ends later',
    async (t) => {
      const upstream = await start(t, { requestCert: true, ca: ca.pem });
      // The first connection reaches TLS when the second has been served.
      const held: Socket[] = [];
      const front = createServer({ pauseOnConnect: true }, (socket) => {
        if (held.push(socket) > 1) upstream.server.emit('connection', socket);
      });
      await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
      t.teardown(() => front.close());
      const own = ['old', 'new'].map((name) => ca.issue({ name }));
      let version = 1;
      const identity = {
        version: () => version,
        options: () => {
          const { cert, key } = own[version - 1];
          return { ca: ca.pem, servername: 'a.test', cert: readFileSync(cert), key: readFileSync(key) };
        },
      };
      const { port } = front.address() as AddressInfo;
      const { send } = await setUp(t, { identity, port }, upstream);
      const serve = async (recorder: Recorder): Promise<string> => {
        const connection = await upstream.next();
        await connection.head();
        connection.write(`${OK}Connection: close\r\nContent-Length: 0\r\n\r\n`);
        await recorder.over;
        return (connection.socket as TLSSocket).getPeerX509Certificate()?.subject ?? '';
      };
      const first = send({ upgrade: 'websocket' });
      version = 2;
      t.match(await serve(send()), /CN=new/);
      upstream.server.emit('connection', held[0]);
      t.match(await serve(first), /CN=old/);
      t.match(await serve(send()), /CN=new/);
    },
  );

  t.test('a session that is refused after the handshake is not resumed again', async (t) => {
    const upstream = await start(t);
    const { send } = await setUp(t, { tls: { ca: ca.pem, servername: 'a.test' } }, upstream);
    const next = async (): Promise<[Accepted, boolean]> => {
      const connection = await upstream.next();
      await connection.head();
      return [connection, (connection.socket as TLSSocket).isSessionReused()];
    };
    const good = send();
    const [first] = await next();
    first.write(`${OK}Connection: close\r\nContent-Length: 0\r\n\r\n`);
    await good.over;
    const refused = send();
    const [second, resumed] = await next();
    t.ok(resumed);
    second.socket.destroy();
    t.match((await refused.over).error, { code: 'SLV_UPSTREAM_RESET' });
    send();
    t.notOk((await next())[1]);
  });

  t.test('hands over the socket of an upgrade', async (t) => {
    const upstream = await start(t);
    const { send } = await setUp(t, { tls: { ca: ca.pem, servername: 'a.test' } }, upstream);
    const recorder = send({ upgrade: 'websocket' });
    const connection = await upstream.next();
    await connection.head();
    connection.write('HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\nfirst');
    const { socket, rest } = await recorder.over;
    t.equal(rest, 'first');
    connection.write('second');
    t.equal(
      await new Promise((resolve) => socket?.once('data', (chunk: Buffer) => resolve(chunk.toString()))),
      'second',
    );
    socket?.end('back');
    await connection.until('back');
  });
});

t.test('after a thousand exchanges of every kind nothing is left', async (t) => {
  const upstream = await RawUpstream.start(t);
  const answers = [
    EMPTY,
    `${OK}Content-Length: 3\r\n\r\nabc`,
    `${OK}Connection: close\r\nContent-Length: 0\r\n\r\n`,
    'garbage\r\n',
    `${OK}Content-Length: 9\r\n\r\nabc`,
    `${OK}\r\nabc`,
    '',
  ];
  let served = 0;
  upstream.server.on('connection', (socket) => {
    socket.on('error', () => undefined);
    socket.on('data', () => {
      const answer = answers[served++ % answers.length];
      socket.write(answer);
      if (!answer.includes('Content-Length: 0') && !answer.endsWith('3\r\n\r\nabc')) socket.end();
    });
  });
  const { pool, send, clock, wheel } = await setUp(t, { maxConnections: 16, maxPending: 200 }, upstream);
  let over = 0;
  for (let round = 0; round < 10; round++) {
    const recorders = Array.from({ length: 100 }, (_, i) => {
      const body = i % 5 === 0 ? new PassThrough() : null;
      const recorder = send({ method: body === null ? 'GET' : 'POST', body });
      body?.end('abc');
      if (i % 7 === 0) setImmediate(() => recorder.controller?.abort(new Error('left')));
      return recorder;
    });
    for (const recorder of recorders) {
      const { calls } = await doubtSettled({ clock }, recorder);
      if (calls.filter((call) => call === 'end' || call === 'error').length === 1) over += 1;
    }
  }
  t.equal(over, 1000, 'each ended exactly once');
  clock.advance(61_000);
  t.match(pool.stats, { connections: 0, idle: 0, active: 0, pending: 0 });
  t.equal(wheel.waiting, 0);
  await settle();
  const open = await new Promise((resolve) => upstream.server.getConnections((_, count) => resolve(count)));
  t.equal(open, 0, 'no socket is open');
});
