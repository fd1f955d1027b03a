// The body of a request, read whole before anyone is asked about it, and then sent on as it came.
import { Readable } from 'node:stream';
import { ReplayBody } from '../../http/replay-body.ts';
import { SelvedgeError } from '../../plugin.ts';

/**
 * Reads a body to its end.
 * @throws SelvedgeError SLV_BODY_TOO_LARGE, SLV_REQUEST_TIMEOUT; SLV_CLIENT_ABORTED when it breaks off
 */
export function readWhole(source: Readable, maxBytes: number, timeoutMs: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const kept = new ReplayBody(source, maxBytes);
    const timer = setTimeout(() => {
      reject(new SelvedgeError('SLV_REQUEST_TIMEOUT', `ext-authz: the request body took more than ${timeoutMs} ms`));
      kept.release();
    }, timeoutMs);
    kept.onWhole((whole) => {
      clearTimeout(timer);
      if (whole !== null) resolve(whole);
      else if (kept.failure !== null)
        reject(
          new SelvedgeError('SLV_CLIENT_ABORTED', 'ext-authz: the request body broke off', { cause: kept.failure }),
        );
      else {
        const detail = `At most ${maxBytes} bytes are accepted.`;
        reject(new SelvedgeError('SLV_BODY_TOO_LARGE', `ext-authz: the body is over ${maxBytes} bytes`, { detail }));
      }
    });
    kept.drain();
  });
}

/** A body that was read, as a stream again: of the same length, with the same trailers. */
export class KeptBody extends Readable {
  /** It has arrived, whether or not anyone has read it. */
  readonly complete = true;
  readonly byteLength: number;
  /** Name and value in turn. */
  readonly rawTrailers: readonly string[];

  constructor(body: Buffer, rawTrailers: readonly string[] = []) {
    super({ read() {} });
    this.byteLength = body.length;
    this.rawTrailers = rawTrailers;
    this.push(body);
    this.push(null);
  }
}
