// At compile time: what one listener serves, routes and inherited plugins; put in force by the snapshot, told by `explain`.
import type { Config, PluginUse, RouteConfig } from '../config/model.ts';
import { defaultEdgePlugins } from '../gateway/gateway.ts';
import { defaultHopPlugins } from '../internal/internal.ts';
import { effectiveChain } from '../routing/chain-list.ts';
import { routesFor } from '../routing/scope.ts';
import type { ListenerSpec } from './listener-spec.ts';

export interface ListenerScope {
  /** Plugins that nobody wrote. */
  readonly defaults: readonly PluginUse[];
  /** Those of the gateway, or of the service whose inbound side it is. */
  readonly own: readonly PluginUse[];
  /** Both, in order: the chain before a route's own plugins. */
  readonly inherited: readonly PluginUse[];
  readonly routes: readonly RouteConfig[];
}

export function listenerScope(config: Config, spec: ListenerSpec): ListenerScope {
  const { role, owner } = spec;
  const built = role === 'gateway' ? defaultEdgePlugins(config, owner) : defaultHopPlugins(config, role, owner);
  const defaults = built.map(
    ({ name, options }): PluginUse => ({ name, written: name, options, at: spec.at, baseDir: '' }),
  );
  const own = ownPlugins(config, spec);
  return { defaults, own, inherited: effectiveChain(defaults, own), routes: routesOf(config, spec) };
}

function routesOf(config: Config, { role, owner, name, fixedService }: ListenerSpec): readonly RouteConfig[] {
  if (role === 'gateway') return routesFor(config, { role, owner, listener: name });
  if (role === 'outbound') return routesFor(config, { role, owner, fixedService });
  return routesFor(config, { role, owner });
}

function ownPlugins(config: Config, { role, owner }: ListenerSpec): readonly PluginUse[] {
  if (role === 'gateway') return config.gateways.find((gateway) => gateway.name === owner)?.plugins ?? [];
  if (role === 'inbound') return config.services.find((service) => service.name === owner)?.plugins ?? [];
  return [];
}
