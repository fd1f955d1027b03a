// bundle.pem of a CA directory: the roots that are trusted, with a line above each that is on its way out.
import { X509Certificate } from 'node:crypto';
import { pem, pemBlocks } from './pem.ts';

export interface TrustedRoot {
  readonly certificate: X509Certificate;
  /** Milliseconds since the epoch; Infinity: as long as the certificate is valid. */
  readonly until: number;
}

const ENTRY = /(?:^# until (\S+)\n)?^(-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----)$/gm;

/** Tools that read PEM skip the lines between blocks. */
export function formatBundle(roots: readonly TrustedRoot[]): string {
  const entries = roots.map(({ certificate, until }) => {
    const remark = until === Number.POSITIVE_INFINITY ? '' : `# until ${new Date(until).toISOString()}\n`;
    return remark + pem('CERTIFICATE', certificate.raw);
  });
  return entries.join('');
}

/** @throws Error for a text without a root, or with one that cannot be read */
export function parseBundle(text: string): TrustedRoot[] {
  const entries = [...text.matchAll(ENTRY)];
  if (entries.length === 0 || entries.length !== text.split('-----BEGIN').length - 1)
    throw new Error('it is not a list of whole PEM certificates');
  return entries.map(([, remark, block]) => {
    const until = remark === undefined ? Number.POSITIVE_INFINITY : Date.parse(remark);
    if (Number.isNaN(until)) throw new Error(`"${remark}" is not a time`);
    return { certificate: new X509Certificate(pemBlocks(block, 'CERTIFICATE')[0]), until };
  });
}
