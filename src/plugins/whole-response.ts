// For interceptors that must see a response body whole before the client gets any of it: held within a bound, then let go at once.
import type { Duplex } from 'node:stream';
import type { DispatchController, DispatchHandler, ResponseHeaders } from '../plugin.ts';
import { HeldBytes } from './held-bytes.ts';

export interface Held {
  readonly status: number;
  readonly headers: ResponseHeaders;
}

export interface ResponseReader {
  readonly maxBytes: number;
  /** Whether the body of this response is waited for. It may change `headers` of one that is not. */
  wants(response: Held): boolean;
  /** What goes to the client instead. What it throws is the answer: nothing of the response was sent. */
  read(response: Held, body: Buffer): { readonly headers: ResponseHeaders; readonly body: Buffer };
  /** It is larger than `maxBytes`. Null: it passes as it is; else the answer instead. */
  tooLarge(response: Held): Error | null;
}

interface Holding extends Held {
  readonly message: string | undefined;
  readonly chunks: Buffer[];
  bytes: number;
}

export class WholeResponse implements DispatchHandler {
  readonly #handler: DispatchHandler;
  readonly #reader: ResponseReader;
  readonly #held = new HeldBytes();
  #holding: Holding | null = null;
  #over = false;

  constructor(handler: DispatchHandler, reader: ResponseReader) {
    this.#handler = handler;
    this.#reader = reader;
  }

  onRequestStart(controller: DispatchController, context: unknown): void {
    this.#holding = null;
    this.#held.release();
    this.#handler.onRequestStart?.(controller, context);
  }

  onRequestUpgrade(
    controller: DispatchController,
    status: number,
    headers: ResponseHeaders,
    socket: Duplex,
    head?: Buffer,
  ): void {
    this.#handler.onRequestUpgrade?.(controller, status, headers, socket, head);
  }

  onResponseStart(controller: DispatchController, status: number, headers: ResponseHeaders, message?: string): void {
    const response = { status, headers };
    if (status < 200 || !this.#reader.wants(response)) {
      this.#handler.onResponseStart?.(controller, status, headers, message);
      return;
    }
    this.#holding = { ...response, message, chunks: [], bytes: 0 };
    if (Number(headers['content-length'] ?? 0) > this.#reader.maxBytes) this.#letGo(controller, this.#holding);
  }

  onResponseData(controller: DispatchController, chunk: Buffer): void {
    const holding = this.#holding;
    if (this.#over) return;
    if (holding === null) {
      this.#handler.onResponseData?.(controller, chunk);
      return;
    }
    holding.bytes += chunk.length;
    holding.chunks.push(chunk);
    if (holding.bytes > this.#reader.maxBytes || !this.#held.take(chunk.length)) this.#letGo(controller, holding);
  }

  onResponseEnd(controller: DispatchController, trailers: ResponseHeaders): void {
    const holding = this.#holding;
    if (this.#over) return;
    if (holding !== null) {
      this.#holding = null;
      this.#held.release();
      const changed = this.#reader.read(holding, Buffer.concat(holding.chunks));
      this.#handler.onResponseStart?.(controller, holding.status, changed.headers, holding.message);
      if (changed.body.length > 0) this.#handler.onResponseData?.(controller, changed.body);
    }
    this.#handler.onResponseEnd?.(controller, trailers);
  }

  onResponseError(controller: DispatchController | null, error: Error): void {
    this.#holding = null;
    this.#held.release();
    if (!this.#over) this.#handler.onResponseError?.(controller, error);
  }

  /** There is more of it than may be held, or than there is room for. */
  #letGo(controller: DispatchController, holding: Holding): void {
    this.#holding = null;
    this.#held.release();
    const error = this.#reader.tooLarge(holding);
    if (error !== null) {
      this.#handler.onResponseError?.(controller, error);
      this.#over = true;
      controller.abort(error);
      return;
    }
    this.#handler.onResponseStart?.(controller, holding.status, holding.headers, holding.message);
    for (const chunk of holding.chunks) this.#handler.onResponseData?.(controller, chunk);
  }
}
