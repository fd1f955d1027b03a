// The upstream's header lines onto the reply: without hop-by-hop fields, repeated ones kept as a list.
import type { FastifyReply } from 'fastify';
import type { ResponseHeaders } from '../dispatch.ts';
import { connectionTokens, FORBIDDEN_TRAILERS, HOP_BY_HOP } from '../http/hop-by-hop.ts';

/**
 * Copies the head onto the reply. `raw` is null when somebody on the upstream side may have changed `headers`.
 * A header that a plugin already set on the reply wins, except those that add up (`vary`, `set-cookie`).
 * Returns whether the upstream said what the content is.
 */
export function copyResponseHeaders(
  reply: FastifyReply,
  raw: readonly string[] | null,
  headers: ResponseHeaders,
): boolean {
  const lines = raw ?? flat(headers);
  const drop = namedByConnection(lines);
  let ofPlugins = null as string[] | null;
  let hasContentType = false;
  for (let i = 0; i < lines.length; i += 2) {
    const name = lines[i].toLowerCase();
    if (HOP_BY_HOP.has(name) || (drop !== NONE && drop.includes(name))) continue;
    if (name === 'content-type') hasContentType = true;
    if (!reply.hasHeader(name)) reply.header(name, lines[i + 1]);
    else if (addsUp(name) || isRepeated(lines, i, name)) {
      if (ofPlugins?.includes(name) !== true) add(reply, name, lines[i + 1]);
    } else {
      ofPlugins ??= [];
      ofPlugins.push(name);
    }
  }
  return hasContentType;
}

function addsUp(name: string): boolean {
  return name === 'vary' || name === 'set-cookie';
}

function isRepeated(lines: readonly string[], at: number, name: string): boolean {
  for (let i = 0; i < at; i += 2) if (lines[i].length === name.length && lines[i].toLowerCase() === name) return true;
  return false;
}

function add(reply: FastifyReply, name: string, value: string): void {
  const before = reply.getHeader(name);
  if (name === 'set-cookie') reply.header(name, value);
  else if (name === 'vary') reply.header(name, `${String(before)}, ${value}`);
  else reply.header(name, [before, value].flat() as string[]);
}

function namedByConnection(lines: readonly string[]): readonly string[] {
  let named = NONE;
  for (let i = 0; i < lines.length; i += 2) {
    if (lines[i].length !== 10 || lines[i].toLowerCase() !== 'connection') continue;
    const tokens = connectionTokens(lines[i + 1]);
    if (tokens.length > 0) named = [...named, ...tokens];
  }
  return named;
}

function flat(headers: ResponseHeaders): string[] {
  const lines: string[] = [];
  for (const name in headers) for (const value of [headers[name]].flat()) lines.push(name, value);
  return lines;
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
