// How spans leave the process: in batches, with a bound on everything, whatever the collector does.
import t from 'tap';
import type { Answer, Post } from '../../../src/plugins/tracing/collector.ts';
import { type Result, SpanExporter, sourceOf } from '../../../src/plugins/tracing/exporter.ts';

const SOURCE = sourceOf('gateway/public', '1.2.3', 'id');
const TAKEN: Answer = { error: null, rejected: 0, again: false, afterMs: 0 };
const DOWN: Answer = { error: new Error('connect ECONNREFUSED'), rejected: 0, again: true, afterMs: 0 };
const REFUSED: Answer = { error: new Error('the collector answered 400'), rejected: 0, again: false, afterMs: 0 };

/** Timeouts that come due when the test moves time on, one after the other, with everything in between settled. */
class Timeouts {
  #now = 0;
  #due: { at: number; callback: () => void }[] = [];
  readonly random = (): number => 1;

  readonly set = (callback: () => void, ms: number): unknown => {
    const entry = { at: this.#now + ms, callback };
    this.#due.push(entry);
    return entry;
  };

  readonly clear = (handle: unknown): void => {
    this.#due = this.#due.filter((entry) => entry !== handle);
  };

  get pending(): number {
    return this.#due.length;
  }

  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      await settled();
      const [next] = this.#due.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#now = next.at;
      this.clear(next);
      next.callback();
    }
    this.#now = end;
    await settled();
  }
}

function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function rig(answers: (Answer | Promise<Answer>)[] = []) {
  const clock = new Timeouts();
  const sent: { service: string; spans: number[] }[][] = [];
  const counts: Record<Result, number> = { exported: 0, dropped: 0, failed: 0 };
  const said: string[] = [];
  let closed = 0;
  const post: Post = {
    send(body) {
      const { resourceSpans } = JSON.parse(body);
      sent.push(
        resourceSpans.map(({ resource, scopeSpans }: never) => ({
          service: (resource as { attributes: { value: { stringValue: string } }[] }).attributes[0].value.stringValue,
          spans: (scopeSpans as { spans: { n: number }[] }[])[0].spans.map(({ n }) => n),
        })),
      );
      return Promise.resolve(answers.shift() ?? TAKEN);
    },
    close: () => void closed++,
  };
  const exporter = new SpanExporter(
    post,
    {
      counted: (result, spans) => {
        counts[result] += spans;
      },
      onTrouble: ({ message }) => said.push(message),
      onRecovery: () => said.push('again'),
    },
    clock,
  );
  let next = 0;
  const add = (count: number, source = SOURCE): void => {
    for (let index = 0; index < count; index++) exporter.add(source, `{"n":${next++}}`);
  };
  return { clock, sent, counts, said, exporter, add, closed: () => closed };
}

t.test('spans wait for one another, five seconds at the most', async (t) => {
  const { clock, sent, counts, add } = rig();
  add(3);
  await clock.advance(4_999);
  t.same(sent, []);
  await clock.advance(1);
  t.same(sent, [[{ service: 'gateway/public', spans: [0, 1, 2] }]]);
  t.same(counts, { exported: 3, dropped: 0, failed: 0 });
  await clock.advance(60_000);
  t.equal(sent.length, 1, 'nothing is sent where there is nothing');
});

t.test('a full batch does not wait', async (t) => {
  const { clock, sent, add } = rig();
  add(512);
  await clock.advance(0);
  t.equal(sent.length, 1);
  t.equal(sent[0][0].spans.length, 512);
});

t.test('spans of several roles travel in one request, each under its own name', async (t) => {
  const { clock, sent, add } = rig();
  const other = sourceOf('service/$&orders', '1.2.3', 'id');
  add(1);
  add(2, other);
  add(1);
  await clock.advance(5_000);
  t.same(sent, [
    [
      { service: 'gateway/public', spans: [0, 3] },
      { service: 'service/$&orders', spans: [1, 2] },
    ],
  ]);
});

t.test('past 2,048 waiting spans the new ones are dropped and counted; those that wait are kept', async (t) => {
  let answer: (answer: Answer) => void = () => {};
  const { clock, sent, counts, add } = rig([new Promise((resolve) => (answer = resolve))]);
  add(512);
  await clock.advance(0);
  add(2_048 + 7);
  t.equal(counts.dropped, 7);
  answer(TAKEN);
  await clock.advance(0);
  t.same(counts, { exported: 512 + 2_048, dropped: 7, failed: 0 });
  t.same(
    sent.map(([{ spans }]) => spans.length),
    [512, 512, 512, 512, 512],
  );
});

t.test('a collector that is down is tried five times, ever later, and is spoken of once', async (t) => {
  const { clock, sent, counts, said, add } = rig([DOWN, DOWN, DOWN, DOWN, DOWN, DOWN]);
  add(512);
  await clock.advance(0);
  for (const wait of [1_000, 2_000, 4_000, 8_000]) {
    const before = sent.length;
    await clock.advance(wait - 1);
    t.equal(sent.length, before, `not before ${wait} ms`);
    await clock.advance(1);
  }
  t.equal(sent.length, 5);
  t.same(counts, { exported: 0, dropped: 0, failed: 512 });
  add(1);
  await clock.advance(6_000);
  t.same(counts, { exported: 1, dropped: 0, failed: 512 });
  t.same(said, ['connect ECONNREFUSED', 'again']);
});

t.test('Retry-After is not undercut, and not waited for longer than half a minute', async (t) => {
  const { clock, sent, add } = rig([
    { ...DOWN, afterMs: 20_000 },
    { ...DOWN, afterMs: 3_600_000 },
  ]);
  add(512);
  await clock.advance(19_999);
  t.equal(sent.length, 1);
  await clock.advance(1);
  t.equal(sent.length, 2);
  await clock.advance(29_999);
  t.equal(sent.length, 2);
  await clock.advance(1);
  t.equal(sent.length, 3);
});

t.test('what a collector refuses for good is not sent again', async (t) => {
  const { clock, sent, counts, said, add } = rig([REFUSED]);
  add(1);
  await clock.advance(60_000);
  t.equal(sent.length, 1);
  t.same(counts, { exported: 0, dropped: 0, failed: 1 });
  t.same(said, ['the collector answered 400']);
});

t.test('spans that a collector left out of a batch have failed', async (t) => {
  const { clock, counts, add } = rig([
    { ...TAKEN, rejected: 2 },
    { ...TAKEN, rejected: 99 },
  ]);
  add(5);
  await clock.advance(5_000);
  t.same(counts, { exported: 3, dropped: 0, failed: 2 });
  add(5);
  await clock.advance(5_000);
  t.same(counts, { exported: 3, dropped: 0, failed: 7 }, 'never more than were sent');
});

t.test('closing sends what waits, with one try a batch', async (t) => {
  const { clock, sent, counts, exporter, add, closed } = rig([DOWN]);
  add(700);
  await exporter.close();
  t.equal(sent.length, 2);
  t.same(counts, { exported: 188, dropped: 0, failed: 512 });
  t.equal(clock.pending, 0, 'no timer is left behind');
  t.equal(closed(), 1);
  add(1);
  t.equal(counts.dropped, 1, 'after the end');
});

t.test('closing ends the pause between two tries', async (t) => {
  const { clock, sent, counts, exporter, add } = rig([DOWN]);
  add(512);
  await clock.advance(0);
  t.equal(sent.length, 1);
  await exporter.close();
  t.equal(sent.length, 2);
  t.same(counts, { exported: 512, dropped: 0, failed: 0 });
});

t.test('closing waits five seconds for a collector that does not answer, not longer', async (t) => {
  let answer: (answer: Answer) => void = () => {};
  const { clock, sent, counts, exporter, add, closed } = rig([new Promise((resolve) => (answer = resolve))]);
  add(600);
  let over = false;
  const closing = exporter.close().then(() => {
    over = true;
  });
  await clock.advance(4_999);
  t.equal(closed(), 0);
  await clock.advance(1);
  t.equal(closed(), 1, 'the request under way is ended');
  answer(DOWN);
  await closing;
  t.equal(over, true);
  t.equal(sent.length, 1, 'and no other begun');
  t.same(counts, { exported: 0, dropped: 0, failed: 600 });
});
