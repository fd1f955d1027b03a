// Makes a snapshot of a config: its listeners and their plugins, its services, then what each listener does with what comes to it.
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Config, PluginUse, ServiceConfig } from '../config/model.ts';
import type { Problem } from '../config/problem.ts';
import { compileEgress } from '../egress/policy.ts';
import { serviceId } from '../identity/spiffe-id.ts';
import type { Builtins, Central } from '../plugin.ts';
import type { Chain } from '../proxy/chain.ts';
import { type EgressState, wayOut } from '../proxy/egress.ts';
import { type LoadedPlugin, loadPlugins, referenceProblems } from '../proxy/load-plugin.ts';
import type { ServiceDirectory } from '../proxy/own-request.ts';
import type { Rollout } from '../proxy/rollout.ts';
import type { RouteTarget } from '../proxy/target.ts';
import { addressBook } from '../routing/address-book.ts';
import { inSlices, Slices } from '../slices.ts';
import type { TimerWheel } from '../timer-wheel.ts';
import type { Caller } from '../upstream/caller.ts';
import { compileApps, compileServices } from '../upstream/compile-services.ts';
import type { UpstreamEvents } from '../upstream/events.ts';
import type { Service } from '../upstream/service.ts';
import { http1Transport } from '../upstream/transport.ts';
import { ChainSet } from './chain-set.ts';
import { type ListenerPlan, planListener } from './listener-plan.ts';
import { type ComposedScope, composeScope } from './listener-scope.ts';
import type { ListenerSpec } from './listener-spec.ts';
import { callerId } from './mesh-identity.ts';
import { type Roles, specsOf } from './roles.ts';
import type { RolloutStore } from './rollouts.ts';
import type { SharedStore } from './shared.ts';
import { Snapshot } from './snapshot.ts';
import { tcpPlan } from './tcp-plan.ts';

export interface CompileDeps {
  readonly builtins: Builtins;
  readonly logger: Logger;
  readonly registry: Registry;
  readonly shared: SharedStore;
  readonly central: Central | null;
  readonly rollouts: RolloutStore;
  readonly wheel: TimerWheel;
  readonly roles: Roles;
  /** For plugins that send requests of their own: the services in force at that moment. */
  readonly services: ServiceDirectory;
  readonly events: UpstreamEvents;
  readonly identity: { caller(id: string): Caller };
  readonly egress: EgressState;
}

/** Nothing is half-applied: with any error the snapshot is null and everything that was newly built is gone. */
export async function compile(
  config: Config,
  previous: Snapshot | null,
  deps: CompileDeps,
): Promise<{ snapshot: Snapshot | null; problems: Problem[] }> {
  const slices = new Slices();
  const specs = specsOf(config, deps.roles);
  const scopes: ComposedScope[] = [];
  for (const spec of specs) {
    if (spec.protocol !== 'tcp') scopes.push(await inSlices(composeScope(config, spec), slices));
  }
  const found = await loadPlugins([...new Set(scopes.flatMap((scope) => scope.uses))], deps.builtins, slices);
  const { loaded } = found;
  if (slices.over) await slices.rest();
  const problems = [...found.problems, ...referenceProblems(config, loaded)];
  if (problems.some((problem) => problem.severity === 'error')) return { snapshot: null, problems };

  const chains = new ChainSet(loaded, previous?.chains ?? null, deps);
  try {
    const callerOf = (spec: ListenerSpec): Caller | null => {
      const id = callerId(config, spec);
      return id === null ? null : deps.identity.caller(id);
    };
    const { services, apps } = servicesOf(config, specs, callerOf, previous, deps);
    const way = config.egress === null ? null : wayOut(compileEgress(config.egress), deps.egress);
    const addresses = addressBook(config);
    const rollouts = new Map<string, Rollout>();
    const plans = new Map<string, ListenerPlan>();
    const targets = new Map<string, readonly RouteTarget<Chain>[]>();
    const eager = new Set<Service>(apps.values());
    for (const scope of scopes) {
      const { spec } = scope;
      const planned = await planListener(scope, {
        chains,
        loaded,
        services: spec.role === 'inbound' ? withLocal(services, apps, spec.owner) : services,
        caller: callerOf(spec),
        rolloutOf: (route) => deps.rollouts.of(route, rollouts),
        addresses,
        way,
        slices,
      });
      plans.set(spec.key, planned.plan);
      targets.set(spec.key, planned.targets);
      if (spec.role !== 'gateway') continue;
      for (const service of namedBy(planned.targets, scope.uses, loaded)) eager.add(service);
    }
    const tcp = new Map(
      specs
        .filter(({ protocol }) => protocol === 'tcp')
        .map((spec) => [spec.key, tcpPlan(config, spec, { services, apps, caller: callerOf(spec) })]),
    );
    const revision = (previous?.revision ?? 0) + 1;
    const parts = {
      revision,
      config,
      specs,
      plans,
      tcp,
      chains: chains.used,
      services,
      apps,
      rollouts,
      targets,
      eager,
    };
    return { snapshot: new Snapshot(parts), problems };
  } catch (error) {
    chains.discard();
    const message = error instanceof Error ? error.message : String(error);
    return { snapshot: null, problems: [...problems, { severity: 'error', place: null, path: '', message }] };
  }
}

/** Services as callers see them, and the local applications of this process's hops; what did not change is carried over. */
function servicesOf(
  config: Config,
  specs: readonly ListenerSpec[],
  callerOf: (spec: ListenerSpec) => Caller | null,
  previous: Snapshot | null,
  { wheel, events }: CompileDeps,
): Pick<Snapshot, 'services' | 'apps'> {
  const [dialler = null] = specs.filter(({ role }) => role !== 'inbound');
  const checker = dialler === null ? null : callerOf(dialler);
  const idOf = (service: string): string => serviceId(config.mesh.trustDomain, service);
  const deps = { wheel, makeTransport: http1Transport(wheel), events, idOf, checker };
  const services = compileServices(config.services, previous?.services ?? null, deps);
  const apps = new Map(
    localServices(config, specs).map((service) => [
      service.name,
      compileApps(service, previous?.apps.get(service.name) ?? null, deps),
    ]),
  );
  return { services, apps };
}

/** The services whose hop this process is. */
function localServices(config: Config, specs: readonly ListenerSpec[]): ServiceConfig[] {
  const owners = new Set(specs.filter((spec) => spec.role === 'inbound').map((spec) => spec.owner));
  return config.services.filter((service) => owners.has(service.name));
}

function withLocal(
  services: ReadonlyMap<string, Service>,
  apps: ReadonlyMap<string, Service>,
  owner: string,
): ReadonlyMap<string, Service> {
  const local = apps.get(owner);
  return local === undefined ? services : new Map(services).set(owner, local);
}

/** The services that the routes of a listener lead to, by themselves and by their plugins. */
function namedBy(
  targets: readonly RouteTarget<Chain>[],
  uses: readonly PluginUse[],
  loaded: ReadonlyMap<PluginUse, LoadedPlugin>,
): Service[] {
  const own = targets.flatMap(({ backends }) => backends.flatMap(({ service }) => service ?? []));
  const [{ services } = { services: new Map<string, Service>() }] = targets;
  const references = uses.flatMap((use) => loaded.get(use)?.references ?? []);
  return [...own, ...references.flatMap(({ service }) => (service === null ? [] : (services.get(service) ?? [])))];
}
