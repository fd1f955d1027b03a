// At compile time: what one listener that speaks HTTP does with a request. Those that do not: tcp-plan.ts.
import type { PluginUse, RouteConfig } from '../config/model.ts';
import { compileTrust, type Trust } from '../gateway/trust.ts';
import type { Chain } from '../proxy/chain.ts';
import type { WayOut } from '../proxy/exchange.ts';
import type { LoadedPlugin } from '../proxy/load-plugin.ts';
import { routePolicies } from '../proxy/policies.ts';
import type { Rollout } from '../proxy/rollout.ts';
import { activeRollout, compileBackends, type RouteTarget } from '../proxy/target.ts';
import type { AddressBook } from '../routing/address-book.ts';
import { isDefault } from '../routing/chain-list.ts';
import { egressRoute } from '../routing/scope.ts';
import { RouteTable } from '../routing/table.ts';
import type { Slices } from '../slices.ts';
import type { Caller } from '../upstream/caller.ts';
import type { Service } from '../upstream/service.ts';
import type { ChainSet } from './chain-set.ts';
import type { ComposedScope } from './listener-scope.ts';
import type { ListenerSpec } from './listener-spec.ts';
import { seesUnrouted } from './unrouted.ts';

/** What a listener does with a request. */
export interface ListenerPlan {
  readonly spec: ListenerSpec;
  readonly table: RouteTable<RouteTarget<Chain>>;
  /** Answers what no route takes: what every listener begins with, and those plugins of its gateway and its own that are for such requests too. */
  readonly fallback: Chain;
  readonly trust: Trust;
  /** Outbound local port: the service, whatever Host says. */
  readonly fixedHost: string | null;
  /** Outbound: addresses that stand for services where Host names one. */
  readonly addresses: AddressBook | null;
  /** Outbound: what no route takes goes this way; null: nowhere. */
  readonly egress: { readonly target: RouteTarget<Chain>; readonly way: WayOut } | null;
}

interface PlanDeps {
  readonly chains: ChainSet;
  readonly loaded: ReadonlyMap<PluginUse, LoadedPlugin>;
  /** As this listener sees them. */
  readonly services: ReadonlyMap<string, Service>;
  /** Who this process is to hops, for requests of this listener. */
  readonly caller: Caller | null;
  readonly rolloutOf: (route: RouteConfig) => Rollout | null;
  /** For outbound listeners. */
  readonly addresses: AddressBook;
  /** Out of the mesh, for outbound listeners; null: nowhere. */
  readonly way: WayOut | null;
  readonly slices: Slices;
}

/** The plan, and what its routes lead to in the order of the config. */
interface PlannedListener {
  readonly plan: ListenerPlan;
  readonly targets: readonly RouteTarget<Chain>[];
}

export async function planListener(
  { spec, routes, inherited }: ComposedScope,
  { chains, loaded, services, caller, rolloutOf, addresses, way, slices }: PlanDeps,
): Promise<PlannedListener> {
  const targets: RouteTarget<Chain>[] = [];
  for (const { route, plugins } of routes) {
    const chain = await chains.get(spec, plugins, caller);
    const backends = compileBackends(route, services);
    const policies = routePolicies(route, chain.policies);
    const moving = rolloutOf(route);
    const rollout = moving === null ? null : activeRollout(moving, backends);
    targets.push({ route, chain, backends, policies, caller, rollout, services });
    if (slices.over) await slices.rest();
  }
  const entries = targets.map((value) => ({ route: value.route, value }));
  const table = await RouteTable.build(entries, slices);
  const unrouted = inherited.filter((link) => seesUnrouted(spec, link, loaded));
  const fallback = await chains.get(
    spec,
    unrouted.map(({ use }) => use),
    caller,
    !unrouted.every(isDefault),
  );
  const plan = {
    spec,
    table,
    fallback,
    trust: compileTrust(spec.clientAddress),
    fixedHost: spec.fixedService,
    addresses: spec.role === 'outbound' ? addresses : null,
    egress:
      spec.role === 'outbound' && spec.fixedService === null && way !== null
        ? { target: egressTarget(spec, fallback, services), way }
        : null,
  };
  return { plan, targets };
}

/** Its backend is found for each request: see proxy/egress.ts. */
function egressTarget(spec: ListenerSpec, chain: Chain, services: ReadonlyMap<string, Service>): RouteTarget<Chain> {
  const route = egressRoute(spec.at);
  const policies = routePolicies(route, chain.policies);
  // Nobody out there is of the mesh.
  return { route, chain, backends: [], policies, caller: null, rollout: null, services };
}
