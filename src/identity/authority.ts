// Issues the certificates of a trust domain: a root, the intermediate below it, and the X.509-SVIDs of workloads.
import {
  createHash,
  createPublicKey,
  generateKeyPair,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto';
import { promisify } from 'node:util';
import { type CertificateFacts, certificateFacts, KEY_USAGE, OID } from './certificate-facts.ts';
import { bitString, boolean, contextTag, element, implicitTag, oid, sequence, TAG, time, unsigned } from './der.ts';
import { hostName } from './host-name.ts';
import { pem } from './pem.ts';
import { isP256, keyOfRequest } from './signing-request.ts';
import type { Svid } from './source.ts';
import { parseSpiffeId } from './spiffe-id.ts';

const DAY_MS = 86_400_000;

export const ROOT_LIFE_MS = 3_650 * DAY_MS;
export const INTERMEDIATE_LIFE_MS = 365 * DAY_MS;
export const LEAF_LIFE_MS = DAY_MS;

/** Certificates begin a little before they are made: clocks of peers may be behind. */
export const BACKDATED_MS = 60_000;

/** A certificate that issues others, with its key. */
export interface Authority {
  readonly certificate: X509Certificate;
  readonly facts: CertificateFacts;
  /** Private. */
  readonly key: KeyObject;
  readonly isRoot: boolean;
}

export interface CertificateDates {
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** Cut short by the end of the issuer. */
  readonly lifeMs?: number;
}

export interface Issued {
  /** PEM: the leaf, then its intermediates. */
  readonly cert: string;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly expiresAt: number;
}

const newKeyPair = promisify(generateKeyPair);

/** P-256, made off the event loop. */
export async function makeKey(): Promise<KeyObject> {
  return (await newKeyPair('ec', { namedCurve: 'P-256' })).privateKey;
}

/** PKCS #8. */
export function keyPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }) as string;
}

/** The name of the trust domain stands in it as X509-SVID, section 3.1 asks of signing certificates. */
export async function makeRoot(trustDomain: string, dates: CertificateDates): Promise<Authority> {
  const key = await makeKey();
  const subject = caName(trustDomain, 'root');
  // One intermediate below it.
  const der = certificate({
    ...caTemplate(trustDomain, key, 1),
    subject,
    issuer: null,
    key,
    dates,
    lifeMs: ROOT_LIFE_MS,
  });
  return authority(der, key, true);
}

export async function makeIntermediate(
  root: Authority,
  trustDomain: string,
  dates: CertificateDates,
): Promise<Authority> {
  const key = await makeKey();
  const subject = caName(trustDomain, 'intermediate');
  const template = caTemplate(trustDomain, key, 0);
  const der = certificate({ ...template, subject, issuer: root, key: root.key, dates, lifeMs: INTERMEDIATE_LIFE_MS });
  return authority(der, key, false);
}

/** The key that belongs to a certificate is checked. @throws Error with what does not fit */
export function openAuthority(certificate: X509Certificate, key: KeyObject): Authority {
  const facts = certificateFacts(certificate);
  if (!certificate.checkPrivateKey(key)) throw new Error('the key is not that of the certificate');
  if (!facts.ca) throw new Error('the certificate is not one of a CA');
  if (!isP256(key)) throw new Error('the key is not of the curve P-256');
  return { certificate, facts, key, isRoot: certificate.checkIssued(certificate) };
}

/** For a public key whose holder has proved, to the caller's satisfaction, that `id` is who it is. */
export function issue(issuer: Authority, id: string, publicKey: KeyObject, dates: CertificateDates): Issued {
  if (parseSpiffeId(id) === null || parseSpiffeId(id)?.path === '')
    throw new Error(`${id} is not the SPIFFE id of a workload`);
  if (!isP256(publicKey)) throw new Error('the key is not of the curve P-256');
  return leaf(issuer, uriName(id), [OID.serverAuth, OID.clientAuth], publicKey, dates);
}

/** For a server that is known by its names and addresses, the CA's own: it is nobody in the mesh. */
export function issueForHosts(
  issuer: Authority,
  hosts: readonly string[],
  publicKey: KeyObject,
  dates: CertificateDates,
): Issued {
  return leaf(issuer, sequence(...hosts.map(hostName)), [OID.serverAuth], publicKey, dates);
}

function leaf(
  issuer: Authority,
  names: Buffer,
  purposes: readonly string[],
  publicKey: KeyObject,
  dates: CertificateDates,
): Issued {
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const der = certificate({
    subject: sequence(),
    spki,
    issuer,
    key: issuer.key,
    dates,
    lifeMs: LEAF_LIFE_MS,
    extensions: [
      extension(OID.basicConstraints, true, sequence()),
      extension(OID.keyUsage, true, keyUsage(KEY_USAGE.digitalSignature)),
      extension(OID.extKeyUsage, false, sequence(...purposes.map(oid))),
      // Critical, since the subject is empty (RFC 5280, section 4.2.1.6; X509-SVID, section 2).
      extension(OID.subjectAltName, true, names),
    ],
  });
  const { notBefore, notAfter } = certificateFacts(new X509Certificate(der));
  const above = issuer.isRoot ? '' : pem('CERTIFICATE', issuer.certificate.raw);
  return { cert: pem('CERTIFICATE', der) + above, notBefore, expiresAt: notAfter };
}

/** As `issue`, for the key of a request (PKCS #10, PEM) that is signed with it. @throws Error for a request that is not good */
export function issueForRequest(issuer: Authority, id: string, request: string, dates: CertificateDates): Issued {
  return issue(issuer, id, keyOfRequest(request), dates);
}

/** With a new key. */
export async function issueSvid(issuer: Authority, id: string, dates: CertificateDates): Promise<Svid> {
  const key = await makeKey();
  return { id, key: keyPem(key), ...issue(issuer, id, createPublicKey(key), dates) };
}

function authority(der: Buffer, key: KeyObject, isRoot: boolean): Authority {
  const made = new X509Certificate(der);
  return { certificate: made, facts: certificateFacts(made), key, isRoot };
}

interface Template {
  /** DER. */
  readonly subject: Buffer;
  readonly spki: Buffer;
  readonly extensions: readonly Buffer[];
  /** Null: itself. */
  readonly issuer: Authority | null;
  /** The issuer's. */
  readonly key: KeyObject;
  readonly dates: CertificateDates;
  /** Unless `dates` says otherwise. */
  readonly lifeMs: number;
}

/** DER of a signed certificate, version 3 (RFC 5280, section 4.1). */
function certificate({ subject, spki, extensions, issuer, key, dates, lifeMs }: Template): Buffer {
  const end = dates.now + (dates.lifeMs ?? lifeMs);
  const start = Math.max(dates.now - BACKDATED_MS, issuer?.facts.notBefore ?? 0);
  const notAfter = Math.min(end, issuer?.facts.notAfter ?? Number.POSITIVE_INFINITY);
  if (notAfter <= dates.now) throw new Error('the certificate of the CA has expired');
  const ownKeyId = keyId(spki);
  const issuerKeyId = issuer === null ? ownKeyId : (issuer.facts.subjectKeyId ?? keyId(spkiOf(issuer.key)));
  const body = sequence(
    element(contextTag(0), unsigned(Buffer.of(2))),
    unsigned(serialNumber()),
    SIGNATURE_ALGORITHM,
    issuer?.facts.subject ?? subject,
    sequence(time(start), time(notAfter)),
    subject,
    spki,
    element(
      contextTag(3),
      sequence(
        ...extensions,
        extension(OID.subjectKeyIdentifier, false, element(TAG.octetString, ownKeyId)),
        extension(OID.authorityKeyIdentifier, false, sequence(element(implicitTag(0), issuerKeyId))),
      ),
    ),
  );
  return sequence(body, SIGNATURE_ALGORITHM, bitString(sign('sha256', body, key)));
}

const SIGNATURE_ALGORITHM = sequence(oid(OID.ecdsaWithSha256));

function caTemplate(trustDomain: string, key: KeyObject, pathLength: number) {
  return {
    spki: spkiOf(key),
    extensions: [
      extension(OID.basicConstraints, true, sequence(boolean(true), unsigned(Buffer.of(pathLength)))),
      extension(OID.keyUsage, true, keyUsage(KEY_USAGE.keyCertSign | KEY_USAGE.cRLSign)),
      extension(OID.subjectAltName, false, uriName(`spiffe://${trustDomain}`)),
    ],
  };
}

/** Unlike any other: during a rollover both roots are looked up by name. */
function caName(trustDomain: string, role: 'root' | 'intermediate'): Buffer {
  // A common name has at most 64 characters.
  const name = `${trustDomain.slice(0, 32)} ${role} ${randomBytes(4).toString('hex')}`;
  const attribute = (type: string, value: string): Buffer =>
    element(TAG.set, sequence(oid(type), element(TAG.utf8String, Buffer.from(value))));
  return sequence(attribute(OID.organization, 'Selvedge'), attribute(OID.commonName, name));
}

function extension(id: string, critical: boolean, value: Buffer): Buffer {
  return sequence(oid(id), ...(critical ? [boolean(true)] : []), element(TAG.octetString, value));
}

function keyUsage(bits: number): Buffer {
  // Trailing zero bits of a named bit list are not written.
  const unused = Math.log2(bits & -bits);
  return element(TAG.bitString, Buffer.of(unused, bits));
}

function uriName(uri: string): Buffer {
  return sequence(element(implicitTag(6), Buffer.from(uri, 'latin1')));
}

function spkiOf(key: KeyObject): Buffer {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}

/** RFC 7093, section 2, method 1. */
function keyId(spki: Buffer): Buffer {
  // The last 65 octets of a P-256 key are its point.
  return createHash('sha256').update(spki.subarray(-65)).digest().subarray(0, 20);
}

/** 128 random bits, never zero. */
function serialNumber(): Buffer {
  const octets = randomBytes(16);
  if (octets[0] === 0) octets[0] = 1;
  return octets;
}
