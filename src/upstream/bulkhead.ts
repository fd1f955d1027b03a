// Once per request, inside the deadline: a service has so many requests under way and no more; one over the limit is answered at once.
import type { Duplex } from 'node:stream';
import type { DispatchController, DispatchHandler, Interceptor, ResponseHeaders } from '../dispatch.ts';
import { SelvedgeError } from '../errors.ts';
import type { Call } from './call.ts';
import { PassThrough } from './pass-through.ts';
import type { Service } from './service.ts';

/** Nothing came for so long: the clearest sign of too much load. */
const TOO_LATE: ReadonlySet<unknown> = new Set(['SLV_UPSTREAM_TIMEOUT', 'SLV_TRY_TIMEOUT']);

/** 503 SLV_REQUEST_LIMIT over `connections.requests`, 503 SLV_CONCURRENCY_LIMIT over what `concurrency.adaptive` has learned. */
export const bulkhead: Interceptor = (dispatch) => (options, handler) => {
  const { service } = options.call as Call;
  const { memory, connections } = service;
  const { adaptive } = memory;
  const now = service.wheel.now();
  if (memory.requests >= connections.requests) {
    handler.onResponseError?.(null, full(service, connections.requests));
    return true;
  }
  if (adaptive !== null && !adaptive.tryAcquire(now)) {
    handler.onResponseError?.(null, slow(service, adaptive.limit));
    return true;
  }
  memory.requests += 1;
  memory.retryBudget.deposit(now);
  return dispatch(options, new Counted(handler, service, now));
};

function full({ name }: Service, limit: number): SelvedgeError {
  return new SelvedgeError('SLV_REQUEST_LIMIT', `service "${name}": ${limit} requests are under way`, {
    retryAfter: 1,
  });
}

function slow({ name }: Service, limit: number): SelvedgeError {
  const message = `service "${name}": ${Math.floor(limit)} requests are under way, and more would only slow it down`;
  return new SelvedgeError('SLV_CONCURRENCY_LIMIT', message, { retryAfter: 1 });
}

/** Gives the place back exactly once: at the end, or when the connection leaves HTTP. */
class Counted extends PassThrough {
  readonly #startedAt: number;
  readonly #adaptive: Service['memory']['adaptive'];
  #service: Service | null;
  /** Milliseconds to the response head or a timeout; null: neither came, or it was a failure that says nothing about load. */
  #latencyMs: number | null = null;

  constructor(handler: DispatchHandler, service: Service, now: number) {
    super(handler);
    this.#service = service;
    this.#adaptive = service.memory.adaptive;
    this.#startedAt = now;
  }

  override onRequestUpgrade(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    socket: Duplex,
    head?: Buffer,
  ): void {
    this.#release();
    super.onRequestUpgrade(controller, statusCode, headers, socket, head);
  }

  override onResponseStart(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    statusMessage?: string,
  ): void {
    if (statusCode >= 200 && statusCode < 500) this.#latencyMs = this.#elapsed();
    super.onResponseStart(controller, statusCode, headers, statusMessage);
  }

  override onResponseEnd(controller: DispatchController, trailers: ResponseHeaders): void {
    this.#release();
    super.onResponseEnd(controller, trailers);
  }

  override onResponseError(controller: DispatchController | null, error: Error): void {
    if (TOO_LATE.has((error as { code?: unknown }).code)) this.#latencyMs = this.#elapsed();
    this.#release();
    super.onResponseError(controller, error);
  }

  #elapsed(): number | null {
    const service = this.#service;
    return service === null || this.#adaptive === null ? null : service.wheel.now() - this.#startedAt;
  }

  #release(): void {
    const service = this.#service;
    if (service === null) return;
    this.#service = null;
    service.memory.requests -= 1;
    this.#adaptive?.release(this.#latencyMs, service.wheel.now());
  }
}
