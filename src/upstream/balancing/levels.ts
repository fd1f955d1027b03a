// Says which endpoints may be drawn and with what shares, whenever one fails, returns or gets warmer: priorities, zones, panic, slow start.
import type { Endpoint } from '../endpoint.ts';
import type { WeightedEndpoint } from './draw.ts';

/** `out`: ejected, returning or resting, which is a guess; `down`: active checks say so, which is a fact. */
export type EndpointState = 'available' | 'out' | 'down';

export interface LevelMember extends WeightedEndpoint {
  /** Null: not said. */
  readonly zone: string | null;
  /** 0 is used first. */
  readonly priority: number;
}

export interface LevelOptions {
  /** The zone of this process; null: unknown, and zones do not count. */
  readonly zone: string | null;
  /** True: endpoints of the same zone first. */
  readonly prefer: boolean;
  /** Below this share of available endpoints, 0 to 1, no endpoint is `out`. */
  readonly panicThreshold: number;
}

/** Its weight includes the ramp. */
export interface Candidate extends WeightedEndpoint {
  /** Above 0, up to 1: how far its slow start is. */
  readonly ramp: number;
}

export interface Group {
  /** Of the requests; 0: for tries that find no other endpoint in the groups before it. */
  readonly share: number;
  /** At least one, each of which weighs something. */
  readonly candidates: readonly Candidate[];
}

export interface Levels {
  /** Those to be preferred first. The shares add up to 1; empty: no endpoint may be drawn. */
  readonly groups: readonly Group[];
  /** Fewer endpoints are available than `panicThreshold`: those that are out are used as well. */
  readonly panicking: boolean;
}

/** Endpoints that keep this much of their weight can carry the load of all of them. */
const ENOUGH = 0.7;

/**
 * What does not fit: with less than ENOUGH of its weight up, the first priority gives up requests to the next one, and the own zone
 * to the others of its priority. Weights count without slow start here: a deployment must not look like an outage.
 */
export function levelsOf(
  members: readonly LevelMember[],
  options: LevelOptions,
  state: (endpoint: Endpoint) => EndpointState,
  ramp: (endpoint: Endpoint) => number,
): Levels {
  const weighted = members.filter(({ weight }) => weight > 0);
  if (weighted.length === 0) return { groups: [], panicking: false };
  const available = weighted.filter(({ endpoint }) => state(endpoint) === 'available');
  const panicking = available.length === 0 || weightOf(available) / weightOf(weighted) < options.panicThreshold;
  const usable = new Set(panicking ? weighted.filter(({ endpoint }) => state(endpoint) !== 'down') : available);

  const levels: Part[] = [];
  for (const level of byPriority(weighted)) {
    const up = level.filter((member) => usable.has(member));
    if (up.length > 0) levels.push({ up, capacity: weightOf(up) / weightOf(level) });
  }
  const groups: Group[] = [];
  for (const [index, share] of sharesOf(levels).entries()) {
    const zones = byZone(levels[index].up, weighted, options);
    for (const [at, shareOfLevel] of sharesOf(zones).entries()) {
      const candidates = zones[at].up.map(({ endpoint, weight }): Candidate => {
        const ramped = ramp(endpoint);
        return { endpoint, weight: weight * ramped, ramp: ramped };
      });
      groups.push({ share: share * shareOfLevel, candidates });
    }
  }
  return { groups, panicking };
}

interface Part {
  /** Not empty. */
  readonly up: readonly LevelMember[];
  /** The share of its weight that is up. */
  readonly capacity: number;
}

/** Each takes what it can of what those before it left; if all together cannot take everything, each takes more, in proportion. */
function sharesOf(parts: readonly Part[]): number[] {
  let left = 1;
  const shares = parts.map(({ capacity }) => {
    const share = Math.min(left, capacity / ENOUGH);
    left -= share;
    return share;
  });
  const taken = 1 - left;
  return left > 0 ? shares.map((share) => share / taken) : shares;
}

/** Ascending. */
function byPriority(members: readonly LevelMember[]): LevelMember[][] {
  const levels = new Map<number, LevelMember[]>();
  for (const member of members) {
    const level = levels.get(member.priority);
    if (level === undefined) levels.set(member.priority, [member]);
    else level.push(member);
  }
  return [...levels].sort(([a], [b]) => a - b).map(([, level]) => level);
}

/** The own zone and the others, or all as one; what has nothing up is left out. */
function byZone(up: readonly LevelMember[], weighted: readonly LevelMember[], options: LevelOptions): Part[] {
  const { zone, prefer } = options;
  const near = zone !== null && prefer ? up.filter((member) => member.zone === zone) : [];
  if (near.length === 0) return [{ up, capacity: 1 }];
  const [{ priority }] = up;
  const nearby = weighted.filter((member) => member.priority === priority && member.zone === zone);
  const parts: Part[] = [{ up: near, capacity: weightOf(near) / weightOf(nearby) }];
  const far = up.filter((member) => member.zone !== zone);
  // The others take whatever is left, by weight.
  if (far.length > 0) parts.push({ up: far, capacity: 1 });
  return parts;
}

function weightOf(members: readonly WeightedEndpoint[]): number {
  return members.reduce((sum, { weight }) => sum + weight, 0);
}
