// How the requests for one service are spread over its endpoints and how many there may be; which endpoints are well.
/** `by` is null unless the algorithm goes by a key (`ring-hash`, `maglev`). */
export interface LoadBalancing {
  readonly algorithm: 'least-request' | 'round-robin' | 'random' | 'peak-ewma' | 'ring-hash' | 'maglev';
  readonly by: HashKey | null;
}

/** What requests must have in common to reach the same endpoint. `name`: a header in lower case, a cookie or query parameter as written. */
export type HashKey =
  | { readonly kind: 'header' | 'cookie' | 'query'; readonly name: string }
  | { readonly kind: 'clientAddress' };

export interface Locality {
  /** The zone of this process; null: unknown, and zones do not count. */
  readonly zone: string | null;
  /** True: endpoints of the same zone first. */
  readonly prefer: boolean;
}

export interface Connections {
  /** Connections per endpoint. */
  readonly max: number;
  /** Requests that may wait for a connection, per endpoint; and for an endpoint, per service. */
  readonly pending: number;
  /** Requests under way, per service. */
  readonly requests: number;
  /** Retries and hedges under way, per service. */
  readonly retries: number;
  /** How long a request may wait while no endpoint is up; 0: not at all. */
  readonly waitForEndpointMs: number;
  readonly connectTimeoutMs: number;
  /** Of a connection without a request; with `protocol: tcp`, of one without a byte either way. 0: no limit. */
  readonly idleTimeoutMs: number;
}

/** A limit on the requests under way that follows the latency of the service. */
export interface AdaptiveConcurrency {
  readonly min: number;
  readonly max: number;
}

export interface HealthCheckPolicy {
  readonly probe:
    | {
        readonly kind: 'http';
        readonly path: string;
        readonly host: string | null;
        readonly statuses: readonly number[];
      }
    | { readonly kind: 'tcp' }
    /** grpc.health.v1; `service` empty: the whole server. */
    | { readonly kind: 'grpc'; readonly service: string };
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Results in a row that change the verdict. */
  readonly unhealthyAfter: number;
  readonly healthyAfter: number;
}

export interface RetryBudgetPolicy {
  /** Retries as a share of the requests of the window, 0 to 1. */
  readonly share: number;
  readonly windowMs: number;
  /** Retries a second that need no share. */
  readonly minPerSecond: number;
}
