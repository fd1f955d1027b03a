import { once } from 'node:events';
import { appendFileSync, copyFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import pino from 'pino';
import t from 'tap';
import type { ListenerTls } from '../../src/config/model.ts';
import { Listener } from '../../src/runtime/listener.ts';
import type { ListenerSpec } from '../../src/runtime/listener-spec.ts';
import { LIMITS, openListener, Recorder, specOf } from '../support/open-listener.ts';
import { RawClient } from '../support/raw-client.ts';
import { type CertificateFiles, TestCa } from '../support/tls-fixture.ts';

const AT = { file: 'selvedge.yaml', line: 3, column: 5 };

function tlsOf(pairs: readonly CertificateFiles[], more: Partial<ListenerTls> = {}): ListenerTls {
  return {
    certificates: pairs.map((pair) => ({ ...pair, at: AT })),
    minVersion: 'TLSv1.2',
    clientCertificate: null,
    ...more,
  };
}

interface Client {
  readonly client: RawClient;
  readonly socket: TLSSocket;
  /** Common name of the certificate that was served. */
  readonly served: string;
  /** The first ticket to resume the session with. */
  readonly ticket: Promise<Buffer>;
}

const ca = new TestCa(t);
const [first, second, wild, other] = [
  ca.issue({ name: 'first', altNames: ['DNS:a.test', 'DNS:shop.test'] }),
  ca.issue({ name: 'second', altNames: ['DNS:B.test', 'DNS:www.wild.test'] }),
  ca.issue({ name: 'wild', altNames: ['DNS:*.wild.test'] }),
  ca.issue({ name: 'cn.test' }),
];

/** Resolves with the open connection, rejects when the handshake fails. */
async function dialTls(port: number, options: ConnectionOptions = {}): Promise<Client> {
  const socket = connect({ port, host: '127.0.0.1', ca: ca.pem, checkServerIdentity: () => undefined, ...options });
  const ticket = new Promise<Buffer>((resolve) => socket.once('session', resolve));
  await once(socket, 'secureConnect');
  return { client: new RawClient(socket), socket, ticket, served: String(socket.getPeerCertificate().subject?.CN) };
}

const get = (host: string, more = ''): string => `GET / HTTP/1.1\r\nHost: ${host}\r\n${more}\r\n`;

t.test('serves the certificate that the server name asks for', async (t) => {
  const { port, sink } = await openListener(t, { tls: tlsOf([first, second, wild, other]) });
  const expected: [string, string][] = [
    ['a.test', 'first'],
    ['A.TEST', 'first'],
    ['shop.test', 'first'],
    ['b.test', 'second'],
    ['www.wild.test', 'second'],
    ['any.wild.test', 'wild'],
    ['two.labels.wild.test', 'first'],
    ['wild.test', 'first'],
    ['cn.test', 'cn.test'],
    ['unknown.test', 'first'],
    ['localhost', 'first'],
  ];
  for (const [servername, name] of expected) {
    const { client, served } = await dialTls(port, { servername });
    t.equal(served, name, servername);
    client.send(get(servername, 'Connection: close\r\n'));
    t.match(await client.closed(), /^HTTP\/1\.1 200 OK/);
    t.match(sink.connection, {
      scheme: 'https',
      serverName: servername.toLowerCase(),
      peer: null,
      remoteAddress: '127.0.0.1',
    });
  }
  const { client, served } = await dialTls(port, { servername: '' });
  t.equal(served, 'first', 'without a server name the first one');
  client.send(get('b.test', 'Connection: close\r\n'));
  t.match(await client.closed(), /200 OK/, 'and any host is then served');
  t.equal(sink.connection?.serverName, null);
});

t.test('a host that another certificate stands for is misdirected', async (t) => {
  const { port, sink } = await openListener(t, { tls: tlsOf([first, second, wild]) });
  const ask = async (servername: string, host: string): Promise<string> => {
    const { client } = await dialTls(port, { servername });
    client.send(get(host, 'Connection: close\r\n'));
    return (await client.closed()).slice(9, 12);
  };
  t.equal(await ask('a.test', 'a.test'), '200');
  t.equal(await ask('a.test', 'A.test:8443'), '200');
  t.equal(await ask('a.test', 'a.test.'), '200');
  t.equal(await ask('a.test', 'shop.test'), '200', 'another name of the same certificate');
  t.equal(await ask('a.test', 'unknown.test'), '200', 'a name that the first certificate would be served for anyway');
  t.equal(await ask('a.test', 'b.test'), '421');
  t.equal(await ask('b.test', 'a.test'), '421');
  t.equal(await ask('b.test', 'unknown.test'), '421');
  t.equal(await ask('x.wild.test', 'y.wild.test'), '200');
  t.equal(
    await ask('x.wild.test', 'www.wild.test'),
    '200',
    'the certificate is valid for it, though another one comes first',
  );
  t.same(new Set(sink.refused), new Set(['SLV_MISDIRECTED']));

  const { client } = await dialTls(port, { servername: 'a.test' });
  client.send(get('a.test'));
  await client.until('served');
  client.send(get('b.test'));
  t.match(await client.closed(), /200 OK[\s\S]*421 Misdirected Request/, 'judged for each request of a connection');
});

t.test('speaks HTTP/1.1 by ALPN and no version of TLS below the minimum', async (t) => {
  const { port } = await openListener(t, { tls: tlsOf([first], { minVersion: 'TLSv1.3' }) });
  const { socket } = await dialTls(port, { ALPNProtocols: ['h2', 'http/1.1'] });
  t.equal(socket.alpnProtocol, 'http/1.1');
  t.equal(socket.getProtocol(), 'TLSv1.3');
  socket.destroy();
  await t.rejects(dialTls(port, { maxVersion: 'TLSv1.2' }), { code: /ERR_SSL/ });
  await t.rejects(dialTls(port, { ALPNProtocols: ['h2'] }), { code: /ERR_SSL/ });
});

t.test('a renewed certificate is served to new connections while old ones go on', async (t) => {
  const files = ca.issue({ name: 'before', altNames: ['DNS:a.test'] });
  const { port, listener } = await openListener(t, { tls: tlsOf([files, second]) });
  const old = await dialTls(port, { servername: 'a.test' });
  t.equal(old.served, 'before');
  t.same(await listener.reloadCertificates(), []);

  const renewed = ca.issue({ name: 'after', altNames: ['DNS:a.test'] });
  copyFileSync(renewed.cert, files.cert);
  t.match(
    await listener.reloadCertificates(),
    [{ severity: 'error', place: AT, message: /leaf-\d+\.key is not the key of the certificate in .*leaf-\d+\.crt/ }],
    'a pair that does not belong together is reported',
  );
  const half = await dialTls(port, { servername: 'a.test' });
  t.equal(half.served, 'before', 'and the old pair stays');
  half.socket.destroy();

  copyFileSync(renewed.key, files.key);
  truncateSync(files.cert, 300);
  t.match(
    await listener.reloadCertificates(),
    [{ message: /leaf-\d+\.crt cannot be used: / }],
    'a half-written file is reported',
  );
  copyFileSync(renewed.cert, files.cert);
  t.same(await listener.reloadCertificates(), []);
  const renewedBySni = await dialTls(port, { servername: 'a.test' });
  const renewedByDefault = await dialTls(port, { servername: '' });
  t.same([renewedBySni.served, renewedByDefault.served], ['after', 'after']);
  renewedBySni.socket.destroy();
  renewedByDefault.socket.destroy();

  old.client.send(get('a.test', 'Connection: close\r\n'));
  t.match(await old.client.closed(), /200 OK/, 'the connection that was open is not touched');
});

t.test('requires a client certificate of the CA', async (t) => {
  const strangers = new TestCa(t, 'strangers');
  const clientCertificate = { ca: ca.cert, mode: 'require' } as const;
  const { port, sink } = await openListener(t, { tls: tlsOf([first, second], { clientCertificate }) });
  const material = ({ cert, key }: CertificateFiles) => ({ cert: readFileSync(cert), key: readFileSync(key) });
  /** With TLS 1.3 the client learns of the refusal after its own handshake is over. */
  const ask = async (options: ConnectionOptions): Promise<string> => {
    const { client } = await dialTls(port, options);
    client.send(get('a.test', 'Connection: close\r\n'));
    return client.closed();
  };
  const peer = ca.issue({ name: 'cart', altNames: ['DNS:cart.test', 'URI:spiffe://shop.internal/service/cart'] });
  for (const servername of ['a.test', '']) {
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      t.match(await ask({ servername, maxVersion, ...material(peer) }), /200 OK/);
      const { peer: seen } = sink.connection ?? {};
      t.match(seen, {
        id: 'spiffe://shop.internal/service/cart',
        subject: /CN=cart/,
        trustDomain: 'shop.internal',
        service: 'cart',
        verified: true,
        fingerprint256: /^[0-9A-F:]{95}$/,
      });
      t.ok((seen?.expiresAt ?? 0) > Date.now());
    }
  }
  t.match(await ask(material(ca.issue({ name: 'by-name' }))), /200 OK/);
  t.equal(sink.connection?.peer?.id, 'by-name', 'the common name where there is no URI');
  const minted = ca.issue({ name: 'minted', altNames: ['URI:spiffe://mesh.internal/service/cart'] });
  t.match(await ask(material(minted)), /200 OK/);
  t.match(
    sink.connection?.peer,
    { id: 'spiffe://mesh.internal/service/cart', trustDomain: null, service: null },
    'a CA of clients makes nobody of the mesh',
  );
  const posing = ca.issue({ name: 'posing', altNames: ['DNS:a, URI:spiffe://shop.internal/service/cart'] });
  t.match(await ask(material(posing)), /200 OK/);
  t.equal(sink.connection?.peer?.id, 'posing', 'a DNS name cannot pose as a URI');

  const before = sink.requests.length;
  const refused = async (options: ConnectionOptions): Promise<string> => ask(options).catch(() => '');
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    t.equal(await refused({ maxVersion }), '', 'none');
    t.equal(await refused({ maxVersion, ...material(strangers.issue({ name: 'stranger' })) }), '', 'of another CA');
  }
  t.equal(sink.requests.length, before);
});

t.test('asks for a client certificate and takes the request without one', async (t) => {
  const strangers = new TestCa(t, 'strangers');
  const clientCertificate = { ca: ca.cert, mode: 'request' } as const;
  const { port, sink, listener } = await openListener(t, { tls: tlsOf([first, second], { clientCertificate }) });
  const peerIdOf = async (
    files: CertificateFiles | null,
    more: ConnectionOptions = {},
  ): Promise<string | null | undefined> => {
    const own = files === null ? {} : { cert: readFileSync(files.cert), key: readFileSync(files.key) };
    const { client } = await dialTls(port, { ...own, ...more });
    client.send(get('a.test', 'Connection: close\r\n'));
    t.match(await client.closed(), /200 OK/);
    return sink.connection === null ? undefined : (sink.connection.peer?.id ?? null);
  };
  const cart = ca.issue({ name: 'cart' });
  t.equal(await peerIdOf(cart), 'cart');
  t.equal(await peerIdOf(null), null);
  t.equal(await peerIdOf(strangers.issue({ name: 'cart' })), null, 'unverified is nobody');

  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    for (const servername of ['a.test', 'b.test']) {
      const own = { cert: readFileSync(cart.cert), key: readFileSync(cart.key), maxVersion, servername };
      const { client, ticket } = await dialTls(port, own);
      client.send(get(servername, 'Connection: close\r\n'));
      await client.closed();
      const session = await ticket;
      const resumed = await dialTls(port, { ...own, session });
      t.equal(resumed.socket.isSessionReused(), true, `${maxVersion} ${servername} resumes`);
      resumed.client.send(get(servername, 'Connection: close\r\n'));
      t.match(await resumed.client.closed(), /200 OK/);
      t.equal(sink.connection?.peer?.id, 'cart', 'as the same peer');

      listener.update({
        ...listener.spec,
        tls: tlsOf([first, second], { clientCertificate: { ca: ca.cert, mode: 'require' } }),
      });
      const stricter = await dialTls(port, { ...own, session });
      t.equal(stricter.socket.isSessionReused(), false, 'not across a change of policy');
      stricter.socket.destroy();
      listener.update({ ...listener.spec, tls: tlsOf([first, second], { clientCertificate }) });
    }
  }
});

t.test('an update changes certificates and client policy without dropping a connection', async (t) => {
  const { port, sink, listener } = await openListener(t, { tls: tlsOf([first]) });
  const old = await dialTls(port, { servername: 'a.test' });
  const clientCertificate = { ca: ca.cert, mode: 'require' } as const;
  const next: ListenerSpec = {
    ...listener.spec,
    tls: tlsOf([second, wild], { clientCertificate, minVersion: 'TLSv1.3' }),
  };
  t.equal(listener.canUpdate(next), true);
  listener.update(next);
  await t.rejects(dialTls(port, { maxVersion: 'TLSv1.2' }));
  const own = ca.issue({ name: 'cart' });
  const { client, served } = await dialTls(port, {
    servername: 'x.wild.test',
    cert: readFileSync(own.cert),
    key: readFileSync(own.key),
  });
  t.equal(served, 'wild');
  client.send(get('x.wild.test', 'Connection: close\r\n'));
  t.match(await client.closed(), /200 OK/);
  t.equal(sink.connection?.peer?.id, 'cart');
  old.client.send(get('a.test', 'Connection: close\r\n'));
  t.match(await old.client.closed(), /200 OK/, 'its own certificate still covers the host');

  listener.update({ ...next, tls: tlsOf([{ cert: '/nowhere.crt', key: '/nowhere.key' }]) });
  const stays = await dialTls(port, { servername: 'x.wild.test' });
  t.equal(stays.served, 'wild', 'what cannot be read leaves the old one in force');
  stays.socket.destroy();
  t.match(await listener.reloadCertificates(), [{ place: AT, message: /^\/nowhere\.crt cannot be used: ENOENT/ }]);
});

t.test('certificates that cannot be used are an error at bind', async (t) => {
  const broken = join(ca.dir, 'broken.crt');
  writeFileSync(broken, 'not a certificate');
  appendFileSync(broken, '\n');
  const attempts: [ListenerTls, RegExp][] = [
    [tlsOf([{ cert: '/nowhere.crt', key: first.key }]), /\/nowhere\.crt cannot be used: ENOENT/],
    [tlsOf([{ cert: first.cert, key: second.key }]), /is not the key of the certificate in/],
    [tlsOf([{ cert: broken, key: second.key }]), /broken\.crt cannot be used: /],
    [tlsOf([{ cert: first.cert, key: broken }]), /broken\.crt cannot be used: /],
    [tlsOf([first], { clientCertificate: { ca: broken, mode: 'require' } }), /broken\.crt cannot be used: /],
  ];
  for (const [tls, message] of attempts) {
    const listener = new Listener(specOf({ tls }), new Recorder(), pino({ level: 'silent' }));
    await t.rejects(listener.bind(), { name: 'BindError', message });
    listener.destroy();
  }
});

t.test('a handshake that is too slow, or is none, ends the connection and nothing else', async (t) => {
  const { port, sink, listener } = await openListener(t, {
    tls: tlsOf([first]),
    limits: { ...LIMITS, tlsHandshakeTimeoutMs: 150 },
  });
  const slow = new RawClient(connectTcp(port, '127.0.0.1'), '\x16\x03\x01');
  await once(slow.socket, 'connect');
  while (listener.connections === 0) await new Promise(setImmediate);
  t.equal(await slow.closed(), '');
  t.same(sink.refused, ['SLV_REQUEST_TIMEOUT']);
  const plain = new RawClient(connectTcp(port, '127.0.0.1'), get('a.test'));
  await plain.closed();
  t.same(sink.refused, ['SLV_REQUEST_TIMEOUT', 'SLV_BAD_REQUEST']);
  const { client } = await dialTls(port);
  t.equal(listener.connections, 1);
  client.send(get('a.test'));
  await client.until('served');
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.equal(client.socket.closed, false, 'a finished handshake has no deadline');
  listener.drain();
  t.match(await client.closed(), /200 OK/);
  while (listener.connections > 0) await new Promise(setImmediate);
});

t.test('a small answer is the same over TLS, and malformed requests are answered too', async (t) => {
  const { port, sink } = await openListener(t, { tls: tlsOf([first]) });
  const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  sink.handler = (_req, res) => void res.end(all);
  const { client } = await dialTls(port);
  client.send(get('a.test', 'Connection: close\r\n'));
  const answer = await client.closed();
  t.same(Buffer.from(answer.slice(answer.indexOf('\r\n\r\n') + 4), 'latin1'), all);
  const bad = await dialTls(port);
  bad.client.send('GET / HTTP/1.1\r\nX : y\r\n\r\n');
  t.match(await bad.client.closed(), /^HTTP\/1\.1 400[\s\S]*SLV_BAD_REQUEST/);
  const tunnel = await dialTls(port);
  tunnel.client.send(get('a.test', 'Connection: upgrade\r\nUpgrade: websocket\r\n'));
  t.match(await tunnel.client.closed(), /^HTTP\/1\.1 101/);
});
