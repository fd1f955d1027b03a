// What a login comes to, as its cookie keeps it, and until when it holds.
import type { Claims } from '../jwt/verified-tokens.ts';
import type { Tokens } from './provider.ts';

/** What providers that do not say are taken to mean. */
const DEFAULT_LIFETIME_MS = 3_600_000;
/** The access token is renewed in the last fifth of its life, at most this long before its end. */
const MAX_LEAD_MS = 60_000;
/** Of the protocol, and of no interest once they were checked. */
const CHECKED: ReadonlySet<string> = new Set(['nonce', 'at_hash', 'c_hash', 's_hash']);

/** Times in milliseconds since the epoch. */
export interface Session {
  readonly claims: Claims;
  /** Granted, separated by spaces. */
  readonly scope: string;
  readonly begunAt: number;
  /** Of the request with which the cookie was last written. */
  readonly seenAt: number;
  /** Null: the service is not to get it. */
  readonly accessToken: string | null;
  /** Until when the provider's word holds; null: as long as the session. */
  readonly goodUntil: number | null;
  readonly renewAt: number | null;
  readonly refreshToken: string | null;
  /** For logging out at the provider; null: not wanted. */
  readonly idToken: string | null;
}

export interface SessionRules {
  readonly maxAgeMs: number;
  readonly idleMs: number;
  readonly keepsAccessToken: boolean;
  readonly keepsIdToken: boolean;
}

export function beginSession(
  claims: Claims,
  tokens: Tokens,
  asked: readonly string[],
  now: number,
  rules: SessionRules,
): Session {
  return {
    claims: kept(claims),
    scope: tokens.scope ?? asked.join(' '),
    begunAt: now,
    seenAt: now,
    ...lifetime(tokens, tokens.refreshToken, now, rules),
    idToken: rules.keepsIdToken ? tokens.idToken : null,
  };
}

/** `claims` null: the provider sent no new ID token. */
export function renewSession(
  before: Session,
  claims: Claims | null,
  tokens: Tokens,
  now: number,
  rules: SessionRules,
): Session {
  return {
    ...before,
    claims: claims === null ? before.claims : kept(claims),
    scope: tokens.scope ?? before.scope,
    seenAt: now,
    ...lifetime(tokens, tokens.refreshToken ?? before.refreshToken, now, rules),
    idToken: rules.keepsIdToken ? (tokens.idToken ?? before.idToken) : null,
  };
}

function lifetime(
  { accessToken, expiresInMs }: Tokens,
  refreshToken: string | null,
  now: number,
  { keepsAccessToken }: SessionRules,
) {
  const lifeMs = expiresInMs ?? (refreshToken === null ? null : DEFAULT_LIFETIME_MS);
  const matters = refreshToken !== null || keepsAccessToken;
  return {
    accessToken: keepsAccessToken ? accessToken : null,
    goodUntil: lifeMs === null || !matters ? null : now + lifeMs,
    renewAt: lifeMs === null || refreshToken === null ? null : now + lifeMs - Math.min(MAX_LEAD_MS, lifeMs / 5),
    refreshToken,
  };
}

function kept(claims: Claims): Claims {
  return Object.fromEntries(Object.entries(claims).filter(([name]) => !CHECKED.has(name)));
}

/** Whether nothing but a new login helps. */
export function isOver(
  { begunAt, seenAt, goodUntil, refreshToken }: Session,
  now: number,
  rules: SessionRules,
): boolean {
  if (now >= begunAt + rules.maxAgeMs || now >= seenAt + rules.idleMs) return true;
  return goodUntil !== null && refreshToken === null && now >= goodUntil;
}

/** Whether the cookie has to say anew that it was seen. */
export function isStale({ seenAt }: Session, now: number, { idleMs }: SessionRules): boolean {
  return now >= seenAt + idleMs / 10;
}

/** Milliseconds for which a browser should keep it. */
export function keepFor({ begunAt, seenAt }: Session, now: number, { maxAgeMs, idleMs }: SessionRules): number {
  return Math.min(begunAt + maxAgeMs, seenAt + idleMs) - now;
}
