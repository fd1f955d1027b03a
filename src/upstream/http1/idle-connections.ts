// The connections that wait for a request, the most recent one first, and the sweep that retires those that waited too long.

import { LinkedList } from '../../linked-list.ts';
import type { Wheel, WheelTimer } from '../../timer-wheel.ts';
import type { Connection } from './connection.ts';

/** Milliseconds between two sweeps at most: one timer a pool instead of one for each connection that falls idle. */
const SWEEP_MS = 500;

/** An upstream that announces when it closes is left this much sooner, so that no request meets the closing. */
const AHEAD_OF_UPSTREAM_MS = 1000;

/** Bounded by the pool's `maxConnections`. */
export class IdleConnections {
  readonly #list = new LinkedList<Connection>();
  readonly #wheel: Wheel;
  readonly #timeoutMs: number;
  readonly #sweepMs: number;
  readonly #sweep = () => this.#retire();
  #sweeps = 0;
  #timer: WheelTimer | null = null;

  /** @param timeoutMs - 0: none of ours */
  constructor(wheel: Wheel, timeoutMs: number) {
    this.#wheel = wheel;
    this.#timeoutMs = timeoutMs === 0 ? Number.POSITIVE_INFINITY : timeoutMs;
    this.#sweepMs = Math.min(SWEEP_MS, Math.max(1, this.#timeoutMs / 2));
  }

  get size(): number {
    return this.#list.size;
  }

  push(connection: Connection): void {
    const announced = connection.parser.head.keepAliveSeconds;
    const announcedMs = announced === -1 ? Number.POSITIVE_INFINITY : announced * 1000 - AHEAD_OF_UPSTREAM_MS;
    const sweeps = Math.floor(Math.min(this.#timeoutMs, announcedMs) / this.#sweepMs);
    if (sweeps <= 0) {
      connection.drop();
      return;
    }
    connection.retireAtSweep = this.#sweeps + sweeps;
    this.#list.push(connection);
    this.#timer ??= this.#wheel.after(this.#sweepMs, this.#sweep);
  }

  pop(): Connection | null {
    return this.#list.pop();
  }

  /** Does nothing when it is not idle. */
  remove(connection: Connection): void {
    this.#list.remove(connection);
  }

  dropOldest(): void {
    this.#list.first?.drop();
  }

  dropAll(): void {
    while (this.#list.first !== null) this.#list.first.drop();
    this.#timer?.cancel();
    this.#timer = null;
  }

  #retire(): void {
    this.#timer = null;
    this.#sweeps += 1;
    for (let connection = this.#list.first; connection !== null; ) {
      const { next } = connection;
      if (connection.retireAtSweep <= this.#sweeps) connection.drop();
      connection = next;
    }
    if (this.#list.size > 0) this.#timer = this.#wheel.after(this.#sweepMs, this.#sweep);
  }
}
