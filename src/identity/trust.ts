// The roots that a trust domain is known by, read once for all handshakes that they judge.
import { X509Certificate } from 'node:crypto';
import { type CertificateFacts, certificateFacts } from './certificate-facts.ts';
import { isBrokenOff, pem, pemBlocks } from './pem.ts';
import type { TrustBundles } from './source.ts';

/** Roots of one trust domain at most. */
export const MAX_ROOTS = 64;

export interface KnownCertificate {
  readonly certificate: X509Certificate;
  readonly facts: CertificateFacts;
}

/** @throws Error for what is no certificate; DerError for one that cannot be read */
export function known(certificate: X509Certificate): KnownCertificate {
  return { certificate, facts: certificateFacts(certificate) };
}

/** Every certificate of a PEM text, in order. @throws Error that says which one is bad, or that the text is not whole */
export function readCertificates(text: string): KnownCertificate[] {
  if (isBrokenOff(text)) throw new Error('a PEM block has no end');
  return pemBlocks(text, 'CERTIFICATE').map((der, index) => {
    try {
      return known(new X509Certificate(der));
    } catch (error) {
      throw new Error(`certificate ${index + 1} cannot be read: ${(error as Error).message}`, { cause: error });
    }
  });
}

/** @throws Error for a text without a CA certificate, or with one that is none */
export function readRoots(text: string): KnownCertificate[] {
  const roots = readCertificates(text);
  if (roots.length === 0) throw new Error('there is no PEM certificate in it');
  if (roots.length > MAX_ROOTS) throw new Error(`more than ${MAX_ROOTS} certificates are in it`);
  for (const [index, { facts }] of roots.entries())
    if (!facts.ca) throw new Error(`certificate ${index + 1} is not one of a CA`);
  return roots;
}

export function certificatesPem(certificates: readonly KnownCertificate[]): string {
  return certificates.map(({ certificate }) => pem('CERTIFICATE', certificate.raw)).join('');
}

const read = new WeakMap<TrustBundles, Map<string, readonly KnownCertificate[]>>();

/** Bundles never change, they are replaced: what was read of them stays good. Empty: an unknown trust domain. */
export function rootsOf(bundles: TrustBundles, trustDomain: string): readonly KnownCertificate[] {
  const text = bundles.get(trustDomain);
  if (text === undefined) return [];
  const ofBundles = read.get(bundles) ?? new Map<string, readonly KnownCertificate[]>();
  read.set(bundles, ofBundles);
  const roots = ofBundles.get(trustDomain) ?? readRoots(text);
  ofBundles.set(trustDomain, roots);
  return roots;
}
