// The endpoints that a route may mean: all of a service or those with certain labels. Compiled once a config; what is fit among them, as often as that changes.
import type { LoadBalancing, Locality } from '../config/model.ts';
import { type Balancer, balancer, type KeyedDraw } from './balancing/balancer.ts';
import { type LevelMember, levelsOf } from './balancing/levels.ts';
import { rampOf } from './balancing/slow-start.ts';
import type { Endpoint } from './endpoint.ts';
import type { ServiceMemory } from './service-memory.ts';

/** How often weights are looked at anew while an endpoint comes to its full one. */
const RAMP_STEP_MS = 250;

/** How long a returning endpoint waits for a request that can be made good elsewhere. */
const PATIENCE_MS = 5_000;

export interface Selection {
  readonly loadBalancing: LoadBalancing;
  readonly locality: Locality;
  readonly slowStartMs: number;
  /** 0 to 1. */
  readonly panicThreshold: number;
  readonly random: () => number;
  readonly now: () => number;
  readonly memory: ServiceMemory;
  /** Told when so few endpoints are fit that all are used, and when that is over. */
  readonly onPanic: (panicking: boolean) => void;
}

export class Subset {
  /** Weight 0 included. */
  readonly endpoints: readonly Endpoint[];
  readonly #members: readonly LevelMember[];
  readonly #selection: Selection;
  readonly #balancer: Balancer;
  #draw: KeyedDraw = () => null;
  #usable: ReadonlySet<Endpoint> = new Set();
  /** Ejections that are over: each waits for one request to find out. */
  #returning: readonly Endpoint[] = [];
  #compiledVersion = -1;
  #compileAgainAt = 0;
  #panicking = false;

  constructor(members: readonly LevelMember[], selection: Selection) {
    this.endpoints = Object.freeze(members.map(({ endpoint }) => endpoint));
    this.#members = members.filter(({ weight }) => weight > 0);
    this.#selection = selection;
    this.#balancer = balancer(selection.loadBalancing.algorithm, this.#members, selection);
  }

  /** Fit, or used although it is not because too few others are. */
  isUsable(endpoint: Endpoint, now: number): boolean {
    this.#refresh(now);
    return this.#usable.has(endpoint);
  }

  /**
   * One that has not been tried and is due to show whether it works again; it is then probed, and nobody else does.
   * `safe`: should it not, this request can be made good elsewhere. Others are asked only when none of those comes.
   */
  probe(tried: readonly Endpoint[], safe: boolean, now: number): Endpoint | null {
    this.#refresh(now);
    for (const endpoint of this.#returning) {
      const { probing, ejectedUntil } = endpoint.health;
      if (probing || (!safe && now < ejectedUntil + PATIENCE_MS) || tried.includes(endpoint)) continue;
      endpoint.health.probing = true;
      return endpoint;
    }
    return null;
  }

  /** As load balancing says, another than those tried where there is one; null: none is fit. `hashKey`: a whole number below 2^32. */
  draw(tried: readonly Endpoint[], hashKey: number, now: number): Endpoint | null {
    this.#refresh(now);
    return this.#draw(tried, hashKey);
  }

  #refresh(now: number): void {
    const { memory } = this.#selection;
    if (memory.version === this.#compiledVersion && now < this.#compileAgainAt) return;
    this.#compiledVersion = memory.version;
    const { slowStartMs, onPanic, locality, panicThreshold } = this.#selection;
    const { groups, panicking } = levelsOf(
      this.#members,
      { ...locality, panicThreshold },
      ({ health }) => health.availability(now),
      ({ health }) => (slowStartMs === 0 ? 1 : rampOf(now - health.availableSince, slowStartMs)),
    );
    this.#draw = this.#balancer(groups);
    this.#usable = new Set(groups.flatMap(({ candidates }) => candidates.map(({ endpoint }) => endpoint)));
    this.#returning = this.#members.flatMap(({ endpoint }) => (endpoint.health.isReturning(now) ? endpoint : []));
    this.#compileAgainAt = this.#nextChange(now);
    if (panicking === this.#panicking) return;
    this.#panicking = panicking;
    onPanic(panicking);
  }

  #nextChange(now: number): number {
    const { slowStartMs } = this.#selection;
    let at = Number.POSITIVE_INFINITY;
    for (const { endpoint } of this.#members) {
      at = Math.min(at, endpoint.health.nextChangeAt(now));
      if (now < endpoint.health.availableSince + slowStartMs) at = Math.min(at, now + RAMP_STEP_MS);
    }
    return at;
  }
}
