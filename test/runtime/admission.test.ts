import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import t, { type Test } from 'tap';
import type { ListenerTls } from '../../src/config/model.ts';
import { ClientConnections } from '../../src/runtime/client-connections.ts';
import { LIMITS, openListener, specOf } from '../support/open-listener.ts';
import { binaryHeader, tcp4 } from '../support/proxy-header.ts';
import { dial, exchange, RawClient } from '../support/raw-client.ts';
import { TestCa } from '../support/tls-fixture.ts';

const ca = new TestCa(t);
const pair = ca.issue({ name: 'a', altNames: ['DNS:a.test'] });
const tls: ListenerTls = {
  certificates: [{ ...pair, at: specOf().at }],
  minVersion: 'TLSv1.2',
  clientCertificate: null,
};

const believing = (trustedProxies: readonly string[]) => ({
  clientAddress: { trustedProxies, header: 'x-forwarded-for', hops: null, proxyProtocol: true },
});
const TRUSTING = believing(['127.0.0.0/8']);

const GET = 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n';
const V1 = Buffer.from('PROXY TCP4 203.0.113.7 192.0.2.1 40000 8443\r\n');
const V2 = binaryHeader(0x21, 0x11, Buffer.concat([tcp4('203.0.113.7', 8443), Buffer.alloc(60, 4)]));
const LOCAL = binaryHeader(0x20, 0x00, Buffer.alloc(0));
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function plain(t: Test, port: number): Promise<Socket> {
  const socket = connectTcp(port, '127.0.0.1').setNoDelay(true);
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** The header goes in front of the ClientHello, in these pieces. */
async function overTls(t: Test, port: number, pieces: readonly Buffer[]): Promise<RawClient> {
  const wire = await plain(t, port);
  for (const piece of pieces) {
    wire.write(piece);
    await settled();
  }
  const socket = connectTls({ socket: wire, ca: ca.pem, servername: 'a.test' });
  await once(socket, 'secureConnect');
  return new RawClient(socket);
}

t.test('a PROXY header of a trusted peer says who the client is, however it is split', async (t) => {
  const { port, sink } = await openListener(t, TRUSTING);
  for (const header of [V1, V2]) {
    for (let at = 1; at <= header.length; at += at < 20 ? 1 : 7) {
      const socket = await plain(t, port);
      const client = new RawClient(socket);
      socket.write(header.subarray(0, at));
      await settled();
      await settled();
      socket.write(Buffer.concat([header.subarray(at), Buffer.from(GET)]));
      await client.until('served');
      t.match(sink.connection, { remoteAddress: '203.0.113.7', localPort: 8443, unnamed: false }, `split at ${at}`);
      client.send(GET);
      await client.until((text) => text.split('served').length === 3);
      socket.destroy();
    }
    const slow = await plain(t, port);
    const client = new RawClient(slow);
    for (const byte of header) {
      slow.write(Buffer.from([byte]));
      await settled();
    }
    client.send(GET);
    await client.until('served');
    t.equal(sink.connection?.remoteAddress, '203.0.113.7', 'a byte at a time');
  }
  t.same(sink.refused, []);
});

t.test('it stands before the TLS handshake, and is part of its time', async (t) => {
  const limits = { ...LIMITS, tlsHandshakeTimeoutMs: 2_000 };
  const { port, sink, listener } = await openListener(t, { ...TRUSTING, tls, limits });
  for (const pieces of [
    [V1],
    [V2],
    [V2.subarray(0, 13), V2.subarray(13)],
    [...V1].map((byte) => Buffer.from([byte])),
  ]) {
    const client = await overTls(t, port, pieces);
    await client.send(GET).until('served');
    t.match(sink.connection, { remoteAddress: '203.0.113.7', scheme: 'https', serverName: 'a.test', localPort: 8443 });
    client.socket.destroy();
  }
  const client = await overTls(t, port, [LOCAL]);
  await client.send(GET).until('served');
  t.match(sink.connection, { remoteAddress: '127.0.0.1', unnamed: true });
  client.socket.destroy();
  t.same(sink.refused, []);
  listener.update(specOf({ ...TRUSTING, tls, limits: { ...LIMITS, tlsHandshakeTimeoutMs: 50 } }));
  t.equal(await dial(port, V1.toString('latin1')).closed(), '', 'a header and no handshake');
  t.equal(await dial(port, 'PROXY ').closed(), '', 'half a header');
  t.same(sink.refused, ['SLV_REQUEST_TIMEOUT', 'SLV_REQUEST_TIMEOUT']);
  while (listener.connections > 0) await settled();
});

t.test('a stranger that sends one is garbage, and one that sends none is served as itself', async (t) => {
  for (const secure of [null, tls]) {
    const { port, sink } = await openListener(t, { ...believing(['10.0.0.0/8']), tls: secure });
    for (const header of [V1, V2, LOCAL]) {
      const answer = await exchange(port, header.toString('latin1') + GET);
      if (secure === null) t.match(answer, /^HTTP\/1\.1 400 /);
      else t.equal(answer, '');
      t.equal(sink.refused.at(-1), 'SLV_BAD_REQUEST');
    }
    t.same(sink.requests, []);
    if (secure !== null) continue;
    await dial(port, GET).until('served');
    t.equal(sink.connection?.remoteAddress, '127.0.0.1');
  }
});

t.test('a trusted peer without one, or with a malformed one, is closed and counted', async (t) => {
  const { port, sink, listener } = await openListener(t, TRUSTING);
  const malformed = [
    GET,
    '\x16\x03\x01',
    'PROXY TCP4 nobody\r\n',
    `PROXY ${'x'.repeat(200)}`,
    V2.toString('latin1', 0, 12).concat('\x11'),
  ];
  for (const [i, text] of malformed.entries()) {
    const padded = i === 4 ? `${text}${'\0'.repeat(3)}` : text;
    t.equal(await exchange(port, padded), '', text);
    t.equal(sink.refused.length, i + 1);
  }
  const half = dial(port, 'PROXY TCP4');
  half.socket.end();
  t.equal(await half.closed(), '', 'ended inside');
  t.same(new Set(sink.refused), new Set(['SLV_PROXY_HEADER']));
  t.equal(sink.refused.length, 6);
  const probe = dial(port);
  probe.socket.end();
  await probe.closed();
  const reset = await plain(t, port);
  reset.resetAndDestroy();
  while (listener.connections > 0) await settled();
  t.equal(sink.refused.length, 6, 'who only opens and closes is nobody’s concern');
  t.same(sink.requests, []);
});

t.test('a header that does not come in time ends the connection; one that came has no deadline', async (t) => {
  const { port, sink, listener } = await openListener(t, { ...TRUSTING, limits: { ...LIMITS, headerTimeoutMs: 100 } });
  const dripping = dial(port, 'PROXY');
  const drip = setInterval(() => dripping.socket.write(' '), 20);
  t.teardown(() => clearInterval(drip));
  t.equal(await dripping.closed(), '');
  clearInterval(drip);
  t.equal(await exchange(port, ''), '');
  t.same(sink.refused, ['SLV_REQUEST_TIMEOUT', 'SLV_REQUEST_TIMEOUT']);
  while (listener.connections > 0) await settled();
  const { sink: other, port: second } = await openListener(t, {
    ...TRUSTING,
    limits: { ...LIMITS, headerTimeoutMs: 60 },
  });
  const prompt = dial(second, V1.toString('latin1') + GET);
  await prompt.until('served');
  await new Promise((resolve) => setTimeout(resolve, 120));
  prompt.send(GET);
  await prompt.until((text) => text.split('served').length === 3);
  t.same(other.refused, []);
});

t.test('a reload switches it for the next connections', async (t) => {
  const { port, sink, listener } = await openListener(t);
  const old = dial(port, GET);
  await old.until('served');
  listener.update(specOf(TRUSTING));
  old.send(GET);
  await old.until((text) => text.split('served').length === 3);
  await dial(port, V1.toString('latin1') + GET).until('served');
  t.equal(sink.connection?.remoteAddress, '203.0.113.7');
  t.equal(await exchange(port, GET), '');
});

t.test('a client has so many connections and no more, by the address that counts', async (t) => {
  const limits = { ...LIMITS, connectionsPerClient: 2 };
  for (const secure of [null, tls]) {
    const { port, sink, listener } = await openListener(t, { ...believing(['127.0.0.0/8']), tls: secure, limits });
    const open = async (source: string): Promise<RawClient> => {
      const header = Buffer.from(`PROXY ${source.includes(':') ? 'TCP6' : 'TCP4'} ${source} ${source} 1 2\r\n`);
      const client = secure === null ? dial(port, header.toString()) : await overTls(t, port, [header]);
      await client.send(GET).until('served');
      return client;
    };
    const [first] = [await open('203.0.113.7'), await open('203.0.113.7')];
    await t.rejects(open('203.0.113.7'), 'the third');
    t.same(sink.refused, ['SLV_CLIENT_CONNECTION_LIMIT']);
    await open('203.0.113.8');
    await open('2001:db8::1');
    await open('2001:db8::2');
    await t.rejects(open('2001:db8::3'), 'the third of one /64');
    await open('2001:db8:0:1::1');
    for (let i = 0; i < 4; i++) await open('127.0.0.9');
    t.equal(sink.refused.length, 2, 'a trusted proxy has no such bound');
    const before = listener.connections;
    first.socket.destroy();
    while (listener.connections === before) await settled();
    await open('203.0.113.7');
    listener.destroy();
  }
  const direct = await openListener(t, { limits: { ...LIMITS, connectionsPerClient: 1 } });
  const only = dial(direct.port, GET);
  await only.until('served');
  t.equal(await exchange(direct.port, GET), '', 'without PROXY headers the TCP peer counts');
  t.same(direct.sink.refused, ['SLV_CLIENT_CONNECTION_LIMIT']);
});

t.test('only clients with open connections are held', async (t) => {
  const clients = new ClientConnections();
  for (let i = 0; i < 1_000; i++) t.ok(clients.take(`10.0.${i >> 8}.${i & 255}`, 1));
  t.equal(clients.size, 1_000);
  t.notOk(clients.take('::ffff:10.0.0.0', 1), 'the same address in other words');
  for (let i = 0; i < 1_000; i++) clients.release(`10.0.${i >> 8}.${i & 255}`);
  t.equal(clients.size, 0);
});
