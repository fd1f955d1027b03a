// Sends a browser to the provider and takes it back: authorization code flow with PKCE, bound to the browser by a cookie of its own.
import { createHash, randomBytes } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import type { Base } from './base.ts';
import type { Authenticate } from './client-auth.ts';
import { type Jar, LOGIN_MS, loginId } from './cookies.ts';
import { type CheckIdToken, same } from './id-token.ts';
import type { Provider } from './provider.ts';
import { Refused } from './refusal.ts';
import type { Sealer } from './sealer.ts';
import { beginSession, keepFor, type Session, type SessionRules } from './session.ts';

/** Logins that one browser may have under way. */
const MAX_LOGINS = 5;
/** Logins that came to a session in this time; the next one would come to nothing either. */
const MAX_TRIES = 5;
const TRIES_MS = 60_000;
/** Characters of the place to go back to; for a longer one it is the first page. */
const MAX_RETURN = 1_500;
const MAX_CODE = 4_096;
/** What a person did, or did not do, there: OpenID Connect Core 1.0 section 3.1.2.6, RFC 6749 section 4.1.2.1. */
const BY_PERSON: ReadonlySet<string> = new Set([
  'access_denied',
  'account_selection_required',
  'consent_required',
  'interaction_required',
  'login_required',
]);

interface Pending {
  readonly state: string;
  readonly nonce: string;
  readonly verifier: string;
  readonly returnTo: string;
  readonly redirectUri: string;
  readonly begunAt: number;
}

interface Tries {
  readonly count: number;
  readonly since: number;
}

/** What the browser is told to do. */
export interface Redirect {
  readonly location: string;
  readonly cookies: readonly string[];
}

export interface LoginSettings {
  readonly issuer: string;
  readonly clientId: string;
  readonly scopes: readonly string[];
  readonly params: Readonly<Record<string, string>>;
  readonly provider: Provider;
  readonly authenticate: Authenticate;
  readonly checkIdToken: CheckIdToken;
  readonly sealer: Sealer;
  readonly rules: SessionRules;
  readonly now: () => number;
}

export class Login {
  readonly #settings: LoginSettings;

  constructor(settings: LoginSettings) {
    this.#settings = settings;
  }

  /** Rejects with Refused: the provider was never seen, or the browser goes round in circles. */
  async begin({ selvedge }: FastifyRequest, jar: Jar, { cookies, redirectUri }: Base): Promise<Redirect> {
    const { provider, clientId, scopes, params, sealer } = this.#settings;
    const begunAt = this.#settings.now();
    if (this.#tries(jar).count >= MAX_TRIES)
      throw new Refused('login_loop', `${MAX_TRIES} logins within a minute, and still no session`);
    const { authorizationEndpoint } = await provider.metadata();
    const [state, nonce, verifier] = [secret(), secret(), secret()];
    const returnTo = returnPath(selvedge.path, selvedge.query);
    const pending: Pending = { state, nonce, verifier, returnTo, redirectUri, begunAt };
    const url = new URL(authorizationEndpoint);
    const query = {
      ...params,
      response_type: 'code',
      client_id: clientId,
      redirect_uri: redirectUri,
      scope: scopes.join(' '),
      state,
      nonce,
      code_challenge: createHash('sha256').update(verifier).digest('base64url'),
      code_challenge_method: 'S256',
    };
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    return {
      location: url.href,
      cookies: [
        ...cookies.removeLogins(this.#superfluous(jar), jar),
        cookies.writeLogin(loginId(state), sealer.seal('login', pending)),
      ],
    };
  }

  /** The way back. Rejects with Refused; `jar` says which login is over either way. */
  async finish(request: FastifyRequest, query: URLSearchParams, jar: Jar, { cookies }: Base): Promise<Redirect> {
    const { sealer, now } = this.#settings;
    const pending = this.#pendingOf(query, jar);
    const session = await this.#redeem(request, query, pending);
    const written = this.writeSession(session, jar, { cookies });
    const { count, since } = this.#tries(jar);
    const tries: Tries = { count: count + 1, since };
    return {
      location: pending.returnTo,
      cookies: [...written, cookies.writeTries(sealer.seal('tries', tries), since + TRIES_MS - now())],
    };
  }

  /** Throws Refused when no browser would keep it, not even without what only logging out needs. */
  writeSession(session: Session, { sessionNames }: Jar, { cookies }: Pick<Base, 'cookies'>): string[] {
    const { sealer, rules, now } = this.#settings;
    const maxAgeMs = keepFor(session, now(), rules);
    const written =
      cookies.writeSession(sealer.seal('session', session), maxAgeMs, sessionNames) ??
      cookies.writeSession(sealer.seal('session', { ...session, idToken: null }), maxAgeMs, sessionNames);
    if (written === null) throw new Refused('session_too_large', 'claims and tokens are too large for cookies');
    return written;
  }

  #pendingOf(query: URLSearchParams, jar: Jar): Pending {
    const { sealer, now } = this.#settings;
    const state = one(query, 'state');
    if (state === null) throw new Refused('callback_malformed', 'the way back has no "state"');
    const sealed = jar.logins.get(loginId(state));
    const pending = sealed === undefined ? null : (sealer.open('login', sealed) as Pending | null);
    if (pending === null || !same(state, pending.state) || now() >= pending.begunAt + LOGIN_MS)
      throw new Refused('state_unknown', 'the "state" is of no login that this browser has begun');
    return pending;
  }

  async #redeem(request: FastifyRequest, query: URLSearchParams, pending: Pending): Promise<Session> {
    const { issuer, provider, authenticate, checkIdToken, scopes, rules, now } = this.#settings;
    // RFC 9207 section 2.4: otherwise the code may be of another provider, meant to be shown to this one.
    const { namesIssuer } = await provider.metadata();
    const named = one(query, 'iss');
    if (named === null ? namesIssuer : named !== issuer)
      throw new Refused('response_issuer', 'the way back does not come from this provider ("iss")');
    const error = one(query, 'error');
    if (error !== null && BY_PERSON.has(error)) throw new Refused('access_denied', 'the provider granted no login');
    if (error !== null) throw new Refused('provider_refused', 'the provider refused the request for a login');
    const code = one(query, 'code');
    if (code === null || code.length > MAX_CODE) throw new Refused('callback_malformed', 'the way back has no "code"');
    const body = new URLSearchParams({
      grant_type: 'authorization_code',
      code,
      redirect_uri: pending.redirectUri,
      code_verifier: pending.verifier,
    });
    const headers = new Headers();
    authenticate(body, headers);
    const tokens = await provider.tokens(body, headers);
    const claims = await checkIdToken(request, tokens.idToken, pending.nonce);
    return beginSession(claims, tokens, scopes, now(), rules);
  }

  /** Logins that are over, of another client, or more than there may be beside a new one. */
  #superfluous(jar: Jar): string[] {
    const { sealer, now } = this.#settings;
    const read = [...jar.logins].map(([id, sealed]) => ({
      id,
      begunAt: (sealer.open('login', sealed) as Pending | null)?.begunAt ?? Number.NEGATIVE_INFINITY,
    }));
    const newestFirst = read.sort((a, b) => b.begunAt - a.begunAt);
    return newestFirst
      .filter(({ begunAt }, index) => index >= MAX_LOGINS - 1 || now() >= begunAt + LOGIN_MS)
      .map(({ id }) => id);
  }

  #tries({ tries }: Jar): Tries {
    const { sealer, now } = this.#settings;
    const opened = tries === null ? null : (sealer.open('tries', tries) as Tries | null);
    return opened !== null && now() < opened.since + TRIES_MS ? opened : { count: 0, since: now() };
  }
}

function secret(): string {
  return randomBytes(32).toString('base64url');
}

/** A parameter that is there once; null: not at all. */
function one(query: URLSearchParams, name: string): string | null {
  const values = query.getAll(name);
  if (values.length > 1) throw new Refused('callback_malformed', `the way back has "${name}" more than once`);
  return values[0] ?? null;
}

/** Of this host whatever it looks like: browsers read `//` and `/\` as the beginning of another host. */
export function returnPath(path: string, query: string): string {
  const whole = query === '' ? path : `${path}?${query}`;
  return whole.length <= MAX_RETURN && /^\/(?![/\\])[\x21-\x7e]*$/.test(whole) ? whole : '/';
}
