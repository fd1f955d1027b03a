// A request body that is read once and sent several times.
import { once } from 'node:events';
import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';
import { ReplayBody, type ReplayReader } from '../../src/http/replay-body.ts';

/** A client that sends when told to. */
function client(): PassThrough {
  return new PassThrough({ highWaterMark: 4 });
}

async function read(reader: ReplayReader): Promise<string> {
  return (await buffer(reader)).toString();
}

const LISTENERS = ['data', 'end', 'error', 'close'] as const;

function listeners(source: Readable): readonly number[] {
  return LISTENERS.map((event) => source.listenerCount(event));
}

t.test('gives every reader the whole body: what was read before, then the rest as it comes', async (t) => {
  const source = client();
  const body = new ReplayBody(source, 100);
  const first = body.open();
  const seen: string[] = [];
  first.on('data', (chunk) => seen.push(String(chunk)));
  source.write('ab');
  await turn();
  source.write('cd');
  await turn();
  t.strictSame(seen, ['ab', 'cd']);
  t.equal(body.whole, null, 'nobody knows the end yet');
  const closed = once(first, 'close');
  const second = body.open();
  await closed;
  t.equal(first.errored, null, 'the earlier one is cut off silently');
  source.end('ef');
  t.equal(await read(second), 'abcdef');
  t.strictSame(seen, ['ab', 'cd']);
  t.equal(body.whole?.toString(), 'abcdef');
  t.equal(await read(body.open()), 'abcdef', 'after the end too');
});

t.test('reads nothing before a reader wants it, and no more than it takes', async (t) => {
  let asked = 0;
  const source = new Readable({
    highWaterMark: 1,
    read() {
      asked += 1;
      setImmediate(() => this.push('x'));
    },
  });
  const body = new ReplayBody(source, 1_000);
  const reader = body.open();
  await turn();
  t.equal(asked, 0);
  t.notOk(reader.readableDidRead);
  let got = 0;
  reader.on('data', () => {
    got += 1;
    if (got === 5) reader.pause();
  });
  while (got < 5) await turn();
  await turn();
  await turn();
  await turn();
  const before = asked;
  t.ok(before <= 9, `${before} chunks were asked for`);
  for (let i = 0; i < 10; i++) await turn();
  t.equal(asked, before, 'a paused reader holds the source back');
  reader.resume();
  while (got < 50) await turn();
  reader.destroy();
  for (let i = 0; i < 4; i++) await turn();
  const left = asked;
  for (let i = 0; i < 10; i++) await turn();
  t.equal(asked, left, 'so does one that gave up');
  t.notOk(source.destroyed);
  t.ok(source.isPaused());
  source.destroy();
});

t.test('keeps up to the limit; past it what is kept is dropped and the open reader goes on', async (t) => {
  for (const [limit, replayable] of [
    [6, true],
    [5, false],
    [0, false],
  ] as const) {
    const source = client();
    const body = new ReplayBody(source, limit);
    const told: (string | null)[] = [];
    body.onWhole((whole) => told.push(whole === null ? null : whole.toString()));
    const reading = read(body.open());
    source.write('abc');
    await turn();
    source.end('def');
    t.equal(await reading, 'abcdef');
    t.equal(body.replayable, replayable, String(limit));
    t.strictSame(told, [replayable ? 'abcdef' : null]);
    t.equal(body.whole?.toString(), replayable ? 'abcdef' : undefined);
    if (!replayable) t.throws(() => body.open(), { message: /dropped/ });
  }
});

t.test('an empty body is whole, whatever the limit', async (t) => {
  const source = client();
  const body = new ReplayBody(source, 0);
  const reading = read(body.open());
  source.end();
  t.equal(await reading, '');
  t.equal(body.whole?.length, 0);
  t.ok(body.replayable);
});

t.test('the larger bound counts where two want the body, and the later release', async (t) => {
  const source = client();
  const body = new ReplayBody(source, 2);
  body.keep(6);
  const reading = read(body.open());
  source.write('abc');
  await turn();
  body.release();
  t.ok(body.replayable);
  source.end('def');
  t.equal(await reading, 'abcdef');
  t.equal(body.whole?.toString(), 'abcdef');
  body.release();
  t.notOk(body.replayable);
  t.equal(body.whole, null);
});

t.test(
  'after a release the open reader goes on, and whoever waits for the whole hears that it will not come',
  async (t) => {
    const source = client();
    const body = new ReplayBody(source, 100);
    const told: unknown[] = [];
    body.onWhole((whole) => told.push(whole));
    const reading = read(body.open());
    source.write('abc');
    await turn();
    body.release();
    t.strictSame(told, [null]);
    source.end('def');
    t.equal(await reading, 'abcdef');
    t.strictSame(told, [null], 'once');
    body.onWhole((whole) => told.push(whole));
    t.strictSame(told, [null, null], 'who asks late hears it at once');
  },
);

t.test('a reader may be opened after a release, as long as nothing was read', async (t) => {
  const source = client();
  const body = new ReplayBody(source, 100);
  body.release();
  source.end('abc');
  t.equal(await read(body.open()), 'abc');
});

t.test('a source that fails takes the open reader with it, and every later one', async (t) => {
  const cases: [string, (source: PassThrough) => void, RegExp][] = [
    ['an error', (source) => source.destroy(new Error('broken')), /^broken$/],
    ['a close before the end', (source) => source.destroy(), /before its end/],
  ];
  for (const [name, fail, message] of cases) {
    const source = client();
    const body = new ReplayBody(source, 100);
    const told: unknown[] = [];
    body.onWhole((whole) => told.push(whole));
    const reader = body.open();
    source.write('ab');
    const failed = t.rejects(buffer(reader), { message }, name);
    await turn();
    fail(source);
    await failed;
    await t.rejects(buffer(body.open()), { message }, `${name}, opened after it`);
    t.strictSame(told, [null]);
    t.notOk(body.replayable);
  }
});

t.test('a source that failed before anything was opened, or nobody listens to, ends nothing else', async (t) => {
  const early = client();
  const body = new ReplayBody(early, 100);
  early.destroy(new Error('broken'));
  await turn();
  const unheard = body.open();
  await turn();
  t.ok(unheard.destroyed);
  t.match(unheard.errored, { message: 'broken' });
  const gone = client();
  gone.destroy();
  t.match(new ReplayBody(gone, 100).open().errored, { message: /read or destroyed/ });
  const read = client();
  read.end('a');
  await buffer(read);
  t.match(new ReplayBody(read, 100).open().errored, { message: /read or destroyed/ });
});

t.test('strings are bytes, and anything else is refused', async (t) => {
  const text = client();
  text.setEncoding('utf8');
  const body = new ReplayBody(text, 100);
  text.end('äö');
  t.equal(await read(body.open()), 'äö');
  const objects = Readable.from([{ a: 1 }]);
  await t.rejects(buffer(new ReplayBody(objects, 100).open()), { name: 'TypeError', message: /bytes/ });
});

t.test('what somebody else read is not passed off as a whole body', async (t) => {
  const source = client();
  const body = new ReplayBody(source, 100);
  const reader = body.open();
  reader.on('data', () => {});
  source.write('ab');
  await turn();
  // As Node's server does with a request whose response is over.
  source.removeAllListeners('data');
  source.resume();
  source.end('cd');
  await t.rejects(once(reader, 'end'), { message: /somebody else/ });
  t.equal(body.whole, null);
});

t.test('without a reader the source may be drained, and is kept whole only if it fits', async (t) => {
  for (const [limit, whole] of [
    [100, 'abcd'],
    [3, undefined],
  ] as const) {
    const source = client();
    const body = new ReplayBody(source, limit);
    const reader = body.open();
    reader.resume();
    source.write('ab');
    await turn();
    reader.destroy();
    await turn();
    source.resume();
    source.end('cd');
    await once(source, 'end');
    t.equal(body.whole?.toString(), whole);
  }
});

t.test('is read to its end without any reader when told to', async (t) => {
  const source = client();
  const body = new ReplayBody(source, 100);
  body.open().destroy();
  const whole = new Promise<Buffer | null>((resolve) => body.onWhole(resolve));
  source.end('abcd');
  body.drain();
  t.equal(String(await whole), 'abcd');
});

t.test('says of its arrival what the source says', async (t) => {
  const source = Object.assign(client(), { complete: false, receivedBytes: 2, rawTrailers: [] as string[] });
  const body = new ReplayBody(source, 100);
  const reader = body.open();
  t.equal(reader.origin, body);
  t.equal(reader.complete, false);
  t.equal(reader.receivedBytes, 2);
  Object.assign(source, { complete: true, receivedBytes: 4, rawTrailers: ['x-sum', '1'] });
  t.equal(reader.complete, true);
  t.equal(reader.receivedBytes, 4);
  const trailers = once(reader, 'end').then(() => reader.rawTrailers);
  reader.resume();
  source.end('abcd');
  t.strictSame(await trailers, ['x-sum', '1']);
  const plain = client();
  const other = new ReplayBody(plain, 100).open();
  t.strictSame([other.complete, other.receivedBytes, other.rawTrailers], [false, undefined, []]);
  plain.end();
  await buffer(other);
  t.equal(other.complete, true);
});

t.test('leaves no listener on the source, however it ends', async (t) => {
  const whole = client();
  const before = listeners(whole);
  const body = new ReplayBody(whole, 100);
  whole.end('abc');
  await read(body.open());
  t.strictSame(listeners(whole), before);
  const broken = client();
  const failing = new ReplayBody(broken, 100).open();
  failing.resume();
  const closed = new Promise((resolve) => broken.on('close', resolve));
  broken.destroy(new Error('broken'));
  await closed;
  broken.removeAllListeners('close');
  t.strictSame(listeners(broken), listeners(client().removeAllListeners('close')));
});

t.test('whatever the chunks, the pauses and the cuts: the last reader has every byte, in order', async () => {
  const chunk = fc.uint8Array({ minLength: 0, maxLength: 40 });
  const step = fc.oneof(
    { weight: 4, arbitrary: chunk.map((bytes) => ({ kind: 'send' as const, bytes: Buffer.from(bytes) })) },
    { weight: 2, arbitrary: fc.constant({ kind: 'pause' as const }) },
    { weight: 2, arbitrary: fc.constant({ kind: 'resume' as const }) },
    { weight: 2, arbitrary: fc.constant({ kind: 'turn' as const }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'reopen' as const }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'destroy' as const }) },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 60 }),
      fc.integer({ min: 1, max: 64 }),
      async (steps, highWaterMark) => {
        const source = new PassThrough({ highWaterMark });
        const sent: Buffer[] = [];
        const body = new ReplayBody(source, 4_000);
        let got: Buffer[] = [];
        const open = (): ReplayReader => {
          got = [];
          const mine = got;
          const reader = body.open();
          reader.on('data', (bytes) => mine.push(bytes));
          return reader;
        };
        let reader = open();
        for (const one of steps) {
          if (one.kind === 'send') {
            sent.push(one.bytes);
            source.write(one.bytes);
          } else if (one.kind === 'pause') reader.pause();
          else if (one.kind === 'resume') reader.resume();
          else if (one.kind === 'destroy') reader.destroy();
          else if (one.kind === 'reopen') reader = open();
          else await turn();
        }
        source.end();
        if (reader.destroyed) reader = open();
        const ended = once(reader, 'end');
        reader.resume();
        await ended;
        const expected = Buffer.concat(sent);
        return Buffer.concat(got).equals(expected) && body.whole?.equals(expected) === true;
      },
    ),
    { seed: 20_240, numRuns: 300 },
  );
});
