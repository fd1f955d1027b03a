// From a token to its verified claims: which issuer, which key, then @fastify/jwt; by the shortest way for a token that was good before.
import type { FastifyRequest } from 'fastify';
import type { Issuer } from './issuer.ts';
import type { Algorithm, Key } from './keys.ts';
import { Refusal } from './refusal.ts';
import type { Claims, VerifiedTokens } from './verified-tokens.ts';

/** Keys that one token is tried with; only those without a name come to more than one. */
const MAX_TRIES = 4;
const MAX_KID = 256;
/** RFC 9068 section 4 and RFC 7519 section 5.1; `application/` may stand before it. Absent is what most issuers send. */
const TYPES: ReadonlySet<string> = new Set(['jwt', 'at+jwt']);

export class Verifier {
  readonly #issuers: ReadonlyMap<string, Issuer>;
  readonly #decode: Issuer['decode'];
  readonly #verified: VerifiedTokens;
  readonly #skewMs: number;

  constructor(issuers: readonly Issuer[], verified: VerifiedTokens, skewMs: number) {
    this.#issuers = new Map(issuers.map((issuer) => [issuer.issuer, issuer]));
    this.#decode = issuers[0].decode;
    this.#verified = verified;
    this.#skewMs = skewMs;
  }

  verify(request: FastifyRequest, token: string): Claims | Promise<Claims | Refusal> {
    return this.#verified.get(token) ?? this.#verifyNew(request, token);
  }

  async #verifyNew(request: FastifyRequest, token: string): Promise<Claims | Refusal> {
    const told = this.#read(token);
    if (told instanceof Refusal) return told;
    const { source } = told.issuer;
    const tried = source.keys;
    const result = await this.#tryKeys(request, token, told);
    // By name it would have been seen that the issuer has other keys by now.
    if (!(result instanceof Refusal) || result.reason !== 'signature' || told.kid !== null) return result;
    await source.refetch?.();
    return source.keys === tried ? result : this.#tryKeys(request, token, told);
  }

  async #tryKeys(request: FastifyRequest, token: string, told: Told): Promise<Claims | Refusal> {
    const { issuer } = told;
    const keys = await this.#keysFor(told);
    if (keys instanceof Refusal) return keys;
    let refusal = new Refusal('signature', 'no key was tried');
    for (const key of keys) {
      const result = await issuer.verify(request, token, key);
      if (!(result instanceof Refusal)) {
        this.#verified.add(token, result, (result.exp as number) * 1_000 + this.#skewMs, key, issuer.source);
        return result;
      }
      refusal = result;
      if (refusal.reason !== 'signature') break;
    }
    return refusal;
  }

  /** What the token says of itself: enough to choose a key, and to refuse what no key could make good. `jwk`, `jku` and `x5u` are not read. */
  #read(token: string): Told | Refusal {
    let decoded: ReturnType<Issuer['decode']>;
    try {
      decoded = this.#decode(token);
    } catch (error) {
      return new Refusal('malformed', (error as Error).message);
    }
    const { header, payload } = decoded;
    const { alg, kid = null, typ, crit } = header;
    if (crit !== undefined) return new Refusal('critical_header', 'the token has critical headers ("crit")');
    if (typ !== undefined && !isType(typ)) return new Refusal('type', 'the token is of another type ("typ")');
    if (kid !== null && (typeof kid !== 'string' || kid.length > MAX_KID))
      return new Refusal('malformed', 'the "kid" of the token is not the name of a key');
    const issuer = typeof payload.iss === 'string' ? this.#issuers.get(payload.iss) : undefined;
    if (issuer === undefined) return new Refusal('issuer', 'the token is from an issuer that is not listed');
    if (!issuer.algorithms.includes(alg as Algorithm))
      return new Refusal('algorithm', `tokens of ${issuer.issuer} are not to be signed with the token's algorithm`);
    return { issuer, kid, algorithm: alg as Algorithm };
  }

  async #keysFor({ issuer, kid, algorithm }: Told): Promise<readonly Key[] | Refusal> {
    const { source } = issuer;
    let found = source.keys.candidates(kid, algorithm);
    if (found.length === 0 && source.refetch !== undefined) {
      await source.refetch();
      found = source.keys.candidates(kid, algorithm);
      if (found.length === 0 && source.failing)
        return new Refusal('keys_unavailable', `${issuer.issuer} does not hand out its keys`);
    }
    if (found.length > MAX_TRIES)
      return new Refusal('unknown_key', `the token names no key, and ${issuer.issuer} has many`);
    if (found.length > 0) return found;
    return kid !== null && source.keys.knows(kid)
      ? new Refusal('algorithm', `the key of ${issuer.issuer} that the token names is for another algorithm`)
      : new Refusal('unknown_key', `${issuer.issuer} has no such key`);
  }
}

interface Told {
  readonly issuer: Issuer;
  readonly kid: string | null;
  readonly algorithm: Algorithm;
}

function isType(typ: unknown): boolean {
  return typeof typ === 'string' && TYPES.has(typ.toLowerCase().replace(/^application\//, ''));
}
