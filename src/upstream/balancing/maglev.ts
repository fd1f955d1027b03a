// maglev: a table with a place for every remainder of the key, of which each endpoint claims its share in an order of its own.
import type { Endpoint } from '../endpoint.ts';
import type { WeightedEndpoint } from './draw.ts';
import { variant } from './hash-key.ts';
import { firstOfAll, type HashMember, type HashTable, hashMembers, MAX_STEPS } from './hash-table.ts';

/** A prime, so that every step size leads through all places; it is also the most endpoints that can have one. */
const SIZE = 65_537;

/**
 * Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016), section 3.4, with weights.
 * Shares are exact to a place; a change of endpoints moves a little more than its share.
 * Built at the first lookup: not every service of a config is called by every process.
 */
export function maglev(members: readonly WeightedEndpoint[]): HashTable {
  let table: Table | null = null;
  return {
    lookup(key, accepts) {
      table ??= buildTable(hashMembers(members));
      return firstFrom(table, key, accepts);
    },
  };
}

interface Table {
  readonly members: readonly HashMember[];
  /** The member at each place. */
  readonly owners: Uint16Array;
}

/** From the key's place to others all over the table: neighbours are no help, an endpoint has mostly the same ones everywhere. */
function firstFrom({ members, owners }: Table, key: number, accepts: (endpoint: Endpoint) => boolean) {
  if (members.length === 0) return null;
  let place = key % SIZE;
  for (let step = 0; step < MAX_STEPS; step++) {
    const { endpoint } = members[owners[place]];
    if (accepts(endpoint)) return endpoint;
    place = variant(key, step + 1) % SIZE;
  }
  return firstOfAll(members, key, accepts);
}

function buildTable(members: readonly HashMember[]): Table {
  const owners = new Uint16Array(SIZE);
  if (members.length === 0) return { members, owners };
  const taken = new Uint8Array(SIZE);
  const next = Uint32Array.from(members, ({ hash }) => variant(hash, 0) % SIZE);
  const steps = Uint32Array.from(members, ({ hash }) => 1 + (variant(hash, 1) % (SIZE - 1)));
  const total = members.reduce((sum, { weight }) => sum + weight, 0);
  const perRound = Float64Array.from(members, ({ weight }) => (weight * members.length) / total);
  const credit = new Float64Array(members.length);
  let left = SIZE;

  function claim(member: number): void {
    let place = next[member];
    const step = steps[member];
    while (taken[place] === 1) {
      place += step;
      if (place >= SIZE) place -= SIZE;
    }
    taken[place] = 1;
    owners[place] = member;
    next[member] = place;
    credit[member] -= 1;
    left -= 1;
  }

  // One place each, however little it weighs: no endpoint is without keys.
  for (let member = 0; member < members.length; member++) claim(member);
  while (left > 0) {
    for (let member = 0; member < members.length && left > 0; member++) {
      credit[member] += perRound[member];
      while (credit[member] >= 0 && left > 0) claim(member);
    }
  }
  return { members, owners };
}
