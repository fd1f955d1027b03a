// Loaded into a process that serves (`--import`): says over the socket LOOP_WATCH, when asked, for how long its event loop stood still at most
// since the last time. A socket of its own, because `selvedge run` starts itself anew in the same process and loses a channel of its parent.
import { connect } from 'node:net';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';

const path = process.env.LOOP_WATCH;
if (isMainThread && path !== undefined) {
  const delays = monitorEventLoopDelay({ resolution: 1 });
  delays.enable();
  const socket = connect(path).unref();
  socket.on('error', () => {});
  socket.on('data', () => {
    socket.write(String(delays.max / 1e6));
    delays.reset();
  });
}
