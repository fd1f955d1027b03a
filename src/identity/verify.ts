// Who the other end of a mTLS connection is: judged once after each handshake, on both sides, by nothing but its certificates.
import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { type CertificateFacts, KEY_USAGE, OID } from './certificate-facts.ts';
import type { TrustBundles } from './source.ts';
import { parseSpiffeId, type SpiffeId } from './spiffe-id.ts';
import { type KnownCertificate, known, rootsOf } from './trust.ts';

/** `reason`: a clause for the log, never for the peer. */
export type PeerVerdict =
  | { readonly ok: true; readonly id: SpiffeId }
  | { readonly ok: false; readonly reason: string };

/** What the peer is in this connection. */
export type PeerSide = 'client' | 'server';

/** Certificates of a chain at most: leaf, intermediates and perhaps the root. */
const MAX_CHAIN = 8;

/** Signatures that one verdict may cost: certificates that have signed each other can be lined up in very many ways. */
const MAX_SIGNATURES = 32;

/** Intermediates that resumed sessions may lean on. */
const MAX_REMEMBERED = 64;

/**
 * `chain`: as presented, the leaf first; or the socket that it came by. The chain has to end at a root of the trust domain that the
 * leaf names: a partner's CA cannot make ids of ours. `side` null: an extended key usage for either side is good.
 *
 * A server knows only the leaf of a client that resumes its session, so intermediates of chains that were good are
 * remembered. A client knows nothing of the server then, and Node does not ask again: a session is kept with the identity that began it.
 */
export function verifyPeer(
  chain: readonly X509Certificate[] | TLSSocket,
  bundles: TrustBundles,
  now: number,
  side: PeerSide | null = null,
): PeerVerdict {
  const resumed = !isList(chain) && chain.isSessionReused();
  const presented = isList(chain) ? chain : presentedBy(chain);
  if (presented.length === 0)
    return refuse(resumed ? 'the session was resumed without a certificate' : 'no certificate');
  if (presented.length > MAX_CHAIN) return refuse(`more than ${MAX_CHAIN} certificates`);
  let certificates: readonly KnownCertificate[];
  try {
    certificates = presented.map(known);
  } catch (error) {
    return refuse(`a certificate cannot be read: ${(error as Error).message}`);
  }
  const [leaf, ...others] = certificates;
  const { uris } = leaf.facts;
  if (uris.length !== 1) return refuse(uris.length === 0 ? 'no URI SAN' : `${uris.length} URI SANs, where one must be`);
  const id = parseSpiffeId(uris[0]);
  if (id === null) return refuse('the URI SAN is no SPIFFE id');
  const fault = leafFault(leaf, id, now, side);
  if (fault !== null) return refuse(fault);
  let roots: readonly KnownCertificate[];
  try {
    roots = rootsOf(bundles, id.trustDomain);
  } catch (error) {
    return refuse(`the bundle of ${id.trustDomain} cannot be read: ${(error as Error).message}`);
  }
  if (roots.length === 0) return refuse(`the trust domain ${id.trustDomain} is not known`);
  const path = pathToRoot(leaf, resumed ? good : others, roots, now);
  if (typeof path === 'string') return refuse(path);
  remember(path);
  return { ok: true, id };
}

function refuse(reason: string): PeerVerdict {
  return { ok: false, reason };
}

function isList(chain: readonly X509Certificate[] | TLSSocket): chain is readonly X509Certificate[] {
  return Array.isArray(chain);
}

/** One more than is allowed, at most. */
function presentedBy(socket: TLSSocket): X509Certificate[] {
  const found: X509Certificate[] = [];
  let next = socket.getPeerX509Certificate();
  while (next !== undefined && found.length <= MAX_CHAIN) {
    found.push(next);
    const above: X509Certificate | undefined = next.issuerCertificate;
    next = above?.raw.equals(next.raw) ? undefined : above;
  }
  return found;
}

/** X509-SVID, sections 4 and 5.2. */
function leafFault({ facts }: KnownCertificate, id: SpiffeId, now: number, side: PeerSide | null): string | null {
  if (facts.ca) return 'a CA certificate, used as that of a workload';
  if (id.path === '') return 'the SPIFFE id names a trust domain, not a workload';
  if (facts.keyUsage === null || (facts.keyUsage & KEY_USAGE.digitalSignature) === 0)
    return 'the key usage does not allow digital signatures';
  if ((facts.keyUsage & (KEY_USAGE.keyCertSign | KEY_USAGE.cRLSign)) !== 0) return 'the key usage is that of a CA';
  if (facts.extKeyUsage !== null) {
    const sides =
      side === null ? [OID.clientAuth, OID.serverAuth] : [side === 'client' ? OID.clientAuth : OID.serverAuth];
    const allowed: readonly string[] = [OID.anyExtendedKeyUsage, ...sides];
    if (!facts.extKeyUsage.some((purpose) => allowed.includes(purpose)))
      return `the extended key usage does not allow a TLS ${side ?? 'client or server'}`;
  }
  return generalFault(facts, now);
}

/** What makes any certificate of a chain unusable. */
function generalFault(facts: CertificateFacts, now: number): string | null {
  if (now < facts.notBefore) return `not valid before ${new Date(facts.notBefore).toISOString()}`;
  if (now > facts.notAfter) return `expired at ${new Date(facts.notAfter).toISOString()}`;
  if (facts.unknownCritical !== null) return `the critical extension ${facts.unknownCritical} is not known`;
  return null;
}

/** Why `issuer` may not stand `below` certificates of CAs above a leaf; null: it may. */
function issuerFault({ facts }: KnownCertificate, below: number, now: number): string | null {
  if (!facts.ca) return 'the issuer is not a CA';
  if (facts.pathLength !== null && facts.pathLength < below) return 'the chain is longer than its CA allows';
  if (facts.keyUsage !== null && (facts.keyUsage & KEY_USAGE.keyCertSign) === 0)
    return 'the issuer may not sign certificates';
  const fault = generalFault(facts, now);
  return fault === null ? null : `its CA: ${fault}`;
}

/** The intermediates on the way from the leaf to one of the roots, or why there is none. */
function pathToRoot(
  leaf: KnownCertificate,
  intermediates: readonly KnownCertificate[],
  roots: readonly KnownCertificate[],
  now: number,
): readonly KnownCertificate[] | string {
  let reason = 'no known CA has signed it, or an intermediate is missing';
  let signatures = 0;
  const signed = (issuer: KnownCertificate, subject: KnownCertificate, below: number): boolean => {
    if (!subject.certificate.checkIssued(issuer.certificate)) return false;
    const fault = issuerFault(issuer, below, now);
    if (fault !== null) reason = fault;
    else if (++signatures > MAX_SIGNATURES) reason = 'a chain with too many ways';
    else if (subject.certificate.verify(issuer.certificate.publicKey)) return true;
    else reason = 'a signature is wrong';
    return false;
  };
  const climb = (subject: KnownCertificate, path: readonly KnownCertificate[]): readonly KnownCertificate[] | null => {
    if (roots.some((root) => signed(root, subject, path.length))) return path;
    if (path.length === MAX_CHAIN) return null;
    for (const issuer of intermediates) {
      if (path.includes(issuer) || !signed(issuer, subject, path.length)) continue;
      const found = climb(issuer, [...path, issuer]);
      if (found !== null) return found;
    }
    return null;
  };
  return climb(leaf, []) ?? reason;
}

/**
 * Of good chains only, so that nobody but CAs that were trusted can fill it. What is remembered is trusted no longer than its root:
 * a path is looked for anew each time, and bundles change while handshakes are under way.
 */
const good: KnownCertificate[] = [];

function remember(path: readonly KnownCertificate[]): void {
  for (const one of path) {
    if (good.some(({ certificate }) => certificate.raw.equals(one.certificate.raw))) continue;
    if (good.length === MAX_REMEMBERED) good.shift();
    good.push(one);
  }
}
