// How long responses of a service take, as quantiles of the recent ones: what hedging waits for.

/** Milliseconds that one bucket generation lasts; two of them are looked at. */
const GENERATION_MS = 30_000;

/** Each bucket is this much wider than the one before: quantiles are exact to 5 %. */
const GROWTH = 1.05;
const FIRST_MS = 0.1;
/** Up to about 20 minutes. */
export const BUCKETS = 336;

/** Observations that a quantile needs before it means anything. */
const ENOUGH = 50;

const LOG_GROWTH = Math.log(GROWTH);

/** Logarithmic buckets in two generations, so that what was observed more than a minute ago counts no more. About 2.7 KiB. */
export class LatencyQuantiles {
  #current = new Uint32Array(BUCKETS);
  #previous = new Uint32Array(BUCKETS);
  #currentCount = 0;
  #previousCount = 0;
  #startedAt = Number.NEGATIVE_INFINITY;

  /** `now` in milliseconds on the process clock. */
  observe(latencyMs: number, now: number): void {
    this.#roll(now);
    this.#current[bucketOf(latencyMs)] += 1;
    this.#currentCount += 1;
  }

  /** Milliseconds within which the share `quantile` (0 to 1) of the recent responses came; null: too few to say. */
  quantile(quantile: number, now: number): number | null {
    this.#roll(now);
    const count = this.#currentCount + this.#previousCount;
    if (count < ENOUGH) return null;
    const rank = quantile * count;
    let below = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      below += this.#current[bucket] + this.#previous[bucket];
      if (below >= rank) return boundOf(bucket);
    }
    return boundOf(BUCKETS);
  }

  #roll(now: number): void {
    const age = now - this.#startedAt;
    if (age < GENERATION_MS) return;
    const emptied = this.#previous;
    this.#previous = this.#current;
    this.#previousCount = this.#currentCount;
    this.#current = emptied.fill(0);
    this.#currentCount = 0;
    if (age >= 2 * GENERATION_MS) {
      this.#previous.fill(0);
      this.#previousCount = 0;
    }
    this.#startedAt = now;
  }
}

export function bucketOf(latencyMs: number): number {
  if (latencyMs <= FIRST_MS) return 0;
  return Math.min(BUCKETS - 1, Math.ceil(Math.log(latencyMs / FIRST_MS) / LOG_GROWTH));
}

/** Milliseconds that the latencies of a bucket do not exceed. */
export function boundOf(bucket: number): number {
  return FIRST_MS * GROWTH ** bucket;
}
