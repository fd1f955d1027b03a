// What one circuit breaker remembers of one service: requests under way, recent outcomes, and whether it lets requests through.

export interface BreakerSettings {
  /** Requests under way at most; Infinity: any number. */
  readonly requests: number;
  /** Share of failures, 0 to 1, that opens; null: nothing does. */
  readonly failureRate: number | null;
  /** Outcomes in the window that are enough to judge by. */
  readonly minRequests: number;
  readonly windowMs: number;
  readonly openForMs: number;
  readonly maxOpenMs: number;
  /** Requests at a time that try whether the service is back. */
  readonly probes: number;
}

/** `neither`: it says nothing about the service. */
export type Outcome = 'success' | 'failure' | 'neither';

export interface Refusal {
  readonly reason: 'circuit_open' | 'request_limit';
  /** Until it is worth another try; null: nobody knows. */
  readonly retryAfterMs: number | null;
}

/** A request that was let through: `judge` it at most once, and `leave` once. */
export class Pass {
  readonly #breaker: Breaker;
  readonly #epoch: number;
  readonly #probe: boolean;
  #judged = false;
  #left = false;

  constructor(breaker: Breaker, epoch: number, probe: boolean) {
    this.#breaker = breaker;
    this.#epoch = epoch;
    this.#probe = probe;
  }

  judge(outcome: Outcome): void {
    if (this.#judged) return;
    this.#judged = true;
    this.#breaker.judged(outcome, this.#epoch, this.#probe);
  }

  leave(): void {
    if (this.#left) return;
    this.#left = true;
    this.judge('neither');
    this.#breaker.inFlight -= 1;
  }
}

/** The window is counted in this many parts; the oldest falls out as a whole. */
const PARTS = 10;

export class Breaker {
  inFlight = 0;
  readonly #settings: BreakerSettings;
  readonly #now: () => number;
  readonly #changed: (open: boolean, forMs: number) => void;
  readonly #failures = new Array<number>(PARTS).fill(0);
  readonly #outcomes = new Array<number>(PARTS).fill(0);
  /** Number of the part of the window that is being counted. */
  #part = 0;
  /** Grows whenever it opens or closes: outcomes of requests that set out before are no longer news. */
  #epoch = 0;
  /** How often in a row it has opened; 0: closed. */
  #openings = 0;
  #openUntil = 0;
  #probing = 0;

  /**
   * @param now milliseconds
   * @param changed it has opened for `forMs`, or closed
   */
  constructor(settings: BreakerSettings, now: () => number, changed: (open: boolean, forMs: number) => void) {
    this.#settings = settings;
    this.#now = now;
    this.#changed = changed;
  }

  get open(): boolean {
    return this.#openings > 0;
  }

  enter(): Pass | Refusal {
    const { requests, probes } = this.#settings;
    const probe = this.#openings > 0;
    if (probe) {
      const leftMs = this.#openUntil - this.#now();
      if (leftMs > 0 || this.#probing >= probes) return { reason: 'circuit_open', retryAfterMs: Math.max(0, leftMs) };
    }
    if (this.inFlight >= requests) return { reason: 'request_limit', retryAfterMs: null };
    this.inFlight += 1;
    if (probe) this.#probing += 1;
    return new Pass(this, this.#epoch, probe);
  }

  /** Called by `Pass`. */
  judged(outcome: Outcome, epoch: number, probe: boolean): void {
    if (epoch !== this.#epoch) return;
    if (probe) this.#probing -= 1;
    if (outcome === 'neither') return;
    if (!probe) this.#count(outcome === 'failure');
    else if (outcome === 'failure') this.#trip();
    else this.#close();
  }

  #count(failed: boolean): void {
    const { failureRate, minRequests, windowMs } = this.#settings;
    if (failureRate === null) return;
    const part = Math.floor((this.#now() * PARTS) / windowMs);
    if (part - this.#part >= PARTS) this.#forget();
    else for (let passed = this.#part + 1; passed <= part; passed++) this.#clear(passed % PARTS);
    this.#part = part;
    this.#outcomes[part % PARTS] += 1;
    if (!failed) return;
    this.#failures[part % PARTS] += 1;
    const outcomes = sum(this.#outcomes);
    if (outcomes >= minRequests && sum(this.#failures) >= failureRate * outcomes) this.#trip();
  }

  #trip(): void {
    const { openForMs, maxOpenMs } = this.#settings;
    const forMs = Math.min(maxOpenMs, openForMs * 2 ** this.#openings);
    this.#openings += 1;
    this.#openUntil = this.#now() + forMs;
    this.#turn();
    this.#changed(true, forMs);
  }

  #close(): void {
    this.#openings = 0;
    this.#turn();
    this.#changed(false, 0);
  }

  #turn(): void {
    this.#epoch += 1;
    this.#probing = 0;
    this.#forget();
  }

  #forget(): void {
    for (let part = 0; part < PARTS; part++) this.#clear(part);
  }

  #clear(part: number): void {
    this.#failures[part] = 0;
    this.#outcomes[part] = 0;
  }
}

function sum(numbers: readonly number[]): number {
  let total = 0;
  for (const one of numbers) total += one;
  return total;
}
