// Resolves what keeps a client at its endpoint: the cookie that is set for it, or the header that it sends.
import { parseDurationMs } from '../units.ts';
import type { CompleteRoute } from './complete.ts';
import type { Cursor } from './cursor.ts';
import { HEADER_NAME } from './header-names.ts';
import type { Session } from './model.ts';

type SessionInput = NonNullable<CompleteRoute['session']>;

export function resolveSession(session: Cursor<SessionInput> | null): Session | null {
  if (session === null) return null;
  const cookie = session.at('cookie').given();
  const header = session.at('header').given();
  if (cookie !== null && header !== null) header.error('a session has one of "cookie" and "header", not both');
  if (cookie === null && header === null) session.error('needs one of "cookie" and "header"');
  if (cookie === null) {
    if (header !== null && !HEADER_NAME.test(header.value))
      header.error(`"${header.value}" is not the name of a header`);
    return { kind: 'header', name: header?.value.toLowerCase() ?? '' };
  }
  return resolveCookie(session, cookie);
}

/** Letters and digits have some 6 bits each: more than anyone tries out. */
const MIN_SECRET = 16;

function resolveCookie(session: Cursor<SessionInput>, cookie: Cursor<string>): Session {
  const name = cookie.value;
  const sameSite = session.at('sameSite').filled();
  const secure = session.at('secure').filled().value;
  const secret = session.at('secret').given();
  if (!HEADER_NAME.test(name)) cookie.error(`"${name}" is not the name of a cookie`);
  // RFC 6265bis section 4.1.3.
  if (/^__(?:secure|host)-/i.test(name) && secure === false)
    cookie.error(`browsers refuse a cookie "${name}" that is not secure`);
  if (sameSite.value === 'none' && secure === false)
    sameSite.error('browsers refuse a cookie with "sameSite: none" that is not secure');
  if (secret !== null && secret.value.length < MIN_SECRET)
    secret.error(`is too short: at least ${MIN_SECRET} characters, such as "openssl rand -hex 32" prints`);
  return {
    kind: 'cookie',
    name,
    maxAgeS: resolveMaxAge(session.at('maxAge').given()),
    sameSite: sameSite.value,
    secure,
    httpOnly: session.at('httpOnly').filled().value,
    secret: secret?.value ?? null,
  };
}

/** No timer runs for it, so it may be longer than other durations; browsers keep nothing longer (RFC 6265bis section 5.5). */
const MAX_AGE_DAYS = 400;

function resolveMaxAge(maxAge: Cursor<string> | null): number | null {
  if (maxAge === null) return null;
  const seconds = (parseDurationMs(maxAge.value) ?? 0) / 1_000;
  if (Number.isInteger(seconds) && seconds > 0 && seconds <= MAX_AGE_DAYS * 86_400) return seconds;
  maxAge.error(`"${maxAge.value}" is not an age of a cookie: whole seconds, up to ${MAX_AGE_DAYS}d`);
  return null;
}
