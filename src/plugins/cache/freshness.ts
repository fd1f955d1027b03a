// How long a response may be used and how old it is: RFC 9111 section 4.2, as a shared cache. Times are milliseconds.
import type { ResponseHeaders } from '../../plugin.ts';
import { type Directives, fieldOf, parseDirectives, seconds, secondsOf } from './directives.ts';

/** What is remembered of a response beside its bytes. */
export interface Freshness {
  readonly lifetimeMs: number;
  /** Its age when it came. */
  readonly initialAgeMs: number;
  readonly respondedAt: number;
  /** It has to be validated before each use. */
  readonly noCache: boolean;
  /** Once stale it is never used unvalidated. */
  readonly mustRevalidate: boolean;
  /** Once stale it is used as it allows itself, never because the client or the config does: `s-maxage`, RFC 9111 section 5.2.2.10. */
  readonly staleAsSaid: boolean;
  readonly staleWhileRevalidateMs: number;
  readonly staleIfErrorMs: number;
  /** Says itself that it may be shared between those who show credentials, RFC 9111 section 3.5. */
  readonly shareable: boolean;
}

/** Responses whose meaning is complete in themselves. A 206 is a part; a 304 belongs to another. */
const STORABLE = new Set([200, 203, 204, 300, 301, 302, 307, 308, 404, 405, 410, 414, 451, 501]);
/** RFC 9110 section 15.1: a lifetime may be guessed. */
const GUESSABLE = new Set([200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501]);
const MOST_GUESSED_MS = 86_400_000;

/** Null: it may not be stored. `defaultStaleIfErrorMs` is for those that say nothing of it. */
export function freshnessOf(
  status: number,
  headers: ResponseHeaders,
  requestedAt: number,
  respondedAt: number,
  { heuristic, staleIfErrorMs }: { heuristic: boolean; staleIfErrorMs: number },
): Freshness | null {
  if (!STORABLE.has(status)) return null;
  const directives = parseDirectives(fieldOf(headers, 'cache-control'));
  if (directives.has('no-store') || directives.has('private')) return null;
  if (headers['set-cookie'] !== undefined) return null;
  if (/(?:^|,)\s*\*\s*(?:,|$)/.test(fieldOf(headers, 'vary') ?? '')) return null;
  const date = dateOf(headers, 'date') ?? respondedAt;
  const said = saidLifetime(directives, headers, date);
  const guessed = said === null && heuristic && GUESSABLE.has(status) ? guess(headers, date) : null;
  const lifetimeMs = said ?? guessed;
  const validator = headers.etag !== undefined || headers['last-modified'] !== undefined;
  // Without a lifetime only what asks to be validated each time is worth a place.
  if (lifetimeMs === null && !directives.has('no-cache')) return null;
  const noCache = directives.has('no-cache');
  const staleWhileRevalidateMs = period(directives, 'stale-while-revalidate', 0);
  const staleAsSaid = directives.has('s-maxage');
  const staleIfError = period(directives, 'stale-if-error', staleAsSaid ? 0 : staleIfErrorMs);
  if ((noCache || lifetimeMs === 0) && !validator && staleWhileRevalidateMs + staleIfError === 0) return null;
  return {
    lifetimeMs: lifetimeMs ?? 0,
    initialAgeMs: initialAge(headers, date, requestedAt, respondedAt),
    respondedAt,
    noCache,
    mustRevalidate: directives.has('must-revalidate') || directives.has('proxy-revalidate'),
    staleAsSaid,
    staleWhileRevalidateMs,
    staleIfErrorMs: staleIfError,
    shareable: ['public', 'must-revalidate', 's-maxage'].some((name) => directives.has(name)),
  };
}

export function ageMs({ initialAgeMs, respondedAt }: Freshness, now: number): number {
  return initialAgeMs + Math.max(0, now - respondedAt);
}

/** `fresh`: may be used. `while-revalidating`: may be used if it is validated meanwhile. `stale`: must be validated first. */
export type Usability = 'fresh' | 'while-revalidating' | 'stale';

/** Of a stored response for a request with these directives: RFC 9111 sections 4.2 and 5.2.1. */
export function usability(stored: Freshness, request: Directives, now: number): Usability {
  if (stored.noCache || request.has('no-cache')) return 'stale';
  const age = ageMs(stored, now);
  const most = secondsOf(request, 'max-age');
  if (most !== undefined && age > (most ?? 0) * 1_000) return 'stale';
  const spare = (secondsOf(request, 'min-fresh') ?? 0) * 1_000;
  const left = stored.lifetimeMs - age - spare;
  if (left > 0) return 'fresh';
  if (stored.mustRevalidate) return 'stale';
  if (spare === 0 && -left <= stored.staleWhileRevalidateMs && stored.staleWhileRevalidateMs > 0)
    return 'while-revalidating';
  if (stored.staleAsSaid) return 'stale';
  const stale = request.get('max-stale');
  if (stale === true || (stale !== undefined && -left <= (seconds(stale) ?? -1) * 1_000)) return 'fresh';
  return 'stale';
}

/** Whether it may be used though the service failed: RFC 5861 section 4. */
export function usableOnError(stored: Freshness, now: number): boolean {
  const stale = ageMs(stored, now) - stored.lifetimeMs;
  return !stored.noCache && !stored.mustRevalidate && stored.staleIfErrorMs > 0 && stale <= stored.staleIfErrorMs;
}

/** What cannot be read counts as stale. Null: it says nothing. */
function saidLifetime(directives: Directives, headers: ResponseHeaders, date: number): number | null {
  for (const name of ['s-maxage', 'max-age']) {
    const said = secondsOf(directives, name);
    if (said !== undefined) return (said ?? 0) * 1_000;
  }
  if (headers.expires === undefined) return null;
  const expires = dateOf(headers, 'expires');
  return expires === null ? 0 : Math.max(0, expires - date);
}

function guess(headers: ResponseHeaders, date: number): number | null {
  const modified = dateOf(headers, 'last-modified');
  return modified === null || modified > date ? null : Math.min((date - modified) / 10, MOST_GUESSED_MS);
}

function initialAge(headers: ResponseHeaders, date: number, requestedAt: number, respondedAt: number): number {
  const said = (seconds((fieldOf(headers, 'age') ?? '').split(',')[0].trim()) ?? 0) * 1_000;
  return Math.max(0, respondedAt - date, said + Math.max(0, respondedAt - requestedAt));
}

function period(directives: Directives, name: string, otherwise: number): number {
  const said = secondsOf(directives, name);
  return said === undefined ? otherwise : (said ?? 0) * 1_000;
}

/** Milliseconds since the epoch; null: missing, repeated or no date. */
export function dateOf(headers: ResponseHeaders, name: string): number | null {
  const value = headers[name];
  if (typeof value !== 'string' || !/[A-Za-z]{3}/.test(value)) return null;
  const time = Date.parse(value);
  return Number.isNaN(time) ? null : time;
}
