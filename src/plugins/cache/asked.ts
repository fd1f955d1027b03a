// A request as the cache sees it: what it is the same as, and whether the cache has anything to do with it.
import type { FastifyRequest } from 'fastify';
import { calledService, type DispatchOptions, type Exchange } from '../../plugin.ts';
import { type Directives, parseDirectives, sentField } from './directives.ts';
import type { Options } from './options.ts';

export interface Asked {
  readonly resource: string;
  readonly lane: string;
  readonly directives: Directives;
  readonly method: 'GET' | 'HEAD';
  /** It shows credentials, or a plugin knows who it is. */
  readonly credentials: boolean;
}

/** The URI by which answers are kept and invalidated. */
export function resourceOf(record: Exchange, path: string, query: string, { key }: Options): string {
  const { scheme, host, port } = record;
  return `${scheme}://${host}:${port ?? ''}${path}?${key.query === undefined ? query : kept(query, key.query)}`;
}

/** For a part, or for an answer of the service's own judgement. */
const KEPT_OUT = ['range', 'if-match', 'if-unmodified-since'];

/** Null: the cache keeps out of it. */
export function askedOf(
  options: DispatchOptions,
  record: Exchange,
  request: FastifyRequest,
  settings: Options,
): Asked | null {
  const { method, headers, body } = options;
  if ((method !== 'GET' && method !== 'HEAD') || body !== null) return null;
  if (KEPT_OUT.some((name) => sentField(headers, name) !== undefined)) return null;
  const cacheControl = sentField(headers, 'cache-control');
  const pragma =
    cacheControl === undefined && sentField(headers, 'pragma')?.toLowerCase().includes('no-cache') === true;
  const directives = parseDirectives(pragma ? 'no-cache' : cacheControl);
  if (directives.has('no-store')) return null;
  const credentials = showsCredentials(request);
  if (credentials && !settings.authorization) return null;
  const named = settings.key.headers.map((name) => sentField(headers, name.toLowerCase()) ?? null);
  return {
    resource: resourceOf(record, record.path, record.query, settings),
    lane: JSON.stringify([
      record.route?.name,
      calledService(options),
      record.subset,
      keyPath(options.path, settings),
      named,
    ]),
    directives,
    method,
    credentials,
  };
}

/** As it arrived: plugins take credentials out once they have verified them, and say who it is. */
function showsCredentials(request: FastifyRequest): boolean {
  if ((request as { user?: unknown }).user || request.selvedge.peer !== null) return true;
  const { rawHeaders } = request.raw;
  for (let i = 0; i < rawHeaders.length; i += 2) if (rawHeaders[i].toLowerCase() === 'authorization') return true;
  return false;
}

function keyPath(path: string, { key }: Options): string {
  const at = path.indexOf('?');
  return key.query === undefined || at === -1 ? path : path.slice(0, at);
}

/** Those parameters alone, as they are written; sorted, because their order is a matter of chance. */
function kept(query: string, names: readonly string[]): string {
  return query
    .split('&')
    .filter((pair) => names.includes(nameOf(pair)))
    .sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : nameOf(a) > nameOf(b) ? 1 : 0))
    .join('&');
}

function nameOf(pair: string): string {
  const written = pair.split('=', 1)[0].replaceAll('+', ' ');
  try {
    return decodeURIComponent(written);
  } catch {
    return written;
  }
}
