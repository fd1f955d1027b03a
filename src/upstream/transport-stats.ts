// What a pool of connections to one endpoint tells of itself, and several of them together.

export interface TransportStats {
  readonly connections: number;
  readonly idle: number;
  readonly active: number;
  /** Requests that wait for a connection. */
  readonly pending: number;
  /** Requests that died on a kept connection and were sent once more. */
  readonly resent: number;
  /** How long the endpoint keeps idle connections, as it announced or as was seen, in milliseconds; null: unknown. */
  readonly upstreamIdleMs: number | null;
}

export const NO_CONNECTIONS: TransportStats = Object.freeze({
  connections: 0,
  idle: 0,
  active: 0,
  pending: 0,
  resent: 0,
  upstreamIdleMs: null,
});

/** Of all transports to one endpoint together. */
export function sumOf(all: readonly TransportStats[]): TransportStats {
  const sum = { connections: 0, idle: 0, active: 0, pending: 0, resent: 0 };
  let upstreamIdleMs: number | null = null;
  for (const stats of all) {
    sum.connections += stats.connections;
    sum.idle += stats.idle;
    sum.active += stats.active;
    sum.pending += stats.pending;
    sum.resent += stats.resent;
    upstreamIdleMs ??= stats.upstreamIdleMs;
  }
  return { ...sum, upstreamIdleMs };
}
