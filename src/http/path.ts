// First thing done to a request's target and Host, before any route is looked up: what is matched, authorised and sent is one and the same text.
import { isIPv6 } from 'node:net';

export interface NormalPath {
  readonly path: string;
  /** What came in has `%2F`, `%5C` or `\`, which stay: answer 400 unless the route says `encodedSlashes: keep`. */
  readonly encodedSlash: boolean;
}

/** The parts of a request target. `query` is without `?`, byte for byte. */
export interface TargetParts {
  readonly path: string;
  readonly query: string;
  /** `host:port` of an absolute-form target, as written; null otherwise. */
  readonly authority: string | null;
  /** Lower-case scheme of an absolute-form target; null otherwise. */
  readonly scheme: string | null;
}

const SLASH = 0x2f;
const DOT = 0x2e;
const PERCENT = 0x25;
const BACKSLASH = 0x5c;
const HEX = '0123456789ABCDEF';

/**
 * Normalises a path as Node's parser gives it (one char per byte): merges `//`, resolves dot segments without leaving the root,
 * decodes escapes of unreserved characters and upper-cases the others (RFC 3986 section 6.2.2), percent-encodes bytes above 0x7E.
 * Each escape is decoded once: `%252e` stays. Slashes are merged before dot segments are resolved, so `/a//../b` is `/b`.
 *
 * Null: does not start with `/`, or has NUL (also as `%00`), a control character, a space, `#`, `?` or an invalid escape.
 */
export function normalizePath(rawPath: string): NormalPath | null {
  const length = rawPath.length;
  if (length === 0 || rawPath.charCodeAt(0) !== SLASH) return null;
  let previous = 0;
  for (let i = 0; i < length; i += 1) {
    const code = rawPath.charCodeAt(i);
    if (code === SLASH) {
      if (previous === SLASH) return rebuild(rawPath);
    } else if (code === DOT) {
      if (previous === SLASH && isDotSegment(rawPath, i)) return rebuild(rawPath);
    } else if (code === PERCENT || code === BACKSLASH || code > 0x7e) {
      return rebuild(rawPath);
    } else if (isForbidden(code)) {
      return null;
    }
    previous = code;
  }
  return { path: rawPath, encodedSlash: false };
}

/**
 * Normalises a path that a person wrote in a config: like a request path, with characters beyond ASCII taken as UTF-8,
 * which is what clients send for them.
 */
export function normalizeWrittenPath(written: string): NormalPath | null {
  return normalizePath(Buffer.from(written, 'utf8').toString('latin1'));
}

function isForbidden(code: number): boolean {
  return code <= 0x20 || code === 0x23 || code === 0x3f || code === 0x7f;
}

/** Whether the segment that begins at `start` (after a slash, with a dot) is `.` or `..`. */
function isDotSegment(path: string, start: number): boolean {
  const second = path.charCodeAt(start + 1);
  if (Number.isNaN(second) || second === SLASH) return true;
  if (second !== DOT) return false;
  const third = path.charCodeAt(start + 2);
  return Number.isNaN(third) || third === SLASH;
}

function rebuild(rawPath: string): NormalPath | null {
  const decoded = decodeOnce(rawPath);
  if (decoded === null) return null;
  const path = resolveSegments(decoded.path);
  return { path, encodedSlash: decoded.encodedSlash };
}

function decodeOnce(rawPath: string): NormalPath | null {
  let path = '';
  let encodedSlash = false;
  let copied = 0;
  for (let i = 0; i < rawPath.length; i += 1) {
    const code = rawPath.charCodeAt(i);
    if (code === PERCENT) {
      const byte = hexByte(rawPath, i + 1);
      if (byte <= 0) return null;
      if (byte === SLASH || byte === BACKSLASH) encodedSlash = true;
      path += rawPath.slice(copied, i) + (isUnreserved(byte) ? String.fromCharCode(byte) : escapeByte(byte));
      i += 2;
      copied = i + 1;
    } else if (code > 0x7e && code !== 0x7f) {
      const bytes = code > 0xff ? Buffer.from(String.fromCharCode(code), 'utf8') : [code];
      path += rawPath.slice(copied, i);
      for (const byte of bytes) path += escapeByte(byte);
      copied = i + 1;
    } else if (isForbidden(code)) {
      return null;
    } else if (code === BACKSLASH) {
      encodedSlash = true;
    }
  }
  return { path: path + rawPath.slice(copied), encodedSlash };
}

/** RFC 3986 section 5.2.4 over segments, with empty segments dropped first. */
function resolveSegments(path: string): string {
  if (!path.includes('//') && !path.includes('/.')) return path;
  const kept: string[] = [];
  const segments = path.split('/');
  for (const segment of segments) {
    if (segment === '..') kept.pop();
    else if (segment !== '' && segment !== '.') kept.push(segment);
  }
  const last = segments[segments.length - 1];
  const folder = last === '' || last === '.' || last === '..';
  return kept.length === 0 ? '/' : `/${kept.join('/')}${folder ? '/' : ''}`;
}

/** The byte of two hex digits; -1 when they are not two hex digits. */
function hexByte(text: string, at: number): number {
  const high = hexDigit(text.charCodeAt(at));
  const low = hexDigit(text.charCodeAt(at + 1));
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}

function escapeByte(byte: number): string {
  return `%${HEX[byte >> 4]}${HEX[byte & 15]}`;
}

/** RFC 3986 section 2.3. */
function isUnreserved(code: number): boolean {
  return isAlphanumeric(code) || code === 0x2d || code === DOT || code === 0x5f || code === 0x7e;
}

function isAlphanumeric(code: number): boolean {
  return (code >= 0x30 && code <= 0x39) || (code >= 0x41 && code <= 0x5a) || (code >= 0x61 && code <= 0x7a);
}

/**
 * The host that routes are matched by: lower-case, without port and without one trailing dot. IPv6 literals keep their brackets
 * and are written in the one canonical form (RFC 5952). Null when malformed (RFC 9110 section 7.2): answer 400.
 */
export function normalizeHost(raw: string): string | null {
  if (raw.charCodeAt(0) === 0x5b) return normalizeIpv6(raw);
  let end = raw.indexOf(':');
  if (end < 0) end = raw.length;
  else if (!isPort(raw, end + 1)) return null;
  if (end > 1 && raw.charCodeAt(end - 1) === DOT) end -= 1;
  // 253 characters a name, RFC 1035 section 2.3.4.
  if (end === 0 || end > 253) return null;
  let labelStart = 0;
  for (let i = 0; i <= end; i += 1) {
    const code = i === end ? DOT : raw.charCodeAt(i);
    if (code === DOT) {
      const size = i - labelStart;
      if (size === 0 || size > 63) return null;
      labelStart = i + 1;
    } else if (!isAlphanumeric(code) && code !== 0x2d && code !== 0x5f) {
      return null;
    }
  }
  return (end === raw.length ? raw : raw.slice(0, end)).toLowerCase();
}

function normalizeIpv6(raw: string): string | null {
  const close = raw.indexOf(']');
  // 45 characters is the longest literal; checked before it is parsed.
  if (close < 0 || close > 46) return null;
  const literal = raw.slice(1, close);
  if (!isIPv6(literal) || literal.includes('%')) return null;
  if (close + 1 < raw.length && (raw.charCodeAt(close + 1) !== 0x3a || !isPort(raw, close + 2))) return null;
  return new URL(`http://[${literal}]/`).hostname;
}

/** An empty port is allowed (RFC 3986 section 3.2.3). */
function isPort(text: string, start: number): boolean {
  let value = 0;
  for (let i = start; i < text.length; i += 1) {
    const digit = text.charCodeAt(i) - 0x30;
    if (digit < 0 || digit > 9) return false;
    value = value * 10 + digit;
    if (value > 65535) return false;
  }
  return true;
}

/**
 * Splits a request target (RFC 9112 section 3.2) in origin form, absolute form of http and https, or asterisk form (path `*`).
 * Null: another form or scheme, userinfo (RFC 9110 section 4.2.4), a fragment, or a space or control character in the query.
 */
export function splitTarget(url: string): TargetParts | null {
  if (url.charCodeAt(0) === SLASH) return splitPath(url, 0, null, null);
  if (url === '*') return { path: '*', query: '', authority: null, scheme: null };
  const head = /^(https?):\/\//i.exec(url);
  if (head === null) return null;
  const start = head[0].length;
  let end = start;
  while (end < url.length && !'/?#'.includes(url[end])) end += 1;
  const authority = url.slice(start, end);
  if (authority === '' || authority.includes('@')) return null;
  return splitPath(url, end, authority, head[1].toLowerCase());
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
const BAD_QUERY = /[\x00-\x20\x7f#]/;

function splitPath(url: string, start: number, authority: string | null, scheme: string | null): TargetParts | null {
  const mark = url.indexOf('?', start);
  const path = mark < 0 ? url.slice(start) : url.slice(start, mark);
  const query = mark < 0 ? '' : url.slice(mark + 1);
  if (path.includes('#') || BAD_QUERY.test(query)) return null;
  return { path: path === '' ? '/' : path, query, authority, scheme };
}
