// The immutable result of compiling one config: for every listener a route table, a chain for each distinct plugin list, the services.
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Config, PluginUse, RouteConfig, ServiceConfig } from '../config/model.ts';
import type { Problem } from '../config/problem.ts';
import { compileEgress } from '../egress/policy.ts';
import { gatewayListeners } from '../gateway/gateway.ts';
import { compileTrust, type Trust } from '../gateway/trust.ts';
import { serviceId } from '../identity/spiffe-id.ts';
import { hopListeners } from '../internal/internal.ts';
import type { Builtins, Central, Role } from '../plugin.ts';
import { buildChain, type Chain } from '../proxy/chain.ts';
import { type EgressState, wayOut } from '../proxy/egress.ts';
import type { WayOut } from '../proxy/exchange.ts';
import { type LoadedPlugin, loadPlugins, referenceProblems } from '../proxy/load-plugin.ts';
import type { ServiceDirectory } from '../proxy/own-request.ts';
import { routePolicies } from '../proxy/policies.ts';
import type { Rollout } from '../proxy/rollout.ts';
import { activeRollout, compileBackends, type RouteTarget } from '../proxy/target.ts';
import type { TcpPlan } from '../proxy/tcp/plan.ts';
import { type AddressBook, addressBook } from '../routing/address-book.ts';
import { type ChainLink, composeChain, isDefault, routeLayers } from '../routing/chain-list.ts';
import { egressRoute } from '../routing/scope.ts';
import { RouteTable } from '../routing/table.ts';
import { inSlices, Slices } from '../slices.ts';
import type { TimerWheel } from '../timer-wheel.ts';
import { appProblems, watchApps } from '../upstream/app-watch.ts';
import type { Caller } from '../upstream/caller.ts';
import { compileApps, compileServices, retireServices } from '../upstream/compile-services.ts';
import type { UpstreamEvents } from '../upstream/events.ts';
import type { Service } from '../upstream/service.ts';
import { http1Transport } from '../upstream/transport.ts';
import { listenerScope } from './listener-scope.ts';
import type { ListenerSpec } from './listener-spec.ts';
import { callerId } from './mesh-identity.ts';
import type { RolloutStore } from './rollouts.ts';
import type { SharedStore } from './shared.ts';
import { tcpPlan } from './tcp-plan.ts';
import { seesUnrouted } from './unrouted.ts';
import { version } from './version.ts';

/** Which part of the config this process is. */
export interface Roles {
  readonly gateways: readonly string[] | 'all';
  readonly internal: readonly string[] | 'all';
}

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

/** Nothing is half-applied: with any error the snapshot is null and everything that was newly built is gone. */
export async function compile(
  config: Config,
  previous: Snapshot | null,
  deps: CompileDeps,
): Promise<{ snapshot: Snapshot | null; problems: Problem[] }> {
  const slices = new Slices();
  const specs = specsOf(config, deps.roles);
  const scopes: Scope[] = [];
  for (const spec of specs) if (spec.protocol !== 'tcp') scopes.push(await inSlices(scopeOf(config, spec), slices));
  const found = await loadPlugins([...new Set(scopes.flatMap((scope) => scope.uses))], deps.builtins, slices);
  const { loaded } = found;
  if (slices.over) await slices.rest();
  const problems = [...found.problems, ...referenceProblems(config, loaded)];
  if (problems.some((problem) => problem.severity === 'error')) return { snapshot: null, problems };

  const chains = new ChainSet(previous, deps);
  try {
    const { wheel, events } = deps;
    const callerOf = (spec: ListenerSpec): Caller | null => {
      const id = callerId(config, spec);
      return id === null ? null : deps.identity.caller(id);
    };
    const [dialler = null] = specs.filter(({ role }) => role !== 'inbound');
    const checker = dialler === null ? null : callerOf(dialler);
    const idOf = (service: string): string => serviceId(config.mesh.trustDomain, service);
    const serviceDeps = { wheel, makeTransport: http1Transport(wheel), events, idOf, checker };
    const services = compileServices(config.services, previous?.services ?? null, serviceDeps);
    const apps = new Map(
      localServices(config, specs).map((service) => [
        service.name,
        compileApps(service, previous?.apps.get(service.name) ?? null, serviceDeps),
      ]),
    );
    const plans = new Map<string, ListenerPlan>();
    const way = config.egress === null ? null : wayOut(compileEgress(config.egress), deps.egress);
    const targets = new Map<string, readonly RouteTarget<Chain>[]>();
    const eager = new Set<Service>(apps.values());
    const rollouts = new Map<string, Rollout>();
    const book = addressBook(config);
    for (const scope of scopes) {
      const { spec } = scope;
      const reachable = spec.role === 'inbound' ? withLocal(services, apps, spec.owner) : services;
      const caller = callerOf(spec);
      const compiled: RouteTarget<Chain>[] = [];
      for (const { route, plugins } of scope.routes) {
        const chain = await chains.get(spec, plugins, loaded, caller);
        const backends = compileBackends(route, reachable);
        const policies = routePolicies(route, chain.policies);
        const moving = deps.rollouts.of(route, rollouts);
        const rollout = moving === null ? null : activeRollout(moving, backends);
        compiled.push({ route, chain, backends, policies, caller, rollout, services: reachable });
        if (slices.over) await slices.rest();
      }
      if (spec.role === 'gateway') for (const service of namedBy(compiled, scope.uses, loaded)) eager.add(service);
      const entries = compiled.map((value) => ({ route: value.route, value }));
      const table = await RouteTable.build(entries, slices);
      const unrouted = scope.inherited.filter((link) => seesUnrouted(spec, link, loaded));
      const fallback = await chains.get(
        spec,
        unrouted.map(({ use }) => use),
        loaded,
        caller,
        !unrouted.every(isDefault),
      );
      plans.set(spec.key, {
        spec,
        table,
        fallback,
        trust: compileTrust(spec.clientAddress),
        fixedHost: spec.fixedService,
        addresses: spec.role === 'outbound' ? book : null,
        egress:
          spec.role === 'outbound' && spec.fixedService === null && way !== null
            ? { target: egressTarget(spec, fallback, services), way }
            : null,
      });
      targets.set(spec.key, compiled);
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
    const snapshot = new Snapshot(parts);
    return { snapshot, problems };
  } catch (error) {
    chains.discard();
    const message = error instanceof Error ? error.message : String(error);
    return { snapshot: null, problems: [...problems, { severity: 'error', place: null, path: '', message }] };
  }
}

export function specsOf(config: Config, roles: Roles): ListenerSpec[] {
  const specs: ListenerSpec[] = [];
  for (const { name } of config.gateways) {
    if (roles.gateways === 'all' || roles.gateways.includes(name)) specs.push(...gatewayListeners(config, name));
  }
  for (const { name, internal } of config.services) {
    if (internal === null) continue;
    if (roles.internal === 'all' || roles.internal.includes(name)) specs.push(...hopListeners(config, name));
  }
  return specs;
}

interface Scope {
  readonly spec: ListenerSpec;
  /** Before the plugins of a route. */
  readonly inherited: readonly ChainLink[];
  readonly routes: readonly { readonly route: RouteConfig; readonly plugins: readonly PluginUse[] }[];
  readonly uses: readonly PluginUse[];
}

/** The routes of a listener, each with the plugin list in force. */
function* scopeOf(config: Config, spec: ListenerSpec): Generator<void, Scope> {
  const { layers, routes: served } = listenerScope(config, spec);
  const inherited = composeChain(layers).links;
  const common = inherited.map(({ use }) => use);
  const routes: { readonly route: RouteConfig; readonly plugins: readonly PluginUse[] }[] = [];
  const uses = new Set(common);
  for (const route of served) {
    const plugins =
      route.plugins.length === 0 ? common : composeChain(routeLayers(layers, route)).links.map(({ use }) => use);
    for (const use of plugins) uses.add(use);
    routes.push({ route, plugins });
    yield;
  }
  return { spec, inherited, routes, uses: [...uses] };
}

/** Its backend is found for each request: see proxy/egress.ts. */
function egressTarget(spec: ListenerSpec, chain: Chain, services: ReadonlyMap<string, Service>): RouteTarget<Chain> {
  const route = egressRoute(spec.at);
  const policies = routePolicies(route, chain.policies);
  // Nobody out there is of the mesh.
  return { route, chain, backends: [], policies, caller: null, rollout: null, services };
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

const VERSION = version();

/** The chains of one compile: carried over where the list is the same, built where it is new. */
class ChainSet {
  readonly used = new Map<string, Chain>();
  readonly #previous: Snapshot | null;
  readonly #deps: CompileDeps;
  readonly #built: Chain[] = [];

  constructor(previous: Snapshot | null, deps: CompileDeps) {
    this.#previous = previous;
    this.#deps = deps;
  }

  async get(
    spec: ListenerSpec,
    uses: readonly PluginUse[],
    loaded: ReadonlyMap<PluginUse, LoadedPlugin>,
    caller: Caller | null,
    unrouted = false,
  ): Promise<Chain> {
    const plugins = uses.map((use) => loaded.get(use) as LoadedPlugin);
    const key = chainKey(spec.role, spec.owner, caller, unrouted, plugins);
    const known = this.used.get(key);
    if (known !== undefined) return known;
    let chain = this.#previous?.chains.get(key);
    if (chain === undefined) {
      const owner = {};
      const { logger, registry, shared, central, services } = this.#deps;
      const info = { role: spec.role, owner: spec.owner, version: VERSION, unrouted };
      chain = await buildChain(
        { key, info, plugins },
        {
          logger,
          registry,
          services,
          caller,
          central,
          shared: (name, make, dispose) => shared.use(owner, name, make, dispose),
        },
        () => shared.release(owner),
      );
      this.#built.push(chain);
    }
    this.used.set(key, chain);
    return chain;
  }

  discard(): void {
    for (const chain of this.#built) chain.retire();
  }
}

function chainKey(
  role: Role,
  owner: string,
  caller: Caller | null,
  unrouted: boolean,
  plugins: readonly LoadedPlugin[],
): string {
  return [JSON.stringify([role, owner, caller?.id, unrouted]), ...plugins.map(linkKey)].join();
}

/** Thousands of routes have the same plugins. */
const linkKeys = new WeakMap<LoadedPlugin, string>();

function linkKey(plugin: LoadedPlugin): string {
  let key = linkKeys.get(plugin);
  if (key === undefined) {
    key = JSON.stringify([plugin.identity, plugin.options]);
    linkKeys.set(plugin, key);
  }
  return key;
}
