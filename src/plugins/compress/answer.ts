// What the head of an answer says about compressing it, and what it says once that is done.
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Encoding } from './negotiation.ts';

/**
 * `never`: a cache may keep it for everyone. `varies`: another client might get it compressed, so `Vary` is due.
 * `yes`: as far as the head tells.
 */
export type Suitability = 'never' | 'varies' | 'yes';

export function suitability(request: FastifyRequest, reply: FastifyReply, types: ContentTypes): Suitability {
  const status = reply.statusCode;
  if (status < 200 || status === 204 || status === 304) return 'never';
  if (!types.has(headerOf(reply, 'content-type'))) return 'never';
  const encoding = headerOf(reply, 'content-encoding');
  // The service chose it by Accept-Encoding or not; it is the one that knows.
  if (encoding !== '' && encoding.toLowerCase() !== 'identity') return 'never';
  if (/(?:^|,)\s*no-transform\s*(?:,|$)/i.test(headerOf(reply, 'cache-control'))) return 'never';
  // Checked by the client against the very bytes of the service.
  for (const digest of ['content-md5', 'digest', 'content-digest']) if (reply.hasHeader(digest)) return 'never';
  // A part of a whole, whose positions are those of the service's bytes.
  const part = status === 206 || reply.hasHeader('content-range') || request.headers.range !== undefined;
  return part ? 'varies' : 'yes';
}

/** Adds `Accept-Encoding` to Vary, once. */
export function addVary(reply: FastifyReply): void {
  const vary = headerOf(reply, 'vary');
  if (/(?:^|,)\s*(?:\*|accept-encoding)\s*(?:,|$)/i.test(vary)) return;
  reply.header('vary', vary === '' ? 'Accept-Encoding' : `${vary}, Accept-Encoding`);
}

/** The head of the compressed answer. Its ETag is weak: the bytes differ, the meaning does not (RFC 9110 section 8.8.1). */
export function describe(reply: FastifyReply, encoding: Encoding): void {
  reply.header('content-encoding', encoding);
  for (const name of ['content-length', 'accept-ranges', 'repr-digest']) reply.removeHeader(name);
  const etag = headerOf(reply, 'etag');
  if (etag.startsWith('"')) reply.header('etag', `W/${etag}`);
}

/** A 304 says what the 200 would: it varies too, and names the validator that the client has, weak where it got the compressed answer. */
export function describeUnchanged(request: FastifyRequest, reply: FastifyReply, types: ContentTypes): void {
  const type = headerOf(reply, 'content-type');
  if (type !== '' && !types.has(type)) return;
  addVary(reply);
  const etag = headerOf(reply, 'etag');
  if (etag.startsWith('"') && request.headers['if-none-match']?.includes(`W/${etag}`) === true)
    reply.header('etag', `W/${etag}`);
}

/** Bytes of the body as declared; null: not declared. */
export function declaredLength(reply: FastifyReply): number | null {
  const length = headerOf(reply, 'content-length');
  return /^\d+$/.test(length) ? Number(length) : null;
}

export function headerOf(reply: FastifyReply, name: string): string {
  const value = reply.getHeader(name);
  return value === undefined ? '' : String(value);
}

/** `text/html`, `text/*`, `*+json`, without parameters; lower-case. gRPC frames compress themselves. */
export class ContentTypes {
  readonly #exact = new Set<string>();
  readonly #prefixes: string[] = [];
  readonly #suffixes: string[] = [];

  constructor(patterns: readonly string[]) {
    for (const written of patterns) {
      const pattern = written.toLowerCase();
      if (pattern.endsWith('/*')) this.#prefixes.push(pattern.slice(0, -1));
      else if (pattern.startsWith('*+')) this.#suffixes.push(pattern.slice(1));
      else this.#exact.add(pattern);
    }
  }

  has(contentType: string): boolean {
    const end = contentType.indexOf(';');
    const type = (end === -1 ? contentType : contentType.slice(0, end)).trim().toLowerCase();
    if (type === '' || type.startsWith('application/grpc')) return false;
    if (this.#exact.has(type)) return true;
    // Every event has to be flushed: only where it is listed by name.
    if (type === 'text/event-stream') return false;
    return this.#prefixes.some((prefix) => type.startsWith(prefix)) || this.#suffixes.some((end) => type.endsWith(end));
  }
}
