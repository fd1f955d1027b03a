// Outermost of our own policies: bounds the whole of a request, every try, queue and pause between tries included.
import type { Readable } from 'node:stream';
import type { Timeouts } from '../config/model.ts';
import type { DispatchController, DispatchHandler, Interceptor, ResponseHeaders } from '../dispatch.ts';
import { type Code, SelvedgeError } from '../errors.ts';
import { ReplayReader } from '../http/replay-body.ts';
import type { Call } from './call.ts';
import { ResponseClock } from './response-clock.ts';

/**
 * Until the response head: `timeouts.requestMs` from the end of the request's body (SLV_UPSTREAM_TIMEOUT) and the deadline that
 * came with the request (SLV_DEADLINE_EXCEEDED; past it nothing is started). After it: `timeouts.idleMs` between bytes
 * (SLV_IDLE_TIMEOUT). Interim responses stop neither clock.
 */
export const deadline: Interceptor = (dispatch) => (options, handler) => {
  const call = options.call as Call;
  const { timeouts, service } = call;
  if (call.deadlineAt === Number.POSITIVE_INFINITY && timeouts.requestMs === 0 && timeouts.idleMs === 0) {
    return dispatch(options, handler);
  }
  if (call.deadlineAt <= service.wheel.now()) {
    const message = `service "${service.name}": the deadline of the request had passed before it was sent`;
    handler.onResponseError?.(null, new SelvedgeError('SLV_DEADLINE_EXCEEDED', message));
    return true;
  }
  const bounded = new Deadline(handler, call);
  // A later try may read the body anew: what the client sends is seen at its source only.
  const { body } = options;
  bounded.start(body instanceof ReplayReader ? body.origin.source : body);
  return dispatch(options, bounded);
};

/** A body that counts what arrives (http/metered-request.ts). */
interface Counting extends Readable {
  readonly receivedBytes?: number;
}

class Deadline extends ResponseClock implements DispatchHandler {
  protected override readonly limitCode = 'SLV_UPSTREAM_TIMEOUT';
  readonly #call: Call;
  readonly #timeouts: Timeouts;
  /** When something last moved, or may have been kept from moving by a slow client. */
  #movedAt = 0;
  #receivedBytes = 0;
  /** The client was not ready for more when the last bytes came. */
  #clientWasSlow = false;

  constructor(handler: DispatchHandler, call: Call) {
    super(handler, call.service.wheel, call.timeouts.requestMs, call.deadlineAt);
    this.#call = call;
    this.#timeouts = call.timeouts;
  }

  protected override bodyIsThrough(limitAt: number): void {
    if (limitAt < this.#call.deadlineAt) this.#call.deadlineAt = limitAt;
  }

  protected override lateError(code: Code): SelvedgeError {
    const { name } = this.#call.service;
    if (code === 'SLV_DEADLINE_EXCEEDED') {
      return new SelvedgeError(code, `service "${name}": the deadline of the request passed before a response came`);
    }
    return new SelvedgeError(code, `service "${name}": no response within ${this.#timeouts.requestMs} ms`);
  }

  override onResponseStart(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    statusMessage?: string,
  ): void {
    super.onResponseStart(controller, statusCode, headers, statusMessage);
    if (statusCode < 200 || this.over || this.#timeouts.idleMs === 0) return;
    this.#moved(controller);
    this.wheel.schedule(this, this.#timeouts.idleMs);
  }

  override onResponseData(controller: DispatchController, chunk: Buffer): void {
    if (this.over) return;
    this.handler.onResponseData?.(controller, chunk);
    if (this.#timeouts.idleMs > 0) this.#moved(controller);
  }

  #moved(controller: DispatchController): void {
    this.#movedAt = this.wheel.now();
    this.#clientWasSlow = controller.paused;
  }

  override onTimer(): void {
    if (this.responded) this.#checkIdle();
    else super.onTimer();
  }

  /** The timer is moved here, once a timeout, rather than with every chunk. */
  #checkIdle(): void {
    const { idleMs } = this.#timeouts;
    const now = this.wheel.now();
    // When a slow client became ready again is not known here: the upstream gets the whole time anew.
    const sent = this.upload !== null && this.#clientSent(this.upload);
    if (this.controller?.paused === true || this.#clientWasSlow || sent) {
      this.#clientWasSlow = false;
      this.#movedAt = now;
    }
    const idleFor = now - this.#movedAt;
    if (idleFor < idleMs) this.wheel.schedule(this, idleMs - idleFor);
    else this.#breakOffIdle('sent');
  }

  /** The listener bounds a client that sends too slowly, so only an upstream that takes nothing is at fault here. */
  protected override checkUpload(upload: Readable): number {
    const { idleMs } = this.#timeouts;
    const waitsForClient = upload.readableFlowing === true && upload.readableLength === 0;
    const stalled = (upload as Counting).receivedBytes !== undefined && !this.#clientSent(upload) && !waitsForClient;
    if (idleMs > 0 && stalled) this.#breakOffIdle('taken of the request body');
    return idleMs > 0 ? idleMs : Number.POSITIVE_INFINITY;
  }

  #breakOffIdle(what: string): void {
    const message = `service "${this.#call.service.name}": nothing was ${what} for ${this.#timeouts.idleMs} ms`;
    this.breakOff(new SelvedgeError('SLV_IDLE_TIMEOUT', message));
  }

  /** Whether bytes of the request body have come since the last look. */
  #clientSent(upload: Readable): boolean {
    const { receivedBytes = 0 } = upload as Counting;
    if (receivedBytes <= this.#receivedBytes) return false;
    this.#receivedBytes = receivedBytes;
    return true;
  }
}
