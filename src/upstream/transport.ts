// How endpoints are reached unless something else is injected: a pool of HTTP/1.1 connections each.
import type { TimerWheel } from '../timer-wheel.ts';
import type { MakeTransport } from './endpoint.ts';
import { Http1Pool } from './http1/pool.ts';

export function http1Transport(wheel: TimerWheel): MakeTransport {
  return ({ host, port, tls, connections }) => {
    const { max, pending, connectTimeoutMs, idleTimeoutMs } = connections;
    return new Http1Pool({
      host,
      port,
      tls,
      maxConnections: max,
      maxPending: pending,
      connectTimeoutMs,
      idleTimeoutMs,
      wheel,
    });
  };
}
