// How endpoints are reached unless something else is injected: a pool of HTTP/1.1 connections each, and for each who calls a hop.
import type { TimerWheel } from '../timer-wheel.ts';
import { EitherTransport } from './either-transport.ts';
import type { MakeTransport } from './endpoint.ts';
import { Http1Pool } from './http1/pool.ts';

export function http1Transport(wheel: TimerWheel): MakeTransport {
  return ({ host, port, tls, mesh, connections, onOpened }, caller) => {
    const { max, pending, connectTimeoutMs, idleTimeoutMs } = connections;
    const bounds = { maxConnections: max, maxPending: pending, connectTimeoutMs, idleTimeoutMs };
    const shared = { host, port, ...bounds, onOpened, wheel };
    const plain = (): Http1Pool => new Http1Pool({ ...shared, tls });
    if (mesh === null || caller === null) return plain();
    const secure = new Http1Pool({
      ...shared,
      tls: null,
      identity: { version: () => caller.version, options: () => caller.connectionOptions(mesh.expects) },
    });
    return mesh.mode === 'strict' ? secure : new EitherTransport(secure, plain(), wheel);
  };
}
