// One request and its response on the wire, byte for byte: heads, bodies, trailers, interim responses, upgrades, what goes wrong.
import { createServer as createHttpServer, request as httpRequest } from 'node:http';
import { createServer } from 'node:net';
import { PassThrough, Readable } from 'node:stream';
import t from 'tap';
import { type Accepted, RawUpstream, Recorder, requestOf, settle, setUp } from './raw-upstream.ts';

const OK = 'HTTP/1.1 200 OK\r\n';
const EMPTY = `${OK}Content-Length: 0\r\n\r\n`;

t.test('writes exactly the head that it is given, and the framing that the body needs', async (t) => {
  const { upstream, send } = await setUp(t);
  const cases: [Parameters<typeof send>[0], string][] = [
    [
      { headers: ['Host', 'b.test', 'X-A', 'ä', 'x-a', ''] },
      'GET / HTTP/1.1\r\nHost: b.test\r\nX-A: \xe4\r\nx-a: \r\n\r\n',
    ],
    [{ headers: [] }, `GET / HTTP/1.1\r\nhost: 127.0.0.1:${upstream.port}\r\n\r\n`],
    [{ method: 'DELETE' }, 'DELETE / HTTP/1.1\r\nhost: a.test\r\n\r\n'],
    [{ method: 'POST' }, 'POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 0\r\n\r\n'],
    [
      { method: 'PATCH', body: Buffer.from('ab\r\n\r\n') },
      'PATCH / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 6\r\n\r\nab\r\n\r\n',
    ],
    [
      { method: 'PUT', body: Readable.from([Buffer.from('ab'), Buffer.from('\r\n\r\n')]), contentLength: 6 },
      'PUT / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 6\r\n\r\nab\r\n\r\n',
    ],
    [
      { method: 'POST', body: Readable.from([Buffer.from('ab'), Buffer.alloc(0), Buffer.from('0123456789')]) },
      'POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\na\r\n0123456789\r\n0\r\n\r\n',
    ],
    [
      { method: 'POST', body: Readable.from([]) },
      'POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    [
      {
        headers: [
          'host',
          'a.test',
          'Content-Length',
          '9',
          'transfer-encoding',
          'gzip',
          'Connection',
          'x',
          'Expect',
          'x',
          'te',
          'trailers',
        ],
      },
      'GET / HTTP/1.1\r\nhost: a.test\r\nte: trailers\r\nconnection: te\r\n\r\n',
    ],
  ];
  let connection: Accepted | null = null;
  for (const [options, expected] of cases) {
    const recorder = send(options);
    connection ??= await upstream.next();
    t.equal(await connection.head(), expected);
    connection.write(EMPTY);
    t.match(await recorder.over, { status: 200, error: null, calls: ['request', 'start 200', 'end'] });
  }
  t.equal(upstream.accepted.length, 1, 'on one connection');
});

t.test('refuses to write what would not stay one request', async (t) => {
  const { upstream, send, pool } = await setUp(t);
  for (const options of [
    { method: '' },
    { method: 'GE T' },
    { method: 'GET\r\n' },
    { path: '' },
    { path: '/a b' },
    { path: '/\r\nx: y' },
    { path: '/\0' },
    { path: '/\u010a' },
    { headers: ['x', 'a\r\nb: c'] },
    { headers: ['x', 'a\nb'] },
    { headers: ['x', 'a\rb'] },
    { headers: ['x', 'a\0b'] },
    { headers: ['x', 'a\u010ab'] },
    { headers: ['x\r\ny', 'a'] },
    { headers: ['', 'a'] },
    { headers: ['host', 'a', 'Host', 'b'] },
    { upgrade: 'a\r\nb: c' },
    { body: 'text' as never },
    { body: Readable.from([]), contentLength: -1 },
    { body: Readable.from([]), contentLength: 1.5 },
  ]) {
    const { error, calls } = await send(options).over;
    t.match(error, { code: 'SLV_BAD_REQUEST', unsent: true }, JSON.stringify(options));
    t.same(calls, ['error']);
  }
  t.match(pool.stats, { connections: 0, pending: 0 });
  t.equal(upstream.accepted.length, 0);
});

t.test('gives a small response in one tick, with names in lower case and repeats as a list', async (t) => {
  const { upstream, send } = await setUp(t);
  const recorder = send();
  const connection = await upstream.next();
  await connection.head();
  let ticks = 0;
  recorder.onResponseStart = function (...args) {
    Recorder.prototype.onResponseStart.apply(this, args);
    process.nextTick(() => {
      ticks += 1;
    });
  };
  recorder.onResponseEnd = function (...args) {
    t.equal(ticks, 0);
    Recorder.prototype.onResponseEnd.apply(this, args);
  };
  connection.write(
    `${OK}Set-Cookie: a\r\nSET-COOKIE: b\r\nset-cookie: c\r\nX-A: 1\r\n__proto__: d\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: t\r\n\r\n`,
  );
  const { headers, trailers, body, controller } = await recorder.over;
  t.same(
    { ...headers },
    { 'set-cookie': ['a', 'b', 'c'], 'x-a': '1', ['__proto__']: 'd', 'transfer-encoding': 'chunked' },
  );
  t.same(controller?.rawHeaders?.slice(0, 4), ['Set-Cookie', 'a', 'SET-COOKIE', 'b']);
  t.same({ ...trailers }, { 'x-t': 't' });
  t.same(controller?.rawTrailers, ['X-T', 't']);
  t.equal(body, 'a');
});

t.test('gives only raw lines when nobody looks at the object', async (t) => {
  const { upstream, send } = await setUp(t);
  const recorder = send({ rawOnly: true });
  const connection = await upstream.next();
  await connection.head();
  connection.write(`${OK}X-A: 1\r\nContent-Length: 0\r\n\r\n`);
  const { headers, controller } = await recorder.over;
  t.same(headers, {});
  t.ok(Object.isFrozen(headers));
  t.same(controller?.rawHeaders, ['X-A', '1', 'Content-Length', '0']);
});

t.test('passes trailers of the request on, without the names that must not be one', async (t) => {
  const { upstream, send } = await setUp(t);
  const proxy = createHttpServer((request, response) => {
    send({ method: 'POST', body: request }).over.then(() => response.end());
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  t.teardown(() => proxy.close());
  const client = httpRequest({ port: (proxy.address() as { port: number }).port, method: 'POST', agent: false });
  client.setHeader('trailer', 'x-sum');
  client.write('abc');
  client.addTrailers({ 'X-Sum': '1', Authorization: 'x', Host: 'b.test' });
  client.end();
  const connection = await upstream.next();
  t.match(await connection.until('0\r\nX-Sum: 1\r\n\r\n'), /\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n$/);
  connection.write(EMPTY);
  await new Promise((resolve) => client.once('response', (response) => response.resume().once('end', resolve)));
});

t.test('a streamed body that is not as long as declared breaks the request off', async (t) => {
  for (const [chunks, contentLength] of [
    [['abc'], 4],
    [['abc', 'de'], 4],
    [[], 1],
    [['a'], 0],
  ] as [string[], number][]) {
    const { upstream, send } = await setUp(t);
    const recorder = send({
      method: 'POST',
      body: Readable.from(chunks.map((chunk) => Buffer.from(chunk))),
      contentLength,
    });
    const connection = await upstream.next();
    t.match((await recorder.over).error, { code: 'SLV_BAD_REQUEST', unsent: false });
    await connection.closed;
    t.ok((connection.text.split('\r\n\r\n')[1] ?? '').length <= contentLength, 'never more than declared on the wire');
  }
});

t.test('a body that fails breaks the request off, with the reason that it gives', async (t) => {
  const { upstream, send } = await setUp(t);
  const own = new PassThrough();
  const first = send({ method: 'POST', body: own });
  const connection = await upstream.next();
  await connection.head();
  own.destroy(Object.assign(new Error('too large'), { code: 'SLV_BODY_TOO_LARGE' }));
  t.match((await first.over).error, { code: 'SLV_BODY_TOO_LARGE' });
  await connection.closed;
  const foreign = new PassThrough();
  const second = send({ method: 'POST', body: foreign });
  foreign.destroy(new Error('gone'));
  t.match((await second.over).error, { code: 'SLV_CLIENT_ABORTED', cause: { message: 'gone' } });
  const closed = new PassThrough();
  closed.destroy();
  t.match((await send({ method: 'POST', body: closed }).over).error, { code: 'SLV_CLIENT_ABORTED' });
});

t.test('waits for 100 Continue before it sends the body, and passes the 100 on', async (t) => {
  const { upstream, send } = await setUp(t);
  for (const body of [Buffer.from('abc'), Readable.from([Buffer.from('abc')])]) {
    const recorder = send({ method: 'POST', body, contentLength: 3, expectContinue: true });
    const connection = upstream.accepted[0] ?? (await upstream.next());
    t.match(await connection.head(), 'content-length: 3\r\nexpect: 100-continue\r\n');
    await settle();
    t.equal(connection.text, '');
    connection.write('HTTP/1.1 103 Early Hints\r\n\r\n');
    await recorder.started;
    await settle();
    t.equal(connection.text, '', 'no other interim response lets the body go');
    connection.write('HTTP/1.1 100 Continue\r\n\r\n');
    t.equal(await connection.until('abc'), 'abc');
    connection.write(EMPTY);
    t.same((await recorder.over).calls, ['request', 'start 103', 'start 100', 'start 200', 'end']);
  }
  t.equal(upstream.accepted.length, 1);
});

t.test('sends the body after a second without any answer', async (t) => {
  const { upstream, send, clock } = await setUp(t);
  const recorder = send({ method: 'POST', body: Buffer.from('abc'), expectContinue: true });
  const connection = await upstream.next();
  await connection.head();
  clock.advance(900);
  await settle();
  t.equal(connection.text, '');
  clock.advance(200);
  await connection.until('abc');
  connection.write(`HTTP/1.1 100 Continue\r\n\r\n${EMPTY}`);
  t.match(await recorder.over, { interims: [100], status: 200 });
  t.equal(connection.text, '', 'once');
});

t.test('a final answer instead of 100 keeps the body back and ends the connection', async (t) => {
  const { upstream, send, clock } = await setUp(t);
  const body = Readable.from([Buffer.from('abc')]);
  const recorder = send({ method: 'POST', body, expectContinue: true });
  const connection = await upstream.next();
  await connection.head();
  connection.write('HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n');
  t.match(await recorder.over, { status: 417, error: null });
  await connection.closed;
  clock.advance(2_000);
  t.equal(connection.text, '');
  t.notOk(body.destroyed, 'the body is left to the caller');
});

t.test('expects nothing for a body that is empty', async (t) => {
  const { upstream, send } = await setUp(t);
  const recorder = send({ method: 'POST', body: Readable.from([]), contentLength: 0, expectContinue: true });
  const connection = await upstream.next();
  t.notMatch(await connection.head(), 'expect');
  connection.write(EMPTY);
  await recorder.over;
});

t.test('interim responses have a bound', async (t) => {
  const { upstream, send } = await setUp(t, { maxInformational: 3 });
  const recorder = send();
  const connection = await upstream.next();
  await connection.head();
  connection.write('HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(4));
  t.match(await recorder.over, { interims: [103, 103, 103], error: { code: 'SLV_UPSTREAM_INVALID' } });
  await connection.closed;
});

t.test('hands over the socket of an upgrade, with nothing of ours on it', async (t) => {
  const { upstream, send, pool } = await setUp(t);
  const recorder = send({ upgrade: 'websocket', headers: ['host', 'a.test', 'sec-websocket-key', 'x'] });
  const connection = await upstream.next();
  t.equal(
    await connection.head(),
    'GET / HTTP/1.1\r\nhost: a.test\r\nsec-websocket-key: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n',
  );
  connection.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\nfirst');
  const { socket, rest, status, calls } = await recorder.over;
  t.match({ status, rest, calls }, { status: 101, rest: 'first', calls: ['request', 'upgrade'] });
  t.match(pool.stats, { connections: 0, idle: 0, active: 0, pending: 0 });
  if (socket === null) throw new Error('no socket');
  for (const event of ['data', 'readable', 'drain', 'session']) t.equal(socket.listenerCount(event), 0, event);
  connection.write('second');
  const received = await new Promise((resolve) => socket.once('data', (chunk: Buffer) => resolve(chunk.toString())));
  t.equal(received, 'second');
  socket.write('back');
  await connection.until('back');
  const ended = new Promise((resolve) => socket.once('close', resolve));
  connection.socket.end();
  await ended;
});

t.test('an upgrade that is refused is an answer like any other, on a connection that serves no more', async (t) => {
  const { upstream, send } = await setUp(t);
  const recorder = send({ upgrade: 'websocket' });
  const connection = await upstream.next();
  await connection.head();
  connection.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n');
  await recorder.started;
  recorder.controller?.pause();
  connection.write('no');
  await settle();
  t.equal(recorder.body, '');
  recorder.controller?.resume();
  t.match(await recorder.over, { status: 403, body: 'no', error: null });
  await connection.closed;
});

t.test('an upgrade that nobody takes closes the socket', async (t) => {
  const { upstream, pool } = await setUp(t);
  pool.dispatch(requestOf({ upgrade: 'websocket' }), {});
  const connection = await upstream.next();
  await connection.head();
  connection.write('HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n');
  await connection.closed;
});

t.test('opens a tunnel for CONNECT', async (t) => {
  const { upstream, send } = await setUp(t);
  const recorder = send({ method: 'CONNECT', path: 'b.test:443' });
  const connection = await upstream.next();
  t.equal(await connection.head(), 'CONNECT b.test:443 HTTP/1.1\r\nhost: a.test\r\n\r\n');
  connection.write(`${OK}\r\nhi`);
  const { rest, socket } = await recorder.over;
  t.equal(rest, 'hi');
  socket?.destroy();
});

t.test('an answer ahead of the end of the request goes through whole, and ends the connection', async (t) => {
  const { upstream, send } = await setUp(t);
  const body = new PassThrough();
  body.write('abc');
  const recorder = send({ method: 'POST', body });
  const connection = await upstream.next();
  await connection.until('abc\r\n'.slice(0, 3));
  connection.write('HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno');
  t.match(await recorder.over, { status: 413, body: 'no', error: null });
  await connection.closed;
  t.notOk(body.destroyed);
  t.equal(body.listenerCount('data'), 0);
  body.destroy(new Error('an error that nobody listens to'));
  await settle();
});

t.test('a 413 reaches the client although the next write of the body meets the reset behind it', async (t) => {
  // It never reads, so its closing is a reset.
  const upstream = await RawUpstream.start(t, createServer({ pauseOnConnect: true }));
  const { send, pool } = await setUp(t, {}, upstream);
  for (const contentLength of [null, 1_000_000]) {
    const body = new PassThrough();
    body.write('abc');
    const recorder = send({ method: 'POST', body, contentLength });
    const { socket } = await upstream.next();
    await settle();
    socket.write('HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno');
    socket.destroy();
    // In the same turn: answer and reset are in the kernel, nothing has been read of either.
    for (let i = 0; i < 3; i++) body.write(Buffer.alloc(64 * 1024));
    t.match(await recorder.over, { status: 413, body: 'no', error: null });
    t.match(pool.stats, { connections: 0 });
    t.notOk(body.destroyed);
  }
});

t.test('a reset that has no answer ahead of it is a reset', async (t) => {
  const upstream = await RawUpstream.start(t, createServer({ pauseOnConnect: true }));
  const { send, pool } = await setUp(t, {}, upstream);
  for (const sent of ['', 'HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nn', 'HTTP/1.0 413 Too Large\r\n\r\nno']) {
    const body = new PassThrough();
    body.write('abc');
    const recorder = send({ method: 'POST', body });
    const { socket } = await upstream.next();
    await settle();
    socket.write(sent);
    socket.destroy();
    body.write(Buffer.alloc(64 * 1024));
    t.match((await recorder.over).error, { code: sent === '' ? 'SLV_UPSTREAM_RESET' : 'SLV_UPSTREAM_INCOMPLETE' });
    t.match(pool.stats, { connections: 0 });
  }
});

t.test('tells apart what breaks off before, inside and after the head', async (t) => {
  const cases: [string, string][] = [
    ['', 'SLV_UPSTREAM_RESET'],
    ['HTTP/1.1 200', 'SLV_UPSTREAM_RESET'],
    ['HTTP/1.1 103 x\r\n\r\n', 'SLV_UPSTREAM_RESET'],
    [`${OK}Content-Length: 3\r\n\r\nab`, 'SLV_UPSTREAM_INCOMPLETE'],
    [`${OK}Content-Length: 3\r\n\r\n`, 'SLV_UPSTREAM_INCOMPLETE'],
    [`${OK}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`, 'SLV_UPSTREAM_INCOMPLETE'],
    [`${OK}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n`, 'SLV_UPSTREAM_INCOMPLETE'],
  ];
  for (const [sent, code] of cases) {
    for (const how of ['end', 'resetAndDestroy'] as const) {
      const { upstream, send } = await setUp(t);
      const recorder = send();
      const connection = await upstream.next();
      await connection.head();
      connection.write(sent);
      if (sent !== '') await settle();
      connection.socket[how]();
      const { error, calls } = await recorder.over;
      t.match(error, { code, unsent: false, reused: false }, `${JSON.stringify(sent)} and ${how}`);
      t.equal(calls.filter((call) => call === 'error').length, 1);
      t.notOk(calls.includes('end'));
    }
  }
});

t.test('a body until the end is complete at FIN, incomplete at a reset', async (t) => {
  const { upstream, send } = await setUp(t);
  const whole = send();
  const first = await upstream.next();
  await first.head();
  first.socket.end(`${OK}\r\nabc`);
  t.match(await whole.over, { body: 'abc', error: null });
  const cut = send();
  const second = await upstream.next();
  await second.head();
  second.write(`${OK}\r\nabc`);
  await cut.started;
  second.socket.resetAndDestroy();
  t.match(await cut.over, { body: 'abc', error: { code: 'SLV_UPSTREAM_INCOMPLETE' } });
});

t.test('a malformed response ends its exchange and its connection only', async (t) => {
  const { upstream, send, pool } = await setUp(t);
  for (const [sent, code] of [
    ['SSH-2.0-x\r\n', 'SLV_UPSTREAM_INVALID'],
    [`${OK}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n`, 'SLV_UPSTREAM_INVALID'],
    [`${OK}Transfer-Encoding: chunked\r\n\r\n1\r\nab`, 'SLV_UPSTREAM_INVALID'],
    ['HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n', 'SLV_UPSTREAM_INVALID'],
    [`${OK}A: ${'b'.repeat(65_536)}\r\n\r\n`, 'SLV_UPSTREAM_HEADERS_TOO_LARGE'],
  ]) {
    const recorder = send();
    const connection = await upstream.next();
    await connection.head();
    connection.write(sent);
    t.match((await recorder.over).error, { code, unsent: false });
    await connection.closed;
    t.match(pool.stats, { connections: 0, active: 0 });
  }
});

t.test('a handler that throws fails its own exchange only', async (t) => {
  const { upstream, send } = await setUp(t);
  const warnings: string[] = [];
  const onWarning = (warning: Error) => warnings.push(warning.message);
  process.on('warning', onWarning);
  t.teardown(() => process.off('warning', onWarning));
  for (const call of ['onResponseStart', 'onResponseData'] as const) {
    const recorder = new Recorder();
    recorder[call] = () => {
      throw new Error(call);
    };
    send({}, recorder);
    const connection = await upstream.next();
    await connection.head();
    connection.write(`${OK}Content-Length: 1\r\n\r\na`);
    t.match((await recorder.over).error, { message: call });
    await connection.closed;
  }
  const early = new Recorder();
  early.onRequestStart = () => {
    throw new Error('onRequestStart');
  };
  t.match((await send({}, early).over).error, { message: 'onRequestStart' });
  const late = new Recorder();
  late.onResponseEnd = () => {
    throw new Error('onResponseEnd');
  };
  send({}, late);
  const connection = await upstream.next();
  await connection.head();
  connection.write(EMPTY);
  await settle();
  t.same(warnings, ['onResponseEnd']);
  t.notOk(late.calls.includes('error'), 'nothing follows the end');
});

t.test('a paused handler gets nothing, and everything once it resumes', async (t) => {
  const { upstream, send, pool } = await setUp(t);
  const recorder = send();
  const connection = await upstream.next();
  await connection.head();
  recorder.onResponseStart = function (...args) {
    Recorder.prototype.onResponseStart.apply(this, args);
    args[0].pause();
  };
  connection.write(`${OK}Content-Length: 6\r\n\r\nabc`);
  await recorder.started;
  connection.write('def');
  await settle();
  t.equal(recorder.body, '');
  t.ok(recorder.controller?.paused);
  recorder.controller?.resume();
  t.equal(recorder.body, '', 'not from within resume');
  t.match(await recorder.over, { body: 'abcdef' });
  await settle();
  t.match(pool.stats, { idle: 1 }, 'and the connection serves on');
  const next = send();
  await connection.head();
  connection.write(EMPTY);
  t.match(await next.over, { status: 200 });
});

t.test('an end that comes while the handler is paused is told after the rest', async (t) => {
  const { upstream, send } = await setUp(t);
  for (const [text, calls] of [
    [`${OK}Connection: close\r\nContent-Length: 3\r\n\r\nabc`, 'end'],
    [`${OK}\r\nabc`, 'end'],
    [`${OK}Content-Length: 4\r\n\r\nabc`, 'error'],
  ]) {
    const recorder = new Recorder();
    recorder.onResponseStart = function (...args) {
      args[0].pause();
      Recorder.prototype.onResponseStart.apply(this, args);
    };
    send({}, recorder);
    const connection = await upstream.next();
    await connection.head();
    connection.socket.end(text);
    await recorder.started;
    await settle();
    t.same(recorder.calls, ['request', 'start 200']);
    recorder.controller?.resume();
    t.match(await recorder.over, { body: 'abc', calls: ['request', 'start 200', calls] });
  }
});

t.test('pausing and resuming at every chunk loses nothing', async (t) => {
  const { upstream, send } = await setUp(t);
  const recorder = new Recorder();
  recorder.onResponseData = function (controller, chunk) {
    Recorder.prototype.onResponseData.call(this, controller, chunk);
    controller.pause();
    if (this.bytes % 2 === 0) controller.resume();
    else setImmediate(() => controller.resume());
  };
  send({}, recorder);
  const connection = await upstream.next();
  await connection.head();
  let expected = '';
  connection.write(`${OK}Transfer-Encoding: chunked\r\n\r\n`);
  for (let i = 0; i < 300; i++) {
    const chunk = String(i);
    expected += chunk;
    connection.write(`${chunk.length.toString(16)}\r\n${chunk}\r\n`);
  }
  connection.write('0\r\n\r\n');
  t.match(await recorder.over, { body: expected, error: null });
});

t.test('a slow consumer keeps 200 MiB out of memory', async (t) => {
  const { upstream, send } = await setUp(t);
  const total = 200 * 1024 * 1024;
  const piece = Buffer.alloc(1024 * 1024);
  const recorder = new Recorder({ keepsBody: false });
  let sent = 0;
  const underWay: number[] = [];
  recorder.onResponseData = function (controller, chunk) {
    this.bytes += chunk.length;
    // At the start, and again in the middle of the stream.
    if (underWay.length > 1 || this.bytes < (underWay.length * total) / 2) return;
    controller.pause();
    const { bytes } = this;
    settle(2_000).then(() => {
      underWay.push(sent - bytes);
      controller.resume();
    });
  };
  send({}, recorder);
  const connection = await upstream.next();
  await connection.head();
  connection.write(`${OK}Content-Length: ${total}\r\n\r\n`);
  for (; sent < total; sent += piece.length) {
    if (!connection.socket.write(piece)) await new Promise((resolve) => connection.socket.once('drain', resolve));
  }
  t.equal((await recorder.over).bytes, total);
  t.ok(Math.max(...underWay) < 24 * 1024 * 1024, `at most ${underWay} bytes in the kernel and with us`);
});

t.test('an upstream that reads slowly holds the request body back', async (t) => {
  const { upstream, send } = await setUp(t);
  let produced = 0;
  const total = 64 * 1024 * 1024;
  const body = new Readable({
    read() {
      produced += 64 * 1024;
      this.push(produced > total ? null : Buffer.alloc(64 * 1024));
    },
  });
  const accepted = upstream.next();
  const recorder = send({ method: 'POST', body, contentLength: total });
  const connection = await accepted;
  connection.socket.removeAllListeners('data');
  connection.socket.pause();
  await settle(100);
  t.ok(produced < 32 * 1024 * 1024, `${produced} bytes were taken from the body`);
  let received = 0;
  connection.socket.on('data', (chunk) => {
    received += chunk.length;
    if (received > total) connection.write(EMPTY);
  });
  connection.socket.resume();
  t.match(await recorder.over, { status: 200, error: null });
});
