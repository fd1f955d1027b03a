// A compressor keeps back what it has until it has much; this lets nobody wait for it.
import type { Transform } from 'node:stream';

/** What a service has sent is on its way to the client after this time at the latest. */
const FLUSH_MS = 20;

interface Flushable extends Transform {
  flush(kind: number): void;
}

/** Flushes `encoder` whenever something was written to it and `FLUSH_MS` have gone by. */
export function flushOften(encoder: Flushable, kind: number): void {
  let timer: NodeJS.Timeout | null = null;
  const flush = (): void => {
    timer = null;
    if (!encoder.writableEnded && !encoder.destroyed) encoder.flush(kind);
  };
  const write = encoder._transform;
  encoder._transform = function timed(chunk, encoding, done) {
    // `flush` itself writes an empty chunk.
    if (timer === null && chunk.length > 0) timer = setTimeout(flush, FLUSH_MS);
    write.call(this, chunk, encoding, done);
  };
  encoder.once('close', () => {
    if (timer !== null) clearTimeout(timer);
  });
}
