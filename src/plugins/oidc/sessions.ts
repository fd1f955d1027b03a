// From the cookies of a request to the session that holds now: opened, renewed where its time comes, or the reason why there is none.
import type { FastifyRequest } from 'fastify';
import type { Authenticate } from './client-auth.ts';
import type { Jar } from './cookies.ts';
import type { CheckIdToken } from './id-token.ts';
import type { Provider } from './provider.ts';
import { Refused } from './refusal.ts';
import type { Renewals } from './renewal.ts';
import type { Sealer } from './sealer.ts';
import { isOver, isStale, renewSession, type Session, type SessionRules } from './session.ts';

/** An old cookie may lead over several renewals that others have made to the session of now. */
const MAX_RENEWALS = 3;

export interface SessionSettings {
  /** Issuer and client. */
  readonly whose: string;
  readonly sealer: Sealer;
  readonly provider: Provider;
  readonly authenticate: Authenticate;
  readonly checkIdToken: CheckIdToken;
  readonly renewals: Renewals;
  readonly rules: SessionRules;
  readonly now: () => number;
  readonly onRenewal: (error: Refused | null) => void;
}

export interface Found {
  readonly session: Session;
  /** The browser is to keep it anew. */
  readonly changed: boolean;
}

export class Sessions {
  readonly #settings: SessionSettings;

  constructor(settings: SessionSettings) {
    this.#settings = settings;
  }

  /** Null: there is none that anybody could still use. */
  open({ session }: Jar): Session | null {
    return session === null ? null : (this.#settings.sealer.open('session', session) as Session | null);
  }

  /** Rejects with Refused only where the provider would have to be asked and is away; a session that is over is returned as the reason. */
  async find(request: FastifyRequest, jar: Jar): Promise<Found | Refused> {
    const { rules, now } = this.#settings;
    const opened = this.open(jar);
    if (opened === null)
      return jar.sessionNames.length === 0
        ? new Refused('no_session', 'there is no session')
        : new Refused('session_invalid', 'the session was not made with these secrets for this client');
    let session = opened;
    for (let renewals = 0; renewals <= MAX_RENEWALS; renewals++) {
      if (isOver(session, now(), rules)) return new Refused('session_expired', 'the session is over');
      const { renewAt, refreshToken, goodUntil } = session;
      if (renewAt === null || refreshToken === null || now() < renewAt || renewals === MAX_RENEWALS) break;
      const result = await this.#renew(request, session, refreshToken);
      if (result.kind === 'refused')
        return new Refused('session_revoked', `the session is not renewed: ${result.error.message}`);
      if (result.kind === 'failed') {
        if (goodUntil !== null && now() >= goodUntil) throw result.error;
        break;
      }
      session = result.session;
    }
    if (session !== opened) return { session, changed: true };
    return isStale(session, now(), rules)
      ? { session: { ...session, seenAt: now() }, changed: true }
      : { session, changed: false };
  }

  #renew(request: FastifyRequest, session: Session, refreshToken: string) {
    const { whose, renewals, onRenewal } = this.#settings;
    return renewals.renew(whose, refreshToken, async () => {
      try {
        const renewed = await this.#ask(request, session, refreshToken);
        onRenewal(null);
        return renewed;
      } catch (error) {
        if (error instanceof Refused) onRenewal(error);
        throw error;
      }
    });
  }

  async #ask(request: FastifyRequest, session: Session, refreshToken: string): Promise<Session> {
    const { provider, authenticate, checkIdToken, rules, now } = this.#settings;
    const body = new URLSearchParams({ grant_type: 'refresh_token', refresh_token: refreshToken });
    const headers = new Headers();
    authenticate(body, headers);
    const tokens = await provider.tokens(body, headers);
    if (tokens.idToken === null) return renewSession(session, null, tokens, now(), rules);
    const claims = await checkIdToken(request, tokens.idToken, null);
    // OpenID Connect Core 1.0 section 12.2.
    if (claims.sub !== session.claims.sub)
      throw new Refused('id_token', 'the renewed ID token is about somebody else', { because: 'id_token_subject' });
    return renewSession(session, claims, tokens, now(), rules);
  }
}
