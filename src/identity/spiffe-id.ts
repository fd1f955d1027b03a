// Names of workloads: SPIFFE ids (SPIFFE-ID.md of the SPIFFE project), as certificates carry them and policies name them.

export interface SpiffeId {
  /** The id as a whole: `spiffe://shop.internal/service/orders`. */
  readonly id: string;
  /** Lower-case: `shop.internal`. */
  readonly trustDomain: string;
  /** Without leading slash: `service/orders`; empty: the trust domain itself. */
  readonly path: string;
}

const TRUST_DOMAIN = /^[a-z0-9._-]{1,255}$/;
const SEGMENT = /^[A-Za-z0-9._-]+$/;

/** Bytes of an id at most (SPIFFE-ID, section 2.3). */
const MAX_BYTES = 2_048;

/** Null for what is not a SPIFFE id: another scheme, user info, a port, a query, a fragment, empty or dot segments, a trailing slash. */
export function parseSpiffeId(text: string): SpiffeId | null {
  const parts = /^spiffe:\/\/([^/?#]*)(\/[^?#]*)?$/.exec(text);
  if (parts === null || text.length > MAX_BYTES) return null;
  const [, trustDomain, rest = ''] = parts;
  if (!isTrustDomain(trustDomain)) return null;
  const path = rest.slice(1);
  if (rest !== '' && !path.split('/').every((segment) => SEGMENT.test(segment) && segment !== '.' && segment !== '..'))
    return null;
  return { id: text, trustDomain, path };
}

export function isTrustDomain(text: string): boolean {
  return TRUST_DOMAIN.test(text);
}

/** `spiffe://TRUST_DOMAIN/service/orders`: who the hop of a service is. */
export function serviceId(trustDomain: string, service: string): string {
  return `spiffe://${trustDomain}/service/${service}`;
}

/** `spiffe://TRUST_DOMAIN/gateway/public`: who a gateway is. */
export function gatewayId(trustDomain: string, gateway: string): string {
  return `spiffe://${trustDomain}/gateway/${gateway}`;
}
