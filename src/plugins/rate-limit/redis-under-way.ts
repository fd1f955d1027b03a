// Requests under way, counted in Redis: each holds a lease there, renewed while it lasts, so that what a process held ends with it.
import { randomBytes } from 'node:crypto';
import type { Entered } from './limit.ts';
import { hash, type RedisStore } from './redis.ts';

/** Milliseconds that a lease lasts without being renewed: how long the requests of a process that died still count. */
const LEASE_MS = 15_000;
/** Renewed three times in that time, so that two may fail. */
const RENEWALS = 3;
/** Leases in one question; more would hold up what others ask. */
const MAX_AT_ONCE = 500;

export class RedisUnderWay {
  readonly #store: RedisStore;
  readonly #prefix: string;
  readonly #leaseMs: number;
  readonly #ticker: NodeJS.Timeout;
  /** No two processes make the same lease. */
  readonly #process = randomBytes(9).toString('base64url');
  /** By key in Redis: as many as there are requests of this process. */
  readonly #held = new Map<string, Set<string>>();
  #made = 0;

  /** `identity`: equal for limits that are counted together. */
  constructor(store: RedisStore, identity: string, leaseMs = LEASE_MS) {
    this.#store = store;
    this.#prefix = `selvedge:under-way:${hash(identity)}:`;
    this.#leaseMs = leaseMs;
    this.#ticker = setInterval(() => this.#renew(), leaseMs / RENEWALS).unref();
  }

  async enter(key: string, max: number): Promise<Entered> {
    const at = this.#prefix + hash(key);
    const lease = `${this.#process}${this.#made++}`;
    const [entered, remaining, waitMs] = await this.#store.ask((client) =>
      client.selvedgeEnter(at, max, this.#leaseMs, lease),
    );
    const granted = entered === 1;
    if (granted) this.#hold(at, lease);
    return { granted, remaining, waitMs, lease };
  }

  /** One that Redis does not hear of ends by itself. */
  leave(key: string, lease: string): void {
    const at = this.#prefix + hash(key);
    const leases = this.#held.get(at);
    leases?.delete(lease);
    if (leases?.size === 0) this.#held.delete(at);
    this.#store.ask((client) => client.zrem(at, lease)).catch(() => undefined);
  }

  close(): void {
    clearInterval(this.#ticker);
  }

  #hold(at: string, lease: string): void {
    const leases = this.#held.get(at);
    if (leases === undefined) this.#held.set(at, new Set([lease]));
    else leases.add(lease);
  }

  #renew(): void {
    for (const [at, held] of this.#held) {
      const leases = [...held];
      for (let from = 0; from < leases.length; from += MAX_AT_ONCE) {
        const some = leases.slice(from, from + MAX_AT_ONCE);
        this.#store.ask((client) => client.selvedgeRenew(at, this.#leaseMs, ...some)).catch(() => undefined);
      }
    }
  }
}
