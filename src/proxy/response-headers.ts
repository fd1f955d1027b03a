// The upstream's header lines onto the reply: without hop-by-hop fields, repeated ones kept as a list.
import type { FastifyReply } from 'fastify';
import type { ResponseHeaders } from '../dispatch.ts';
import { connectionTokens, FORBIDDEN_TRAILERS, HOP_BY_HOP } from '../http/hop-by-hop.ts';

/** What the forwarder itself wants to know of the response head. */
export interface ResponseHead {
  contentLength: string | null;
  contentType: boolean;
}

/**
 * Copies the head onto the reply. `raw` is null when somebody on the upstream side may have changed `headers`.
 * A header that a plugin already set on the reply wins, except those that add up (`vary`, `set-cookie`).
 * Fills `seen` instead of allocating a result.
 */
export function copyResponseHeaders(
  reply: FastifyReply,
  raw: readonly string[] | null,
  headers: ResponseHeaders,
  seen: ResponseHead,
): void {
  const received = raw === null ? headers : byName(raw);
  const { connection } = received;
  const drop = connection === undefined ? NONE : connectionTokens(String(connection));
  for (const name in received) {
    if (HOP_BY_HOP.has(name) || (drop !== NONE && drop.includes(name))) continue;
    const value = received[name];
    if (reply.hasHeader(name)) {
      if (name === 'set-cookie') reply.header(name, value);
      else if (name === 'vary') reply.header(name, `${String(reply.getHeader(name))}, ${String(value)}`);
    } else reply.header(name, value);
  }
  seen.contentLength = received['content-length'] === undefined ? null : String(received['content-length']);
  seen.contentType = received['content-type'] !== undefined;
}

function byName(raw: readonly string[]): ResponseHeaders {
  const headers: ResponseHeaders = Object.create(null);
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i].toLowerCase();
    const before = headers[name];
    if (before === undefined) headers[name] = raw[i + 1];
    else if (typeof before === 'string') headers[name] = [before, raw[i + 1]];
    else before.push(raw[i + 1]);
  }
  return headers;
}

/** Trailers that may pass, as Node's `addTrailers` takes them; null when there are none. */
export function passingTrailers(raw: readonly string[] | null, trailers: ResponseHeaders): [string, string][] | null {
  const lines: [string, string][] = [];
  if (raw !== null) {
    for (let i = 0; i < raw.length; i += 2) {
      if (!FORBIDDEN_TRAILERS.has(raw[i].toLowerCase())) lines.push([raw[i], raw[i + 1]]);
    }
  } else {
    for (const name in trailers) {
      if (FORBIDDEN_TRAILERS.has(name)) continue;
      for (const value of [trailers[name]].flat()) lines.push([name, value]);
    }
  }
  return lines.length === 0 ? null : lines;
}

const NONE: readonly string[] = [];
