// Two sides joined, as streams that the test holds in its hands: what ends, breaks or rests on one, and what becomes of the other.
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import t, { type Test } from 'tap';
import { Splice, type SpliceEnd } from '../../../src/upstream/tcp/splice.ts';
import { eventually } from '../../e2e/support/sockets.ts';
import { fakeWheel } from '../../support/fake-clock.ts';

/** One side: what it says is pushed, what is said to it is written down, and taken only while it reads. */
class Side extends Duplex {
  readonly heard: string[] = [];
  reset = false;
  ended = false;
  #waiting: (() => void) | null = null;
  #reads = true;

  constructor() {
    super({ allowHalfOpen: true, highWaterMark: 16 });
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.heard.push(String(chunk));
    if (this.#reads) done();
    else this.#waiting = done;
  }

  override _final(done: () => void): void {
    this.ended = true;
    done();
  }

  stopReading(): void {
    this.#reads = false;
  }

  readOn(): void {
    this.#reads = true;
    this.#waiting?.();
    this.#waiting = null;
  }

  resetAndDestroy(): void {
    this.reset = true;
    this.destroy();
  }

  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }
}

function lineOf(side: Side) {
  const socket = side as unknown as Socket;
  return { socket, wire: socket };
}

function join(t: Test, idleMs = 0) {
  const { wheel, clock } = fakeWheel();
  const [client, server] = [new Side(), new Side()];
  t.teardown(() => {
    client.destroy();
    server.destroy();
  });
  const ends: SpliceEnd[] = [];
  const splice = new Splice(lineOf(client), lineOf(server), { idleMs, wheel }, (end) => ends.push(end));
  splice.join();
  return { client, server, splice, ends, clock };
}

t.test('each side may end for itself, and it is over when both have', async (t) => {
  const { client, server, splice, ends } = join(t);
  client.push('question');
  client.push(null);
  await eventually(() => server.ended, 'the server hears the end');
  t.strictSame(server.heard, ['question']);
  t.notOk(client.ended, 'and may still answer');
  server.push('answer');
  server.push(null);
  await eventually(() => ends.length === 1, 'it is over');
  t.strictSame([client.heard, ends, splice.fromClient, splice.fromServer], [['answer'], [null], 8, 6]);
  t.notOk(client.reset || server.reset);
});

t.test('what one side does not take is not read from the other', async (t) => {
  const { client, server } = join(t);
  server.stopReading();
  let pushed = 0;
  while (pushed < 100 && (client.push('0123456789') || pushed < 3)) {
    pushed++;
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.ok(pushed < 10, 'the client is held up');
  t.equal(server.heard.length, 1);
  server.readOn();
  await eventually(() => server.heard.join('').length >= pushed * 10, 'all of it comes');
});

for (const [broken, other, end] of [
  ['client', 'server', 'client'],
  ['server', 'client', 'server'],
] as const) {
  t.test(`a ${broken} that breaks off resets the ${other}`, async (t) => {
    const sides = join(t);
    sides[broken].push('half a ');
    sides[broken].destroy(new Error('ECONNRESET'));
    await eventually(() => sides.ends.length === 1, 'it is over');
    t.ok(sides[other].reset);
    t.notOk(sides[other].ended, 'it hears no end');
    t.strictSame(sides.ends, [end]);
  });
}

t.test('the answer of a server that breaks off afterwards is delivered to the end', async (t) => {
  const { client, server, ends } = join(t);
  client.stopReading();
  server.push('answer');
  server.push(null);
  await eventually(() => server.readableEnded, 'the answer has come');
  server.destroy(new Error('EPIPE'));
  await eventually(() => server.closed, 'the server is gone');
  t.notOk(client.destroyed);
  client.readOn();
  await eventually(() => ends.length === 1, 'it is over');
  t.strictSame([client.heard, client.ended, client.reset, ends], [['answer'], true, false, ['server']]);
});

t.test('what rests for too long is cut on both sides; bytes either way keep it', async (t) => {
  const { client, server, ends, clock } = join(t, 1_000);
  for (const side of [client, server, client]) {
    side.push('x');
    await eventually(() => (side === client ? server : client).heard.length > 0, 'passed on');
    clock.advance(1_100);
    t.strictSame(ends, []);
  }
  clock.advance(2_100);
  await eventually(() => ends.length === 1, 'it is over');
  t.strictSame([ends, client.reset, server.reset], [['idle'], true, true]);
});

t.test('it can be cut', async (t) => {
  const { client, server, splice, ends } = join(t);
  splice.cut();
  await eventually(() => ends.length === 1, 'it is over');
  t.strictSame([ends, client.reset, server.reset], [[null], true, true]);
});
