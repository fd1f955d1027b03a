// Watches one upload while it is going on: too large, stopped, or slower than anyone honest sends.
import { SelvedgeError } from '../errors.ts';
import type { MeteredRequest } from '../http/metered-request.ts';
import { type TimerWheel, WheelEntry } from '../timer-wheel.ts';
import type { RequestExchange } from './exchange.ts';

const CHECK_MS = 1_000;
/** Credit that an upload starts with, before `bodyMinRate` counts. */
const GRACE_MS = 5_000;

/**
 * `bodyMinRate` is a credit in time: five seconds at first, one second more for every `bodyMinRate` bytes, never more than
 * the idle timeout, spent by the clock while the client is the one to wait for. So a steady slow upload of any length goes
 * through, and a byte now and then does not keep a request alive.
 */
export class BodyWatch extends WheelEntry {
  readonly #exchange: RequestExchange;
  readonly #wheel: TimerWheel;
  readonly #fail: (error: SelvedgeError) => void;
  #seen = 0;
  #idleMs = 0;
  #creditMs = GRACE_MS;
  #stopped = false;

  private constructor(exchange: RequestExchange, wheel: TimerWheel, fail: (error: SelvedgeError) => void) {
    super();
    this.#exchange = exchange;
    this.#wheel = wheel;
    this.#fail = fail;
  }

  static start(
    exchange: RequestExchange,
    wheel: TimerWheel,
    byteLimit: number,
    fail: (error: SelvedgeError) => void,
  ): BodyWatch {
    const watch = new BodyWatch(exchange, wheel, fail);
    const req = exchange.req as MeteredRequest;
    if (byteLimit !== Number.POSITIVE_INFINITY) {
      req.byteLimit = byteLimit;
      req.onOverflow = () => watch.#overflow(byteLimit);
      if (req.receivedBytes > byteLimit) process.nextTick(req.onOverflow);
    }
    watch.#seen = req.receivedBytes ?? 0;
    if (!req.complete) wheel.schedule(watch, CHECK_MS);
    return watch;
  }

  stop(): void {
    this.#stopped = true;
    (this.#exchange.req as MeteredRequest).onOverflow = null;
    this.cancel();
  }

  override onTimer(): void {
    const req = this.#exchange.req as MeteredRequest;
    if (this.#stopped || req.complete || req.destroyed) return;
    const { bodyIdleTimeoutMs, bodyMinRate } = this.#exchange.connection.listener.limits;
    const received = (req.receivedBytes ?? 0) - this.#seen;
    this.#seen += received;
    const waitingForClient = req.readableFlowing === true && req.readableLength === 0;
    this.#idleMs = received > 0 || !waitingForClient ? 0 : this.#idleMs + CHECK_MS;
    if (bodyIdleTimeoutMs > 0 && this.#idleMs >= bodyIdleTimeoutMs) {
      this.#tooSlow(`no byte of the request body for ${bodyIdleTimeoutMs} ms`);
      return;
    }
    if (bodyMinRate > 0) {
      const cap = Math.max(GRACE_MS, bodyIdleTimeoutMs);
      this.#creditMs = Math.min(cap, this.#creditMs + (received / bodyMinRate) * 1_000);
      if (waitingForClient) this.#creditMs -= CHECK_MS;
      if (this.#creditMs < 0) {
        this.#tooSlow(`the request body arrives at less than ${bodyMinRate} bytes a second`);
        return;
      }
    }
    this.#wheel.schedule(this, CHECK_MS);
  }

  #tooSlow(message: string): void {
    this.#stopped = true;
    this.#fail(new SelvedgeError('SLV_REQUEST_TIMEOUT', message));
  }

  #overflow(limit: number): void {
    if (this.#stopped) return;
    this.#stopped = true;
    const detail = `At most ${limit} bytes are accepted.`;
    this.#fail(new SelvedgeError('SLV_BODY_TOO_LARGE', `the request body is larger than ${limit} bytes`, { detail }));
  }
}
