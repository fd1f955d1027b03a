// The one verb of the upstream side, in undici's interceptor shape: `dispatch(options, handler)`.
// Interceptors of undici 7 and later fit as they are; policies, pools and the HTTP/1.1 client all speak it.
import type { Readable } from 'node:stream';

/** What a handler may do to the exchange that it observes. */
export interface DispatchController {
  /** Stops reading from the upstream until `resume`; further data waits in the kernel. */
  pause(): void;
  resume(): void;
  /** Ends the exchange; `onResponseError` follows with this reason. After the end it does nothing. */
  abort(reason: Error): void;
  readonly paused: boolean;
  readonly aborted: boolean;
  readonly reason: Error | null;
  /** Response header lines as received: name, value, name, value … (latin1). Set before `onResponseStart`. */
  rawHeaders: string[] | null;
  /** Trailer lines as received. Set before `onResponseEnd`. */
  rawTrailers: string[] | null;
}

/** Response headers by lower-case name; repeated ones as a list. */
export type ResponseHeaders = Record<string, string | string[]>;

/** Calls come in this order, each at most once but `onResponseStart` (once per 1xx, then once) and `onResponseData`. */
export interface DispatchHandler {
  /** An attempt begins; on a retry it is called again. */
  onRequestStart?(controller: DispatchController, context: unknown): void;
  /** 101 Switching Protocols, or 200 to CONNECT: the connection is the handler's from here. */
  onRequestUpgrade?(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    socket: import('node:stream').Duplex,
    head?: Buffer,
  ): void;
  onResponseStart?(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    statusMessage?: string,
  ): void;
  onResponseData?(controller: DispatchController, chunk: Buffer): void;
  onResponseEnd?(controller: DispatchController, trailers: ResponseHeaders): void;
  /** The exchange failed; `error.code` is one of TRANSPORT_CODES or a SLV_ code. */
  onResponseError?(controller: DispatchController | null, error: Error): void;
}

export interface DispatchOptions {
  /** `http://host:port` of the endpoint; set by the balance policy. */
  origin?: string;
  method: string;
  /** Request target in origin form, normalised. */
  path: string;
  /** Flat list: name, value, name, value … without framing headers (content-length and transfer-encoding follow `body`). */
  headers: string[];
  body: Readable | Buffer | null;
  /** Bytes of `body` when declared; null: chunked if there is a body. */
  contentLength: number | null;
  /** Protocol of an upgrade (`websocket`); null: none. */
  upgrade: string | null;
  /** True: wait for `100 Continue` (or a final status) before sending the body, RFC 9110 section 10.1.1. */
  expectContinue: boolean;
  /** True when nobody looks at `headers` of onResponseStart: the transport then passes an empty object and only `controller.rawHeaders`. */
  rawOnly: boolean;
  /** What this exchange is, policies included: see call.ts. Opaque to the transport and to interceptors of others. */
  call?: unknown;
}

export type Dispatch = (options: DispatchOptions, handler: DispatchHandler) => boolean;

/** undici's shape. The outermost runs first. */
export type Interceptor = (dispatch: Dispatch) => Dispatch;

/**
 * `error.code` of what the transport reports. `unsent` on the error says that no byte of the request reached the wire,
 * so that any method may be tried again.
 */
export const TRANSPORT_CODES = {
  connectRefused: 'SLV_UPSTREAM_REFUSED',
  connectTimeout: 'SLV_CONNECT_TIMEOUT',
  unreachable: 'SLV_UPSTREAM_UNREACHABLE',
  dns: 'SLV_UPSTREAM_DNS',
  tls: 'SLV_UPSTREAM_TLS',
  reset: 'SLV_UPSTREAM_RESET',
  invalid: 'SLV_UPSTREAM_INVALID',
  headersTooLarge: 'SLV_UPSTREAM_HEADERS_TOO_LARGE',
  incomplete: 'SLV_UPSTREAM_INCOMPLETE',
  poolFull: 'SLV_POOL_FULL',
} as const;
