// Keeps retries from multiplying an outage: how many a service may still make.

/** Seconds that the share looks back. */
const WINDOW_S = 10;
const SHARE = 0.2;
const MIN_PER_SECOND = 10;

/** Retries ≤ 20 % of the requests of the last 10 s, and 10 a second beside. Two counters a second of the window, no more. */
export class RetryBudget {
  readonly #requests = new Uint32Array(WINDOW_S);
  /** Retries that the share paid for. */
  readonly #shared = new Uint32Array(WINDOW_S);
  #requestsInWindow = 0;
  #sharedInWindow = 0;
  /** Retries of this second that the minimum paid for. */
  #minimumUsed = 0;
  #second = 0;
  #exhausted = 0;

  /** How many retries were refused since the start. */
  get exhausted(): number {
    return this.#exhausted;
  }

  /** A request begins. `now` in milliseconds on the process clock. */
  deposit(now: number): void {
    this.#roll(now);
    this.#requests[this.#second % WINDOW_S] += 1;
    this.#requestsInWindow += 1;
  }

  /** Whether one retry may be made now; counts it when it may. */
  withdraw(now: number): boolean {
    this.#roll(now);
    if (this.#minimumUsed < MIN_PER_SECOND) {
      this.#minimumUsed += 1;
      return true;
    }
    if (this.#sharedInWindow + 1 <= this.#requestsInWindow * SHARE) {
      this.#shared[this.#second % WINDOW_S] += 1;
      this.#sharedInWindow += 1;
      return true;
    }
    this.#exhausted += 1;
    return false;
  }

  #roll(now: number): void {
    const second = Math.floor(now / 1000);
    if (second <= this.#second) return;
    const steps = Math.min(second - this.#second, WINDOW_S);
    for (let step = 1; step <= steps; step++) {
      const slot = (second - steps + step) % WINDOW_S;
      this.#requestsInWindow -= this.#requests[slot];
      this.#sharedInWindow -= this.#shared[slot];
      this.#requests[slot] = 0;
      this.#shared[slot] = 0;
    }
    this.#second = second;
    this.#minimumUsed = 0;
  }
}
