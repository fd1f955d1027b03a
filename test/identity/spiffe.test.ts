import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type ServerHttp2Stream } from 'node:http2';
import { createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { issueSvid } from '../../src/identity/authority.ts';
import type { Svid } from '../../src/identity/source.ts';
import { spiffeSource } from '../../src/identity/spiffe.ts';
import { readSvids } from '../../src/identity/workload-message.ts';
import { type Domain, makeDomain } from './support/authorities.ts';
import { FakeTime } from './support/fake-time.ts';
import { listeningLog, until } from './support/log.ts';
import { denied, response, rootsOf, svidMessage, WorkloadApi } from './support/workload-api.ts';

const ORDERS = 'spiffe://shop.internal/service/orders';
const CART = 'spiffe://shop.internal/service/cart';
const HOUR_MS = 3_600_000;

const shop = await makeDomain('shop.internal');
const partner = await makeDomain('partner.internal');
const svid = (id = ORDERS, domain: Domain = shop): Promise<Svid> =>
  issueSvid(domain.intermediate, id, { now: Date.now() });
const [orders, cart] = [await svid(), await svid(CART)];
const GOOD = response([svidMessage(orders, shop), svidMessage(cart, shop)]);

function client(t: Test) {
  // The path of a unix socket has 107 bytes at most: not in the folder of the test.
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const socket = join(dir, 'agent.sock');
  const time = new FakeTime();
  const log = listeningLog();
  const source = spiffeSource({ socket }, { trustDomain: 'shop.internal', log, clock: time, random: () => 1 });
  t.teardown(() => source.close());
  let changes = 0;
  source.onChange(() => {
    changes += 1;
  });
  return { source, time, log, socket, changes: () => changes };
}

/** With an agent that answers `answer`. */
async function withAgent(t: Test, answer: WorkloadApi['answer'] = GOOD) {
  const all = client(t);
  const agent = new WorkloadApi(all.socket, answer);
  await agent.start();
  t.teardown(() => agent.stop());
  return { ...all, agent };
}

t.test('takes the certificate of each id from what the agent sends', async (t) => {
  const { source, agent } = await withAgent(t);
  await source.need([ORDERS]);
  t.strictSame(source.svid(ORDERS), orders);
  t.equal(source.svid(CART), null, 'not needed');
  await source.need([CART]);
  t.strictSame(source.svid(CART), cart);
  t.strictSame([...source.bundles()], [['shop.internal', shop.bundle]]);
  t.strictSame(source.warnings(), []);
  t.strictSame(agent.calls, ['true'], 'one call, with the metadata that it asks for');
});

t.test('knows the roots of federated trust domains', async (t) => {
  const both = rootsOf(partner.bundle + shop.bundle);
  const { source } = await withAgent(t, response([svidMessage(orders, shop)], { 'spiffe://partner.internal': both }));
  await source.need([ORDERS]);
  t.equal(source.bundles().get('partner.internal'), partner.bundle + shop.bundle);
  t.equal(source.bundles().get('shop.internal'), shop.bundle);
});

t.test('a federated trust domain without roots is not known, and spoils nothing', async (t) => {
  const none = Buffer.alloc(0);
  const { source } = await withAgent(t, response([svidMessage(orders, shop)], { 'spiffe://partner.internal': none }));
  await source.need([ORDERS]);
  t.strictSame(source.svid(ORDERS), orders);
  t.strictSame([...source.bundles().keys()], ['shop.internal']);
});

t.test('a certificate that cannot be used spoils no other', async (t) => {
  const ended = await issueSvid(shop.intermediate, CART, { now: Date.now() - 2 * HOUR_MS, lifeMs: HOUR_MS });
  const { source, agent, log, time } = await withAgent(
    t,
    response([svidMessage(ended, shop), svidMessage(orders, shop)]),
  );
  await source.need([ORDERS]);
  t.strictSame(source.svid(ORDERS), orders);
  t.strictSame(source.warnings(), [], 'nor is it needed');
  t.strictSame(log.lines, []);
  const refusal = t.rejects(source.need([CART]), /no certificate for spiffe:.*cart: it sent .*cart: expired at/);
  await time.advance(30_000);
  await refusal;
  agent.push(GOOD);
  await source.need([CART]);
  agent.push(response([svidMessage(ended, shop), svidMessage(orders, shop)]));
  await until(() => source.warnings().length === 1);
  t.match(source.warnings(), [/: it sent what .*cart: expired at .*; the certificate of spiffe:.*cart expires at/]);
  t.match(log.lines, [/^warn: the SPIFFE Workload API at .*: it sent what cannot be used: spiffe:.*cart: expired at/]);
  t.strictSame(source.svid(CART), cart, 'the one from before stays');
});

t.test('takes the first of two certificates with one id', async (t) => {
  const second = await svid();
  const { source } = await withAgent(
    t,
    response([svidMessage(orders, shop), svidMessage(second, shop, ORDERS, 'other')]),
  );
  await source.need([ORDERS]);
  t.strictSame(source.svid(ORDERS), orders);
});

t.test('rotates with what the agent pushes', async (t) => {
  const { source, agent, changes } = await withAgent(t);
  await source.need([ORDERS]);
  const bundles = source.bundles();
  const next = await svid();
  agent.push(response([svidMessage(next, shop), svidMessage(cart, shop)]));
  await until(() => changes() === 1);
  t.strictSame(source.svid(ORDERS), next);
  t.equal(source.bundles(), bundles, 'the same map, since the roots are the same');
  const other = await makeDomain('shop.internal');
  agent.push(response([svidMessage(next, { ...shop, bundle: shop.bundle + other.bundle })]));
  await until(() => changes() === 2);
  t.equal(source.bundles().get('shop.internal'), shop.bundle + other.bundle);
});

t.test('takes a message that arrives in pieces, and two that arrive at once', async (t) => {
  const { source, socket, changes } = client(t);
  const next = response([svidMessage(await svid(), shop)]);
  let stream: ServerHttp2Stream | null = null;
  await rawAgent(t, socket, async (opened) => {
    stream = opened;
    opened.respond({ ':status': 200, 'content-type': 'application/grpc' });
    for (const octet of framed(GOOD)) opened.write(Buffer.of(octet));
  });
  await source.need([ORDERS]);
  t.strictSame(source.svid(ORDERS), orders);
  (stream as ServerHttp2Stream | null)?.write(Buffer.concat([framed(GOOD), framed(next), framed(GOOD).subarray(0, 7)]));
  await until(() => changes() === 1);
  t.not(source.svid(ORDERS)?.cert, orders.cert, 'the first of them was what is known');
});

t.test('waits at a start for an agent that comes later', async (t) => {
  const { source, socket, time, log } = client(t);
  const needed = source.need([ORDERS]);
  await until(() => log.lines.length === 1);
  t.match(log.lines, [/^warn: the SPIFFE Workload API at .*agent\.sock: connect ENOENT/]);
  const agent = new WorkloadApi(socket, GOOD);
  await agent.start();
  t.teardown(() => agent.stop());
  await time.advance(1_000);
  await needed;
  t.strictSame(source.svid(ORDERS), orders);
  t.match(log.lines[1], /^info: .* answers again/);
});

t.test('keeps a process that waits for nothing else', async (t) => {
  const { socket } = client(t);
  const script = `
    import { spiffeSource } from '${new URL('../../src/identity/spiffe.ts', import.meta.url)}';
    const log = { info() {}, warn: console.log };
    await spiffeSource({ socket: '${socket}' }, { trustDomain: 'shop.internal', log }).need(['${ORDERS}']);
    process.exit(7);
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'ignore'] });
  t.teardown(() => child.kill('SIGKILL'));
  const ended = once(child, 'exit');
  await once(child.stdout, 'data');
  const agent = new WorkloadApi(socket, GOOD);
  await agent.start();
  t.teardown(() => agent.stop());
  t.strictSame(await ended, [7, null]);
});

t.test('gives up a start after half a minute, with the reason', async (t) => {
  const { source, time, log } = client(t);
  const needed = source.need([ORDERS]);
  await until(() => log.lines.length === 1);
  const refusal = t.rejects(needed, /at .*agent\.sock gives no certificate for spiffe:.*orders: connect ENOENT/);
  await time.advance(30_000);
  await refusal;
});

t.test('an agent that does not know the workload is asked again, every 4 s while a start waits', async (t) => {
  const { source, agent, time, log } = await withAgent(t, denied('no identity issued'));
  const needed = source.need([ORDERS]);
  await until(() => log.lines.length === 1);
  t.match(log.lines, [/it answers PERMISSION_DENIED \(no identity issued\)/]);
  t.equal(time.nextIn, 1_000);
  for (const [pause, next] of [
    [1_000, 2_000],
    [2_000, 4_000],
    [4_000, 4_000],
    [4_000, 4_000],
  ])
    await askedAfter(pause, next, agent, time);
  t.equal(log.lines.length, 1, 'told once');
  const refusal = t.rejects(needed, /gives no certificate for spiffe:.*orders: it answers PERMISSION_DENIED/);
  await time.advance(25_000);
  await refusal;
});

t.test('an agent that knows the workload no more is asked more seldom each time', async (t) => {
  const { source, agent, time, log } = await withAgent(t);
  await source.need([ORDERS]);
  agent.stop();
  await until(() => log.lines.length === 1);
  agent.answer = denied('no identity issued');
  await agent.start();
  for (const pause of [1_000, 2_000, 4_000, 8_000]) await askedAfter(pause, pause * 2, agent, time);
});

/** Asks once more `pause` later, and the pause after that is `next`. */
async function askedAfter(pause: number, next: number, agent: WorkloadApi, time: FakeTime): Promise<void> {
  const before = agent.calls.length;
  await time.advance(pause);
  await until(() => agent.calls.length === before + 1 && time.nextIn === next);
}

t.test('names the ids that the agent has when the needed one is not among them', async (t) => {
  const { source, time, agent } = await withAgent(t, response([svidMessage(cart, shop)]));
  const needed = source.need([CART, ORDERS]);
  await until(() => agent.open === 1);
  await until(() => source.bundles().size === 1);
  const refusal = t.rejects(
    needed,
    /gives no certificate for spiffe:.*orders, only for spiffe:.*cart: register this process for it/,
  );
  await time.advance(30_000);
  await refusal;
});

t.test('keeps what it has while the agent is away, warns, and goes on when it is back', async (t) => {
  const { source, agent, time, log, changes } = await withAgent(t);
  await source.need([ORDERS]);
  agent.stop();
  await until(() => log.lines.length === 1);
  t.match(log.lines, [/^warn: the SPIFFE Workload API at /]);
  t.strictSame(source.svid(ORDERS), orders);
  t.match(source.warnings(), [/; the certificate of spiffe:.*orders expires at \d{4}-/]);
  const next = await svid();
  agent.answer = response([svidMessage(next, shop)]);
  await agent.start();
  await time.advance(1_000);
  await until(() => changes() === 1);
  t.strictSame(source.svid(ORDERS), next);
  t.strictSame(source.warnings(), []);
});

t.test('keeps the last certificate of an id that is not sent any more, and warns', async (t) => {
  const { source, agent, changes } = await withAgent(t);
  await source.need([ORDERS, CART]);
  agent.push(response([svidMessage(cart, shop)]));
  await until(() => source.warnings().length === 1);
  t.match(source.warnings(), [/does not send the certificate of spiffe:.*orders any more; it expires at /]);
  t.strictSame(source.svid(ORDERS), orders);
  t.equal(changes(), 0, 'nothing else to show');
});

t.test('warns of a certificate that the agent does not renew', async (t) => {
  const { source, time, log } = await withAgent(t);
  await source.need([ORDERS]);
  await time.advance(20 * HOUR_MS);
  t.match(source.warnings(), [/^the certificate of spiffe:.*orders expires at .* has no newer one$/]);
  t.equal(log.lines.length, 1, 'said once');
});

t.test('says again how long a certificate lasts while the agent is away, and that it has expired', async (t) => {
  const { source, agent, time, log } = await withAgent(t);
  await source.need([ORDERS]);
  agent.stop();
  await until(() => log.lines.length === 1);
  const told = (what: RegExp) => log.lines.filter((line) => what.test(line)).length;
  await time.advance(HOUR_MS);
  t.equal(told(/; the certificate of spiffe:.*orders expires at [^ ]*$/), 1);
  await time.advance(20 * HOUR_MS);
  t.equal(told(/; the certificate of spiffe:.*orders expires at .* has no newer one$/), 1);
  await time.advance(4 * HOUR_MS);
  t.equal(told(/; the certificate of spiffe:.*orders has expired at .* has no newer one$/), 1);
  t.match(source.warnings(), [/has expired at/]);
});

t.test('a message that cannot be used changes nothing, is told, and the call is made anew', async (t) => {
  const foreign = await makeDomain('shop.internal');
  const bad: readonly (readonly [Buffer, RegExp])[] = [
    [Buffer.from('nonsense'), /a malformed message/],
    [GOOD.subarray(0, GOOD.length - 5), /a malformed message/],
    [response([svidMessage(orders, shop, CART)]), /cart: its certificate is that of spiffe:.*orders/],
    [response([svidMessage(orders, shop, 'https://shop.internal/')]), /"https:\/\/shop\.internal\/" is no SPIFFE id/],
    [response([svidMessage({ ...orders, key: cart.key }, shop)]), /the key is not that of the certificate/],
    [response([svidMessage(await svid(ORDERS, foreign), shop)]), /no known CA has signed it/],
    [response([svidMessage(orders, shop)], { nonsense: rootsOf(shop.bundle) }), /"nonsense" is no SPIFFE id/],
    [
      response([svidMessage(orders, shop)], { 'spiffe://partner.internal': Buffer.from('30030000') }),
      /a malformed message/,
    ],
  ];
  for (const [message, reason] of bad) {
    const { source, agent, log, time, changes } = await withAgent(t);
    await source.need([ORDERS]);
    agent.push(message);
    await until(() => log.lines.length === 1);
    t.match(log.lines[0], reason);
    t.strictSame(source.svid(ORDERS), orders);
    const next = await svid();
    agent.answer = response([svidMessage(next, shop)]);
    await time.advance(1_000);
    await until(() => changes() === 1);
    t.strictSame(source.svid(ORDERS), next);
    source.close();
    agent.stop();
  }
});

t.test('what is no Workload API is told as what it is', async (t) => {
  const cases: readonly (readonly [(stream: ServerHttp2Stream) => void, RegExp])[] = [
    [(stream) => stream.respond({ ':status': 404 }, { endStream: true }), /HTTP status 404/],
    [(stream) => stream.respond({ ':status': 200 }, { endStream: true }), /the stream was closed/],
    [
      (stream) => stream.respond({ ':status': 200, 'grpc-status': '12' }, { endStream: true }),
      /it answers UNIMPLEMENTED/,
    ],
    [(stream) => stream.close(2), /INTERNAL_ERROR/],
    [
      (stream) => {
        stream.respond({ ':status': 200 });
        stream.write(Buffer.from('0100000000', 'hex'));
      },
      /a compressed message/,
    ],
    [
      (stream) => {
        stream.respond({ ':status': 200 });
        stream.write(Buffer.from('0000400001', 'hex'));
      },
      /a message of more than 4194304 bytes/,
    ],
  ];
  for (const [act, reason] of cases) {
    const { source, socket, log } = client(t);
    const close = await rawAgent(t, socket, async (stream) => act(stream));
    source.need([ORDERS]).catch(() => {});
    await until(() => log.lines.length === 1);
    t.match(log.lines[0], reason);
    source.close();
    close();
  }
  const { source, socket, log } = client(t);
  const tcp = createTcpServer((connection) => connection.end('HTTP/1.1 400 Bad Request\r\n\r\n')).listen(socket);
  t.teardown(() => tcp.close());
  source.need([ORDERS]).catch(() => {});
  await until(() => log.lines.length === 1);
  t.match(log.lines[0], /^warn: the SPIFFE Workload API/);
});

t.test('no bytes at all make the decoder throw', async (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (octets) => {
        readSvids(Buffer.from(octets));
      }),
      { seed: 5, numRuns: 2_000 },
    ),
  );
  let malformed = 0;
  for (let length = 1; length < GOOD.length; length++) if (readSvids(GOOD.subarray(0, length)) === null) malformed += 1;
  // Of all beginnings only the one that ends with the first certificate is whole.
  t.equal(malformed, GOOD.length - 2);
});

t.test('a source that is closed lets its stream go, and whoever waits', async (t) => {
  const { source, agent, time } = await withAgent(t, response([svidMessage(cart, shop)]));
  const needed = source.need([ORDERS]);
  const refusal = t.rejects(needed, /closed/);
  await until(() => agent.open === 1);
  source.close();
  await refusal;
  await until(() => agent.open === 0);
  t.equal(time.waiting, 0);
});

function framed(message: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** An HTTP/2 server that does with each stream what a gRPC library would not. Returns how to close it. */
async function rawAgent(
  t: Test,
  socket: string,
  act: (stream: ServerHttp2Stream) => Promise<void>,
): Promise<() => void> {
  const sessions = new Set<{ destroy(): void }>();
  const server = createServer();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('error', () => {});
  });
  server.on('stream', (stream: ServerHttp2Stream) => {
    stream.on('error', () => {});
    void act(stream);
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  const close = (): void => {
    for (const session of sessions) session.destroy();
    server.close();
  };
  t.teardown(close);
  return close;
}
