import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { connect } from 'node:net';
import pino from 'pino';
import t from 'tap';
import { Listener } from '../../src/runtime/listener.ts';
import { LIMITS, openListener as open, Recorder, specOf } from '../support/open-listener.ts';
import { dial, exchange } from '../support/raw-client.ts';

const statusOf = (answer: string): number => Number(answer.slice(9, 12));

const HOST = 'Host: a\r\n';
const get = (headers: string): string => `GET / HTTP/1.1\r\n${HOST}${headers}\r\n\r\n`;

t.test('connections over the limit are closed and counted, and counted out when they close', async (t) => {
  const { port, sink, listener } = await open(t, { limits: { ...LIMITS, connections: 2 } });
  const first = dial(port, get(''));
  const second = dial(port, get(''));
  await Promise.all([first.until('served'), second.until('served')]);
  t.equal(listener.connections, 2);
  t.equal(await exchange(port, get('')), '');
  t.same(sink.refused, ['SLV_CONNECTION_LIMIT']);
  first.socket.destroy();
  while (listener.connections > 1) await new Promise(setImmediate);
  t.match(await exchange(port, get('Connection: close')), /200 OK/);
  second.socket.destroy();
});

t.test('an update changes limits on the running server and keeps its connections', async (t) => {
  const { port, sink, listener } = await open(t);
  const kept = dial(port, get(''));
  await kept.until('served');
  const changed = specOf({ port: 0, limits: { ...LIMITS, headerCount: 4, headerBytes: 300, connections: 1 } });
  t.equal(listener.canUpdate(changed), true);
  t.equal(listener.canUpdate({ ...changed, host: '0.0.0.0' }), false);
  t.equal(listener.canUpdate({ ...changed, port: 1 }), false);
  const tls = { certificates: [], minVersion: 'TLSv1.2', clientCertificate: null } as const;
  t.equal(listener.canUpdate({ ...changed, tls }), false);
  listener.update(changed);
  t.equal(listener.spec, changed);
  t.equal(sink.connection?.listener, changed, 'connections see it too');
  t.equal(await exchange(port, get('')), '', 'one connection at most from now on');
  kept.send(get('A: 1\r\nB: 1\r\nC: 1\r\nD: 1'));
  t.match(await kept.closed(), /servedHTTP\/1\.1 431/);
  t.equal(statusOf(await exchange(port, get(`X: ${'a'.repeat(300)}`))), 431);
});

t.test('draining closes connections that stay idle, and busy ones behind their answer', async (t) => {
  const { port, sink, listener } = await open(t);
  const idle = dial(port, get(''));
  await idle.until('served');
  const asking = dial(port, get(''));
  await asking.until('served');
  const fresh = dial(port);
  await once(fresh.socket, 'connect');

  const pending: ServerResponse[] = [];
  sink.handler = (req, res) => {
    pending.push(res);
    if (req.url === '/streaming') res.write('half');
  };
  const waiting = exchange(port, get(''));
  const streaming = dial(port, `GET /streaming HTTP/1.1\r\n${HOST}\r\n`);
  await streaming.until('half');
  while (pending.length < 2 || listener.connections < 5) await new Promise(setImmediate);

  await listener.stopAccepting();
  t.equal(listener.address(), null);
  t.equal(listener.connections, 5, 'closing the listening socket closes nothing else');
  sink.handler = (_req, res) => void res.end('in time');
  listener.drain();
  asking.send(get(''));
  t.match(await asking.until('in time'), /connection: close/i, 'a request that was on its way is still served');
  await asking.closed();
  await idle.closed();
  for (const res of pending) res.end('whole');
  t.match(await waiting, /^HTTP\/1\.1 200 OK[\s\S]*connection: close[\s\S]*whole/i);
  t.match(await streaming.until('0\r\n\r\n'), /whole/, 'the stream ends whole');
  await streaming.closed();
  sink.handler = (_req, res) => void res.end('late');
  fresh.send(get(''));
  t.match(
    await fresh.until('late'),
    /connection: close/i,
    'a request on a connection that was just opened is still served',
  );
  await fresh.closed();
  await t.rejects(once(connect(port, '127.0.0.1'), 'connect'), { code: 'ECONNREFUSED' });
  t.equal(listener.connections, 0);
});

t.test(
  'one that has left the config closes idle connections at once and refuses what still comes on others',
  async (t) => {
    const { port, sink, listener } = await open(t);
    const idle = dial(port, get(''));
    await idle.until('served');
    const fresh = dial(port);
    await once(fresh.socket, 'connect');
    const pending: ServerResponse[] = [];
    sink.handler = (_req, res) => void pending.push(res);
    const busy = dial(port, get(''));
    while (pending.length === 0 || listener.connections < 3) await new Promise(setImmediate);
    listener.leave();
    t.match(await idle.closed(), /served$/);
    fresh.send(get(''));
    t.match(await fresh.closed(), /^HTTP\/1\.1 503 [\s\S]*connection: close[\s\S]*SLV_DRAINING/i);
    pending[0].end('whole');
    t.match(await busy.closed(), /^HTTP\/1\.1 200 [\s\S]*connection: close[\s\S]*whole$/i);
    t.equal(listener.connections, 0);
  },
);

t.test('draining never cuts off an answer that a slow client is still reading', async (t) => {
  const { port, sink, listener } = await open(t);
  const size = 32 * 1_048_576;
  sink.handler = (_req, res) => res.end(Buffer.alloc(size, 'x'));
  const { socket } = dial(port, get(''));
  socket.pause();
  while (sink.requests.length === 0) await new Promise(setImmediate);
  await new Promise(setImmediate);
  listener.drain();
  let received = 0;
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  socket.resume();
  await once(socket, 'close');
  t.ok(received > size, `${received} bytes`);
});

t.test('destroy ends everything, upgraded connections too', async (t) => {
  const { port, sink, listener } = await open(t);
  sink.upgrade = (_connection, _req, socket) => void socket.write('HTTP/1.1 101 Switching Protocols\r\n\r\n');
  const tunnel = dial(port, `GET / HTTP/1.1\r\n${HOST}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n`);
  await tunnel.until('101');
  const idle = dial(port);
  await once(idle.socket, 'connect');
  while (listener.connections < 2) await new Promise(setImmediate);
  listener.drain();
  t.equal(listener.connections, 2);
  listener.destroy();
  await Promise.all([tunnel.closed(), idle.closed()]);
  t.equal(listener.connections, 0);
  listener.destroy();
});

t.test('an address that cannot be bound is an error that names listener, address and cause', async (t) => {
  const { port } = await open(t);
  const taken = new Listener(specOf({ port }), new Recorder(), pino({ level: 'silent' }));
  await t.rejects(taken.bind(), {
    code: 'EADDRINUSE',
    message: `listener gateway/public/http cannot listen on 127.0.0.1:${port}: the port is taken by another process`,
  });
  t.equal(taken.address(), null);
  taken.destroy();
  const elsewhere = new Listener(specOf({ host: '192.0.2.1' }), new Recorder(), pino({ level: 'silent' }));
  await t.rejects(elsewhere.bind(), { message: /192\.0\.2\.1:0: this machine has no such address/ });
  const v6 = new Listener(specOf({ host: '2001:db8::1' }), new Recorder(), pino({ level: 'silent' }));
  await t.rejects(v6.bind(), { message: /\[2001:db8::1\]:0: this machine has no such address/ });
});

t.test('binds IPv6 addresses', async (t) => {
  const { port, sink, listener } = await open(t, { host: '::1' });
  t.equal(listener.address()?.host, '::1');
  const socket = dial(port, get('Connection: close'), '::1');
  await socket.until('served');
  t.equal(sink.connection?.remoteAddress, '::1');
});
