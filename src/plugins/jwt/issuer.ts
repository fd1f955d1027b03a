// One issuer of tokens: its keys, and @fastify/jwt set up to verify with them and nothing else.
import fastifyJwt from '@fastify/jwt';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Algorithm, Key } from './keys.ts';
import { Refusal } from './refusal.ts';
import type { KeySource } from './remote-keys.ts';
import type { Claims } from './verified-tokens.ts';

export interface IssuerSettings {
  readonly issuer: string;
  /** Null: any. */
  readonly audience: readonly string[] | null;
  /** Either all of them HS, with a secret, or none. */
  readonly algorithms: readonly Algorithm[];
  readonly source: KeySource;
}

export interface Issuer extends IssuerSettings {
  /** Checks the signature with this key, and the claims. */
  readonly verify: (request: FastifyRequest, token: string, key: Key) => Promise<Claims | Refusal>;
  /** The three parts of a token, nothing of them verified. Throws when they are not what they should be. */
  readonly decode: (token: string) => { readonly header: Claims; readonly payload: Claims };
}

/** What of a request is verified at the moment, for the callbacks of @fastify/jwt: one token with one key at a time. */
const CHOSEN = Symbol('jwt chosen');
type Choosing = FastifyRequest & { [CHOSEN]: { readonly token: string; readonly key: Key } };
type Verifying = Record<string, (options: undefined, done: (error: Error | null, claims: Claims) => void) => void>;

const USER = 'jwtVerified';

/** Each issuer gets a namespace of @fastify/jwt of its own. Its `request.user` is ours to set: another plugin may have set one before. */
export async function setUpIssuer(app: FastifyInstance, settings: IssuerSettings, skewMs: number): Promise<Issuer> {
  const { issuer, audience, algorithms } = settings;
  let number = 1;
  while (app.hasRequestDecorator(`selvedgeVerify${number}`)) number++;
  const namespace = `selvedge${number}`;
  const verifyName = `selvedgeVerify${number}`;
  if (!app.hasRequestDecorator(CHOSEN)) app.decorateRequest(CHOSEN, null);

  await app.register(fastifyJwt, {
    namespace,
    jwtVerify: verifyName,
    decoratorName: USER,
    decode: { complete: true },
    // As text, a verifier is made once a key, not once a request.
    secret: (request: FastifyRequest, _token: unknown, done: (error: null, key: string) => void) =>
      done(null, (request as Choosing)[CHOSEN].key.material),
    verify: {
      algorithms: [...algorithms],
      allowedIss: issuer,
      ...(audience === null ? {} : { allowedAud: [...audience] }),
      requiredClaims: ['iss', 'exp', ...(audience === null ? [] : ['aud'])],
      clockTolerance: skewMs,
      cache: false,
      extractToken: (request: FastifyRequest) => (request as Choosing)[CHOSEN].token,
    },
  } as never);

  return {
    ...settings,
    decode: (app.jwt as unknown as Record<string, { decode: Issuer['decode'] }>)[namespace].decode,
    verify: (request, token, key) =>
      new Promise((resolve) => {
        (request as Choosing)[CHOSEN] = { token, key };
        // Without options of its own, so that the verifier of the key is used again.
        (request as unknown as Verifying)[verifyName](undefined, (error, claims) => {
          resolve(error === null || error === undefined ? claims : refusalOf(error));
        });
      }),
  };
}

const SIGNATURE: ReadonlySet<string> = new Set(['FAST_JWT_MISSING_SIGNATURE', 'FAST_JWT_VERIFY_ERROR']);

function refusalOf(error: Error & { readonly code?: string }): Refusal {
  const { code, message } = error;
  if (code === 'FST_JWT_AUTHORIZATION_TOKEN_EXPIRED') return new Refusal('expired', message);
  if (code === 'FAST_JWT_INACTIVE') return new Refusal('not_yet_valid', message);
  // One code of @fastify/jwt stands for all of these; tests hold its sentences to what is looked for here.
  if (/\bexp claim is required/.test(message)) return new Refusal('no_expiry', message);
  if (/\baud claim\b/.test(message)) return new Refusal('audience', message);
  if (/\biss claim\b/.test(message)) return new Refusal('issuer', message);
  if (/signature/i.test(message) || SIGNATURE.has(code ?? '')) return new Refusal('signature', message);
  if (code === 'FAST_JWT_INVALID_ALGORITHM') return new Refusal('algorithm', message);
  return new Refusal('malformed', message);
}
