// Warns of certificates that somebody else renews, and has not.
import type { Svid } from './source.ts';

/** Share of its life that a certificate has left when it should have been replaced: all common issuers do so earlier. */
const TOO_LATE = 1 / 5;

/** `where`: who should have renewed it. Null: all is well. */
export function expiryWarning({ id, notBefore, expiresAt }: Svid, where: string, now: number): string | null {
  if (expiresAt - now > (expiresAt - notBefore) * TOO_LATE) return null;
  const until = new Date(expiresAt).toISOString();
  return `the certificate of ${id} ${expiresAt <= now ? 'has expired at' : 'expires at'} ${until} and ${where} has no newer one`;
}
