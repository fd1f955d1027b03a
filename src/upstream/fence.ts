// Stands around the interceptors of plugins: what they throw fails their request and nothing else, whatever they do to controllers.

import type { Duplex } from 'node:stream';
import { Readable } from 'node:stream';
import type {
  DispatchController,
  DispatchHandler,
  DispatchOptions,
  Interceptor,
  ResponseHeaders,
} from '../dispatch.ts';
import { SelvedgeError } from '../errors.ts';
import type { Call } from './call.ts';

/** A chain without interceptors of plugins has no fence, and keeps the fast path on which no header object is built. */
export function fence(interceptors: readonly Interceptor[]): readonly Interceptor[] {
  if (interceptors.length === 0) return interceptors;
  // Interceptors of others copy options as they like, but `call` must come out as it went in: what the two sides share hangs on it.
  const outsides = new WeakMap<Call, Outside>();

  const enter: Interceptor = (dispatch) => (options, handler) => {
    const call = options.call as Call;
    const outside = new Outside(handler);
    outsides.set(call, outside);
    // Interceptors read header objects, and undici's ask for an origin before there is an endpoint.
    options.rawOnly = false;
    options.origin ??= `http://${call.service.name}`;
    try {
      return dispatch(options, outside);
    } catch (error) {
      outside.fail(error);
      return true;
    }
  };

  const leave: Interceptor = (dispatch) => (options, handler) => {
    const outside = outsides.get(options.call as Call);
    if (outside === undefined) {
      throw new SelvedgeError('SLV_PLUGIN_FAILED', 'an interceptor did not pass `options.call` on');
    }
    return dispatch(normalise(options), new Inside(handler, outside));
  };

  return [enter, ...interceptors, leave];
}

/** Undici's interceptors may leave headers as an object, pairs or flat, and a body as a string or bytes. */
type LooseOptions = Omit<DispatchOptions, 'headers' | 'body' | 'origin'> & {
  readonly headers?: Iterable<unknown> | Readonly<Record<string, unknown>> | null;
  readonly body?: unknown;
  readonly origin?: string | URL;
};

function normalise(options: DispatchOptions): DispatchOptions {
  const { headers, body, origin } = options as LooseOptions;
  const flat = Array.isArray(headers) && (headers.length === 0 || typeof headers[0] === 'string');
  const plain = body === null || body instanceof Readable;
  if (flat && plain && typeof origin === 'string' && options.rawOnly === false) return options;
  const bytes = plain ? body : bytesOf(body);
  return {
    ...options,
    origin: String(origin ?? ''),
    headers: flat ? (headers as string[]) : flatten(headers),
    body: bytes,
    contentLength: Buffer.isBuffer(bytes) ? bytes.length : options.contentLength,
    rawOnly: false,
  };
}

function flatten(headers: LooseOptions['headers']): string[] {
  const lines: string[] = [];
  if (headers === undefined || headers === null) return lines;
  const entries = Symbol.iterator in headers ? (headers as Iterable<[string, unknown]>) : Object.entries(headers);
  for (const [name, value] of entries) {
    if (value === undefined || value === null) continue;
    for (const one of Array.isArray(value) ? value : [value]) lines.push(name, String(one));
  }
  return lines;
}

function bytesOf(body: unknown): DispatchOptions['body'] {
  if (body === undefined) return null;
  if (Buffer.isBuffer(body)) return body;
  if (typeof body === 'string') return Buffer.from(body);
  if (ArrayBuffer.isView(body)) return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  return Readable.from(body as Iterable<unknown>);
}

/**
 * Between the interceptors and whoever called them. As a controller it obeys theirs (a cache or a decompressor has its own),
 * but an abort also reaches the transport, and always ends the exchange.
 */
class Outside implements DispatchHandler, DispatchController {
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
class Inside implements DispatchHandler, DispatchController {
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
      this.#handler.onResponseStart?.(this, statusCode, headers, statusMessage);
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
