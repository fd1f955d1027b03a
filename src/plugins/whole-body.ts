// For interceptors that must see a request body whole before it is sent on: read within a bound, at the client's pace.
import type { Readable } from 'node:stream';
import { calledFor, type Dispatch, type DispatchHandler, type DispatchOptions, SelvedgeError } from '../plugin.ts';
import { HeldBytes } from './held-bytes.ts';

/**
 * Dispatches with what `change` makes of the body; what `change` throws is the answer instead. A body over `maxBytes` is refused with 413,
 * by its declared length before any of it is read. Nothing is sent to the service before the body is whole.
 */
export function dispatchWhole(
  dispatch: Dispatch,
  options: DispatchOptions,
  handler: DispatchHandler,
  maxBytes: number,
  change: (body: Buffer) => Buffer,
): boolean {
  const { body, contentLength } = options;
  const refuse = (error: unknown): void =>
    handler.onResponseError?.(null, error instanceof Error ? error : new Error(String(error)));
  const send = (whole: Buffer): boolean => {
    const changed = change(whole);
    return dispatch({ ...options, body: changed, contentLength: changed.length, expectContinue: false }, handler);
  };
  if (body === null) return dispatch(options, handler);
  if ((contentLength ?? 0) > maxBytes) throw tooLarge(maxBytes);
  if (Buffer.isBuffer(body)) {
    if (body.length > maxBytes) throw tooLarge(maxBytes);
    return send(body);
  }
  // Who waits for `100 Continue` sends nothing before it, and the service is not asked before the body is here.
  if (options.expectContinue) handler.onResponseStart?.(NO_CONTROLLER, 100, {});
  readWhole(body, maxBytes, (result) => {
    // Answered meanwhile: too slow, say.
    if (calledFor(options)?.reason != null) return;
    try {
      if (result instanceof Error) refuse(result);
      else send(result);
    } catch (error) {
      refuse(error);
    }
  });
  return true;
}

/** `done` is called once. What is left of a body that is too large is for others to read. */
function readWhole(body: Readable, maxBytes: number, done: (result: Buffer | Error) => void): void {
  const chunks: Buffer[] = [];
  const held = new HeldBytes();
  let bytes = 0;
  const end = (result: Buffer | Error): void => {
    body.off('data', onData).off('end', onEnd).off('close', onClose);
    held.release();
    done(result);
  };
  const onData = (chunk: Buffer): void => {
    bytes += chunk.length;
    if (bytes > maxBytes) end(tooLarge(maxBytes));
    else if (!held.take(chunk.length))
      end(new SelvedgeError('SLV_OVERLOADED', 'no room for request bodies', { retryAfter: 1 }));
    else chunks.push(chunk);
  };
  const onEnd = (): void => end(Buffer.concat(chunks));
  const onClose = (): void =>
    end(new SelvedgeError('SLV_CLIENT_ABORTED', 'the client went away inside the request body'));
  body.on('data', onData).on('end', onEnd).on('close', onClose);
  // Says so by its close, too; unheard, an error would end the process.
  body.on('error', () => undefined);
}

function tooLarge(maxBytes: number): SelvedgeError {
  return new SelvedgeError('SLV_BODY_TOO_LARGE', `the request body is larger than the ${maxBytes} bytes of "maxBody"`, {
    detail: `At most ${maxBytes} bytes are accepted.`,
  });
}

const NO_CONTROLLER = {
  pause(): void {},
  resume(): void {},
  abort(): void {},
  paused: false,
  aborted: false,
  reason: null,
  rawHeaders: null,
  rawTrailers: null,
};
