// How a service behind the proxy may read a path that is already normalised: asked wherever a path decides what is allowed.
import { normalizePath } from './path.ts';

/** What servers disagree about: encoded slashes, backslashes, path parameters (RFC 3986 section 3.3) as in `/admin/..;/`, and `%252e`. */
const DISPUTED = /%2F|%5C|[\\;]|%25(?!00)[\dA-F]{2}/i;
/** A percent sign that was encoded, however often; a NUL stays encoded, no reading has one. */
const TWICE_ENCODED = /%(?:25)+(?=(?!00)[\dA-F]{2})/gi;

/**
 * The path as a server takes it that decodes until nothing is left to decode, takes encoded slashes and backslashes for slashes, and drops
 * path parameters before it resolves dot segments. Null when that is the path itself, which is nearly always and costs one scan.
 */
export function otherReading(path: string): string | null {
  if (!DISPUTED.test(path)) return null;
  const plain = path
    .replace(TWICE_ENCODED, '%')
    .replace(/%2F|%5C|\\/gi, '/')
    .replace(/;[^/]*/g, '');
  const reading = (normalizePath(plain) as { readonly path: string }).path;
  return reading === path ? null : reading;
}
