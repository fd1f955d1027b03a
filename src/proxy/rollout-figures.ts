// What a rollout measures: the recent requests of one version, counted when each is over.
import { BUCKETS, boundOf, bucketOf } from '../upstream/latency-quantiles.ts';

/** One version in the window. */
export interface Figures {
  readonly requests: number;
  readonly failed: number;
  /** Requests whose duration is known. */
  readonly timed: number;
  /** Those of them that took longer than the limit of the rollout. */
  readonly slow: number;
  /** Milliseconds, exact to 5 %; null without requests. */
  readonly p99Ms: number | null;
}

class Generation {
  requests = 0;
  failed = 0;
  timed = 0;
  slow = 0;
  readonly buckets = new Uint32Array(BUCKETS);

  clear(): void {
    this.requests = 0;
    this.failed = 0;
    this.timed = 0;
    this.slow = 0;
    this.buckets.fill(0);
  }
}

/** Two generations, of which the older is dropped when a third begins: about 2.7 KiB, whatever the traffic. */
export class VersionWindow {
  #current = new Generation();
  #previous = new Generation();

  /** Requests since the generation began. */
  get fresh(): number {
    return this.#current.requests;
  }

  get requests(): number {
    return this.#current.requests + this.#previous.requests;
  }

  /** `durationMs` null: it says nothing about the service, as that of a connection that was upgraded. */
  observe(failed: boolean, durationMs: number | null, limitMs: number | null): void {
    const generation = this.#current;
    generation.requests += 1;
    if (failed) generation.failed += 1;
    if (durationMs === null) return;
    generation.timed += 1;
    if (limitMs !== null && durationMs > limitMs) generation.slow += 1;
    generation.buckets[bucketOf(durationMs)] += 1;
  }

  roll(): void {
    const emptied = this.#previous;
    emptied.clear();
    this.#previous = this.#current;
    this.#current = emptied;
  }

  clear(): void {
    this.#current.clear();
    this.#previous.clear();
  }

  figures(): Figures {
    const [one, other] = [this.#current, this.#previous];
    const timed = one.timed + other.timed;
    return {
      requests: this.requests,
      failed: one.failed + other.failed,
      timed,
      slow: one.slow + other.slow,
      p99Ms: timed === 0 ? null : this.#quantile(0.99 * timed),
    };
  }

  #quantile(rank: number): number {
    let below = 0;
    let bucket = 0;
    for (; bucket < BUCKETS; bucket++) {
      below += this.#current.buckets[bucket] + this.#previous.buckets[bucket];
      if (below >= rank) break;
    }
    return boundOf(bucket);
  }
}
