// A listener for what is no HTTP: who gets in, how many, and what a reload changes.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import pino from 'pino';
import t, { type Test } from 'tap';
import type { Code } from '../../src/errors.ts';
import type { ListenerSpec, TcpArrival } from '../../src/runtime/listener-spec.ts';
import { TcpListener } from '../../src/runtime/tcp-listener.ts';
import { eventually } from '../e2e/support/sockets.ts';
import { LIMITS, specOf } from '../support/open-listener.ts';

const SPEC = specOf({ key: 'outbound/orders/db', role: 'outbound', name: 'db', fixedService: 'db', protocol: 'tcp' });
const MESH = { id: 'spiffe://shop.internal/service/db', mode: 'strict' } as const;

async function openListener(t: Test, changes: Partial<ListenerSpec> = {}) {
  const arrivals: TcpArrival[] = [];
  const refused: Code[] = [];
  const sink = {
    accept: (arrival: TcpArrival) => void arrivals.push(arrival),
    rejected: (_listener: ListenerSpec, code: Code) => void refused.push(code),
  };
  const spec = { ...SPEC, ...changes };
  const listener = new TcpListener(spec, sink, pino({ level: 'silent' }), null);
  await listener.bind();
  t.teardown(() => listener.destroy());
  const { port } = listener.address() as { port: number };
  return { listener, arrivals, refused, port, spec };
}

async function client(t: Test, port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

t.test('a connection is handed over as it is, and kept count of', async (t) => {
  const { listener, arrivals, port } = await openListener(t);
  const socket = await client(t, port);
  await eventually(() => arrivals.length === 1, 'it has arrived');
  t.match(arrivals[0], { remoteAddress: '127.0.0.1', peer: null, listener: { key: 'outbound/orders/db' } });
  t.equal(arrivals[0].socket, arrivals[0].wire);
  t.ok(arrivals[0].socket.allowHalfOpen);
  t.equal(listener.connections, 1);
  socket.destroy();
  arrivals[0].socket.resume().end();
  await eventually(() => listener.connections === 0, 'it is gone');
});

t.test('there are as many as the limit says, also when a reload changes it', async (t) => {
  const { listener, arrivals, refused, port, spec } = await openListener(t, { limits: { ...LIMITS, connections: 1 } });
  await client(t, port);
  await eventually(() => arrivals.length === 1, 'the first is in');
  await client(t, port);
  await eventually(() => refused.length === 1, 'the second is not');
  t.strictSame(refused, ['SLV_CONNECTION_LIMIT']);
  listener.update({ ...spec, limits: { ...LIMITS, connections: 2 } });
  await client(t, port);
  await eventually(() => arrivals.length === 2, 'now it is');
});

t.test('a peer that does not finish its handshake is refused, and none that only looks', async (t) => {
  const limits = { ...LIMITS, tlsHandshakeTimeoutMs: 30 };
  const { listener, arrivals, refused, port } = await openListener(t, { role: 'inbound', mesh: MESH, limits });
  (await client(t, port)).destroy();
  const socket = await client(t, port);
  await once(socket, 'close');
  await eventually(() => listener.connections === 0, 'nobody is left');
  t.strictSame(refused, ['SLV_REQUEST_TIMEOUT']);
  t.strictSame(arrivals, []);
});

t.test('what is plain is refused, and by mtls off it is what is wanted', async (t) => {
  const { listener, arrivals, refused, port, spec } = await openListener(t, { role: 'inbound', mesh: MESH });
  const refusedOne = await client(t, port);
  refusedOne.write('hello, this is no handshake');
  await once(refusedOne, 'close');
  t.strictSame([refused, arrivals.length], [['SLV_PEER_REFUSED'], 0]);
  listener.update({ ...spec, mesh: { ...MESH, mode: 'off' } });
  await client(t, port);
  await eventually(() => arrivals.length === 1, 'it is in');
});

t.test('another address, protocol or identity needs another listener', async (t) => {
  const { listener, spec } = await openListener(t);
  t.ok(listener.canUpdate({ ...spec, key: 'outbound/orders/other', fixedService: 'other' }));
  t.notOk(listener.canUpdate({ ...spec, port: 1 }));
  t.notOk(listener.canUpdate({ ...spec, protocol: undefined }));
  t.notOk(listener.canUpdate({ ...spec, mesh: MESH }));
});

t.test('an address that is taken is said with listener and cause', async (t) => {
  const { port, spec } = await openListener(t);
  const second = new TcpListener({ ...spec, port }, { accept() {}, rejected() {} }, pino({ level: 'silent' }), null);
  t.teardown(() => second.destroy());
  await t.rejects(second.bind(), { message: new RegExp(`${port}`) });
});

t.test('its end cuts whoever is left, and says so', async (t) => {
  const { listener, arrivals, port } = await openListener(t);
  const socket = await client(t, port);
  await eventually(() => arrivals.length === 1, 'it has arrived');
  listener.drain();
  t.notOk(arrivals[0].socket.destroyed, 'draining alone ends nothing');
  const [error] = await Promise.all([once(socket, 'error'), listener.destroy()]);
  t.equal((error[0] as NodeJS.ErrnoException).code, 'ECONNRESET');
  t.ok(arrivals[0].cut);
});
