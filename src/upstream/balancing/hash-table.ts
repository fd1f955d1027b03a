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

/** Places in a row, each with the index of its member. */
export interface Places {
  readonly members: readonly HashMember[];
  readonly owners: Uint16Array;
}

/** What `owners` can tell apart; members beyond it are left out. */
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

/** How far the way goes from place to place; by then something was accepted unless next to nothing is. */
const MAX_STEPS = 512;

/** From place to place, and after MAX_STEPS from member to member, starting where the key says. */
export function firstAccepted(
  { members, owners }: Places,
  start: number,
  key: number,
  accepts: (endpoint: Endpoint) => boolean,
): Endpoint | null {
  if (members.length === 0) return null;
  const steps = Math.min(owners.length, MAX_STEPS);
  let rejected = -1;
  for (let step = 0, place = start; step < steps; step++) {
    const owner = owners[place];
    if (owner !== rejected) {
      const { endpoint } = members[owner];
      if (accepts(endpoint)) return endpoint;
      rejected = owner;
    }
    place = place + 1 === owners.length ? 0 : place + 1;
  }
  const first = variant(key, 0) % members.length;
  for (let step = 0; step < members.length; step++) {
    const { endpoint } = members[(first + step) % members.length];
    if (accepts(endpoint)) return endpoint;
  }
  return null;
}
