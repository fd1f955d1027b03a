// Every rollout of this process by its route: they outlive reloads, and whatever becomes of them is logged with the figures of both versions.
import type { Logger } from 'pino';
import type { RolloutPolicy, RouteConfig } from '../config/model.ts';
import { Rollout, type RolloutState, type RolloutStatus, type Transition } from '../proxy/rollout.ts';
import type { Figures } from '../proxy/rollout-figures.ts';
import type { Wheel } from '../timer-wheel.ts';

/** One rollout as the admin API shows it. */
export interface RolloutDescription {
  readonly route: string;
  readonly service: string;
  readonly state: RolloutState;
  /** 1-based. */
  readonly step: number;
  readonly steps: readonly number[];
  /** Of the new version, 0 to 1. */
  readonly share: number;
  readonly reason: string;
  readonly since: string;
  /** At the earliest; null: no step is to come, or it does not move by itself. */
  readonly nextStepAt: string | null;
  readonly from: VersionDescription;
  readonly to: VersionDescription;
  readonly abortOn: RolloutPolicy['abortOn'];
}

/** The requests that the last judgement was about. */
export interface VersionDescription {
  readonly version: string;
  readonly requests: number;
  /** 0 to 1; null without requests. */
  readonly errorRate: number | null;
  readonly p99Ms: number | null;
}

const WARNINGS: ReadonlySet<Transition> = new Set(['held', 'aborted']);

/** Bounded by the routes of the config in force. */
export class RolloutStore {
  readonly #wheel: Wheel;
  readonly #log: Logger;
  #inForce: ReadonlyMap<string, Rollout> = new Map();
  /** Times that a rollout of the route went back; of routes in force. */
  readonly #aborts = new Map<string, number>();

  constructor(wheel: Wheel, log: Logger) {
    this.#wheel = wheel;
    this.#log = log;
  }

  /**
   * The rollout of a route in the config that is being compiled: `compiled` has it from another listener already, or it is in force
   * with the same policy, or it is new and begins when it is adopted.
   */
  of(route: RouteConfig, compiled: Map<string, Rollout>): Rollout | null {
    if (route.rollout === null) return null;
    let rollout = compiled.get(route.name) ?? this.#inForce.get(route.name);
    if (rollout === undefined || !samePolicy(rollout.policy, route.rollout)) {
      rollout = new Rollout(route.name, route.rollout, this.#wheel, this.#told);
    }
    compiled.set(route.name, rollout);
    return rollout;
  }

  /** Puts those of a snapshot in force: new ones begin, those that it does not have end. */
  adopt(next: ReadonlyMap<string, Rollout>): void {
    const previous = this.#inForce;
    this.#inForce = next;
    for (const [route, rollout] of previous) {
      if (next.get(route) !== rollout) rollout.stop();
      if (!next.has(route)) this.#aborts.delete(route);
    }
    for (const [route, rollout] of next) if (previous.get(route) !== rollout) rollout.start();
  }

  get(route: string): Rollout | null {
    return this.#inForce.get(route) ?? null;
  }

  all(): readonly Rollout[] {
    return [...this.#inForce.values()];
  }

  aborts(route: string): number {
    return this.#aborts.get(route) ?? 0;
  }

  describe(rollout: Rollout): RolloutDescription {
    const { route, policy } = rollout;
    const { state, step, share, reason, since, nextStepAt, from, to } = rollout.status();
    const wall = (at: number): string => new Date(Date.now() + at - this.#wheel.now()).toISOString();
    return {
      route,
      service: policy.service,
      state,
      step,
      steps: policy.steps,
      share,
      reason,
      since: wall(since),
      nextStepAt: nextStepAt === null ? null : wall(nextStepAt),
      from: describeVersion(policy.from, from),
      to: describeVersion(policy.to, to),
      abortOn: policy.abortOn,
    };
  }

  readonly #told = (rollout: Rollout, transition: Transition, status: RolloutStatus): void => {
    const { route, policy } = rollout;
    if (transition === 'aborted') this.#aborts.set(route, this.aborts(route) + 1);
    const facts = {
      route,
      state: status.state,
      share: status.share,
      from: describeVersion(policy.from, status.from),
      to: describeVersion(policy.to, status.to),
    };
    const sentence = `rollout of route "${route}" ${transition}: ${status.reason}`;
    if (WARNINGS.has(transition)) this.#log.warn(facts, sentence);
    else this.#log.info(facts, sentence);
  };
}

function describeVersion(version: string, { requests, failed, p99Ms }: Figures): VersionDescription {
  return { version, requests, errorRate: requests === 0 ? null : failed / requests, p99Ms };
}

/** Where it is written does not matter. */
function samePolicy(one: RolloutPolicy, other: RolloutPolicy): boolean {
  return JSON.stringify({ ...one, at: null }) === JSON.stringify({ ...other, at: null });
}
