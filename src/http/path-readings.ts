// How a service behind the proxy may read a path that is already normalised: asked wherever a path decides what is allowed.
import { normalizePath } from './path.ts';

/** What servers disagree about: encoded slashes, backslashes, and path parameters (RFC 3986 section 3.3), as in `/admin/..;/`. */
const DISPUTED = /%2F|%5C|[\\;]/;

/**
 * The path as a server takes it that decodes slashes, takes backslashes for slashes and drops path parameters before it resolves dot
 * segments. Null when that is no other path than the one given, which is nearly always and costs one scan.
 */
export function otherReading(path: string): string | null {
  if (!DISPUTED.test(path)) return null;
  const plain = path.replace(/%2F|%5C|\\/g, '/').replace(/;[^/]*/g, '');
  const reading = normalizePath(plain)?.path ?? path;
  return reading === path ? null : reading;
}
