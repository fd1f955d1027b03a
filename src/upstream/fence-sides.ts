// The two handlers of a fence: one towards whoever called the interceptors of plugins, one towards the policies below them.
import type { Duplex } from 'node:stream';
import type { DispatchController, DispatchHandler, ResponseHeaders } from '../dispatch.ts';
import { SelvedgeError } from '../errors.ts';

/**
 * Between the interceptors and whoever called them. As a controller it obeys theirs (a cache or a decompressor has its own),
 * but an abort also reaches the transport, and always ends the exchange.
 */
export class Outside implements DispatchHandler, DispatchController {
  readonly #handler: DispatchHandler;
  #theirs: DispatchController | null = null;
  /** The controller of the attempt under way, on the far side of the interceptors. */
  transport: DispatchController | null = null;
  #over = false;
  aborted = false;
  reason: Error | null = null;
  rawHeaders: string[] | null = null;
  rawTrailers: string[] | null = null;

  constructor(handler: DispatchHandler) {
    this.#handler = handler;
  }

  get paused(): boolean {
    return this.#theirs?.paused ?? false;
  }

  pause(): void {
    this.#theirs?.pause();
  }

  resume(): void {
    this.#theirs?.resume();
  }

  abort(reason: Error): void {
    if (this.aborted || this.#over) return;
    this.aborted = true;
    this.reason = reason;
    this.#stopBoth(reason);
    this.onResponseError(this, reason);
  }

  /** Something of a plugin threw. */
  fail(thrown: unknown): void {
    const error = asPluginError(thrown);
    if (this.#over) return;
    this.onResponseError(this, error);
    this.#stopBoth(error);
  }

  #stopBoth(reason: Error): void {
    const { transport } = this;
    this.transport = null;
    try {
      this.#theirs?.abort(reason);
    } finally {
      transport?.abort(reason);
    }
  }

  onRequestStart(controller: DispatchController, context: unknown): void {
    if (this.#over) {
      controller.abort(this.reason ?? new SelvedgeError('SLV_CLIENT_ABORTED', 'the request is over'));
      return;
    }
    this.#theirs = controller;
    this.#handler.onRequestStart?.(this, context);
  }

  /** Interim responses pass by the interceptors: those of undici take the first response for the only one. */
  interim(statusCode: number, headers: ResponseHeaders, rawHeaders: string[] | null, statusMessage?: string): void {
    if (this.#over) return;
    this.rawHeaders = rawHeaders;
    this.#handler.onResponseStart?.(this, statusCode, headers, statusMessage);
    this.rawHeaders = null;
  }

  onRequestUpgrade(
    _controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    socket: Duplex,
    head?: Buffer,
  ): void {
    if (this.#over) {
      socket.destroy();
      return;
    }
    this.#over = true;
    this.#handler.onRequestUpgrade?.(this, statusCode, headers, socket, head);
  }

  onResponseStart(
    _controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    statusMessage?: string,
  ): void {
    if (!this.#over) this.#handler.onResponseStart?.(this, statusCode, headers, statusMessage);
  }

  onResponseData(_controller: DispatchController, chunk: Buffer): void {
    if (!this.#over) this.#handler.onResponseData?.(this, chunk);
  }

  onResponseEnd(_controller: DispatchController, trailers: ResponseHeaders): void {
    if (this.#over) return;
    this.#over = true;
    this.#handler.onResponseEnd?.(this, trailers);
  }

  onResponseError(_controller: DispatchController | null, error: Error): void {
    if (this.#over) return;
    this.#over = true;
    this.#handler.onResponseError?.(this.#theirs === null ? null : this, error);
  }
}

/**
 * Between the interceptors and the policies or transport below them. It is the controller that they see, so that one which
 * replaces methods of its controller (undici's `dump` does) does not reach the transport's.
 */
export class Inside implements DispatchHandler, DispatchController {
  readonly #handler: DispatchHandler;
  readonly #outside: Outside;
  #controller: DispatchController | null = null;

  constructor(handler: DispatchHandler, outside: Outside) {
    this.#handler = handler;
    this.#outside = outside;
  }

  get paused(): boolean {
    return this.#controller?.paused ?? false;
  }

  get aborted(): boolean {
    return this.#controller?.aborted ?? false;
  }

  get reason(): Error | null {
    return this.#controller?.reason ?? null;
  }

  get rawHeaders(): string[] | null {
    return this.#controller?.rawHeaders ?? null;
  }

  get rawTrailers(): string[] | null {
    return this.#controller?.rawTrailers ?? null;
  }

  pause(): void {
    this.#controller?.pause();
  }

  resume(): void {
    this.#controller?.resume();
  }

  abort(reason: Error): void {
    this.#controller?.abort(reason);
  }

  onRequestStart(controller: DispatchController, context: unknown): void {
    this.#controller = controller;
    this.#outside.transport = controller;
    try {
      this.#handler.onRequestStart?.(this, context);
    } catch (error) {
      this.#outside.fail(error);
    }
  }

  onRequestUpgrade(
    _controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    socket: Duplex,
    head?: Buffer,
  ): void {
    try {
      this.#handler.onRequestUpgrade?.(this, statusCode, headers, socket, head);
    } catch (error) {
      socket.destroy();
      this.#outside.fail(error);
    }
  }

  onResponseStart(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    statusMessage?: string,
  ): void {
    if (statusCode < 200) {
      this.#outside.interim(statusCode, headers, controller.rawHeaders, statusMessage);
      return;
    }
    try {
      // Undici's own always comes with one, and its cache insists.
      this.#handler.onResponseStart?.(this, statusCode, headers, statusMessage ?? '');
    } catch (error) {
      this.#outside.fail(error);
    }
  }

  onResponseData(_controller: DispatchController, chunk: Buffer): void {
    try {
      this.#handler.onResponseData?.(this, chunk);
    } catch (error) {
      this.#outside.fail(error);
    }
  }

  onResponseEnd(_controller: DispatchController, trailers: ResponseHeaders): void {
    this.#outside.transport = null;
    try {
      this.#handler.onResponseEnd?.(this, trailers);
    } catch (error) {
      this.#outside.fail(error);
    }
  }

  onResponseError(_controller: DispatchController | null, error: Error): void {
    this.#outside.transport = null;
    try {
      this.#handler.onResponseError?.(this, error);
    } catch (thrown) {
      this.#outside.fail(thrown);
    }
  }
}

function asPluginError(thrown: unknown): SelvedgeError {
  if (thrown instanceof SelvedgeError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new SelvedgeError('SLV_PLUGIN_FAILED', `an interceptor failed: ${message}`, { cause: thrown });
}
