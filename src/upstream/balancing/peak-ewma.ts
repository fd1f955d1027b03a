// How slow an endpoint has lately been, as each try reports it: what peak-ewma goes by. Belongs to the endpoint and outlives reloads.

/** What is believed of an endpoint that has not answered yet. */
const INITIAL_MS = 30;
/** After that long without news, what was known weighs 1/e. */
const DECAY_MS = 10_000;
/** Differences below this are the clock's; it also keeps requests in flight in the product when nothing was observed for long. */
const LEAST_MS = 0.1;
/** A row of failures counts as a success that took 2^6 = 64 times the average at most. */
const MAX_DOUBLINGS = 6;

export class PeakEwma {
  #latencyMs = INITIAL_MS;
  #observedAt = Number.NaN;
  /** Of successes alone, without peaks: what failures are measured by. */
  #averageMs = INITIAL_MS;
  /** So long ago that the first success replaces the guess. */
  #succeededAt = Number.NEGATIVE_INFINITY;
  /** In a row. */
  #failures = 0;

  /** A success. @param latencyMs from dispatch to the response's head @param now milliseconds on the process clock */
  observe(latencyMs: number, now: number): void {
    this.#failures = 0;
    const kept = keptAfter(now - this.#succeededAt);
    this.#averageMs = this.#averageMs * kept + latencyMs * (1 - kept);
    this.#succeededAt = now;
    this.#take(latencyMs, now);
  }

  /**
   * A failure (5xx, 429, reset, timeout), which may have come fast: the nth in a row counts as a success that took as long as it
   * did, or 2^n times the average success if that is more. A row rather than a factor for each, because a peak lasts: were
   * every failure a large one, an endpoint that fails once in a hundred would look like one that always does.
   */
  observeFailure(latencyMs: number, now: number): void {
    if (this.#failures < MAX_DOUBLINGS) this.#failures += 1;
    this.#take(Math.max(latencyMs, Math.max(this.#averageMs, LEAST_MS) * 2 ** this.#failures), now);
  }

  /**
   * Milliseconds. Falls while nothing is observed, without which an endpoint that was slow once would never be asked again;
   * the next observation counts against what was known, not against what is left of it here.
   */
  cost(now: number): number {
    if (Number.isNaN(this.#observedAt)) return INITIAL_MS;
    return Math.max(LEAST_MS, this.#latencyMs * keptAfter(now - this.#observedAt));
  }

  /** A peak at once; what is lower by the time that passed. */
  #take(latencyMs: number, now: number): void {
    const kept = Number.isNaN(this.#observedAt) ? 1 : keptAfter(now - this.#observedAt);
    this.#latencyMs = latencyMs >= this.#latencyMs ? latencyMs : this.#latencyMs * kept + latencyMs * (1 - kept);
    this.#observedAt = now;
  }
}

/** The part of what was known that still counts. */
function keptAfter(elapsedMs: number): number {
  return Math.exp(-Math.max(0, elapsedMs) / DECAY_MS);
}
