// The upstream's body as Fastify's payload: pulled at the client's pace, and gone with either side.
import { Readable } from 'node:stream';
import type { DispatchController } from '../dispatch.ts';
import { SelvedgeError } from '../errors.ts';
import { type TimerWheel, WheelEntry } from '../timer-wheel.ts';
import type { RequestExchange } from './exchange.ts';

/** Bytes held for a client that is slower than the upstream, beside the one socket read that was under way. */
const BUFFER_BYTES = 65_536;

export class UpstreamBody extends Readable {
  readonly #exchange: RequestExchange;
  /** Null once the response has arrived whole: then there is nothing left to hold back. */
  readonly #controller: DispatchController | null;
  readonly #stall: StallWatch | null;
  #trailers: [string, string][] | null = null;

  /** @param idleMs how long a client may take nothing at all while data waits for it; 0: for ever */
  constructor(exchange: RequestExchange, wheel: TimerWheel, idleMs: number) {
    super({ highWaterMark: BUFFER_BYTES });
    this.#exchange = exchange;
    this.#controller = exchange.controller;
    this.#stall = idleMs > 0 ? new StallWatch(this, exchange, wheel, idleMs) : null;
    this.once('end', this.#ended);
  }

  /** Data of the upstream. */
  deliver(chunk: Buffer): void {
    if (this.push(chunk) || this.#controller === null) return;
    this.#controller.pause();
    this.#stall?.begin();
  }

  /** The upstream's regular end. */
  finish(trailers: [string, string][] | null): void {
    this.#trailers = trailers;
    this.push(null);
    // What is buffered now fits, so nothing was paused for it, and still the client has to take it.
    this.#stall?.begin();
  }

  /** The client's response ends without its end: the connection closes, whatever the framing. */
  breakOff(error: SelvedgeError): void {
    const { res } = this.#exchange;
    if (res.headersSent) res.destroy(error);
    else for (const name of res.getHeaderNames()) res.removeHeader(name);
    this.destroy(error);
  }

  override _read(): void {
    if (this.#controller?.paused !== true) return;
    this.#stall?.cancel();
    this.#controller.resume();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#stall?.cancel();
    this.#exchange.controller = null;
    this.#controller?.abort(error ?? new SelvedgeError('SLV_CLIENT_ABORTED', 'the response is not wanted any more'));
    callback(error);
  }

  readonly #ended = (): void => {
    const { res } = this.#exchange;
    this.#exchange.bodyRead = true;
    if (this.#trailers !== null && !res.writableEnded) res.addTrailers(this.#trailers as never);
  };
}

/** While data waits: a client that takes none of it for the idle time is gone in all but name. */
class StallWatch extends WheelEntry {
  readonly #body: UpstreamBody;
  readonly #exchange: RequestExchange;
  readonly #wheel: TimerWheel;
  readonly #idleMs: number;

  constructor(body: UpstreamBody, exchange: RequestExchange, wheel: TimerWheel, idleMs: number) {
    super();
    this.#body = body;
    this.#exchange = exchange;
    this.#wheel = wheel;
    this.#idleMs = idleMs;
  }

  begin(): void {
    this.#wheel.schedule(this, this.#idleMs);
  }

  override onTimer(): void {
    this.#exchange.reason ??= 'client_stalled';
    this.#body.breakOff(new SelvedgeError('SLV_IDLE_TIMEOUT', `the client took nothing for ${this.#idleMs} ms`));
  }
}
