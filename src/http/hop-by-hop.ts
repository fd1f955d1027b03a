// Header fields that never cross a proxy: RFC 9110 section 7.6.1, plus what framing and upgrades decide anew on each connection.

/** Lower-case. `te` is absent: it passes as `trailers` and in no other form. */
export const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-authentication-info',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
]);

/** What a trailer section may not carry: framing, routing, authentication, content handling (RFC 9110 section 6.5.1). */
export const FORBIDDEN_TRAILERS: ReadonlySet<string> = new Set([
  ...HOP_BY_HOP,
  'te',
  'trailer',
  'host',
  'content-length',
  'content-encoding',
  'content-type',
  'content-range',
  'authorization',
  'set-cookie',
  'cookie',
  'expect',
  'max-forwards',
  'cache-control',
]);

/** Fields that a `Connection` header can never name away: what the message needs to arrive at all. */
const PROTECTED: ReadonlySet<string> = new Set(['host', 'content-length', 'transfer-encoding', 'te', 'expect']);

/** Lower-case names that `connection` lists beyond the usual ones; empty for `keep-alive`, `close` and the like. */
export function connectionTokens(connection: string): readonly string[] {
  const lower = connection.toLowerCase();
  if (lower === 'keep-alive' || lower === 'close' || lower === 'upgrade') return NONE;
  const named: string[] = [];
  for (const part of lower.split(',')) {
    const token = part.trim();
    if (token !== '' && !HOP_BY_HOP.has(token) && !PROTECTED.has(token) && token !== 'close') named.push(token);
  }
  return named;
}

const NONE: readonly string[] = [];
