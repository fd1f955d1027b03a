// Draws an endpoint for a try: a group by its share, then in the group as the service's algorithm says.
import type { LoadBalancing } from '../../config/model.ts';
import type { Endpoint } from '../endpoint.ts';
import { type Draw, indexAt, lineOf, type WeightedEndpoint } from './draw.ts';
import { hashOf, variant } from './hash-key.ts';
import type { HashTable } from './hash-table.ts';
import type { Candidate, Group } from './levels.ts';
import { maglev } from './maglev.ts';
import { ringHash } from './ring-hash.ts';
import { roundRobin, type Turns } from './round-robin.ts';
import { leastRequest, peakEwma } from './two-choices.ts';
import { weightedRandom } from './weighted-random.ts';

/**
 * The endpoint for the next try, another than those tried where there is one; null: there is none at all.
 *
 * @param key a whole number below 2^32: equal keys reach the same endpoint with ring-hash and maglev; the others ignore it
 */
export type KeyedDraw = (tried: readonly Endpoint[], key: number) => Endpoint | null;

export interface BalancerDeps {
  /** In [0, 1). */
  readonly random: () => number;
  /** Milliseconds on the process clock. */
  readonly now: () => number;
}

/** Compiles what may be drawn just now; what outlives that (tables, turns) stays with the balancer. */
export type Balancer = (groups: readonly Group[]) => KeyedDraw;

/** One for a service and subset; `members` are all that it has, up or not. */
export function balancer(
  algorithm: LoadBalancing['algorithm'],
  members: readonly WeightedEndpoint[],
  { random, now }: BalancerDeps,
): Balancer {
  switch (algorithm) {
    case 'round-robin': {
      const turns: Turns = new WeakMap();
      return (groups) => spread(groups, (candidates) => roundRobin(candidates, turns), random);
    }
    case 'random':
      return (groups) => spread(groups, (candidates) => weightedRandom(candidates, random), random);
    case 'least-request':
      return (groups) => spread(groups, (candidates) => leastRequest(candidates, random), random);
    case 'peak-ewma':
      return (groups) => spread(groups, (candidates) => peakEwma(candidates, random, now), random);
    case 'ring-hash': {
      const table = ringHash(members);
      return (groups) => keyed(groups, table);
    }
    case 'maglev': {
      const table = maglev(members);
      return (groups) => keyed(groups, table);
    }
  }
}

function spread(
  groups: readonly Group[],
  drawAmong: (candidates: readonly Candidate[]) => Draw,
  random: () => number,
): Draw {
  const draws = groups.map(({ candidates }) => drawAmong(candidates));
  if (draws.length === 0) return () => null;
  if (draws.length === 1) return draws[0];
  const shares = lineOf(groups.map(({ share }) => share));

  return (tried) => {
    const drawn = draws[indexAt(shares, random())](tried);
    if (drawn !== null && !tried.includes(drawn)) return drawn;
    for (const draw of draws) {
      const other = draw(tried);
      if (other !== null && !tried.includes(other)) return other;
    }
    return drawn;
  };
}

/** Endpoint → what its slow start is judged by. */
type Ramps = ReadonlyMap<Endpoint, { readonly ramp: number; readonly hash: number }>;

/** Other than that of the table, or each group would get one stretch of it. */
const GROUP_VARIANT = 1;

const NONE: readonly Endpoint[] = [];

/**
 * The group goes by the key as well: while shares stay, so do keys. In slow start an endpoint has the same part of its keys
 * that another algorithm would give it of its weight, and gets more of them back, never others, as it gets warmer.
 */
function keyed(groups: readonly Group[], table: HashTable): KeyedDraw {
  if (groups.length === 0) return () => null;
  const shares = lineOf(groups.map(({ share }) => share));
  const allRamps = groups.map(({ candidates }) => rampsOf(candidates));

  // One lookup at a time: its arguments stand here instead of in a closure for each.
  let ramps = allRamps[0];
  let ramping = true;
  let tried = NONE;
  let key = 0;

  function accepts(endpoint: Endpoint): boolean {
    const state = ramps.get(endpoint);
    if (state === undefined || (tried.length > 0 && tried.includes(endpoint))) return false;
    return !ramping || state.ramp >= 1 || variant(key ^ state.hash, 0) < state.ramp * 0x1_0000_0000;
  }

  function among(group: Ramps): Endpoint | null {
    ramps = group;
    ramping = true;
    const found = table.lookup(key, accepts);
    if (found !== null) return found;
    ramping = false;
    return table.lookup(key, accepts);
  }

  return (triedBefore, requestKey) => {
    tried = triedBefore;
    key = requestKey;
    const group = allRamps[indexAt(shares, variant(requestKey, GROUP_VARIANT) / 0x1_0000_0000)];
    let found = among(group);
    for (let index = 0; found === null && index < allRamps.length; index++) found = among(allRamps[index]);
    if (found === null) {
      tried = NONE;
      found = among(group);
    }
    tried = NONE;
    return found;
  };
}

/** Relative to the warmest: endpoints that are all new share their keys as ever. */
function rampsOf(candidates: readonly Candidate[]): Ramps {
  const warmest = candidates.reduce((most, { ramp }) => Math.max(most, ramp), 0);
  return new Map(
    candidates.map(({ endpoint, ramp }) => [endpoint, { ramp: ramp / warmest, hash: hashOf(endpoint.address) }]),
  );
}
