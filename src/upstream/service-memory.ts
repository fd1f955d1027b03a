// What a service remembers while configs come and go: how many requests are under way, how fast it answers, what retries it may still make.
import { LatencyQuantiles } from './latency-quantiles.ts';
import { RetryBudget } from './retry-budget.ts';

export class ServiceMemory {
  readonly retryBudget = new RetryBudget();
  /** Of responses of every endpoint: milliseconds from dispatch to the response head. */
  readonly latencies = new LatencyQuantiles();
  /** Requests under way; upgraded connections count no more. */
  requests = 0;
  /** Retries and hedges under way. */
  retries = 0;
}
