// Leads a request's hash to an endpoint. What ring-hash and maglev share: members in an order of their own, and the way on from one that is out.
import type { Endpoint } from '../endpoint.ts';
import type { WeightedEndpoint } from './draw.ts';
import { hashOf, variant } from './hash-key.ts';

export interface HashTable {
  /**
   * The first endpoint in the key's own order that is accepted; null: none is. The order does not depend on what is accepted,
   * so an endpoint that is out moves its own keys and no others.
   *
   * @param key a whole number below 2^32
   */
  lookup(key: number, accepts: (endpoint: Endpoint) => boolean): Endpoint | null;
}

export interface HashMember extends WeightedEndpoint {
  readonly hash: number;
}

/** What the 16 bits that tables have for an owner can tell apart; members beyond it are left out. */
const MAX_MEMBERS = 65_536;

/** Every endpoint with a weight, once, in an order that does not depend on the one given: by address. */
export function hashMembers(members: readonly WeightedEndpoint[]): HashMember[] {
  const weights = new Map<Endpoint, number>();
  for (const { endpoint, weight } of members) {
    if (weight > 0) weights.set(endpoint, (weights.get(endpoint) ?? 0) + weight);
  }
  const sorted = [...weights].sort(([a], [b]) => compare(a.address, b.address) || compare(a.dial, b.dial));
  let repeated = 0;
  return sorted.slice(0, MAX_MEMBERS).map(([endpoint, weight], index) => {
    // The same application behind two hops: both get keys.
    repeated = index > 0 && sorted[index - 1][0].address === endpoint.address ? repeated + 1 : 0;
    const name = repeated === 0 ? endpoint.address : `${endpoint.address} ${repeated}`;
    return { endpoint, weight, hash: hashOf(name) };
  });
}

/** By code unit: a locale's order would differ between processes. */
function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** How many places of a table are looked at; by then something was accepted unless next to nothing is. */
export const MAX_STEPS = 512;

/** From member to member, starting where the key says: for when the places of the table have not led to one that is accepted. */
export function firstOfAll(
  members: readonly HashMember[],
  key: number,
  accepts: (endpoint: Endpoint) => boolean,
): Endpoint | null {
  const first = variant(key, 0) % members.length;
  for (let step = 0; step < members.length; step++) {
    const { endpoint } = members[(first + step) % members.length];
    if (accepts(endpoint)) return endpoint;
  }
  return null;
}
