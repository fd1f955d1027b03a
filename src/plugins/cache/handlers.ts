// The two other handlers of the cache: one watches what changes a resource, one hears out an answer that nobody waits for.
import type { Duplex } from 'node:stream';
import type { DispatchController, DispatchHandler, Exchange, ResponseHeaders } from '../../plugin.ts';
import { fieldOf } from './directives.ts';

/** Passes the answer to an unsafe method on, and forgets what it made untrue: RFC 9111 section 4.4. */
export class InvalidateAfter implements DispatchHandler {
  readonly #handler: DispatchHandler;
  readonly #record: Exchange;
  readonly #invalidate: (path: string, query: string) => void;

  constructor(handler: DispatchHandler, record: Exchange, invalidate: (path: string, query: string) => void) {
    this.#handler = handler;
    this.#record = record;
    this.#invalidate = invalidate;
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
    this.#handler.onRequestUpgrade?.(controller, status, headers, socket, head);
  }

  onResponseStart(controller: DispatchController, status: number, headers: ResponseHeaders, message?: string): void {
    if (status >= 200 && status < 400) {
      const { path, query } = this.#record;
      this.#invalidate(path, query);
      for (const name of ['location', 'content-location']) this.#invalidateAt(fieldOf(headers, name));
    }
    this.#handler.onResponseStart?.(controller, status, headers, message);
  }

  onResponseData(controller: DispatchController, chunk: Buffer): void {
    this.#handler.onResponseData?.(controller, chunk);
  }

  onResponseEnd(controller: DispatchController, trailers: ResponseHeaders): void {
    this.#handler.onResponseEnd?.(controller, trailers);
  }

  onResponseError(controller: DispatchController | null, error: Error): void {
    this.#handler.onResponseError?.(controller, error);
  }

  /** Of the same origin alone: nobody makes us forget what others serve. */
  #invalidateAt(reference: string | undefined): void {
    const { scheme, host, port, path } = this.#record;
    const origin = `${scheme}://${host}${port === null ? '' : `:${port}`}`;
    if (reference === undefined || !URL.canParse(reference, `${origin}${path}`)) return;
    const url = new URL(reference, `${origin}${path}`);
    if (url.origin === new URL(origin).origin) this.#invalidate(url.pathname, url.search.slice(1));
  }
}

/** The client's side of a fetch behind the back of everyone. */
export class Unheard implements DispatchHandler {
  readonly #mostBytes: number;
  #bytes = 0;

  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  onResponseData(controller: DispatchController, chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > this.#mostBytes) controller.abort(new Error('the answer is too large to be stored'));
  }
}
