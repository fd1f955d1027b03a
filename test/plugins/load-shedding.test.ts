// load-shedding: who is refused at which level, with levels that the test sets, and once with a process that really is too busy.
import { getHeapStatistics } from 'node:v8';
import { pino } from 'pino';
import t from 'tap';
import { type Levels, SampledPressure } from '../../src/plugins/pressure.ts';
import { SharedStore } from '../../src/runtime/shared.ts';
import { type ChainOptions, sentValues, testChain } from '../support/chain.ts';

const CALM: Levels = { event_loop_delay: 0.001, event_loop_utilization: 0.2, heap: 1e6, rss: 2e6 };

class SetPressure {
  readonly ready = Promise.resolve();
  samples = 1;
  levels = CALM;

  set(levels: Partial<Levels>): void {
    this.levels = { ...CALM, ...levels };
    this.samples += 1;
  }
}

type Ends = { teardown(end: () => unknown): unknown };

async function shedding(t: Ends, options: Record<string, unknown> = {}, chainOptions: ChainOptions = {}) {
  const store = chainOptions.store ?? new SharedStore();
  const pressure = store.use({}, 'load-shedding pressure', () => new SetPressure());
  const chain = await testChain([['load-shedding', options]], { ...chainOptions, store });
  t.teardown(() => chain.close());
  return { chain, pressure, status: async (headers = {}) => (await chain.inject({ url: '/', headers })).statusCode };
}

t.test('a calm process serves everybody', async (t) => {
  for (const priority of ['low', 'normal', 'high']) {
    const { status } = await shedding(t, { priority });
    t.equal(await status(), 200);
  }
});

t.test('an overloaded one answers 503 with Retry-After and code, and the service is not asked', async (t) => {
  const { chain, pressure } = await shedding(t);
  pressure.set({ event_loop_delay: 1.1 });
  const response = await chain.inject({ url: '/' });
  t.equal(response.statusCode, 503);
  t.equal(response.headers['retry-after'], '2');
  t.equal(response.json().code, 'SLV_OVERLOADED');
  t.equal(chain.exchanges[0].reason, 'overloaded', 'what the access log says');
  t.equal(chain.sent.length, 0);
  t.match(
    await chain.registry.metrics(),
    'selvedge_shed_total{owner="public",route="orders",priority="normal",reason="event_loop_delay"} 1',
  );
  pressure.set({});
  t.equal((await chain.inject({ url: '/' })).statusCode, 200, 'as soon as it is calm');
});

t.test('each measure counts by its own limit', async (t) => {
  const heapLimit = getHeapStatistics().heap_size_limit;
  for (const [options, calm, over, reason] of [
    [{ maxEventLoopDelay: '200ms' }, { event_loop_delay: 0.2 }, { event_loop_delay: 0.201 }, 'event_loop_delay'],
    [{}, { heap: heapLimit * 0.94 }, { heap: heapLimit * 0.96 }, 'heap'],
    [{ maxHeapUsed: '1MiB' }, { heap: 2 ** 20 }, { heap: 2 ** 20 + 1 }, 'heap'],
    [{ maxRss: '1GiB' }, { rss: 2 ** 30 }, { rss: 2 ** 30 + 1 }, 'rss'],
    [{ maxRss: '90%' }, {}, { rss: 1e15 }, 'rss'],
    [
      { maxEventLoopUtilization: '90%' },
      { event_loop_utilization: 0.9 },
      { event_loop_utilization: 0.91 },
      'event_loop_utilization',
    ],
  ] as const) {
    const { chain, pressure, status } = await shedding(t, options);
    pressure.set(calm);
    t.equal(await status(), 200, JSON.stringify(options));
    pressure.set(over);
    t.equal(await status(), 503, JSON.stringify(options));
    t.match(await chain.registry.metrics(), `reason="${reason}"} 1`);
  }
});

t.test('what has no limit is not looked at', async (t) => {
  const { pressure, status } = await shedding(t);
  pressure.set({ rss: 1e15, event_loop_utilization: 1 });
  t.equal(await status(), 200);
  const nothing = { maxEventLoopDelay: null, maxHeapUsed: null };
  const off = await shedding(t, nothing);
  off.pressure.set({ event_loop_delay: Number.POSITIVE_INFINITY, heap: 1e15 });
  t.equal(await off.status(), 200, 'every limit switched off');
});

t.test('low goes first, high last', async (t) => {
  const store = new SharedStore();
  const [low, normal, high] = await Promise.all(
    ['low', 'normal', 'high'].map((priority) => shedding(t, { priority }, { store })),
  );
  const statuses = async () => [await low.status(), await normal.status(), await high.status()];
  for (const [delay, expected] of [
    [0.79, [200, 200, 200]],
    [0.81, [503, 200, 200]],
    [1.01, [503, 503, 200]],
    [1.26, [503, 503, 503]],
    [0.9, [503, 200, 200]],
  ] as const) {
    low.pressure.set({ event_loop_delay: delay });
    t.strictSame(await statuses(), expected, `${delay} s`);
  }
  low.pressure.set({ event_loop_utilization: 1 });
  const busy = await shedding(t, { priority: 'high', maxEventLoopUtilization: '90%' }, { store });
  low.pressure.set({ event_loop_utilization: 0.94 });
  t.equal(await busy.status(), 200, 'a share leaves half of the rest to high');
  low.pressure.set({ event_loop_utilization: 0.96 });
  t.equal(await busy.status(), 503);
});

t.test('a header may lower the priority; only trusted callers may raise it', async (t) => {
  const options = { priorityHeader: 'X-Priority' };
  for (const [trusted, said, at, expected] of [
    [false, 'low', 0.9, 503],
    [false, 'LOW', 0.9, 503],
    [false, 'high', 1.1, 503],
    [true, 'high', 1.1, 200],
    [true, 'high', 1.3, 503],
    [true, 'low', 0.9, 503],
    [false, 'normal', 0.9, 200],
    [true, 'toString', 1.1, 503],
  ] as const) {
    const { pressure, status } = await shedding(t, options, { exchange: { trusted } });
    pressure.set({ event_loop_delay: at });
    t.equal(await status({ 'x-priority': said }), expected, `${trusted} ${said} ${at}`);
  }
  const without = await shedding(t, {}, { exchange: { trusted: true } });
  without.pressure.set({ event_loop_delay: 1.1 });
  t.equal(await without.status({ 'x-priority': 'high' }), 503, 'no header is looked at unless one is named');
});

t.test('the header goes on to the service', async (t) => {
  const { chain } = await shedding(t, { priorityHeader: 'x-priority' });
  await chain.inject({ url: '/', headers: { 'x-priority': 'low' } });
  t.strictSame(sentValues(chain.sent[0], 'x-priority'), ['low']);
});

t.test('the log says when it begins and ends, once for all chains with these limits', async (t) => {
  const lines: string[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line).msg) });
  const store = new SharedStore();
  const first = await shedding(t, {}, { store, logger });
  const second = await shedding(t, { priority: 'low' }, { store, logger });
  first.pressure.set({ heap: 1e15 });
  for (const one of [first, second, first]) await one.status();
  first.pressure.set({ heap: 1e15, rss: 3e6 });
  await first.status();
  first.pressure.set({});
  await second.status();
  t.strictSame(lines, ['the process is overloaded: requests are refused', 'the process is no longer overloaded']);
});

t.test('what is measured is in the metrics, and goes with the last chain', async (t) => {
  const store = new SharedStore();
  const { chain, pressure } = await shedding(t, {}, { store });
  pressure.set({ event_loop_delay: 0.5, heap: 123, rss: 456, event_loop_utilization: 0.25 });
  const metrics = await chain.registry.metrics();
  for (const line of [
    'selvedge_event_loop_delay_seconds 0.5',
    'selvedge_heap_used_bytes 123',
    'selvedge_rss_bytes 456',
    'selvedge_event_loop_utilization 0.25',
  ])
    t.match(metrics, line);
  await chain.close();
  t.equal(await chain.registry.metrics(), '\n');
});

t.test('options that cannot be meant are refused', async (t) => {
  for (const [options, message] of [
    [{ maxEventLoopDelay: '5ms' }, /maxEventLoopDelay: must be at least 10ms/],
    [{ maxEventLoopDelay: '0' }, /maxEventLoopDelay: must be at least 10ms/],
    [{ maxHeapUsed: '0B' }, /maxHeapUsed: must be more than nothing/],
    [{ maxRss: '100%' }, /maxRss: must be .* less than 100%/],
    [{ maxRss: '150%' }, /maxRss: must be .* less than 100%/],
    [{ maxEventLoopUtilization: '0%' }, /maxEventLoopUtilization: must be more than nothing/],
    [{ maxEventLoopUtilization: '1GiB' }, /maxEventLoopUtilization/],
    [{ retryAfter: '500ms' }, /retryAfter: must be at least 1s/],
    [{ priority: 'urgent' }, /priority/],
    [{ priorityHeader: 'a b' }, /priorityHeader: must be a header name/],
    [{ maxHeap: '1GiB' }, /unknown key "maxHeap"/],
  ] as const)
    await t.rejects(testChain([['load-shedding', options]]), { message }, JSON.stringify(options));
});

t.test('one sampling serves all chains of the process, by under-pressure, and ends with the last', async (t) => {
  const store = new SharedStore();
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  const before = timers();
  const first = await testChain([['load-shedding']], { store });
  const sampled = store.peek('load-shedding pressure');
  const second = await testChain([['load-shedding', { priority: 'low' }]], { store, registry: first.registry });
  t.type(sampled, SampledPressure);
  t.equal(store.peek('load-shedding pressure'), sampled);
  await first.close();
  t.equal(store.peek('load-shedding pressure'), sampled);
  await second.close();
  await store.whenEmpty();
  t.equal(timers(), before);
});

/** Blocks the event loop in turns of `ms`, until `done` or for 10 s at most. */
async function keepBusy(ms: number, done: () => boolean): Promise<void> {
  const giveUpAt = performance.now() + 10_000;
  while (!done() && performance.now() < giveUpAt) {
    const until = performance.now() + ms;
    while (performance.now() < until);
    await new Promise((next) => setImmediate(next));
  }
}

t.test('a process that really is too busy sheds, and serves again once it is not', async (t) => {
  const store = new SharedStore();
  const limits = { maxEventLoopDelay: '60ms', maxEventLoopUtilization: '95%' };
  const chain = await testChain([['load-shedding', limits]], { store });
  t.teardown(() => chain.close());
  const pressure = store.peek('load-shedding pressure') as SampledPressure;
  const status = async () => (await chain.inject({ url: '/' })).statusCode;
  t.equal(await status(), 200);

  await keepBusy(150, () => pressure.samples >= 1);
  t.equal(await status(), 200, 'one sample is not enough');
  const from = pressure.samples;
  await keepBusy(150, () => pressure.samples >= from + 2);
  t.equal(await status(), 503);
  t.ok(pressure.levels.event_loop_delay > 0.06, `${pressure.levels.event_loop_delay} s late`);
  t.ok(pressure.levels.event_loop_utilization > 0.95, `${pressure.levels.event_loop_utilization} busy`);
  t.ok(pressure.levels.heap > 1e6 && pressure.levels.rss > pressure.levels.heap);

  const busy = pressure.samples;
  const giveUpAt = performance.now() + 10_000;
  while (pressure.samples < busy + 2 && performance.now() < giveUpAt) await new Promise((next) => setTimeout(next, 20));
  t.equal(await status(), 200);
});
