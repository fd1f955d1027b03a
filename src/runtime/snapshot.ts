// The immutable result of compiling one config: for every listener a route table, a chain for each distinct plugin list, the services.
import type { Config, RouteConfig } from '../config/model.ts';
import type { Chain } from '../proxy/chain.ts';
import type { Rollout } from '../proxy/rollout.ts';
import type { RouteTarget } from '../proxy/target.ts';
import type { TcpPlan } from '../proxy/tcp/plan.ts';
import { appProblems, watchApps } from '../upstream/app-watch.ts';
import { retireServices } from '../upstream/compile-services.ts';
import type { Service } from '../upstream/service.ts';
import type { ListenerPlan } from './listener-plan.ts';
import type { ListenerSpec } from './listener-spec.ts';

/** One route of one listener, as the admin API shows it. */
export interface RouteDescription {
  readonly listener: string;
  readonly name: string;
  readonly hosts: readonly string[];
  readonly matches: RouteConfig['matches'];
  readonly action: string;
  readonly backends: readonly { readonly service: string; readonly subset: string | null; readonly weight: number }[];
  readonly chain: readonly string[];
  readonly at: string;
}

export class Snapshot {
  readonly revision: number;
  readonly config: Config;
  /** Of listeners that speak HTTP. */
  readonly plans: ReadonlyMap<string, ListenerPlan>;
  /** Of those that do not. */
  readonly tcp: ReadonlyMap<string, TcpPlan>;
  readonly specs: readonly ListenerSpec[];
  readonly chains: ReadonlyMap<string, Chain>;
  /** As callers see them. */
  readonly services: ReadonlyMap<string, Service>;
  /** As their own hops see them, by service name: the local applications. */
  readonly apps: ReadonlyMap<string, Service>;
  /** By route. */
  readonly rollouts: ReadonlyMap<string, Rollout>;
  readonly #targets: ReadonlyMap<string, readonly RouteTarget<Chain>[]>;
  readonly #eager: ReadonlySet<Service>;

  constructor(parts: SnapshotParts) {
    this.revision = parts.revision;
    this.config = parts.config;
    this.plans = parts.plans;
    this.tcp = parts.tcp;
    this.specs = parts.specs;
    this.chains = parts.chains;
    this.services = parts.services;
    this.apps = parts.apps;
    this.rollouts = parts.rollouts;
    this.#targets = parts.targets;
    this.#eager = parts.eager;
  }

  /** It is in force from here on. */
  activate(): void {
    for (const service of this.#services()) service.activate(this.#eager.has(service));
    for (const app of this.apps.values()) watchApps(app);
  }

  /** What the local applications of this process's hops say against traffic; see `appProblems`. */
  appProblems(unknown: boolean): readonly string[] {
    return [...this.apps.values()].flatMap((app) => appProblems(app, unknown));
  }

  /** Services that this process sends requests to and whose endpoints have not all been checked once, where they are to be. */
  get unchecked(): readonly string[] {
    return [...this.#eager].filter((service) => !service.knowsHealth).map(({ name }) => name);
  }

  #services(): Service[] {
    return [...this.services.values(), ...this.apps.values()];
  }

  describeRoutes(): RouteDescription[] {
    const described: RouteDescription[] = [];
    for (const [listener, targets] of this.#targets) {
      for (const { route, chain } of targets) {
        const { action } = route;
        described.push({
          listener,
          name: route.name,
          hosts: route.hosts,
          matches: route.matches,
          action: action.kind,
          backends:
            action.kind === 'forward'
              ? action.backends.map(({ service, subset, weight }) => ({ service, subset, weight }))
              : [],
          chain: chain.names,
          at: `${route.at.file}${route.at.line > 0 ? `:${route.at.line}:${route.at.column}` : ''}`,
        });
      }
    }
    return described;
  }

  /** Lets go of what `next` does not use; each part closes once its last request is over. */
  retire(next: Snapshot | null): void {
    for (const [key, chain] of this.chains) {
      if (next?.chains.get(key) !== chain) chain.retire();
    }
    retireServices(this.#services(), next === null ? [] : next.#services());
  }

  async close(): Promise<void> {
    this.retire(null);
  }
}

interface SnapshotParts {
  readonly revision: number;
  readonly config: Config;
  readonly specs: readonly ListenerSpec[];
  readonly plans: ReadonlyMap<string, ListenerPlan>;
  readonly tcp: ReadonlyMap<string, TcpPlan>;
  readonly chains: ReadonlyMap<string, Chain>;
  readonly services: ReadonlyMap<string, Service>;
  readonly apps: ReadonlyMap<string, Service>;
  readonly rollouts: ReadonlyMap<string, Rollout>;
  readonly targets: ReadonlyMap<string, readonly RouteTarget<Chain>[]>;
  /** Services that requests are certain to go to: they are checked from the start, others from their first request. */
  readonly eager: ReadonlySet<Service>;
}
