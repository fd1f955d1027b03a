// The connections that wait for a request, the most recent one first; which of them a request may have, and the sweep that retires
// those that waited too long.

import { LinkedList } from '../../linked-list.ts';
import type { Wheel, WheelTimer } from '../../timer-wheel.ts';
import type { Connection } from './connection.ts';
import { IdleAllowance, retireAfterMs, SURELY_KEPT_MS } from './idle-allowance.ts';

/** Milliseconds between two sweeps at most: one timer a pool instead of one for each connection that falls idle. */
const SWEEP_MS = 500;

/** Milliseconds between two sweeps at least. */
const SHORTEST_SWEEP_MS = 20;

/** Bounded by the pool's `maxConnections`. */
export class IdleConnections {
  readonly #list = new LinkedList<Connection>();
  readonly #allowance = new IdleAllowance();
  readonly #wheel: Wheel;
  readonly #timeoutMs: number;
  readonly #sweep = () => this.#retire();
  #timer: WheelTimer | null = null;
  #sweepAt = 0;

  /** @param timeoutMs - 0: none of ours */
  constructor(wheel: Wheel, timeoutMs: number) {
    this.#wheel = wheel;
    this.#timeoutMs = timeoutMs === 0 ? Number.POSITIVE_INFINITY : timeoutMs;
  }

  get size(): number {
    return this.#list.size;
  }

  /** How long the upstream keeps idle connections, as it announced or as was learned, in milliseconds; null: unknown. */
  get upstreamIdleMs(): number | null {
    const ms = this.#allowance.allowedMs;
    return ms === null ? null : Math.round(ms);
  }

  push(connection: Connection): void {
    connection.keptMs = this.#timeoutMs;
    const announced = connection.parser.head.keepAliveSeconds;
    if (announced !== -1) {
      this.#allowance.announced(announced * 1000);
      connection.keptMs = Math.min(this.#timeoutMs, retireAfterMs(announced * 1000));
      if (connection.keptMs === 0) {
        connection.drop();
        return;
      }
    }
    if (connection.idleSince === -1) connection.idleSince = this.#wheel.now();
    this.#list.push(connection);
    this.#sweepIn(Math.min(connection.keptMs, this.#allowance.limitMs));
  }

  /**
   * Null also when there are some, but none that is good enough: a request that cannot be sent again never meets a connection that
   * the upstream may be closing just now.
   */
  pop(request: { readonly mayBeResent: boolean }): Connection | null {
    const { last } = this.#list;
    if (last === null) return null;
    const now = this.#wheel.now();
    for (let connection: Connection | null = last; connection !== null; connection = this.#list.last) {
      const idleMs = now - connection.idleSince;
      const expired = this.#expired(connection, idleMs);
      // The others have waited for longer still.
      if (!expired && idleMs > SURELY_KEPT_MS && this.#uncertain(connection) && !request.mayBeResent) return null;
      if (expired && this.#leftToUpstream(connection, idleMs, now)) return null;
      if (!expired && connection.usable) {
        this.#list.remove(connection);
        return connection;
      }
      connection.drop();
    }
    return null;
  }

  /** Does nothing when it is not idle. */
  remove(connection: Connection): void {
    this.#list.remove(connection);
  }

  /** It was idle, or a request had just been written to it and went unanswered. */
  closedByUpstream(connection: Connection): void {
    const now = this.#wheel.now();
    const oldest = this.#list.first === connection ? connection.next : this.#list.first;
    this.#allowance.closed(now - connection.idleSince, oldest === null ? 0 : now - oldest.idleSince, now);
  }

  dropOldest(): void {
    this.#list.first?.drop();
  }

  dropAll(): void {
    while (this.#list.first !== null) this.#list.first.drop();
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** Nobody has said and nobody has seen how long the upstream keeps it. */
  #uncertain(connection: Connection): boolean {
    return this.#allowance.limitMs === Number.POSITIVE_INFINITY && connection.parser.head.keepAliveSeconds === -1;
  }

  #expired(connection: Connection, idleMs: number): boolean {
    return idleMs >= connection.keptMs || idleMs >= this.#allowance.limitMs;
  }

  /** Whether it stays though what was learned says that it goes: one at a time does, to see whether that still holds. */
  #leftToUpstream(connection: Connection, idleMs: number, now: number): boolean {
    return connection === this.#list.first && idleMs < connection.keptMs && this.#allowance.doubtful(now);
  }

  #sweepIn(ms: number): void {
    const waitMs = Math.min(SWEEP_MS, Math.max(SHORTEST_SWEEP_MS, ms));
    const at = this.#wheel.now() + waitMs;
    if (this.#timer !== null) {
      if (this.#sweepAt <= at) return;
      this.#timer.cancel();
    }
    this.#sweepAt = at;
    this.#timer = this.#wheel.after(waitMs, this.#sweep);
  }

  #retire(): void {
    this.#timer = null;
    const now = this.#wheel.now();
    let soonestMs = SWEEP_MS;
    for (let connection = this.#list.first; connection !== null; ) {
      const { next } = connection;
      const idleMs = now - connection.idleSince;
      if (!this.#expired(connection, idleMs)) {
        soonestMs = Math.min(soonestMs, connection.keptMs - idleMs, this.#allowance.limitMs - idleMs);
      } else if (this.#leftToUpstream(connection, idleMs, now)) this.#allowance.outlived(idleMs);
      else connection.drop();
      connection = next;
    }
    if (this.#list.size > 0) this.#sweepIn(soonestMs);
  }
}
