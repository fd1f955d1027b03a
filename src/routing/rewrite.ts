// After the match: the path that the service sees, or the Location that the client is sent to.
import type { Redirect, Rewrite } from '../config/model.ts';
import { escapeBytes, escapeWritten } from '../http/https-location.ts';
import { normalizePath, normalizeWrittenPath } from '../http/path.ts';
import { withoutTrailingSlash } from './match.ts';

/**
 * The path for the service, of a normalised `path` (Gateway API HTTPURLRewriteFilter). `prefix` replaces the matched prefix by whole
 * segments, whatever trailing slashes either has; what follows the prefix stays. Without a matched prefix (a regex) the path stays.
 */
export function rewritePath(rewrite: Pick<Rewrite, 'prefix' | 'path'>, path: string, matchedPrefix: string): string {
  if (rewrite.path !== null) return normal(rewrite.path);
  if (rewrite.prefix === null || matchedPrefix === '') return path;
  const rest = path.slice(matchedPrefix === '/' ? 0 : withoutTrailingSlash(matchedPrefix).length);
  const prefix = rewrite.prefix === '' || rewrite.prefix === '/' ? '' : withoutTrailingSlash(rooted(rewrite.prefix));
  return normal(prefix + rest);
}

/** What a person wrote may hold dot segments and any character; what is sent is as normal as what was matched. */
function normal(path: string): string {
  const absolute = rooted(path);
  const found = /[^\x21-\x7e]/.test(absolute) ? normalizeWrittenPath(absolute) : normalizePath(absolute);
  return found === null ? absolute : found.path;
}

function rooted(path: string): string {
  return path.startsWith('/') ? path : `/${path}`;
}

/** What a redirect takes from the request. */
export interface RedirectedRequest {
  readonly scheme: 'http' | 'https';
  /** Normalised, see `normalizeHost`. */
  readonly host: string;
  /** The port that the client used; null: the scheme's own. */
  readonly port: number | null;
  /** Normalised. */
  readonly path: string;
  readonly query: string;
  readonly matchedPrefix: string;
}

/**
 * The Location of a redirect (Gateway API HTTPRequestRedirectFilter): always absolute, so that no path can name another host; only
 * visible ASCII, so that nothing of the request can end the header line. A new scheme without a port means that scheme's own port;
 * ports 80 of http and 443 of https are left out. The query passes.
 */
export function redirectLocation(redirect: Redirect, request: RedirectedRequest): string {
  const scheme = redirect.scheme ?? request.scheme;
  const port = redirect.port ?? (redirect.scheme === null ? request.port : null);
  const own = port === null || port === (scheme === 'https' ? 443 : 80);
  const path = escapeWritten(rewritePath(redirect, request.path, request.matchedPrefix));
  const query = request.query === '' ? '' : `?${escapeBytes(request.query)}`;
  return `${scheme}://${redirect.host ?? request.host}${own ? '' : `:${port}`}${path}${query}`;
}
