// From a token to its verified claims: which issuer, which key, then @fastify/jwt; by the shortest way for a token that was good before.
import type { FastifyRequest } from 'fastify';
import type { Issuer } from './issuer.ts';
import type { Algorithm, Key } from './keys.ts';
import { Refusal } from './refusal.ts';
import { hasRepeatedNames } from './unique-names.ts';
import type { Claims, VerifiedTokens } from './verified-tokens.ts';

/** Keys that one token is tried with; only those without a name come to more than one. */
const MAX_TRIES = 4;
const MAX_KID = 256;
/** Seconds since the epoch that there can be (ECMA-262, Time Values). A token that ends later does not end. */
const LAST_SECOND = 8.64e12;
/** RFC 9068 section 4 and RFC 7519 section 5.1; `application/` may stand before it. Absent is what most issuers send. */
const TYPES: ReadonlySet<string> = new Set(['jwt', 'at+jwt']);

/** RFC 7515 section 4.1.11, RFC 7797 section 3, RFC 7516 section 4.1.3: who ignores them reads another token. */
const CRITICAL = ['crit', 'b64', 'zip'] as const;

export class Verifier {
  readonly #issuers: ReadonlyMap<string, Issuer>;
  readonly #decode: Issuer['decode'];
  readonly #verified: Pick<VerifiedTokens, 'get' | 'add'>;
  readonly #skewMs: number;

  constructor(issuers: readonly Issuer[], verified: Pick<VerifiedTokens, 'get' | 'add'>, skewMs: number) {
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
    // The issuer may have other keys by now, under the same name, too.
    if (!(result instanceof Refusal) || result.reason !== 'signature') return result;
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
    const { alg, kid = null, typ } = header;
    const [headerText, payloadText] = token.split('.', 2).map((part) => Buffer.from(part, 'base64url').toString());
    if (hasRepeatedNames(headerText, header) || hasRepeatedNames(payloadText, payload))
      return new Refusal('malformed', 'the token says something twice: a name stands in one object more than once');
    const critical = CRITICAL.find((name) => Object.hasOwn(header, name));
    if (critical !== undefined)
      return new Refusal('critical_header', `the token has a header that changes how it is read ("${critical}")`);
    if (typ !== undefined && !isType(typ)) return new Refusal('type', 'the token is of another type ("typ")');
    if (kid !== null && (typeof kid !== 'string' || kid.length > MAX_KID))
      return new Refusal('malformed', 'the "kid" of the token is not the name of a key');
    if (typeof payload.exp === 'number' && payload.exp > LAST_SECOND)
      return new Refusal('malformed', 'the "exp" of the token is beyond all time');
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
