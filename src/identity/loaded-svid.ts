// A certificate that somebody else has made, as it must be before this process shows it to anyone.
import type { KeyObject } from 'node:crypto';
import type { Svid } from './source.ts';
import { certificatesPem, type KnownCertificate } from './trust.ts';
import { verifyPeer } from './verify.ts';

/**
 * `chain`: the leaf first. `roots`: PEM of its trust domain. What a peer would refuse is refused here, with the reason.
 * @throws Error
 */
export function checkedSvid(
  chain: readonly KnownCertificate[],
  key: KeyObject,
  trustDomain: string,
  roots: string,
  now: number,
): Svid {
  const [leaf, ...others] = chain;
  if (leaf === undefined) throw new Error('there is no certificate');
  if (!leaf.certificate.checkPrivateKey(key)) {
    const holder = others.findIndex(({ certificate }) => certificate.checkPrivateKey(key));
    throw new Error(
      holder === -1
        ? 'the key is not that of the certificate'
        : `the key is that of certificate ${holder + 2}: the certificate of the workload must come first`,
    );
  }
  for (const [index, issuer] of others.entries()) {
    if (!chain[index].certificate.checkIssued(issuer.certificate))
      throw new Error(
        `certificate ${index + 2} is not the issuer of the one before it: the order is leaf, then each issuer`,
      );
  }
  const verdict = verifyPeer(
    chain.map(({ certificate }) => certificate),
    new Map([[trustDomain, roots]]),
    now,
  );
  if (!verdict.ok) throw new Error(verdict.reason);
  return {
    id: verdict.id.id,
    cert: certificatesPem(chain),
    key: key.export({ type: 'pkcs8', format: 'pem' }) as string,
    notBefore: leaf.facts.notBefore,
    expiresAt: leaf.facts.notAfter,
  };
}
