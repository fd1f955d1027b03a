// For onSend hooks that need the service's answer itself: read it whole within a bound, or put a stream between it and the client.
import { pipeline, type Readable, type Transform } from 'node:stream';
import type { FastifyReply } from 'fastify';

/** What an onSend hook is given: a buffer that came whole, a stream, text of another plugin, or nothing. */
export type ResponsePayload = Buffer | string | Readable | null | undefined;

/**
 * Reads a response body of at most `maxBytes`.
 * Resolves with a Buffer when it is whole, and with a stream that begins at its first byte again when it is larger, or not whole after
 * `withinMs`; then at most `maxBytes` and one read of the service wait in memory. A buffer has a length and so no trailers: `trailer` is removed from the
 * reply. Rejects when the service breaks off or the client leaves: hand that error on.
 */
export async function readResponseBody(
  reply: FastifyReply,
  payload: ResponsePayload,
  maxBytes: number,
  withinMs = Number.POSITIVE_INFINITY,
): Promise<Buffer | Readable> {
  if (payload === null || payload === undefined) return EMPTY;
  if (typeof payload === 'string') return Buffer.from(payload);
  if (Buffer.isBuffer(payload)) return payload;
  const read = await readStream(payload, maxBytes, withinMs);
  if (Buffer.isBuffer(read)) reply.removeHeader('trailer');
  return read;
}

/**
 * Sends the body through `transform` at the client's pace. A client that leaves destroys both; a service that breaks off destroys
 * `transform`, so that the client's response breaks off too. What changes the length must remove `content-length` from the reply.
 */
export function transformResponseBody<T extends Transform>(payload: Buffer | string | Readable, transform: T): T {
  if (typeof payload === 'string' || Buffer.isBuffer(payload)) transform.end(payload);
  else pipeline(payload, transform, toldByTransform);
  return transform;
}

function readStream(body: Readable, maxBytes: number, withinMs: number): Promise<Buffer | Readable> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    let timer: NodeJS.Timeout | undefined;

    function stop(): void {
      clearTimeout(timer);
      body.off('readable', onReadable);
      body.off('end', onEnd);
      body.off('error', onError);
      body.off('close', onClose);
    }
    function onReadable(): void {
      for (let chunk = body.read() as Buffer | null; chunk !== null; chunk = body.read() as Buffer | null) {
        chunks.push(chunk);
        bytes += chunk.length;
        if (bytes > maxBytes) {
          giveBack();
          return;
        }
      }
    }
    function giveBack(): void {
      stop();
      if (bytes > 0) body.unshift(Buffer.concat(chunks, bytes));
      resolve(body);
    }
    function onEnd(): void {
      stop();
      resolve(Buffer.concat(chunks, bytes));
    }
    function onError(error: Error): void {
      stop();
      reject(error);
    }
    function onClose(): void {
      onError(body.errored ?? new Error('the response was given up'));
    }

    if (body.destroyed) {
      onClose();
      return;
    }
    if (Number.isFinite(withinMs)) timer = setTimeout(giveBack, withinMs);
    body.on('readable', onReadable);
    body.on('end', onEnd);
    body.on('error', onError);
    body.on('close', onClose);
  });
}

/** Errors reach whoever reads the transform. */
function toldByTransform(): void {}

const EMPTY = Buffer.alloc(0);
