// Keys that tokens may be signed with, as issuers publish them or a config has them: PEM or JWK, turned into what verifies.
import { createPublicKey, type KeyObject, type webcrypto } from 'node:crypto';

export const ASYMMETRIC = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
] as const;
export const SYMMETRIC = ['HS256', 'HS384', 'HS512'] as const;
export type Algorithm = (typeof ASYMMETRIC)[number] | (typeof SYMMETRIC)[number];

/** Keys of one set; more are no set of anybody who signs tokens. */
const MAX_KEYS = 100;
/** RFC 7518 section 3.3. */
const MIN_RSA_BITS = 2_048;

const RSA = ASYMMETRIC.slice(0, 6);
const CURVES: Readonly<Record<string, Algorithm>> = { prime256v1: 'ES256', secp384r1: 'ES384', secp521r1: 'ES512' };
const PEM_BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----[\s\S]*?-----END \1-----/g;
const PUBLIC_LABELS: ReadonlySet<string> = new Set(['PUBLIC KEY', 'RSA PUBLIC KEY', 'CERTIFICATE']);
/** The public part of a JWK: whatever else it has, a private part included, is not looked at. */
const PUBLIC_MEMBERS = ['kty', 'n', 'e', 'crv', 'x', 'y'] as const;
const PUBLISHED_MEMBERS = [...PUBLIC_MEMBERS, 'kid', 'use', 'key_ops', 'alg'] as const;

export interface Key {
  /** Equal for the same key under the same name and for the same algorithms. */
  readonly id: string;
  readonly kid: string | null;
  readonly algorithms: readonly Algorithm[];
  /** SPKI as PEM; the secret itself for HS. */
  readonly material: string;
}

export class KeySet {
  readonly keys: readonly Key[];
  /** The same as a JWK set, for who keeps it; null: nobody published it. */
  readonly published: string | null;
  readonly #ids: ReadonlySet<string>;

  constructor(keys: readonly Key[], published: string | null = null) {
    this.keys = keys;
    this.published = published;
    this.#ids = new Set(keys.map(({ id }) => id));
  }

  has({ id }: Key): boolean {
    return this.#ids.has(id);
  }

  knows(kid: string): boolean {
    return this.keys.some((key) => key.kid === kid);
  }

  /** Keys that may have signed: those of that name, else those without a name; without `kid` all. Only ever for that algorithm. */
  candidates(kid: string | null, algorithm: Algorithm): readonly Key[] {
    const fit = this.keys.filter(({ algorithms }) => algorithms.includes(algorithm));
    if (kid === null) return fit;
    const named = fit.filter((key) => key.kid === kid);
    return named.length > 0 || this.knows(kid) ? named : fit.filter((key) => key.kid === null);
  }
}

/** One key for HS, which nobody but the config may hand out. */
export function secretKeys(secret: string, algorithms: readonly Algorithm[]): KeySet {
  return new KeySet([{ id: 'secret', kid: null, algorithms, material: secret }]);
}

/** PEM blocks one after another, a JWK or a JWK set, as a config has them. Throws a sentence when anything of it is no public key. */
export function parseKeys(text: string): KeySet {
  const trimmed = text.trim();
  if (trimmed.startsWith('{')) {
    const parsed = parseJson(trimmed);
    const list = Array.isArray(parsed.keys) ? parsed.keys : [parsed];
    if (list.length > MAX_KEYS) throw new Error(`has more than ${MAX_KEYS} keys`);
    if (list.length === 0) throw new Error('has no key');
    return new KeySet(
      list.map((jwk, index) => {
        if (PRIVATE_MEMBERS.some((member) => Object.hasOwn(Object(jwk), member)))
          throw new Error(`key ${index + 1} has its private part: write the public one`);
        return named(index, () => keyOfJwk(jwk));
      }),
    );
  }
  const blocks = [...trimmed.matchAll(PEM_BLOCK)];
  if (blocks.length === 0) throw new Error('is neither PEM nor a JWK set');
  if (blocks.length > MAX_KEYS) throw new Error(`has more than ${MAX_KEYS} keys`);
  return new KeySet(
    blocks.map(([block, label], index) => {
      if (label.endsWith('PRIVATE KEY')) throw new Error(`key ${index + 1} is a private key: write the public one`);
      if (!PUBLIC_LABELS.has(label)) throw new Error(`key ${index + 1} is a ${label}, not a public key or certificate`);
      return named(index, () => keyOf(createPublicKey(block), null, null));
    }),
  );
}

const PRIVATE_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'k'];

function named(index: number, make: () => Key): Key {
  try {
    return make();
  } catch (error) {
    throw new Error(`key ${index + 1} cannot be used: ${(error as Error).message}`);
  }
}

/** What an issuer published. Keys that cannot be used are left out (it may have others for other purposes); throws when none is left. */
export function publishedKeys(text: string): KeySet {
  const { keys } = parseJson(text);
  if (!Array.isArray(keys)) throw new Error('the answer is no JWK set: it has no list "keys"');
  if (keys.length > MAX_KEYS) throw new Error(`the JWK set has more than ${MAX_KEYS} keys`);
  const usable = keys.flatMap((jwk) => {
    try {
      return [{ jwk, key: keyOfJwk(jwk) }];
    } catch {
      return [];
    }
  });
  if (usable.length === 0) throw new Error('the JWK set has no key that can be used');
  const published = JSON.stringify({ keys: usable.map(({ jwk }) => only(jwk, PUBLISHED_MEMBERS)) });
  return new KeySet(
    usable.map(({ key }) => key),
    published,
  );
}

function parseJson(text: string): Readonly<Record<string, unknown>> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new Error('is not JSON');
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw new Error('is no JSON object');
  return parsed as Readonly<Record<string, unknown>>;
}

function only(jwk: Readonly<Record<string, unknown>>, members: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(members.map((member) => [member, jwk[member]]));
}

function keyOfJwk(given: unknown): Key {
  if (typeof given !== 'object' || given === null) throw new Error('it is no JWK');
  const jwk = given as Readonly<Record<string, unknown>>;
  const { kid = null, use = 'sig', key_ops: operations = ['verify'], alg = null } = jwk;
  // A symmetric key that somebody published is everybody's.
  if (jwk.kty !== 'RSA' && jwk.kty !== 'EC' && jwk.kty !== 'OKP') throw new Error('its "kty" is not RSA, EC or OKP');
  if (kid !== null && typeof kid !== 'string') throw new Error('its "kid" is not text');
  if (use !== 'sig') throw new Error('its "use" is not "sig"');
  if (!Array.isArray(operations) || !operations.includes('verify')) throw new Error('its "key_ops" have no "verify"');
  if (alg !== null && typeof alg !== 'string') throw new Error('its "alg" is not text');
  const key = only(jwk, PUBLIC_MEMBERS) as webcrypto.JsonWebKey;
  // RFC 9864 has names of its own for what EdDSA means with this key.
  return keyOf(createPublicKey({ format: 'jwk', key }), kid, alg === 'Ed25519' || alg === 'Ed448' ? 'EdDSA' : alg);
}

function keyOf(publicKey: KeyObject, kid: string | null, only: string | null): Key {
  const able = algorithmsOf(publicKey);
  const algorithms = only === null ? able : able.filter((algorithm) => algorithm === only);
  if (algorithms.length === 0) throw new Error(`it is no key for ${only}`);
  const material = publicKey.export({ type: 'spki', format: 'pem' }) as string;
  return { id: JSON.stringify([kid, algorithms, material]), kid, algorithms, material };
}

function algorithmsOf({
  asymmetricKeyType: type,
  asymmetricKeyDetails: details = {},
}: KeyObject): readonly Algorithm[] {
  if (type === 'rsa') {
    const { modulusLength = 0 } = details;
    if (modulusLength < MIN_RSA_BITS) throw new Error(`RSA of ${modulusLength} bits is too weak`);
    return RSA;
  }
  if (type === 'ed25519' || type === 'ed448') return ['EdDSA'];
  const curve = type === 'ec' ? CURVES[details.namedCurve ?? ''] : undefined;
  if (curve === undefined) throw new Error(`keys of this kind (${details.namedCurve ?? type}) sign no tokens`);
  return [curve];
}
