// Wraps balance, so that another try finds another endpoint: sends a request again where that is safe, asked for and affordable.
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
import { ReplayBody, ReplayReader } from '../http/replay-body.ts';
import { WheelEntry } from '../timer-wheel.ts';
import type { Call } from './call.ts';
import type { RetryResult } from './events.ts';
import { ABANDONED, type Failure, isConnectFailure } from './outcome.ts';
import { backoffMs, type Cause, causeOfError, causeOfResponse } from './retry-decision.ts';

/** Bytes of an answer that is not wanted which are read, so that its connection can be kept; a longer one is cut. */
const DISCARD_BYTES = 65_536;

/** How often one request may meet a kept connection that closes just then; each time at no cost. */
const MAX_FREE = 3;

/**
 * At most `call.retry.attempts` further tries, for the conditions of the policy. What the service may have acted on goes again for
 * the policy's methods and with an `Idempotency-Key` only, and only while its body is kept whole. Nothing goes again once a
 * response head went up. When there is no retry the failure itself goes through.
 */
export const retry: Interceptor = (dispatch) => (options, handler) => {
  const call = options.call as Call;
  return new Retry(dispatch, options, handler, call).start();
};

/** Between two tries it stands in for the transport's controller, so that a client that leaves is noticed then too. */
class Retry extends WheelEntry implements DispatchHandler, DispatchController {
  readonly #dispatch: Dispatch;
  readonly #options: DispatchOptions;
  readonly #handler: DispatchHandler;
  readonly #call: Call;
  /** It may go again though the service may have acted on it. */
  readonly #repeatable: boolean;
  /** Null: there is no streamed body, or it is sent once only. */
  readonly #body: ReplayBody | null = null;
  /** What the try under way reads of it. */
  #reader: ReplayReader | null = null;
  #context: unknown = null;
  #retries = 0;
  #freeTries = 0;
  /** This request counts among the retries under way. */
  #counted = false;
  /** One try is over and the next has not begun. */
  #between = false;
  #responded = false;
  /** The try whose answer is read and thrown away. */
  #discarded: DispatchController | null = null;
  #discardedBytes = 0;
  paused = false;
  aborted = false;
  reason: Error | null = null;
  rawHeaders: string[] | null = null;
  rawTrailers: string[] | null = null;

  constructor(dispatch: Dispatch, options: DispatchOptions, handler: DispatchHandler, call: Call) {
    super();
    this.#dispatch = dispatch;
    this.#options = options;
    this.#handler = handler;
    this.#call = call;
    const { method, body } = options;
    this.#repeatable = call.retry.methods.has(method) || hasIdempotencyKey(options.headers);
    if (this.#repeatable && body instanceof Readable) this.#body = keep(options, call.retry.bufferBytes);
    this.#openBody();
  }

  start(): boolean {
    return this.#dispatch(this.#options, this);
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
    this.#settle();
    this.#handler.onRequestUpgrade?.(controller, statusCode, headers, socket, head);
  }

  onResponseStart(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    statusMessage?: string,
  ): void {
    if (statusCode >= 200) {
      const cause = causeOfResponse(statusCode, controller, headers, this.#call.retry);
      const delayMs = cause === null ? null : this.#plan(cause);
      if (delayMs !== null) {
        this.#discarded = controller;
        this.#discardedBytes = 0;
        this.#pauseFor(delayMs);
        return;
      }
      this.#settle();
    }
    this.#handler.onResponseStart?.(controller, statusCode, headers, statusMessage);
  }

  onResponseData(controller: DispatchController, chunk: Buffer): void {
    if (controller !== this.#discarded) this.#handler.onResponseData?.(controller, chunk);
    else {
      this.#discardedBytes += chunk.length;
      if (this.#discardedBytes > DISCARD_BYTES) controller.abort(ABANDONED);
    }
  }

  onResponseEnd(controller: DispatchController, trailers: ResponseHeaders): void {
    if (controller === this.#discarded) this.#discarded = null;
    else {
      this.#end();
      this.#handler.onResponseEnd?.(controller, trailers);
    }
  }

  onResponseError(controller: DispatchController | null, error: Error): void {
    if (controller !== null && controller === this.#discarded) {
      this.#discarded = null;
      return;
    }
    const delayMs = this.#responded ? null : this.#afterFailure(error);
    if (delayMs !== null) {
      this.#pauseFor(delayMs);
      return;
    }
    this.#settle();
    this.#end();
    this.#handler.onResponseError?.(controller, error);
  }

  #pauseFor(delayMs: number): void {
    this.#between = true;
    this.#handler.onRequestStart?.(this, this.#context);
    // Unless the request was given up on the spot.
    if (this.#between) this.#call.service.wheel.schedule(this, delayMs);
  }

  /** The next try. */
  override onTimer(): void {
    const { service, deadlineAt } = this.#call;
    // An answer that is still coming in is not waited for.
    this.#discarded?.abort(ABANDONED);
    // Both timers may come due in one late tick: nothing is started any more, and the deadline's ends the request.
    if (deadlineAt <= service.wheel.now()) return;
    this.#between = false;
    this.#openBody();
    this.#dispatch(this.#options, this);
  }

  /** Milliseconds to the next try; null: there is none. */
  #afterFailure(error: Error): number | null {
    const { service } = this.#call;
    const { body } = error as Failure;
    // Its stream has been read, and nobody read what was sent of it.
    if (Buffer.isBuffer(body) && this.#body === null) this.#options.body = body;
    // The queue for endpoints is no try: the request has gone nowhere yet.
    if (isConnectFailure(error) && service.mayWait(this.#call) && this.#isWhole(true)) return 0;
    const cause = causeOfError(error, this.#call.retry);
    return cause === null ? null : this.#plan(cause);
  }

  #plan(cause: Cause): number | null {
    const { service, retry, deadlineAt, outerAttempt } = this.#call;
    if (!cause.untouched && !this.#repeatable) return null;
    if (cause.free && this.#freeTries < MAX_FREE && this.#isWhole(cause.untouched)) {
      this.#freeTries += 1;
      return 0;
    }
    // Whoever stands in front of this hop tries again by itself, and has more endpoints to choose from.
    if (outerAttempt > 0 || cause.free || this.#retries >= retry.attempts) return null;
    if (!this.#isWhole(cause.untouched)) return this.#refuse(cause, 'body_too_large');
    const now = service.wheel.now();
    const delayMs = Math.max(cause.waitMs, backoffMs(retry, this.#retries + 1, service.random));
    if (now + delayMs >= deadlineAt) return this.#refuse(cause, 'no_time');
    if (!this.#counted && service.memory.retries >= service.connections.retries) return this.#refuse(cause, 'too_many');
    // The way to another endpoint after a first that was never reached costs the service nothing: the request arrives once. The
    // budget is for knocking at the same door again.
    const charged = !cause.untouched || !service.hasUntried(this.#call);
    if (charged && !service.memory.retryBudget.withdraw(now)) return this.#refuse(cause, 'budget_exhausted');
    this.#retries += 1;
    if (!this.#counted) service.memory.retries += 1;
    this.#counted = true;
    service.events.retry(service.name, cause.reason, 'retried');
    return delayMs;
  }

  #refuse({ reason }: Cause, result: RetryResult): null {
    const { service } = this.#call;
    service.events.retry(service.name, reason, result);
    return null;
  }

  /** Every byte of the body can be sent again. */
  #isWhole(untouched: boolean): boolean {
    const { body } = this.#options;
    if (this.#body !== null) return this.#body.replayable;
    return !(body instanceof Readable) || (untouched && isUnread(body));
  }

  #openBody(): void {
    if (this.#body === null) return;
    this.#reader = this.#body.open();
    this.#options.body = this.#reader;
  }

  /** No retry from here on: nothing has to be kept. */
  #settle(): void {
    if (this.#responded) return;
    this.#responded = true;
    this.#body?.release();
  }

  /** What is left of the request body is the listener's to deal with. */
  #end(): void {
    this.#reader?.destroy();
    this.#reader = null;
    if (!this.#counted) return;
    this.#counted = false;
    this.#call.service.memory.retries -= 1;
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
    this.#settle();
    this.#end();
    this.#discarded?.abort(ABANDONED);
    this.#handler.onResponseError?.(this, reason);
  }
}

/** Lets every try read the body anew. Null where it is certain that it is too large to be kept. */
function keep(options: DispatchOptions, bufferBytes: number): ReplayBody | null {
  const { body, contentLength } = options;
  if (contentLength !== null && contentLength > bufferBytes) return null;
  if (body instanceof ReplayReader) {
    body.origin.keep(bufferBytes);
    return body.origin;
  }
  return new ReplayBody(body as Readable, bufferBytes);
}

/** The IETF's `Idempotency-Key` header field: the client vouches that the service recognises a repetition. */
function hasIdempotencyKey(headers: readonly string[]): boolean {
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i].length === 15 && headers[i].toLowerCase() === 'idempotency-key') return true;
  }
  return false;
}

function isUnread(body: Readable): boolean {
  return !body.readableDidRead && !body.readableEnded && !body.destroyed;
}
