// What a certificate says about its holder and its use, read from its DER: what node:crypto does not tell or tells ambiguously.
import type { X509Certificate } from 'node:crypto';
import {
  contextTag,
  DerError,
  DerReader,
  type Element,
  implicitTag,
  onlyElement,
  readBoolean,
  readOid,
  readTime,
  TAG,
} from './der.ts';

export const OID = {
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extKeyUsage: '2.5.29.37',
  certificatePolicies: '2.5.29.32',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  anyExtendedKeyUsage: '2.5.29.37.0',
  ecPublicKey: '1.2.840.10045.2.1',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
} as const;

/** Bits of KeyUsage (RFC 5280, section 4.2.1.3), the first one highest. */
export const KEY_USAGE = { digitalSignature: 0x80, keyCertSign: 0x04, cRLSign: 0x02 } as const;

export interface CertificateFacts {
  /** URI subject alternative names, in order. */
  readonly uris: readonly string[];
  /** How many subject alternative names are of another kind. */
  readonly otherNames: number;
  readonly ca: boolean;
  /** How many CA certificates may follow below; null: any number. */
  readonly pathLength: number | null;
  /** The first eight bits; null: no such extension. */
  readonly keyUsage: number | null;
  /** Object identifiers; null: no such extension. */
  readonly extKeyUsage: readonly string[] | null;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** DER. */
  readonly subject: Buffer;
  readonly subjectKeyId: Buffer | null;
  /** A critical extension that nothing here knows: such a certificate must not be used (RFC 5280, section 4.2). */
  readonly unknownCritical: string | null;
}

/** Certificate policies are for people: nothing is decided by them, so a critical one hinders nobody. */
const HARMLESS: readonly string[] = [OID.certificatePolicies, OID.authorityKeyIdentifier];

/** @throws DerError */
export function certificateFacts(certificate: X509Certificate): CertificateFacts {
  const reader = new DerReader(onlyElement(certificate.raw).content);
  const body = reader.enter();
  body.optional(contextTag(0));
  body.expect(TAG.integer);
  body.expect(TAG.sequence);
  body.expect(TAG.sequence);
  const validity = body.enter();
  const [notBefore, notAfter] = [readTime(validity.next()), readTime(validity.next())];
  const subject = body.expect(TAG.sequence).raw;
  body.expect(TAG.sequence);
  body.optional(implicitTag(1));
  body.optional(implicitTag(2));
  const found = extensions(body.optional(contextTag(3)));
  const value = (oid: string): Buffer | null => found.get(oid)?.value ?? null;
  const unknown = [...found].find(([oid, { critical }]) => critical && !KNOWN.has(oid));
  return {
    ...names(value(OID.subjectAltName)),
    ...constraints(value(OID.basicConstraints)),
    keyUsage: usageBits(value(OID.keyUsage)),
    extKeyUsage: purposes(value(OID.extKeyUsage)),
    notBefore,
    notAfter,
    subject,
    subjectKeyId: keyIdentifier(value(OID.subjectKeyIdentifier)),
    unknownCritical: unknown === undefined ? null : unknown[0],
  };
}

const KNOWN = new Set<string>([
  OID.subjectKeyIdentifier,
  OID.keyUsage,
  OID.subjectAltName,
  OID.basicConstraints,
  OID.extKeyUsage,
  ...HARMLESS,
]);

function extensions(wrapped: Element | null): Map<string, { readonly critical: boolean; readonly value: Buffer }> {
  const found = new Map<string, { critical: boolean; value: Buffer }>();
  if (wrapped === null) return found;
  const list = new DerReader(onlyElement(wrapped.content).content);
  while (!list.done) {
    const extension = list.enter();
    const oid = readOid(extension.expect(TAG.oid));
    const critical = readBoolean(extension.optional(TAG.boolean));
    const value = extension.expect(TAG.octetString).content;
    extension.end();
    if (found.has(oid)) throw new DerError(`the extension ${oid} twice`);
    found.set(oid, { critical, value });
  }
  return found;
}

function names(value: Buffer | null): Pick<CertificateFacts, 'uris' | 'otherNames'> {
  const uris: string[] = [];
  let otherNames = 0;
  const list = value === null ? null : new DerReader(onlyElement(value).content);
  while (list !== null && !list.done) {
    const { tag, content } = list.next();
    if (tag === implicitTag(6)) uris.push(content.toString('latin1'));
    else otherNames += 1;
  }
  return { uris, otherNames };
}

function constraints(value: Buffer | null): Pick<CertificateFacts, 'ca' | 'pathLength'> {
  if (value === null) return { ca: false, pathLength: null };
  const reader = new DerReader(onlyElement(value).content);
  const ca = readBoolean(reader.optional(TAG.boolean));
  const length = reader.optional(TAG.integer);
  reader.end();
  if (length === null) return { ca, pathLength: null };
  if (length.content.length === 0 || length.content[0] >= 0x80) throw new DerError('a bad path length');
  // Nobody has chains of a hundred certificates: a longer number means "any".
  return { ca, pathLength: length.content.length === 1 ? length.content[0] : null };
}

function usageBits(value: Buffer | null): number | null {
  if (value === null) return null;
  const { content } = onlyElement(value, TAG.bitString);
  return content.length > 1 ? content[1] : 0;
}

function purposes(value: Buffer | null): readonly string[] | null {
  if (value === null) return null;
  const found: string[] = [];
  const list = new DerReader(onlyElement(value).content);
  while (!list.done) found.push(readOid(list.expect(TAG.oid)));
  return found;
}

function keyIdentifier(value: Buffer | null): Buffer | null {
  return value === null ? null : onlyElement(value, TAG.octetString).content;
}
