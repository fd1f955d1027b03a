// Dispatch options as interceptors of others leave them, brought back to the shape that our policies and transport read.
import { Readable } from 'node:stream';
import type { DispatchOptions } from '../dispatch.ts';

/** Undici's interceptors may leave headers as an object, pairs or flat, and a body as a string or bytes. */
type LooseOptions = Omit<DispatchOptions, 'headers' | 'body' | 'origin'> & {
  readonly headers?: Iterable<unknown> | Readonly<Record<string, unknown>> | null;
  readonly body?: unknown;
  readonly origin?: string | URL;
};

export function normaliseOptions(options: DispatchOptions): DispatchOptions {
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
