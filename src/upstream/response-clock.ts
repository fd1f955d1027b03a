// Counts the time that a response may take: what the request timeout and the timeout of one try have in common.
import type { IncomingMessage } from 'node:http';
import type { Duplex, Readable } from 'node:stream';
import type { DispatchController, DispatchHandler, DispatchOptions, ResponseHeaders } from '../dispatch.ts';
import type { Code, SelvedgeError } from '../errors.ts';
import { type TimerWheel, WheelEntry } from '../timer-wheel.ts';

/**
 * Passes an exchange through, and breaks it off when its response head is late: `limitMs` after the start, connecting and
 * waiting for a connection included. A request body that is being read by then is an upload under way: the limit then counts
 * from its end, because a clock that runs while a good client uploads would end every long upload.
 */
export abstract class ResponseClock extends WheelEntry implements DispatchHandler {
  protected readonly handler: DispatchHandler;
  protected readonly wheel: TimerWheel;
  protected controller: DispatchController | null = null;
  /** The handler has had its last call. */
  protected over = false;
  /** The body of the request while it is not through; its owner is the client. */
  protected upload: Readable | null = null;
  readonly #limitMs: number;
  readonly #deadlineAt: number;
  #limitAt = Number.POSITIVE_INFINITY;
  #late: SelvedgeError | null = null;

  /**
   * @param limitMs 0: none
   * @param deadlineAt milliseconds on the wheel's clock, whatever the body does; Infinity: none
   */
  constructor(handler: DispatchHandler, wheel: TimerWheel, limitMs: number, deadlineAt: number) {
    super();
    this.handler = handler;
    this.wheel = wheel;
    this.#limitMs = limitMs;
    this.#deadlineAt = deadlineAt;
  }

  /** `limitMs` have passed and the client still uploads. Returns the milliseconds to the next look; Infinity: none. */
  protected checkUpload(_upload: Readable): number {
    return Number.POSITIVE_INFINITY;
  }

  /** The error for a response that did not come in time. */
  protected abstract lateError(code: Code): SelvedgeError;

  /** Which code says that `limitMs` has passed. */
  protected abstract readonly limitCode: Code;

  /** `limitMs` counts from here for good: nothing of the body is outstanding. */
  protected bodyIsThrough(_limitAt: number): void {}

  start(body: DispatchOptions['body']): void {
    const now = this.wheel.now();
    if (this.#limitMs > 0) this.#limitAt = now + this.#limitMs;
    if (isOutstanding(body)) {
      this.upload = body;
      // The one closure of a request, and only of one with a body: the end of a stream is told to functions alone.
      body.once('end', () => this.#uploaded());
    } else this.bodyIsThrough(this.#limitAt);
    this.#arm(now);
  }

  #uploaded(): void {
    this.upload = null;
    if (this.over || this.responded) return;
    const now = this.wheel.now();
    if (this.#limitMs > 0) this.#limitAt = now + this.#limitMs;
    this.bodyIsThrough(this.#limitAt);
    this.#arm(now);
  }

  /** True once the response head is there: the clock has done its work. */
  protected responded = false;

  #arm(now: number): void {
    const at = Math.min(this.#limitAt, this.#deadlineAt);
    if (at === Number.POSITIVE_INFINITY) this.cancel();
    else this.wheel.schedule(this, Math.max(0, at - now));
  }

  override onTimer(): void {
    const now = this.wheel.now();
    if (now >= this.#deadlineAt) this.breakOff(this.lateError('SLV_DEADLINE_EXCEEDED'));
    else if (this.upload !== null && isBeingRead(this.upload)) {
      this.#limitAt = now + this.checkUpload(this.upload);
      if (this.#late === null) this.#arm(now);
    } else this.breakOff(this.lateError(this.limitCode));
  }

  /** Ends the exchange: through the transport where it has begun, else right here. */
  protected breakOff(error: SelvedgeError): void {
    this.#late = error;
    this.cancel();
    if (this.controller !== null) {
      this.controller.abort(error);
      return;
    }
    this.over = true;
    this.handler.onResponseError?.(null, error);
  }

  onRequestStart(controller: DispatchController, context: unknown): void {
    if (this.#late !== null) {
      controller.abort(this.#late);
      return;
    }
    this.controller = controller;
    this.handler.onRequestStart?.(controller, context);
  }

  onRequestUpgrade(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    socket: Duplex,
    head?: Buffer,
  ): void {
    if (this.#end()) this.handler.onRequestUpgrade?.(controller, statusCode, headers, socket, head);
    else socket.destroy();
  }

  onResponseStart(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    statusMessage?: string,
  ): void {
    if (this.over) return;
    if (statusCode >= 200) {
      this.responded = true;
      this.cancel();
    }
    this.handler.onResponseStart?.(controller, statusCode, headers, statusMessage);
  }

  onResponseData(controller: DispatchController, chunk: Buffer): void {
    if (!this.over) this.handler.onResponseData?.(controller, chunk);
  }

  onResponseEnd(controller: DispatchController, trailers: ResponseHeaders): void {
    if (this.#end()) this.handler.onResponseEnd?.(controller, trailers);
  }

  onResponseError(controller: DispatchController | null, error: Error): void {
    if (this.#end()) this.handler.onResponseError?.(controller, error);
  }

  /** False when it was over already. */
  #end(): boolean {
    if (this.over) return false;
    this.over = true;
    this.cancel();
    return true;
  }
}

/** False for a body that has arrived whole, whether or not anyone has read it. */
function isOutstanding(body: DispatchOptions['body']): body is Readable {
  if (body === null || Buffer.isBuffer(body)) return false;
  return !body.readableEnded && (body as Partial<IncomingMessage>).complete !== true;
}

function isBeingRead(body: Readable): boolean {
  return body.readableDidRead || body.readableFlowing === true;
}
