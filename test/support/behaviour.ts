// How a faulty upstream may behave: plain data, so that it also crosses to a process of its own.

/** Where an exchange is reset. */
export type ResetPhase =
  /** The connection, before a byte of it is read. */
  | 'accept'
  /** The head of the request has been read. */
  | 'head'
  /** Some of the request's body has been read (all of it where there is none). */
  | 'body'
  /** Half of the response's head has been sent. */
  | 'response-head'
  /** Half of the response's body has been sent. */
  | 'response-body'
  /** The head of a request that is not the first of its connection has been read: the race of a kept connection, every time. */
  | 'reused';

export type RetryAfter = { readonly seconds: number } | { readonly dateInMs: number };

export type Steady =
  | { readonly mode: 'ok'; readonly delayMs?: number; readonly bodyBytes?: number }
  /** The listener is closed, its port stays ours; what is under way is answered, then every connection closes. */
  | { readonly mode: 'refuse' }
  | { readonly mode: 'reset'; readonly phase: ResetPhase }
  /** Reads requests, answers none. */
  | { readonly mode: 'black-hole' }
  /** Accepts, reads nothing. */
  | { readonly mode: 'half-open' }
  /** The head after `firstByteMs`; then, with `trickleMs`, one byte of the body each. */
  | { readonly mode: 'slow'; readonly firstByteMs: number; readonly trickleMs?: number; readonly bodyBytes?: number }
  /** `share` (0 to 1, default all) of the requests get `status`, the others 200. */
  | { readonly mode: 'status'; readonly status: number; readonly share?: number; readonly retryAfter?: RetryAfter };

export type Behaviour =
  | Steady
  /** First one, then the other, in turns of so many requests or milliseconds. */
  | { readonly mode: 'flapping'; readonly between: readonly [Steady, Steady]; readonly every: Turn };

export type Turn = { readonly requests: number } | { readonly ms: number };

export interface UpstreamOptions {
  /** Default: a free one. */
  readonly port?: number;
  /** Closes a connection that has been idle for so long, and announces nothing; default: never. */
  readonly closeIdleMs?: number;
  readonly behaviour?: Behaviour;
}
