// Hears what becomes of a request that a circuit breaker let through.
import type { Duplex } from 'node:stream';
import { type DispatchController, type DispatchHandler, type ResponseHeaders, TRANSPORT_CODES } from '../plugin.ts';
import type { Outcome, Pass } from './breaker.ts';

/** The service did not answer. Limits of our own, the caller's deadline and a client that leaves say nothing about it. */
const FAILURES: ReadonlySet<unknown> = new Set([
  ...Object.values(TRANSPORT_CODES).filter((code) => code !== TRANSPORT_CODES.poolFull),
  'SLV_UPSTREAM_TIMEOUT',
  'SLV_TRY_TIMEOUT',
  'SLV_NO_ENDPOINT',
]);

/** The response head decides; what breaks after it is judged by those who look at single endpoints. */
export class Judging implements DispatchHandler {
  readonly #handler: DispatchHandler;
  readonly #pass: Pass;

  constructor(handler: DispatchHandler, pass: Pass) {
    this.#handler = handler;
    this.#pass = pass;
  }

  onRequestStart(controller: DispatchController, context: unknown): void {
    this.#handler.onRequestStart?.(controller, context);
  }

  onRequestUpgrade(
    controller: DispatchController,
    status: number,
    headers: ResponseHeaders,
    socket: Duplex,
    head?: Buffer,
  ): void {
    this.#pass.judge('success');
    socket.once('close', () => this.#pass.leave());
    this.#handler.onRequestUpgrade?.(controller, status, headers, socket, head);
  }

  onResponseStart(controller: DispatchController, status: number, headers: ResponseHeaders, message?: string): void {
    if (status >= 200) this.#pass.judge(status >= 500 ? 'failure' : 'success');
    this.#handler.onResponseStart?.(controller, status, headers, message);
  }

  onResponseData(controller: DispatchController, chunk: Buffer): void {
    this.#handler.onResponseData?.(controller, chunk);
  }

  onResponseEnd(controller: DispatchController, trailers: ResponseHeaders): void {
    this.#pass.leave();
    this.#handler.onResponseEnd?.(controller, trailers);
  }

  onResponseError(controller: DispatchController | null, error: Error): void {
    this.#pass.judge(outcomeOf(error));
    this.#pass.leave();
    this.#handler.onResponseError?.(controller, error);
  }
}

function outcomeOf(error: Error): Outcome {
  return FAILURES.has((error as { code?: unknown }).code) ? 'failure' : 'neither';
}
