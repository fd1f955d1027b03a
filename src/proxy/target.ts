// What a matched route leads to, compiled once a reload: its chain, its backends, how the request is changed on the way.
import type { Backend, HeaderChanges, RouteConfig } from '../config/model.ts';
import type { Dispatch } from '../dispatch.ts';
import type { AttemptObserver, Policies } from '../plugin.ts';
import type { Caller } from '../upstream/caller.ts';
import type { Service } from '../upstream/service.ts';
import type { RoutePolicies } from './policies.ts';
import type { Rollout } from './rollout.ts';
import { type BackendSession, compileSession } from './session.ts';

/** What the steps behind a chain need of it. */
export interface TargetChain {
  readonly names: readonly string[];
  /** The upstream stack with the chain's interceptors. */
  readonly dispatch: Dispatch;
  /** False: nobody on the upstream side looks at response header objects. */
  readonly intercepts: boolean;
  /** Who watches tries; null: nobody. Never throws. */
  readonly observe: AttemptObserver | null;
  /** What the chain's plugins say where a route has no key of its own. */
  readonly policies: Policies;
  /** A request that entered is over. */
  leave(): void;
}

export interface RouteTarget<Chain extends TargetChain = TargetChain> {
  readonly route: RouteConfig;
  readonly chain: Chain;
  /** Empty unless the route forwards. */
  readonly backends: readonly TargetBackend[];
  readonly policies: RoutePolicies;
  /** Who this process is to hops; null where they speak plain HTTP. */
  readonly caller: Caller | null;
  /** Null: the weights of the backends stay as they are written. */
  readonly rollout: ActiveRollout | null;
  /** For `sendTo` of plugins. */
  readonly services: ReadonlyMap<string, Service>;
}

/** Divides what the route sends to one service between two subsets of it. */
export interface ActiveRollout {
  readonly rollout: Rollout;
  readonly service: string;
  readonly from: TargetBackend;
  readonly to: TargetBackend;
}

export interface TargetBackend {
  readonly config: Backend;
  readonly weight: number;
  /** Null: the config names a service that does not exist. */
  readonly service: Service | null;
  /** Null: clients are not kept at an endpoint. */
  readonly session: BackendSession | null;
  /** Route's changes, then the backend's. */
  readonly requestHeaders: readonly HeaderChanges[];
  readonly responseHeaders: readonly HeaderChanges[];
}

export function compileBackends(route: RouteConfig, services: ReadonlyMap<string, Service>): readonly TargetBackend[] {
  if (route.action.kind !== 'forward') return [];
  return route.action.backends.map((backend) => {
    const service = services.get(backend.service) ?? null;
    return {
      config: backend,
      weight: backend.weight,
      service,
      session: compileSession(route.session, service, backend.subset),
      requestHeaders: present(route.requestHeaders, backend.requestHeaders),
      responseHeaders: present(route.responseHeaders, backend.responseHeaders),
    };
  });
}

/** Both versions are changed on the way as the backend of the route is. Null where no backend is of the service. */
export function activeRollout(rollout: Rollout, backends: readonly TargetBackend[]): ActiveRollout | null {
  const { service, from, to } = rollout.policy;
  const base = backends.find(({ config }) => config.service === service);
  if (base === undefined) return null;
  const version = (subset: string): TargetBackend => ({ ...base, config: { ...base.config, subset } });
  return { rollout, service, from: version(from), to: version(to) };
}

function present(...changes: readonly (HeaderChanges | null)[]): readonly HeaderChanges[] {
  return changes.filter((change) => change !== null);
}
