// Holds an ID token against OpenID Connect Core 1.0 section 3.1.3.7: signature, issuer, audience and time as jwt does, then what only a login has.
import { timingSafeEqual } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { setUpIssuer } from '../jwt/issuer.ts';
import type { Algorithm } from '../jwt/keys.ts';
import { Refusal } from '../jwt/refusal.ts';
import { remoteKeys } from '../jwt/shared-state.ts';
import type { Claims } from '../jwt/verified-tokens.ts';
import { Verifier } from '../jwt/verifier.ts';
import { Refused } from './refusal.ts';

const KEYS_REFRESH_MS = 600_000;
/** Each is looked at once: nothing to remember. */
const NOTHING_REMEMBERED = { get: () => undefined, add: () => {} };

/** `nonce` null: none was sent, as when a session is renewed. Rejects with Refused. */
export type CheckIdToken = (request: FastifyRequest, token: string | null, nonce: string | null) => Promise<Claims>;

export interface IdTokenRules {
  readonly issuer: string;
  readonly clientId: string;
  readonly algorithms: readonly Algorithm[];
  readonly skewMs: number;
}

export async function idTokenChecker(app: FastifyInstance, rules: IdTokenRules): Promise<CheckIdToken> {
  const { issuer, clientId, algorithms, skewMs } = rules;
  const audience = [clientId];
  const written = { issuer, audience, algorithms, keys: null, jwks: null, allowHttp: false };
  const source = await remoteKeys(app, written, KEYS_REFRESH_MS);
  const signedBy = await setUpIssuer(app, { issuer, audience, algorithms, source }, skewMs);
  const verifier = new Verifier([signedBy], NOTHING_REMEMBERED, skewMs);

  return async (request, token, nonce) => {
    if (token === null) throw bad('missing', 'the provider sent no ID token');
    const claims = await verifier.verify(request, token);
    if (claims instanceof Refusal) {
      if (claims.reason === 'keys_unavailable') throw new Refused('provider_unavailable', claims.why);
      throw bad(claims.reason, `the ID token is not good: ${claims.why}`);
    }
    if (typeof claims.sub !== 'string' || claims.sub === '') throw bad('subject', 'the ID token is about nobody');
    const { aud, azp } = claims;
    if (azp !== undefined ? azp !== clientId : Array.isArray(aud) && aud.length > 1)
      throw bad('azp', 'the ID token was not issued to this client');
    if (nonce !== null && !same(claims.nonce, nonce)) throw bad('nonce', 'the ID token is of another login');
    return claims;
  };
}

function bad(what: string, message: string): Refused {
  return new Refused('id_token', message, { because: `id_token_${what}` });
}

export function same(given: unknown, wanted: string): boolean {
  if (typeof given !== 'string') return false;
  const [a, b] = [Buffer.from(given), Buffer.from(wanted)];
  return a.length === b.length && timingSafeEqual(a, b);
}
