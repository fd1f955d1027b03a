// What prom-client tells of the process itself (CPU, memory, garbage collection, event loop), watched without waking it.
import { collectDefaultMetrics, type Registry } from 'prom-client';

/**
 * Registers the default metrics. Of its own accord prom-client samples the event loop by a timer each 10 ms, which wakes an idle
 * process a hundred times a second and states no delay below those 10 ms. Here each turn of the loop is a sample; where Node cannot do
 * that (before 26) it is the timer.
 */
export function collectProcessMetrics(registry: Registry): void {
  const perfHooks = process.getBuiltinModule('node:perf_hooks');
  const { monitorEventLoopDelay } = perfHooks;
  perfHooks.monitorEventLoopDelay = (options) => monitorEventLoopDelay({ ...options, samplePerIteration: true });
  try {
    collectDefaultMetrics({ register: registry });
  } finally {
    perfHooks.monitorEventLoopDelay = monitorEventLoopDelay;
  }
}
