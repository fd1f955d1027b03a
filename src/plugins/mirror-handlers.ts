// The two handlers of the mirror plugin: one watches the request that is copied, one throws away what a copy is answered.
import type { Duplex } from 'node:stream';
import type { ReplayReader } from '../http/replay-body.ts';
import type { DispatchController, DispatchHandler, ResponseHeaders } from '../plugin.ts';

export type MirrorResult = 'sent' | 'answered' | 'failed' | 'too_large' | 'too_many';

/** Of an answer, at most: past it the copy is broken off, answered as it is. */
const ANSWER_BYTES = 1_048_576;

/** Passes the exchange through and lets go of its body when it is over. */
export class MirrorWatch implements DispatchHandler {
  readonly #handler: DispatchHandler;
  readonly #reader: ReplayReader;
  /** Nobody else opened the reader, so nobody else ends it. */
  readonly #owns: boolean;
  /** It is known whether the body is whole. */
  settled = false;
  over = false;
  #released = false;

  constructor(handler: DispatchHandler, reader: ReplayReader, owns: boolean) {
    this.#handler = handler;
    this.#reader = reader;
    this.#owns = owns;
  }

  finish(): void {
    if (this.over) return;
    this.over = true;
    const { origin, complete } = this.#reader;
    if (this.#owns) this.#reader.destroy();
    if (this.settled) return;
    // All of it has arrived: reading the rest is a matter of buffers. Else an answer came before the end of the upload.
    if (this.#owns && complete && origin.replayable) origin.drain();
    else this.release();
  }

  /** The copies do not need the body any more. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#reader.origin.release();
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
    this.finish();
    this.#handler.onRequestUpgrade?.(controller, status, headers, socket, head);
  }

  onResponseStart(controller: DispatchController, status: number, headers: ResponseHeaders, message?: string): void {
    this.#handler.onResponseStart?.(controller, status, headers, message);
  }

  onResponseData(controller: DispatchController, chunk: Buffer): void {
    this.#handler.onResponseData?.(controller, chunk);
  }

  onResponseEnd(controller: DispatchController, trailers: ResponseHeaders): void {
    this.finish();
    this.#handler.onResponseEnd?.(controller, trailers);
  }

  onResponseError(controller: DispatchController | null, error: Error): void {
    this.finish();
    this.#handler.onResponseError?.(controller, error);
  }
}

/** Reads an answer and forgets it, within bounds of size and time. */
export class AnswerDropped implements DispatchHandler {
  #over: ((answered: boolean) => void) | null;
  #answered = false;
  #bytes = 0;
  #controller: DispatchController | null = null;
  readonly #timer: NodeJS.Timeout;

  /**
   * @param timeoutMs for the whole exchange
   * @param over called once, when the copy is done with
   */
  constructor(timeoutMs: number, over: (answered: boolean) => void) {
    this.#over = over;
    this.#timer = setTimeout(() => this.#controller?.abort(new Error('a copy took too long')), timeoutMs);
    this.#timer.unref();
  }

  onRequestStart(controller: DispatchController): void {
    this.#controller = controller;
  }

  onRequestUpgrade(_controller: DispatchController, _status: number, _headers: ResponseHeaders, socket: Duplex): void {
    socket.destroy();
    this.#end();
  }

  onResponseStart(_controller: DispatchController, status: number): void {
    if (status >= 200) this.#answered = true;
  }

  onResponseData(controller: DispatchController, chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > ANSWER_BYTES) controller.abort(new Error('the answer to a copy is larger than anyone needs'));
  }

  onResponseEnd(): void {
    this.#end();
  }

  onResponseError(_controller: DispatchController | null, _error: Error): void {
    this.#end();
  }

  #end(): void {
    const over = this.#over;
    this.#over = null;
    clearTimeout(this.#timer);
    over?.(this.#answered);
  }
}
