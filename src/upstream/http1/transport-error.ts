// What the transport reports when an exchange cannot be completed: one class, so that policies above can tell what is safe to repeat.
import type { TRANSPORT_CODES } from '../../dispatch.ts';
import { type Code, SelvedgeError } from '../../errors.ts';

export type TransportCode = (typeof TRANSPORT_CODES)[keyof typeof TRANSPORT_CODES];

/** How far the request had come. */
export interface Progress {
  /** No byte of the request was written to a socket, or none of those that were was read: any method may be tried again. */
  readonly unsent?: boolean;
  /** It died on a connection that had served before, ahead of any response byte: perhaps the upstream had just closed it as idle. */
  readonly reused?: boolean;
  /** With `unsent`: the whole body, where its stream has been read. */
  readonly body?: Buffer;
  readonly cause?: unknown;
}

/** A failed exchange with one endpoint. `code` is one of TRANSPORT_CODES, or the code of what was wrong with the request itself. */
export class TransportError extends SelvedgeError {
  readonly unsent: boolean;
  readonly reused: boolean;
  readonly body: Buffer | null;

  constructor(code: Code, message: string, { unsent = false, reused = false, body, cause }: Progress = {}) {
    super(code, message, cause === undefined ? {} : { cause });
    this.unsent = unsent;
    this.reused = reused;
    this.body = body ?? null;
  }
}
