// ring-hash: endpoints stand at many points of a circle, and a request goes to the one that comes next after its key.
import type { Endpoint } from '../endpoint.ts';
import type { WeightedEndpoint } from './draw.ts';
import { variant } from './hash-key.ts';
import { firstOfAll, type HashMember, type HashTable, hashMembers, MAX_STEPS } from './hash-table.ts';

/** Shares come out right to about 1/√160 = 8 % of themselves at weight 1. */
const POINTS_PER_WEIGHT = 160;
/** Beyond it (410 endpoints of weight 1) there are fewer points per weight; then a change of endpoints moves up to twice its share. */
const MAX_POINTS = 65_536;

/** Built at the first lookup: not every service of a config is called by every process. */
export function ringHash(members: readonly WeightedEndpoint[]): HashTable {
  let ring: Ring | null = null;
  return {
    lookup(key, accepts) {
      ring ??= buildRing(hashMembers(members));
      return firstAfter(ring, key, accepts);
    },
  };
}

interface Ring {
  readonly members: readonly HashMember[];
  /** Ascending. */
  readonly points: Uint32Array;
  /** The member at each point. */
  readonly owners: Uint16Array;
}

/** From point to point: who is out leaves its keys to those who would have them if it were not in the config. */
function firstAfter({ members, points, owners }: Ring, key: number, accepts: (endpoint: Endpoint) => boolean) {
  if (members.length === 0) return null;
  const steps = Math.min(owners.length, MAX_STEPS);
  let place = nextPoint(points, key);
  let rejected = -1;
  for (let step = 0; step < steps; step++) {
    const owner = owners[place];
    if (owner !== rejected) {
      const { endpoint } = members[owner];
      if (accepts(endpoint)) return endpoint;
      rejected = owner;
    }
    place = place + 1 === owners.length ? 0 : place + 1;
  }
  return firstOfAll(members, key, accepts);
}

function buildRing(members: readonly HashMember[]): Ring {
  const total = members.reduce((sum, { weight }) => sum + weight, 0);
  // Not a multiple of what the service weighs in all: then every endpoint's points would change with each change.
  const perWeight = Math.min(POINTS_PER_WEIGHT, MAX_POINTS / total);
  const counts = members.map(({ weight }) => Math.max(1, Math.floor(weight * perWeight)));
  const length = counts.reduce((sum, count) => sum + count, 0);

  // Point and owner in one number (48 bits), so that sorting needs no comparison of ours; equal points go by member.
  const sorted = new Float64Array(length);
  let filled = 0;
  for (const [owner, { hash }] of members.entries()) {
    for (let index = 0; index < counts[owner]; index++) sorted[filled++] = variant(hash, index) * 0x1_0000 + owner;
  }
  sorted.sort();

  const points = new Uint32Array(length);
  const owners = new Uint16Array(length);
  for (const [index, point] of sorted.entries()) {
    points[index] = Math.floor(point / 0x1_0000);
    owners[index] = point % 0x1_0000;
  }
  return { members, points, owners };
}

/** The first point at the key or after it; after the last one comes the first. */
function nextPoint(points: Uint32Array, key: number): number {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle] < key) low = middle + 1;
    else high = middle;
  }
  return low === points.length ? 0 : low;
}
