// The first words of a TLS client: read from real ones and made ones, never past their end, never wrongly.
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { connect } from 'node:tls';
import * as fc from 'fast-check';
import t from 'tap';
import { MAX_HELLO_BYTES, readHello } from '../../src/egress/client-hello.ts';

const u8 = (value: number): Buffer => Buffer.from([value]);
const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255]);
const u24 = (value: number): Buffer => Buffer.from([value >> 16, (value >> 8) & 255, value & 255]);
const vector = (size: (value: number) => Buffer, ...parts: Buffer[]): Buffer => {
  const content = Buffer.concat(parts);
  return Buffer.concat([size(content.length), content]);
};

const serverName = (name: string, type = 0): Buffer =>
  Buffer.concat([u16(0), vector(u16, vector(u16, u8(type), vector(u16, Buffer.from(name, 'latin1'))))]);
const other = (type: number, size: number): Buffer => Buffer.concat([u16(type), vector(u16, Buffer.alloc(size))]);

function hello(extensions: readonly Buffer[] | null, session = 32): Buffer {
  const body = Buffer.concat([
    u16(0x0303),
    Buffer.alloc(32, 7),
    vector(u8, Buffer.alloc(session)),
    vector(u16, u16(0x1301)),
    vector(u8, u8(0)),
    ...(extensions === null ? [] : [vector(u16, ...extensions)]),
  ]);
  return Buffer.concat([u8(1), vector(u24, body)]);
}

/** The message as records of at most `size` octets. */
function records(message: Buffer, size = 16_384): Buffer {
  const parts: Buffer[] = [];
  for (let from = 0; from < message.length; from += size)
    parts.push(u8(22), u16(0x0301), vector(u16, message.subarray(from, from + size)));
  return Buffer.concat(parts);
}

t.test('the name in what a real client says is found, however it is cut', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const client = connect({ port, host: '127.0.0.1', servername: 'api.example.com' });
  client.on('error', () => undefined);
  const [socket] = (await once(server, 'connection')) as [Socket];
  const [octets] = (await once(socket, 'data')) as [Buffer];
  client.destroy();
  socket.destroy();
  server.close();
  t.strictSame(readHello(octets), { kind: 'hello', serverName: 'api.example.com' });
  for (let length = 0; length < octets.length; length++)
    t.equal(readHello(octets.subarray(0, length)).kind, 'more', `${length} octets`);
  t.strictSame(readHello(Buffer.concat([octets, Buffer.from('early data')])), {
    kind: 'hello',
    serverName: 'api.example.com',
  });
});

t.test('a name is found over several records, among other extensions, in lower case', async (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ type: fc.integer({ min: 1, max: 65_535 }), size: fc.nat(40) }), { maxLength: 6 }),
      fc.nat(6),
      fc.integer({ min: 1, max: 300 }),
      fc.nat(32),
      (others, position, size, session) => {
        const extensions = others.map((one) => other(one.type, one.size));
        extensions.splice(position, 0, serverName('A-1.Example.com'));
        const octets = records(hello(extensions, session), size);
        t.strictSame(readHello(octets), { kind: 'hello', serverName: 'a-1.example.com' });
        t.equal(readHello(octets.subarray(0, octets.length - 1)).kind, 'more');
      },
    ),
    { numRuns: 300, seed: 11 },
  );
});

t.test('a hello without a name says so', async (t) => {
  t.strictSame(readHello(records(hello(null))), { kind: 'hello', serverName: null });
  t.strictSame(readHello(records(hello([]))), { kind: 'hello', serverName: null });
  t.strictSame(readHello(records(hello([other(43, 3)]))), { kind: 'hello', serverName: null });
});

t.test('what can be read in two ways is malformed', async (t) => {
  const twoNames = Buffer.concat([
    u16(0),
    vector(u16, vector(u16, ...['a.test', 'b.test'].flatMap((name) => [u8(0), vector(u16, Buffer.from(name))]))),
  ]);
  for (const [what, extensions] of Object.entries({
    'two extensions': [serverName('a.test'), serverName('b.test')],
    'two names': [twoNames],
    'another kind of name': [serverName('a.test', 1)],
    'an empty name': [serverName('')],
    'a trailing dot': [serverName('a.test.')],
    'a NUL': [serverName('a.test\0.b.test')],
    'a space': [serverName('a.test b')],
    'no list': [Buffer.concat([u16(0), u16(0)])],
    'too long': [serverName(`${'a'.repeat(254)}`)],
  })) {
    t.equal(readHello(records(hello(extensions))).kind, 'malformed', what);
  }
  const whole = hello([serverName('a.test')]);
  const trailing = Buffer.concat([u8(1), vector(u24, whole.subarray(4), u8(0))]);
  t.equal(readHello(records(trailing)).kind, 'malformed', 'something behind the extensions');
});

t.test('what is no TLS is seen by its first octets', async (t) => {
  for (const text of ['GET / HTTP/1.1', 'SSH-2.0-x', '\0', '\x80\x2e\x01', '\x16\x02', '\x15\x03\x03\0\x02\x02\x28'])
    t.equal(readHello(Buffer.from(text, 'latin1')).kind, 'not_tls', JSON.stringify(text));
  t.equal(readHello(Buffer.alloc(0)).kind, 'more');
});

t.test('a hello larger than the bound is malformed, announced or not', async (t) => {
  t.equal(readHello(records(Buffer.concat([u8(1), u24(MAX_HELLO_BYTES), Buffer.alloc(10)]))).kind, 'malformed');
  const crumbs = records(hello([other(9, 8_000), serverName('a.test')]), 1).subarray(0, MAX_HELLO_BYTES);
  t.equal(readHello(crumbs).kind, 'malformed', 'one octet a record');
});

t.test('no octets whatever make it throw, or find a name that is not there', async (t) => {
  const good = records(hello([other(5, 9), serverName('api.example.com'), other(16, 20)]));
  fc.assert(
    fc.property(
      fc.array(fc.record({ at: fc.nat(good.length - 1), value: fc.nat(255) }), { maxLength: 4 }),
      (changes) => {
        const octets = Buffer.from(good);
        for (const { at, value } of changes) octets[at] = value;
        const found = readHello(octets);
        if (found.kind === 'hello' && found.serverName !== null) {
          t.ok(octets.toString('latin1').toLowerCase().includes(found.serverName));
          t.match(found.serverName, /^[a-z0-9_.-]{1,253}$/);
        }
      },
    ),
    { numRuns: 3_000, seed: 3 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (octets) => {
      readHello(Buffer.from([22, 3, 1, ...octets]));
      readHello(Buffer.from(octets));
    }),
    { numRuns: 3_000, seed: 5 },
  );
});
