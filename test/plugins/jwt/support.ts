// Keys and tokens as an issuer makes them, and tokens that nobody should make; and a server that hands out JWK sets as it is told to.
import {
  constants,
  createHmac,
  generateKeyPairSync,
  type KeyObject,
  sign as signBytes,
  type webcrypto,
} from 'node:crypto';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';

export const ISSUER = 'https://id.example.com';
export const AUDIENCE = 'shop';

export interface Signer {
  readonly kid: string;
  readonly alg: string;
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
  readonly jwk: webcrypto.JsonWebKey & { kid: string };
  readonly pem: string;
}

export function signer(alg: string, kid = `${alg}-1`): Signer {
  const { publicKey, privateKey } = pairFor(alg);
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid, use: 'sig' };
  return { kid, alg, publicKey, privateKey, jwk, pem: publicKey.export({ type: 'spki', format: 'pem' }) as string };
}

function pairFor(alg: string): { publicKey: KeyObject; privateKey: KeyObject } {
  if (alg === 'EdDSA') return generateKeyPairSync('ed25519');
  const curve = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' }[alg];
  if (curve !== undefined) return generateKeyPairSync('ec', { namedCurve: curve });
  return generateKeyPairSync('rsa', { modulusLength: 2_048 });
}

/** Seconds since the epoch. */
export const seconds = (): number => Math.floor(Date.now() / 1_000);

export function claims(changes: object = {}): Record<string, unknown> {
  return { iss: ISSUER, aud: AUDIENCE, sub: 'ada', exp: seconds() + 300, ...changes };
}

export function token(by: Signer, changes: object = {}, header: object = {}): string {
  const input = `${part({ alg: by.alg, typ: 'JWT', kid: by.kid, ...header })}.${part(claims(changes))}`;
  return `${input}.${signature(by, input)}`;
}

export function hmacToken(alg: string, secret: string, changes: object = {}, header: object = {}): string {
  const input = `${part({ alg, typ: 'JWT', ...header })}.${part(claims(changes))}`;
  return `${input}.${createHmac(`sha${alg.slice(2)}`, secret)
    .update(input)
    .digest('base64url')}`;
}

export function part(value: unknown): string {
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
}

function signature({ alg, privateKey: key }: Signer, input: string): string {
  const bytes = Buffer.from(input);
  if (alg === 'EdDSA') return signBytes(null, bytes, key).toString('base64url');
  const digest = `sha${alg.slice(2)}`;
  if (alg.startsWith('ES')) return signBytes(digest, bytes, { key, dsaEncoding: 'ieee-p1363' }).toString('base64url');
  if (alg.startsWith('RS')) return signBytes(digest, bytes, key).toString('base64url');
  const padding = constants.RSA_PKCS1_PSS_PADDING;
  const saltLength = constants.RSA_PSS_SALTLEN_DIGEST;
  return signBytes(digest, bytes, { key, padding, saltLength }).toString('base64url');
}

export function jwkSet(...signers: readonly Signer[]): string {
  return JSON.stringify({ keys: signers.map(({ jwk }) => jwk) });
}

export interface JwksServer {
  readonly url: string;
  readonly origin: string;
  /** Paths that were asked for. */
  readonly asked: string[];
  /** What it does; replace it at will. */
  answer: RequestListener;
}

export async function jwksServer(t: Test, answer: RequestListener | string): Promise<JwksServer> {
  const asked: string[] = [];
  const http = createServer((req, res) => {
    asked.push(req.url as string);
    server.answer(req, res);
  });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    http.closeAllConnections();
    http.close();
  });
  const origin = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  const server: JwksServer = {
    url: `${origin}/jwks.json`,
    origin,
    asked,
    answer: typeof answer === 'string' ? (_req, res) => void res.end(answer) : answer,
  };
  return server;
}
