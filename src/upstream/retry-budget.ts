// Keeps retries from multiplying an outage: how many a service may still make.
import type { RetryBudgetPolicy } from '../config/model.ts';

/** Seconds that a window may look back. */
const MAX_WINDOW_S = 60;

/** Retries as a share of the requests of the last seconds, and some a second beside. Two counters a second of the window, no more. */
export class RetryBudget {
  readonly #requests = new Uint32Array(MAX_WINDOW_S);
  /** Retries that the share paid for. */
  readonly #shared = new Uint32Array(MAX_WINDOW_S);
  #windowS = 10;
  #share = 0.2;
  #minPerSecond = 10;
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

  /** Another window begins empty. */
  configure({ share, windowMs, minPerSecond }: RetryBudgetPolicy): void {
    this.#share = share;
    this.#minPerSecond = minPerSecond;
    const windowS = Math.min(MAX_WINDOW_S, Math.max(1, Math.round(windowMs / 1_000)));
    if (windowS === this.#windowS) return;
    this.#windowS = windowS;
    this.#requests.fill(0);
    this.#shared.fill(0);
    this.#requestsInWindow = 0;
    this.#sharedInWindow = 0;
  }

  /** A request begins. `now` in milliseconds on the process clock. */
  deposit(now: number): void {
    this.#roll(now);
    this.#requests[this.#second % this.#windowS] += 1;
    this.#requestsInWindow += 1;
  }

  /** Whether one retry may be made now; counts it when it may. */
  withdraw(now: number): boolean {
    this.#roll(now);
    if (this.#minimumUsed < this.#minPerSecond) {
      this.#minimumUsed += 1;
      return true;
    }
    if (this.#sharedInWindow + 1 <= this.#requestsInWindow * this.#share) {
      this.#shared[this.#second % this.#windowS] += 1;
      this.#sharedInWindow += 1;
      return true;
    }
    this.#exhausted += 1;
    return false;
  }

  #roll(now: number): void {
    const second = Math.floor(now / 1_000);
    if (second <= this.#second) return;
    const steps = Math.min(second - this.#second, this.#windowS);
    for (let step = 1; step <= steps; step++) {
      const slot = (second - steps + step) % this.#windowS;
      this.#requestsInWindow -= this.#requests[slot];
      this.#sharedInWindow -= this.#shared[slot];
      this.#requests[slot] = 0;
      this.#shared[slot] = 0;
    }
    this.#second = second;
    this.#minimumUsed = 0;
  }
}
