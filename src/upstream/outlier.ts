// Runs once per attempt, right behind balance: judges the endpoint by how its try ended, and leaves out those that fail.
import type { Duplex } from 'node:stream';
import type { DispatchController, DispatchHandler, Interceptor, ResponseHeaders } from '../dispatch.ts';
import { rawHeader } from '../http/raw-headers.ts';
import { retryAfterMs } from '../http/retry-after.ts';
import type { Call } from './call.ts';
import { judge } from './ejection.ts';
import type { Endpoint } from './endpoint.ts';
import { ABANDONED, isConnectFailure, isFault } from './outcome.ts';
import { PassThrough } from './pass-through.ts';

/** An endpoint that asks for rest (429 or 503 with `Retry-After`) gets at most this much. */
const MAX_REST_MS = 30_000;

export const outlier: Interceptor = (dispatch) => (options, handler) => {
  const call = options.call as Call;
  return dispatch(options, new Judged(handler, call, call.tried[call.tried.length - 1]));
};

class Judged extends PassThrough {
  readonly #call: Call;
  readonly #endpoint: Endpoint;
  readonly #startedAt: number;
  #failed = false;

  constructor(handler: DispatchHandler, call: Call, endpoint: Endpoint) {
    super(handler);
    this.#call = call;
    this.#endpoint = endpoint;
    this.#startedAt = call.service.wheel.now();
  }

  override onRequestUpgrade(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    socket: Duplex,
    head?: Buffer,
  ): void {
    this.#succeeded(false);
    super.onRequestUpgrade(controller, statusCode, headers, socket, head);
  }

  override onResponseStart(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    statusMessage?: string,
  ): void {
    if (statusCode >= 500) this.#fail();
    else if (statusCode >= 200) this.#succeeded(statusCode === 429);
    if (statusCode === 429 || statusCode === 503) this.#restAsAsked(controller.rawHeaders, headers);
    super.onResponseStart(controller, statusCode, headers, statusMessage);
  }

  override onResponseError(controller: DispatchController | null, error: Error): void {
    if (isFault(error)) {
      if (isConnectFailure(error)) this.#call.service.lostContact(this.#endpoint);
      this.#fail();
    } else if (error !== ABANDONED) this.#endpoint.health.probing = false;
    super.onResponseError(controller, error);
  }

  /** @param refused it takes no more just now: its own doing, but a fast answer must not draw more requests to it */
  #succeeded(refused: boolean): void {
    const { service, outlierDetection } = this.#call;
    const now = service.wheel.now();
    const latencyMs = now - this.#startedAt;
    if (refused) this.#endpoint.latency.observeFailure(latencyMs, now);
    else this.#endpoint.latency.observe(latencyMs, now);
    service.memory.latencies.observe(latencyMs, now);
    judge(service, this.#endpoint, true, outlierDetection, now);
  }

  #fail(): void {
    if (this.#failed) return;
    this.#failed = true;
    const { service, outlierDetection } = this.#call;
    const now = service.wheel.now();
    this.#endpoint.latency.observeFailure(now - this.#startedAt, now);
    judge(service, this.#endpoint, false, outlierDetection, now);
  }

  #restAsAsked(rawHeaders: readonly string[] | null, headers: ResponseHeaders): void {
    const value = rawHeaders === null ? headers['retry-after'] : rawHeader(rawHeaders, 'retry-after');
    if (value === undefined) return;
    const askedMs = retryAfterMs(String(value), Date.now());
    if (askedMs === null || askedMs === 0) return;
    const { service } = this.#call;
    const forMs = Math.min(askedMs, MAX_REST_MS);
    this.#endpoint.health.rest(service.wheel.now() + forMs);
    service.events.resting(service.name, this.#endpoint.address, forMs);
  }
}
