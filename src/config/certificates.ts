// Looks at the certificates that a config names before anything is served with them: readable, fitting, in date.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import type { Cursor } from './cursor.ts';
import { reasonOf } from './substitute.ts';

export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
}

/** A certificate that ends sooner is a warning. */
const SOON_MS = 14 * 86_400_000;
/** Bytes of one PEM file; the bundle of all public authorities is a fifth of it. */
const MAX_PEM = 1024 * 1024;

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** Returns the absolute paths. */
export function checkPair(cert: Cursor<string>, key: Cursor<string>, clock: Clock): { cert: string; key: string } {
  const paths = { cert: cert.file(), key: key.file() };
  const certPem = readPem(cert, paths.cert);
  const keyPem = readPem(key, paths.key);
  const leaf = certPem === null ? null : firstCertificate(cert, certPem);
  if (leaf !== null) checkDates(cert, leaf, clock);
  if (keyPem === null) return paths;
  const privateKey = parseKey(key, keyPem);
  if (leaf === null || privateKey === null || certPem === null) return paths;
  if (!leaf.checkPrivateKey(privateKey)) {
    key.error(`"${key.value}" is not the key of the certificate "${cert.value}"`);
    return paths;
  }
  try {
    createSecureContext({ cert: certPem, key: keyPem });
  } catch (error) {
    cert.error(`"${cert.value}" cannot be used for TLS: ${(error as Error).message}`);
  }
  return paths;
}

/** Returns the absolute path. */
export function checkAuthorities(ca: Cursor<string>, clock: Clock): string {
  const path = ca.file();
  const pem = readPem(ca, path);
  if (pem === null) return path;
  const blocks = pem.match(CERTIFICATE) ?? [];
  if (blocks.length === 0) ca.error(`"${ca.value}" holds no certificate in PEM form`);
  let valid = 0;
  for (const block of blocks) {
    const authority = parseCertificate(ca, block);
    if (authority !== null && Date.parse(authority.validTo) > clock.now()) valid++;
  }
  if (blocks.length > 0 && valid === 0) ca.error(`every certificate in "${ca.value}" has expired`);
  return path;
}

function checkDates(cert: Cursor<string>, leaf: X509Certificate, clock: Clock): void {
  const now = clock.now();
  const from = Date.parse(leaf.validFrom);
  const to = Date.parse(leaf.validTo);
  if (to <= now) cert.error(`the certificate "${cert.value}" expired on ${day(to)}`);
  else if (from > now) cert.error(`the certificate "${cert.value}" is not valid before ${day(from)}`);
  else if (to - now < SOON_MS) cert.warn(`the certificate "${cert.value}" expires on ${day(to)}`);
}

function day(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}

function readPem(cursor: Cursor<string>, path: string): string | null {
  try {
    const stat = statSync(path);
    if (stat.isFile() && stat.size <= MAX_PEM) return readFileSync(path, 'utf8');
    cursor.error(`"${cursor.value}" ${stat.isFile() ? 'is larger than 1 MiB' : 'is not a regular file'}`);
  } catch (error) {
    cursor.error(`"${cursor.value}" cannot be read: ${reasonOf(error)}`);
  }
  return null;
}

function firstCertificate(cert: Cursor<string>, pem: string): X509Certificate | null {
  const [first] = pem.match(CERTIFICATE) ?? [];
  if (first !== undefined) return parseCertificate(cert, first);
  cert.error(`"${cert.value}" holds no certificate in PEM form`);
  return null;
}

function parseCertificate(cursor: Cursor<string>, pem: string): X509Certificate | null {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    cursor.error(`"${cursor.value}" holds a broken certificate: ${(error as Error).message}`);
    return null;
  }
}

function parseKey(key: Cursor<string>, pem: string) {
  try {
    return createPrivateKey(pem);
  } catch (error) {
    const encrypted = pem.includes('ENCRYPTED');
    key.error(
      `"${key.value}" ${encrypted ? 'is encrypted: store the key without a passphrase' : `is not a private key in PEM form: ${(error as Error).message}`}`,
    );
    return null;
  }
}
