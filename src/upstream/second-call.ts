// The policy record of a hedge's second try: that of its request, with an endpoint of its own and no retries.
import type { Attempt, AttemptWatch, Outgoing } from '../plugin.ts';
import { NO_RETRY } from '../policies/retry.ts';
import type { Call } from './call.ts';
import type { Endpoint } from './endpoint.ts';

/**
 * Two tries are under way at once, and the last of `tried` says where one goes, so each has a list of its own. What the second
 * chooses is put at the front of the first's, so that a retry of that one looks elsewhere.
 */
export class SecondCall implements Call {
  readonly service: Call['service'];
  readonly subset: Call['subset'];
  readonly timeouts: Call['timeouts'];
  readonly retry = NO_RETRY;
  readonly hedge = null;
  readonly outlierDetection: Call['outlierDetection'];
  readonly outerAttempt: number;
  readonly hashKey: number;
  /** Bound to an endpoint that is slow just now, or the request would not be here. */
  readonly sticky = null;
  readonly preferred = null;
  readonly attempts: Call['attempts'];
  readonly tried: Endpoint[];
  readonly internal: boolean;
  readonly caller: Call['caller'];
  readonly grpcTimeout: boolean;
  readonly hopPath: string | null;
  /** Long over: where no endpoint is up, the first try waits for both. */
  waitUntil = 1;
  readonly #first: Call;
  #endpoint: Endpoint | null = null;

  constructor(first: Call) {
    this.#first = first;
    this.service = first.service;
    this.subset = first.subset;
    this.timeouts = first.timeouts;
    this.outlierDetection = first.outlierDetection;
    this.outerAttempt = first.outerAttempt;
    this.hashKey = first.hashKey;
    this.attempts = first.attempts;
    this.tried = [...first.tried];
    this.internal = first.internal;
    this.caller = first.caller;
    this.grpcTimeout = first.grpcTimeout;
    this.hopPath = first.hopPath;
  }

  get deadlineAt(): number {
    return this.#first.deadlineAt;
  }

  set deadlineAt(at: number) {
    this.#first.deadlineAt = at;
  }

  onEndpoint(endpoint: Endpoint): void {
    this.#endpoint = endpoint;
    this.#first.tried.unshift(endpoint);
  }

  observe(attempt: Attempt, outgoing: Outgoing): AttemptWatch | null {
    return this.#first.observe(attempt, outgoing);
  }

  /** Its answer is that of the request. */
  tellEndpoint(): void {
    if (this.#endpoint !== null) this.#first.onEndpoint(this.#endpoint);
  }
}
