// One tunnel between two sockets: dialled, judged by its first words, joined, and over when either side is.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { openEgressTunnel, type TunnelRequest } from '../../src/egress/tunnel.ts';
import type { SelvedgeError } from '../../src/errors.ts';
import { closedPort, eventually } from '../e2e/support/sockets.ts';
import { fakeWheel } from '../support/fake-clock.ts';
import { RawClient } from '../support/raw-client.ts';

/** A ClientHello in one record that names this server. */
function hello(name: string): Buffer {
  const text = Buffer.from(name);
  const u16 = (value: number): number[] => [value >> 8, value & 255];
  const sni = [0, 0, ...u16(text.length + 5), ...u16(text.length + 3), 0, ...u16(text.length), ...text];
  const body = [3, 3, ...Buffer.alloc(32), 0, 0, 2, 0x13, 1, 1, 0, ...u16(sni.length), ...sni];
  return Buffer.from([22, 3, 1, ...u16(body.length + 4), 1, 0, ...u16(body.length), ...body]);
}

async function listen(t: Test, onSocket: (socket: Socket) => void, host = '127.0.0.1'): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    onSocket(socket);
  }).listen(0, host);
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

interface Opened {
  readonly client: RawClient;
  /** The hop's side of the client's connection. */
  readonly near: Socket;
  /** What was told, in order. */
  readonly told: string[];
  readonly clock: ReturnType<typeof fakeWheel>['clock'];
}

/** A client and its tunnel to this port; the hop answers `open`. */
async function open(t: Test, port: number, changes: Partial<TunnelRequest> = {}): Promise<Opened> {
  const { wheel, clock } = fakeWheel();
  const told: string[] = [];
  const reason = (error: SelvedgeError | null): string => (error === null ? 'fine' : error.code);
  let near: Socket | null = null;
  const listener = await listen(t, (socket) => {
    near = socket;
  });
  const client = await RawClient.open(t, listener);
  await eventually(() => near !== null, 'accepted');
  const socket = near as unknown as Socket;
  openEgressTunnel(
    {
      client: socket,
      head: null,
      host: 'api.test',
      port,
      addresses: ['127.0.0.1'],
      tls: true,
      audit: false,
      idleMs: 60_000,
      wheel,
      ...changes,
    },
    {
      opened: (address) => {
        told.push(`opened ${address.replace(String(port), 'PORT')}`);
        socket.write('open ');
      },
      failed: (error) => void told.push(`failed ${error.code}`),
      judged: (error) => void told.push(`judged ${reason(error)}`),
      closed: ({ fromClient, toClient }, error) => void told.push(`closed ${fromClient} ${toClient} ${reason(error)}`),
    },
  );
  return { client, near: socket, told, clock };
}

const echo = (socket: Socket): void => void socket.pipe(socket);

t.test('what names the host goes through, in whatever pieces it comes, and its end does too', async (t) => {
  const port = await listen(t, echo);
  const { client, told } = await open(t, port);
  await client.until('open ');
  const words = hello('API.test');
  for (const octet of words.subarray(0, -1)) {
    client.socket.write(Buffer.from([octet]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.strictSame(told, ['opened 127.0.0.1:PORT'], 'not judged before it is whole');
  client.socket.write(words.subarray(-1));
  await client.until((received) => received.length === 'open '.length + words.length);
  client.socket.end('last words');
  t.match(await client.closed(), /last words$/, 'a half-closed side still reads');
  await eventually(() => told.length === 3, 'closed');
  const size = words.length + 'last words'.length;
  t.strictSame(told.slice(1), ['judged fine', `closed ${size} ${size + 'open '.length} fine`]);
});

t.test('words that came with the CONNECT are judged as well', async (t) => {
  const port = await listen(t, echo);
  const { client } = await open(t, port, { head: hello('api.test') });
  await client.until((received) => received.length > 60);
});

t.test('nothing of a refused tunnel reaches the other side, and on trial everything does', async (t) => {
  for (const words of [hello('other.test'), Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.from([22, 3, 1, 0, 0])]) {
    let got = 0;
    const port = await listen(t, (socket) => {
      socket.on('data', (chunk: Buffer) => {
        got += chunk.length;
        socket.write('seen');
      });
      socket.on('end', () => socket.end());
    });
    const refused = await open(t, port);
    refused.client.socket.write(words);
    t.equal(await refused.client.closed(), `open ${String.fromCharCode(21, 3, 3, 0, 2, 2)}p`, 'a TLS alert');
    refused.client.socket.end();
    await eventually(() => refused.told.length === 3, 'closed');
    t.match(refused.told.slice(1), ['judged SLV_EGRESS_SNI_MISMATCH', /^closed .* SLV_EGRESS_SNI_MISMATCH$/]);
    t.equal(got, 0);
    const onTrial = await open(t, port, { audit: true });
    onTrial.client.socket.write(words);
    await onTrial.client.until('seen');
    t.equal(got, words.length);
    t.strictSame(onTrial.told.slice(1), ['judged SLV_EGRESS_SNI_MISMATCH']);
  }
});

t.test('to an address no name is due, and another one is refused', async (t) => {
  const port = await listen(t, echo);
  const nameless = Buffer.from([22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3, ...Buffer.alloc(32), 0, 0, 2, 0x13, 1, 1, 0]);
  const { client } = await open(t, port, { host: '127.0.0.1' });
  client.socket.write(nameless);
  await client.until((received) => received.length === 'open '.length + nameless.length);
  const named = await open(t, port, { host: '127.0.0.1' });
  named.client.socket.write(hello('evil.test'));
  await named.client.closed();
  t.equal(named.told[1], 'judged SLV_EGRESS_SNI_MISMATCH');
  const unnamed = await open(t, port);
  unnamed.client.socket.write(nameless);
  await unnamed.client.closed();
  t.equal(unnamed.told[1], 'judged SLV_EGRESS_SNI_MISMATCH', 'behind a name there may be many hosts');
});

t.test('a server that speaks first is heard only where the rule lets anything through', async (t) => {
  const port = await listen(t, (socket) => void socket.write('220 mail'));
  const silent = await open(t, port);
  await silent.client.until('open ');
  silent.clock.advance(10_100);
  t.notMatch(await silent.client.closed(), /220/);
  t.equal(silent.told[1], 'judged SLV_EGRESS_SNI_MISMATCH', 'a client that says nothing is not waited for');
  const { client } = await open(t, port, { tls: false });
  await client.until('220 mail');
});

t.test('a hello without end is refused at its bound', async (t) => {
  const port = await listen(t, echo);
  const { client, told } = await open(t, port);
  client.socket.write(Buffer.concat([Buffer.from([22, 3, 1, 64, 0, 1, 0, 63, 0]), Buffer.alloc(16_370)]));
  client.socket.write(Buffer.alloc(20));
  await client.closed();
  t.equal(told[1], 'judged SLV_EGRESS_SNI_MISMATCH');
});

t.test('addresses are tried in turn; when none answers the client is told why', async (t) => {
  const port = await listen(t, echo, '127.0.0.2');
  const { told, client } = await open(t, port, { addresses: ['127.0.0.1', '127.0.0.2'], tls: false });
  await client.until('open ');
  t.strictSame(told, ['opened 127.0.0.2:PORT', 'judged fine']);
  const nowhere = await open(t, await closedPort(), { addresses: ['127.0.0.1', '127.0.0.2'] });
  await eventually(() => nowhere.told.length > 0, 'told');
  t.strictSame(nowhere.told, ['failed SLV_UPSTREAM_REFUSED']);
  t.notOk(nowhere.near.destroyed, 'it is still to be answered');
});

t.test('a client that leaves takes the other side with it, and the other way round', async (t) => {
  let far: Socket | null = null;
  const port = await listen(t, (socket) => {
    far = socket;
  });
  const leaving = await open(t, port);
  await leaving.client.until('open ');
  leaving.client.socket.resetAndDestroy();
  await eventually(() => leaving.told.length === 2, 'closed');
  t.match(leaving.told[1], /^closed 0 5 fine/);
  const left = await open(t, port, { tls: false });
  await left.client.until('open ');
  await eventually(() => far !== null && !(far as Socket).destroyed, 'accepted');
  (far as unknown as Socket).resetAndDestroy();
  await left.client.closed();
  await eventually(() => left.told.length === 3, 'closed');
});

t.test('a tunnel at rest is closed after its time', async (t) => {
  const port = await listen(t, echo);
  const { client, told, clock } = await open(t, port, { tls: false, idleMs: 1_000 });
  await client.until('open ');
  clock.advance(500);
  client.send('x');
  await client.until('open x');
  clock.advance(1_100);
  t.equal(told.length, 2, 'something moved');
  clock.advance(1_100);
  await client.closed();
  await eventually(() => told.length === 3, 'closed');
  t.match(told[2], /SLV_IDLE_TIMEOUT$/);
});

t.test('a side that does not read holds the other one up', async (t) => {
  let far: Socket | null = null;
  const port = await listen(t, (socket) => {
    far = socket.pause();
  });
  const { client } = await open(t, port, { tls: false });
  await client.until('open ');
  const chunk = Buffer.alloc(1_048_576);
  let sent = 0;
  while (sent < 64 && client.socket.write(chunk)) sent += 1;
  await eventually(() => far !== null, 'accepted');
  let before = -1;
  // The kernel takes what its buffers hold; then nothing moves any more.
  for (let quiet = 0; quiet < 20; ) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    const pending = client.socket.writableLength;
    quiet = pending === before ? quiet + 1 : 0;
    before = pending;
    if (pending === 0 && sent < 64) {
      client.socket.write(chunk);
      sent += 1;
    }
  }
  t.ok(client.socket.writableLength > 0, 'the client has to wait');
  let got = 0;
  const reading = far as unknown as Socket;
  reading.on('data', (data: Buffer) => {
    got += data.length;
  });
  reading.resume();
  client.socket.end();
  await eventually(() => got >= sent * chunk.length, 'everything arrives once it is read');
});

t.test('a client that is gone already is not dialled for', async (t) => {
  let dialled = false;
  const port = await listen(t, () => {
    dialled = true;
  });
  const gone = connect(port, '127.0.0.1').destroy();
  const { wheel } = fakeWheel();
  const told: string[] = [];
  openEgressTunnel(
    { client: gone, head: null, host: 'a', port, addresses: ['127.0.0.1'], tls: true, audit: false, idleMs: 0, wheel },
    { opened: () => void told.push('opened'), failed: ({ code }) => void told.push(code), judged() {}, closed() {} },
  );
  t.strictSame(told, ['SLV_CLIENT_ABORTED']);
  t.notOk(dialled);
});
