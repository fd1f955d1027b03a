// Loaded into a process that serves (`--import`): tells its parent, when asked, for how long its event loop stood still at most since the last time.
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';

if (isMainThread && process.send !== undefined) {
  const delays = monitorEventLoopDelay({ resolution: 1 });
  delays.enable();
  process.on('message', () => {
    process.send?.({ longestMs: delays.max / 1e6 });
    delays.reset();
  });
  process.channel?.unref();
}
