// How the gateway proves to the provider which client it is, in each request that it makes there itself.
import { constants, createPrivateKey, type KeyObject, randomUUID, sign } from 'node:crypto';

const ASSERTION_SECONDS = 60;
const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
const EC: Readonly<Record<string, string>> = { prime256v1: 'ES256', secp384r1: 'ES384', secp521r1: 'ES512' };

export interface Client {
  readonly id: string;
  readonly secret: string | null;
  /** RFC 6749 section 2.3.1: in the body instead of an Authorization header. */
  readonly secretInBody: boolean;
  readonly privateKey: string | null;
  readonly keyId: string | null;
}

interface SigningKey {
  readonly key: KeyObject;
  readonly algorithm: string;
}

/** Throws a sentence that does not repeat the key. */
export function signingKey(pem: string): SigningKey {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    throw new Error('is no private key as PEM without a passphrase');
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details = {} } = key;
  if (type === 'rsa' && (details.modulusLength ?? 0) >= 2_048) return { key, algorithm: 'RS256' };
  if (type === 'ed25519') return { key, algorithm: 'EdDSA' };
  const algorithm = type === 'ec' ? EC[details.namedCurve ?? ''] : undefined;
  if (algorithm === undefined) throw new Error('must be RSA of at least 2048 bits, P-256, P-384, P-521 or Ed25519');
  return { key, algorithm };
}

/** Adds to `body` or `headers` what shows who is asking. */
export type Authenticate = (body: URLSearchParams, headers: Headers) => void;

/** `audience`: the issuer, for assertions. */
export function clientAuthentication(
  { id, secret, secretInBody, privateKey, keyId }: Client,
  audience: string,
): Authenticate {
  if (privateKey !== null) {
    const signing = signingKey(privateKey);
    return (body) => {
      body.set('client_id', id);
      body.set('client_assertion_type', ASSERTION_TYPE);
      body.set('client_assertion', assertion(signing, id, audience, keyId));
    };
  }
  if (secret === null) return (body) => body.set('client_id', id);
  if (secretInBody)
    return (body) => {
      body.set('client_id', id);
      body.set('client_secret', secret);
    };
  const basic = `Basic ${Buffer.from(`${formEncoded(id)}:${formEncoded(secret)}`).toString('base64')}`;
  return (_body, headers) => headers.set('authorization', basic);
}

/** RFC 7523 section 3, OpenID Connect Core 1.0 section 9. */
function assertion({ key, algorithm }: SigningKey, id: string, audience: string, keyId: string | null): string {
  const now = Math.floor(Date.now() / 1_000);
  const header = { alg: algorithm, typ: 'JWT', ...(keyId === null ? {} : { kid: keyId }) };
  const claims = { iss: id, sub: id, aud: audience, jti: randomUUID(), iat: now, exp: now + ASSERTION_SECONDS };
  const input = `${encoded(header)}.${encoded(claims)}`;
  const digest = algorithm === 'EdDSA' ? null : `sha${algorithm.slice(2)}`;
  const padding = algorithm === 'RS256' ? { padding: constants.RSA_PKCS1_PADDING } : {};
  const signature = sign(digest, Buffer.from(input), { key, dsaEncoding: 'ieee-p1363', ...padding });
  return `${input}.${signature.toString('base64url')}`;
}

function encoded(part: object): string {
  return Buffer.from(JSON.stringify(part)).toString('base64url');
}

/** As RFC 6749 section 2.3.1 wants name and secret before they become Basic credentials. */
function formEncoded(value: string): string {
  return new URLSearchParams({ v: value }).toString().slice(2);
}
