// At compile time: what one listener serves, routes and inherited plugins; put in force by the snapshot, told by `explain` and `print`.
import type { Config, PluginUse, RouteConfig } from '../config/model.ts';
import { defaultEdgePlugins } from '../gateway/gateway.ts';
import { defaultHopPlugins } from '../internal/internal.ts';
import { type ChainLayer, DEFAULT } from '../routing/chain-list.ts';
import { routesFor } from '../routing/scope.ts';
import type { ListenerSpec } from './listener-spec.ts';

export interface ListenerScope {
  /** What every route inherits: plugins that nobody wrote, then those of the gateway and of the listener, or of the service whose inbound side it is. */
  readonly layers: readonly ChainLayer[];
  readonly routes: readonly RouteConfig[];
}

export function listenerScope(config: Config, spec: ListenerSpec): ListenerScope {
  const { role, owner } = spec;
  const built = role === 'gateway' ? defaultEdgePlugins(config, owner) : defaultHopPlugins(config, role, owner);
  const plugins = built.map(
    ({ name, options }): PluginUse => ({ name, written: name, options, at: spec.at, baseDir: '' }),
  );
  return { layers: [{ from: DEFAULT, plugins }, ...ownLayers(config, spec)], routes: routesOf(config, spec) };
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
