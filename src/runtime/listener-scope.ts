// At compile time: what one listener serves, routes and inherited plugins; put in force by the snapshot, told by `explain` and `print`.
import type { Config, PluginUse, RouteConfig } from '../config/model.ts';
import { defaultEdgePlugins } from '../gateway/gateway.ts';
import { defaultHopPlugins } from '../internal/internal.ts';
import { type ChainLayer, type ChainLink, composeChain, DEFAULT, routeLayers } from '../routing/chain-list.ts';
import { routesFor } from '../routing/scope.ts';
import type { ListenerSpec } from './listener-spec.ts';

export interface ListenerScope {
  /** What every route inherits: plugins that nobody wrote, then those of the gateway and of the listener, or of the service whose inbound side it is. */
  readonly layers: readonly ChainLayer[];
  readonly routes: readonly RouteConfig[];
}

/** The same with the plugin lists in force. */
export interface ComposedScope {
  readonly spec: ListenerSpec;
  /** Before the plugins of a route. */
  readonly inherited: readonly ChainLink[];
  readonly routes: readonly { readonly route: RouteConfig; readonly plugins: readonly PluginUse[] }[];
  /** Every plugin of those lists, once. */
  readonly uses: readonly PluginUse[];
}

export function listenerScope(config: Config, spec: ListenerSpec): ListenerScope {
  const { role, owner } = spec;
  const built = role === 'gateway' ? defaultEdgePlugins(config, owner) : defaultHopPlugins(config, role, owner);
  const plugins = built.map(
    ({ name, options }): PluginUse => ({ name, written: name, options, at: spec.at, baseDir: '' }),
  );
  return { layers: [{ from: DEFAULT, plugins }, ...ownLayers(config, spec)], routes: routesOf(config, spec) };
}

/** A route a step: a listener may have thousands. */
export function* composeScope(config: Config, spec: ListenerSpec): Generator<void, ComposedScope> {
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

function routesOf(config: Config, { role, owner, name, fixedService, redirect }: ListenerSpec): readonly RouteConfig[] {
  if (redirect !== undefined) return [];
  if (role === 'gateway') return routesFor(config, { role, owner, listener: name });
  if (role === 'outbound') return routesFor(config, { role, owner, fixedService });
  return routesFor(config, { role, owner });
}

function ownLayers(config: Config, { role, owner, name }: ListenerSpec): ChainLayer[] {
  if (role === 'outbound') return [];
  if (role === 'inbound') {
    const service = config.services.find((candidate) => candidate.name === owner);
    return [{ from: `service ${owner}`, plugins: service?.plugins ?? [] }];
  }
  const gateway = config.gateways.find((candidate) => candidate.name === owner);
  const listener = gateway?.listeners.find((candidate) => candidate.name === name);
  return [
    { from: `gateway ${owner}`, plugins: gateway?.plugins ?? [] },
    { from: `listener ${name}`, plugins: listener?.plugins ?? [] },
  ];
}
