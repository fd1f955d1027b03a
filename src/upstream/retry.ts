// Wraps balance, so that a second try finds another endpoint: the one retry that is safe for every request.

import type { Duplex } from 'node:stream';
import { Readable } from 'node:stream';
import type {
  Dispatch,
  DispatchController,
  DispatchHandler,
  DispatchOptions,
  Interceptor,
  ResponseHeaders,
} from '../dispatch.ts';
import { TRANSPORT_CODES } from '../dispatch.ts';
import { WheelEntry } from '../timer-wheel.ts';
import type { Call } from './call.ts';
import type { Endpoint } from './endpoint.ts';

const RETRIES = 1;
const BACKOFF_MS = 25;
const MAX_BACKOFF_MS = 250;

/** Failures to reach an endpoint, and losing the race against a connection or pool that closes. A full pool is a limit, not a fault. */
const RETRIABLE: ReadonlySet<unknown> = new Set([
  TRANSPORT_CODES.connectRefused,
  TRANSPORT_CODES.connectTimeout,
  TRANSPORT_CODES.unreachable,
  TRANSPORT_CODES.dns,
  TRANSPORT_CODES.tls,
  TRANSPORT_CODES.reset,
]);

/**
 * Tries once more where the request cannot have been acted on: no byte of it reached the wire (`error.unsent`), nothing of
 * its body was read, and the service's retry budget allows it. Otherwise the original error goes through.
 * (A kept connection that the upstream closes just then is no failure to retry: its pool sends the request once more itself.)
 */
export const retry: Interceptor = (dispatch) => (options, handler) => {
  const { service } = options.call as Call;
  service.memory.retryBudget.deposit(service.wheel.now());
  return dispatch(options, new Retry(dispatch, options, handler));
};

/** Between two tries it stands in for the transport's controller, so that a client that leaves is noticed then too. */
class Retry extends WheelEntry implements DispatchHandler, DispatchController {
  readonly #dispatch: Dispatch;
  readonly #options: DispatchOptions;
  readonly #handler: DispatchHandler;
  #context: unknown = null;
  #retries = 0;
  /** One try is over and the next has not begun. */
  #between = false;
  #responded = false;
  paused = false;
  aborted = false;
  reason: Error | null = null;
  rawHeaders: string[] | null = null;
  rawTrailers: string[] | null = null;

  constructor(dispatch: Dispatch, options: DispatchOptions, handler: DispatchHandler) {
    super();
    this.#dispatch = dispatch;
    this.#options = options;
    this.#handler = handler;
  }

  onRequestStart(controller: DispatchController, context: unknown): void {
    this.#context = context;
    this.#handler.onRequestStart?.(controller, context);
  }

  onRequestUpgrade(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    socket: Duplex,
    head?: Buffer,
  ): void {
    this.#responded = true;
    this.#handler.onRequestUpgrade?.(controller, statusCode, headers, socket, head);
  }

  onResponseStart(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    statusMessage?: string,
  ): void {
    this.#responded = true;
    this.#handler.onResponseStart?.(controller, statusCode, headers, statusMessage);
  }

  onResponseData(controller: DispatchController, chunk: Buffer): void {
    this.#handler.onResponseData?.(controller, chunk);
  }

  onResponseEnd(controller: DispatchController, trailers: ResponseHeaders): void {
    this.#handler.onResponseEnd?.(controller, trailers);
  }

  onResponseError(controller: DispatchController | null, error: Error): void {
    const delayMs = this.#backoff(error);
    if (delayMs !== null) {
      if (this.#standIn()) (this.#options.call as Call).service.wheel.schedule(this, delayMs);
      return;
    }
    this.#handler.onResponseError?.(controller, error);
  }

  /** False when the request was given up on the spot. */
  #standIn(): boolean {
    this.#between = true;
    this.#handler.onRequestStart?.(this, this.#context);
    return this.#between;
  }

  /** The next try. */
  override onTimer(): void {
    const { service, deadlineAt } = this.#options.call as Call;
    // Both timers may come due in one late tick: nothing is started any more, and the deadline's ends the request.
    if (deadlineAt <= service.wheel.now()) return;
    this.#between = false;
    this.#dispatch(this.#options, this);
  }

  /** Milliseconds to wait before the next try; null: there is none. */
  #backoff({ code, unsent }: Failure): number | null {
    if (this.#responded || this.#retries === RETRIES || unsent !== true || !RETRIABLE.has(code)) return null;
    if (!isUntouched(this.#options.body)) return null;
    const { service, subset, tried, deadlineAt } = this.#options.call as Call;
    const now = service.wheel.now();
    const ceiling = Math.min(MAX_BACKOFF_MS, (2 ** (this.#retries + 1) - 1) * BACKOFF_MS);
    const delayMs = service.random() * ceiling;
    if (now + delayMs >= deadlineAt) return null;
    if (!hasAnother(service.subset(subset), tried) && !service.memory.retryBudget.withdraw(now)) return null;
    this.#retries += 1;
    return delayMs;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }

  abort(reason: Error): void {
    if (!this.#between) return;
    this.#between = false;
    this.aborted = true;
    this.reason = reason;
    this.cancel();
    this.#handler.onResponseError?.(this, reason);
  }
}

/**
 * An endpoint is left that has not been tried. Going there costs the service nothing: the first try never reached it, so the
 * request arrives once. The budget is for knocking at the same door again.
 */
function hasAnother(endpoints: readonly Endpoint[] | undefined, tried: readonly Endpoint[]): boolean {
  return endpoints?.some((endpoint) => !tried.includes(endpoint)) ?? false;
}

/** What the transport says of a failure beside its code (http1/transport-error.ts). */
interface Failure extends Error {
  readonly code?: unknown;
  readonly unsent?: unknown;
}

function isUntouched(body: DispatchOptions['body']): boolean {
  if (!(body instanceof Readable)) return true;
  return !body.readableDidRead && !body.readableEnded && !body.destroyed;
}
