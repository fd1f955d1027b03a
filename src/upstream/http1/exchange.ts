// One request and its response: what the handler holds as its controller, and where the exchange stands in its pool.
import type { Socket } from 'node:net';
import type { DispatchController, DispatchHandler, DispatchOptions, ResponseHeaders } from '../../dispatch.ts';
import type { LinkedList } from '../../linked-list.ts';
import { type BodyOwner, RequestBody } from './request-body.ts';
import type { Expectation } from './response-parser.ts';

/** Methods that may be sent again though the upstream may have acted on them already (RFC 9110 section 9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'TRACE']);

const NO_HEADERS: ResponseHeaders = Object.freeze({});

/** Who is told that an exchange ends before its response does. */
export interface ExchangeOwner {
  /** Frees whatever the exchange holds: its place in a queue, its dial, its connection. */
  release(exchange: Exchange): void;
}

/** What the exchange asks of the connection that carries it, or will. */
export interface Carrier {
  pause(): void;
  resume(exchange: Exchange): void;
  /** Closes it at once. */
  drop(): void;
}

export class Exchange implements DispatchController, Expectation, BodyOwner {
  readonly options: DispatchOptions;
  readonly handler: DispatchHandler;
  readonly method: string;
  /** Lower-case. */
  readonly upgrade: string | null;
  readonly #owner: ExchangeOwner;

  paused = false;
  aborted = false;
  reason: Error | null = null;
  rawHeaders: string[] | null = null;
  rawTrailers: string[] | null = null;

  /** The head as it goes to the wire. */
  readonly head: string;
  list: LinkedList<Exchange> | null = null;
  previous: Exchange | null = null;
  next: Exchange | null = null;
  /** The connection that is being opened on its account. */
  dial: Carrier | null = null;
  /** The connection that carries it. */
  connection: Carrier | null = null;
  /** The streamed body, until it is of no more use. */
  body: RequestBody | null;
  /** Body and head were handed to the socket wholly. */
  requestComplete = false;
  /** Some byte of a response has come. */
  answered = false;
  /** Interim responses so far. */
  interims = 0;
  finished = false;

  constructor(owner: ExchangeOwner, options: DispatchOptions, handler: DispatchHandler, head: string) {
    this.#owner = owner;
    this.options = options;
    this.handler = handler;
    this.head = head;
    this.method = options.method;
    this.upgrade = options.upgrade === null ? null : options.upgrade.toLowerCase();
    const { body, contentLength } = options;
    this.body = body === null || Buffer.isBuffer(body) ? null : new RequestBody(body, contentLength, this);
  }

  /** The socket may leave HTTP, so it is one that serves nothing else. */
  get needsOwnConnection(): boolean {
    return this.upgrade !== null || this.method === 'CONNECT';
  }

  /** It may go once more though the upstream may have acted on it already. */
  get idempotent(): boolean {
    return IDEMPOTENT.has(this.method);
  }

  /** All of it is still there to be sent again. */
  get intact(): boolean {
    return this.body === null || !this.body.started;
  }

  /** Whatever becomes of the connection that it is sent on, it may go once more. */
  get mayBeResent(): boolean {
    return this.idempotent && this.body === null;
  }

  bodySent(): void {
    this.requestComplete = true;
  }

  bodyFailed(error: Error): void {
    this.fail(error);
  }

  pause(): void {
    if (this.paused || this.finished) return;
    this.paused = true;
    this.connection?.pause();
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    this.connection?.resume(this);
  }

  abort(reason: Error): void {
    if (this.finished) return;
    this.aborted = true;
    this.reason = reason;
    this.fail(reason);
  }

  /** Ends the exchange without its response being whole. */
  fail(error: Error): void {
    if (this.finished) return;
    this.finished = true;
    this.#stopBody();
    this.#owner.release(this);
    tellError(this.handler, this, error);
  }

  /** @returns whether the handler wants more right now */
  start(statusCode: number, rawHeaders: string[], statusMessage: string): boolean {
    this.rawHeaders = rawHeaders;
    const headers = this.options.rawOnly ? NO_HEADERS : headersOf(rawHeaders);
    this.handler.onResponseStart?.(this, statusCode, headers, statusMessage);
    return !this.paused && !this.finished;
  }

  /** @returns whether the handler wants more right now */
  data(chunk: Buffer): boolean {
    this.handler.onResponseData?.(this, chunk);
    return !this.paused && !this.finished;
  }

  end(rawTrailers: string[] | null): void {
    if (this.finished) return;
    this.finished = true;
    this.#stopBody();
    this.rawTrailers = rawTrailers;
    const trailers = this.options.rawOnly || rawTrailers === null ? NO_HEADERS : headersOf(rawTrailers);
    try {
      this.handler.onResponseEnd?.(this, trailers);
    } catch (thrown) {
      warn(thrown);
    }
  }

  /** The handler takes the socket over. */
  upgraded(statusCode: number, rawHeaders: string[], socket: Socket, rest: Buffer): void {
    this.finished = true;
    this.#stopBody();
    this.rawHeaders = rawHeaders;
    if (this.handler.onRequestUpgrade === undefined) {
      socket.destroy();
      return;
    }
    try {
      this.handler.onRequestUpgrade(this, statusCode, headersOf(rawHeaders), socket, rest);
    } catch (thrown) {
      socket.destroy();
      warn(thrown);
    }
  }

  #stopBody(): void {
    this.body?.stop();
    this.body = null;
  }
}

/** By lower-case name; repeated ones as a list. Without prototype: `__proto__` is a name like any other. */
function headersOf(lines: readonly string[]): ResponseHeaders {
  const headers: ResponseHeaders = Object.create(null);
  for (let i = 0; i < lines.length; i += 2) {
    const name = lines[i].toLowerCase();
    const present = headers[name];
    if (present === undefined) headers[name] = lines[i + 1];
    else if (typeof present === 'string') headers[name] = [present, lines[i + 1]];
    else present.push(lines[i + 1]);
  }
  return headers;
}

export function tellError(handler: DispatchHandler, controller: DispatchController | null, error: Error): void {
  try {
    handler.onResponseError?.(controller, error);
  } catch (thrown) {
    warn(thrown);
  }
}

/** A handler that throws when it has already been told the end cannot be told again, but must not end the process. */
function warn(thrown: unknown): void {
  process.emitWarning(thrown instanceof Error ? thrown : String(thrown));
}
