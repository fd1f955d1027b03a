// The policy record of one request: what the forwarder hands to the upstream stack in `DispatchOptions.call`.
import type { Timeouts } from '../config/model.ts';
import type { Attempt, AttemptWatch, Outgoing } from '../plugin.ts';
import type { HedgePolicy } from '../policies/hedge.ts';
import type { OutlierPolicy } from '../policies/outlier-detection.ts';
import type { RetryPolicy } from '../policies/retry.ts';
import type { Caller } from './caller.ts';
import type { Endpoint } from './endpoint.ts';
import type { Service } from './service.ts';

export interface Call {
  readonly service: Service;
  /** Null: every endpoint of the service. */
  readonly subset: string | null;
  readonly timeouts: Timeouts;
  readonly retry: RetryPolicy;
  /** Null: no hedging. */
  readonly hedge: HedgePolicy | null;
  /** Null: outcomes are not judged. */
  readonly outlierDetection: OutlierPolicy | null;
  /** Tries that those in front of us have made, this one included; 0: nobody is in front, so retries are ours to make. */
  readonly outerAttempt: number;
  /** Where ring-hash and maglev put this request: a whole number below 2^32. */
  readonly hashKey: number;
  /** Until when it may wait for an endpoint, in milliseconds on the process clock; 0: it has not begun to. */
  waitUntil: number;
  /** The request says its deadline in `grpc-timeout` too. */
  readonly grpcTimeout: boolean;
  /** The endpoint that the client's session is bound to, or null. */
  readonly sticky: Endpoint | null;
  /** Hops that the request has passed, as the next one is told (`x-selvedge-path`); null: none. */
  readonly hopPath: string | null;
  /**
   * Milliseconds on the process clock after which no work is started; Infinity: none. Starts as the deadline that came with
   * the request; the deadline policy lowers it to the request timeout once the request's body is through.
   */
  deadlineAt: number;
  /** One a try, pushed by the balance policy. */
  readonly attempts: Attempt[];
  /** Address of the endpoint that the caller's side has chosen (`x-selvedge-endpoint`), or null. */
  readonly preferred: string | null;
  /** Endpoints tried so far, the current one last; pushed by the balance policy. */
  readonly tried: Endpoint[];
  /** Who this process is to hops; null where they speak plain HTTP. */
  readonly caller: Caller | null;
  /** True: the receiver belongs to the mesh (a hop, or the local app), so x-selvedge-* headers go along. */
  readonly internal: boolean;
  /** Told when an endpoint is chosen, once a try. */
  onEndpoint(endpoint: Endpoint): void;
  /** Whoever watches the tries of this request; null: nobody. Never throws. */
  observe(attempt: Attempt, outgoing: Outgoing): AttemptWatch | null;
}
