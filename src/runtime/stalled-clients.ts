// Responses that are complete here and that their clients do not take: until its last byte is out, no request is over.
import type { RequestExchange } from '../proxy/exchange.ts';

/** How often `cutStalled` is to be called. */
export const STALL_CHECK_MS = 1_000;

/**
 * Cuts the connection of every client that took nothing for the idle time of its route (without a route: for as long as an idle
 * connection is kept). While a body still streams, its own stream watches (proxy/upstream-body.ts); afterwards what is left, up to
 * a few hundred KiB and whatever was pipelined behind it, would wait for ever.
 * @param now - performance.now() milliseconds
 */
export function cutStalled(live: Iterable<RequestExchange>, now: number): void {
  for (const exchange of live) {
    const { res } = exchange;
    if (res.writableFinished || !(res.writableEnded || exchange.bodyRead)) continue;
    const { socket } = res;
    // Without a socket it waits behind another response, which is looked at itself.
    if (socket === null || socket.destroyed) continue;
    const unsent = socket.writableLength;
    // A plugin is still at work on the body: the client takes what there is.
    if (unsent === 0 && !res.writableEnded) {
      exchange.unsentSince = 0;
      continue;
    }
    if (exchange.unsentSince === 0 || unsent < exchange.unsentBytes) {
      exchange.unsentSince = now;
      exchange.unsentBytes = unsent;
      continue;
    }
    const limitMs = exchange.target?.route.timeouts.idleMs ?? exchange.connection.listener.limits.keepAliveTimeoutMs;
    if (limitMs === 0 || now - exchange.unsentSince < limitMs) continue;
    exchange.reason ??= 'client_stalled';
    socket.destroy();
  }
}
