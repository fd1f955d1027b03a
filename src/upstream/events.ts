// What happens on the upstream side besides requests ending: told to whoever counts and logs it (runtime/upstream-metrics.ts).

export type EjectionCause = 'consecutive_failures' | 'success_rate' | 'probe_failed';

/**
 * `retried`: sent once more. `budget_exhausted`, `too_many` (connections.retries), `no_time` (deadline), `body_too_large`: it would
 * have been, and the failure went through instead.
 */
export type RetryResult = 'retried' | 'budget_exhausted' | 'too_many' | 'no_time' | 'body_too_large';

/** `won`, `lost`: by the second try. `too_many`, `budget_exhausted`: it was not made. */
export type HedgeResult = 'won' | 'lost' | 'too_many' | 'budget_exhausted';

/** `service` and `endpoint` are names of the config. */
export interface UpstreamEvents {
  ejected(service: string, endpoint: string, cause: EjectionCause, forMs: number): void;
  returned(service: string, endpoint: string, by: 'probe' | 'health_check'): void;
  /** A verdict of active checks, the first one included. */
  checked(service: string, endpoint: string, healthy: boolean, detail: string): void;
  /** A local application accepts connections, or does not: what the first look found, and every change. */
  application(service: string, endpoint: string, accepting: boolean, first: boolean): void;
  resting(service: string, endpoint: string, forMs: number): void;
  /** A connection stands that requests are sent on: TCP, and TLS where there is any. Those of active checks are not told. */
  opened(service: string, endpoint: string): void;
  /** Fewer endpoints are left than panicThreshold (or enough again). */
  panicking(service: string, panicking: boolean): void;
  /** `reason`: the outcome that asked for it, as in the access log's attempts. */
  retry(service: string, reason: string, result: RetryResult): void;
  hedge(service: string, result: HedgeResult): void;
}

export const NO_EVENTS: UpstreamEvents = Object.freeze({
  ejected() {},
  returned() {},
  checked() {},
  application() {},
  resting() {},
  opened() {},
  panicking() {},
  retry() {},
  hedge() {},
});
