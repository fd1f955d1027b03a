import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as wait } from 'node:timers/promises';
import { Registry } from 'prom-client';
import t from 'tap';
import { collectProcessMetrics } from '../../src/cli/process-metrics.ts';

async function read(registry: Registry, name: string): Promise<number> {
  const metric = await registry.getSingleMetric(name)?.get();
  return metric?.values[0]?.value ?? Number.NaN;
}

t.test('the event loop is watched turn by turn: a stall shows, and 10 ms of waiting are no delay', async (t) => {
  const registry = new Registry();
  collectProcessMetrics(registry);
  await wait(20);
  await registry.metrics();
  // Both are of the same time; only the timer of the second one counts its own pause as a delay.
  const timed = monitorEventLoopDelay({ resolution: 10 });
  timed.enable();
  await wait(100);
  await registry.metrics();
  t.ok((await read(registry, 'nodejs_eventloop_lag_p50_seconds')) * 1e9 < timed.percentile(50));
  timed.disable();
  const until = performance.now() + 60;
  while (performance.now() < until);
  await wait(20);
  await registry.metrics();
  t.ok((await read(registry, 'nodejs_eventloop_lag_max_seconds')) >= 0.05);
  t.ok(registry.getSingleMetric('process_cpu_seconds_total'), 'with all the others');
});

t.test('nobody else gets another histogram than the one asked for', async (t) => {
  const { monitorEventLoopDelay: before } = process.getBuiltinModule('node:perf_hooks');
  collectProcessMetrics(new Registry());
  t.equal(process.getBuiltinModule('node:perf_hooks').monitorEventLoopDelay, before);
});
