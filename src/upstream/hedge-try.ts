// One of the two tries of a hedged request, as its stack tells of it: holds a failed answer back while the other is under way.
import type { Duplex } from 'node:stream';
import type { DispatchController, DispatchHandler, ResponseHeaders } from '../dispatch.ts';
import { SelvedgeError } from '../errors.ts';

/** Bound of what arrives of an answer that is held back, though its connection is paused. */
const MAX_HELD_BYTES = 64 * 1024;

/** The request whose tries these are. */
export interface Race {
  readonly paused: boolean;
  started(context: unknown): void;
  interim(
    by: HedgeTry,
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    text?: string,
  ): void;
  /** A response head has come. `waits`: it is to be held back. */
  answered(by: HedgeTry, statusCode: number): 'goes on' | 'waits' | 'has lost';
  /** From here on of the winner only. */
  head(controller: DispatchController, statusCode: number, headers: ResponseHeaders, text?: string): void;
  data(chunk: Buffer): void;
  ended(controller: DispatchController, trailers: ResponseHeaders): void;
  upgraded(by: HedgeTry, statusCode: number, headers: ResponseHeaders, socket: Duplex, head?: Buffer): void;
  /** Of each try at most once, and not once it was dropped. */
  failed(by: HedgeTry, error: Error): void;
}

interface Held {
  readonly controller: DispatchController;
  readonly statusCode: number;
  readonly headers: ResponseHeaders;
  readonly text: string | undefined;
  readonly rawHeaders: string[] | null;
  readonly chunks: Buffer[];
  bytes: number;
  /** Null: more may come. */
  trailers: ResponseHeaders | null;
}

export class HedgeTry implements DispatchHandler {
  controller: DispatchController | null = null;
  /** What ended it; null: it has not failed. */
  error: Error | null = null;
  readonly #race: Race;
  #held: Held | null = null;
  /** Why nobody listens any more. */
  #dropped: Error | null = null;
  #ended = false;

  constructor(race: Race) {
    this.#race = race;
  }

  /** It may still bring something, and nothing of it is held back. */
  get underWay(): boolean {
    return this.error === null && this.#dropped === null && !this.#ended && this.#held === null;
  }

  /** An answer of it is held back. */
  get holds(): boolean {
    return this.#held !== null;
  }

  /** Nothing of it is told any more; what runs is aborted, now or when it begins. */
  drop(reason: Error): void {
    if (this.#dropped !== null) return;
    this.#dropped = reason;
    this.#held = null;
    if (!this.#ended && this.error === null) this.controller?.abort(reason);
  }

  /** It has won: what was held back goes on. */
  letGo(): void {
    const held = this.#held;
    if (held === null) return;
    this.#held = null;
    const { controller, statusCode, headers, text, rawHeaders, chunks, trailers } = held;
    // Others may have come since: a controller has those of the last head.
    controller.rawHeaders = rawHeaders;
    this.#race.head(controller, statusCode, headers, text);
    for (const chunk of chunks) this.#race.data(chunk);
    if (trailers !== null) this.#race.ended(controller, trailers);
    else if (!this.#race.paused) controller.resume();
  }

  onRequestStart(controller: DispatchController, context: unknown): void {
    if (this.#dropped !== null) {
      controller.abort(this.#dropped);
      return;
    }
    this.controller = controller;
    if (this.#race.paused) controller.pause();
    this.#race.started(context);
  }

  onRequestUpgrade(
    _controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    socket: Duplex,
    head?: Buffer,
  ): void {
    this.#ended = true;
    if (this.#dropped === null) this.#race.upgraded(this, statusCode, headers, socket, head);
    else socket.destroy();
  }

  onResponseStart(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    statusMessage?: string,
  ): void {
    if (this.#dropped !== null) return;
    if (statusCode < 200) {
      this.#race.interim(this, controller, statusCode, headers, statusMessage);
      return;
    }
    const verdict = this.#race.answered(this, statusCode);
    if (verdict === 'goes on') this.#race.head(controller, statusCode, headers, statusMessage);
    else if (verdict === 'waits') {
      const { rawHeaders } = controller;
      this.#held = {
        controller,
        statusCode,
        headers,
        text: statusMessage,
        rawHeaders,
        chunks: [],
        bytes: 0,
        trailers: null,
      };
      controller.pause();
    }
  }

  onResponseData(_controller: DispatchController, chunk: Buffer): void {
    const held = this.#held;
    if (held !== null) this.#hold(held, chunk);
    else if (this.#dropped === null) this.#race.data(chunk);
  }

  #hold(held: Held, chunk: Buffer): void {
    held.bytes += chunk.length;
    if (held.bytes <= MAX_HELD_BYTES) {
      held.chunks.push(chunk);
      return;
    }
    held.controller.abort(new SelvedgeError('SLV_HEDGE_LOST', 'more was sent than a held answer may have'));
  }

  onResponseEnd(controller: DispatchController, trailers: ResponseHeaders): void {
    if (this.#dropped !== null) return;
    this.#ended = true;
    if (this.#held !== null) this.#held.trailers = trailers;
    else this.#race.ended(controller, trailers);
  }

  onResponseError(_controller: DispatchController | null, error: Error): void {
    if (this.#dropped !== null || this.#ended || this.error !== null) return;
    this.#held = null;
    this.error = error;
    this.#race.failed(this, error);
  }
}
