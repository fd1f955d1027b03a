// What a service remembers while configs come and go: requests under way, how fast it answers, what retries it may still make, who waits for it.
import type { AdaptiveConcurrency, RetryBudgetPolicy } from '../config/model.ts';
import type { TimerWheel } from '../timer-wheel.ts';
import { AdaptiveLimit } from './adaptive-limit.ts';
import type { HealthOwner } from './endpoint-health.ts';
import { LatencyQuantiles } from './latency-quantiles.ts';
import { RetryBudget } from './retry-budget.ts';
import { WaitingRoom } from './waiting.ts';

export class ServiceMemory implements HealthOwner {
  readonly retryBudget = new RetryBudget();
  /** Of responses of every endpoint: milliseconds from dispatch to the response head. */
  readonly latencies = new LatencyQuantiles();
  readonly waiting = new WaitingRoom();
  /** Requests under way; upgraded connections count no more. */
  requests = 0;
  /** Retries and hedges under way. */
  retries = 0;
  /** When the current interval of outlier detection ends, in milliseconds on the process clock; 0: none has begun. */
  intervalEndsAt = 0;
  /** Grows whenever an endpoint may have become fit or unfit: whoever compiled something of it compiles anew. */
  version = 0;
  /** Null: no limit that follows the latency. */
  adaptive: AdaptiveLimit | null = null;
  #concurrency: AdaptiveConcurrency | null = null;
  readonly #wheel: TimerWheel;

  constructor(wheel: TimerWheel) {
    this.#wheel = wheel;
  }

  /** What a new config says; what was learned stays unless its bounds changed. */
  configure(budget: RetryBudgetPolicy, concurrency: AdaptiveConcurrency | null): void {
    this.retryBudget.configure(budget);
    const { min, max } = this.#concurrency ?? {};
    if (min === concurrency?.min && max === concurrency?.max) return;
    this.#concurrency = concurrency;
    this.adaptive = concurrency === null ? null : new AdaptiveLimit(concurrency);
  }

  healthChanged(): void {
    this.version += 1;
    this.waiting.wake(this.#wheel);
  }
}
