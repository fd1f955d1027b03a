// What a config must make sense of beyond its shape: names that exist, names that are unique, roles that can run.
import { checkAddresses, type RoleSelection } from './addresses.ts';
import { checkAuthorization } from './check-authorization.ts';
import { checkPlugins } from './check-plugins.ts';
import { checkTcp } from './check-tcp.ts';
import type { CompleteConfig, CompleteRoute } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { KnownNames } from './known-names.ts';
import type { Config, PluginUse } from './model.ts';
import { formatPlace } from './problem.ts';
import { checkEgress } from './resolve-egress.ts';
import { checkRolloutNames } from './resolve-rollout.ts';
import { didYouMean } from './suggest.ts';

export interface SemanticsOptions {
  readonly names: KnownNames;
  /** A part of the config could not be read, so a name that is missing may well be there. */
  readonly incomplete: boolean;
  readonly roles: RoleSelection | null;
}

export function checkSemantics(written: Cursor<CompleteConfig>, config: Config, options: SemanticsOptions): void {
  checkRoles(written, options);
  const routes = written.at('routes').filled().items();
  checkUniqueRoutes(routes);
  const redirects = config.gateways.some(({ listeners }) => listeners.some(({ redirect }) => redirect !== null));
  for (const [index, route] of routes.entries()) {
    if (!options.incomplete) checkReferences(route, options.names);
    checkScope(route, index, config, redirects);
  }
  for (const [, service] of written.at('services').filled().entries()) {
    const ports = service.at('internal').given()?.at('outbound').given()?.at('ports').filled().entries() ?? [];
    for (const [name, address] of ports) if (!options.incomplete) checkService(address, name, options.names);
  }
  checkPlugins(written, config);
  checkEgress(written, config, options.names, options.incomplete);
  checkAuthorization(written, config, options);
  checkTcp(written, config, options.incomplete);
  checkAddresses(written, config, options.roles);
}

function checkRoles(written: Cursor<CompleteConfig>, { names, incomplete }: SemanticsOptions): void {
  const hops = written
    .at('services')
    .filled()
    .entries()
    .flatMap(([, service]) => service.at('internal').given() ?? []);
  if (incomplete || names.gateways.size > 0) return;
  if (hops.length === 0)
    written.errorAt('gateways', 'nothing to run: define a gateway here, or a hop by "internal" of a service');
  for (const route of written.at('routes').filled().items()) {
    if (route.value.internal !== undefined || route.value.gateways !== undefined) continue;
    route.error('no gateway serves it, because none is defined; "internal" makes a route for calls between services');
  }
}

function checkUniqueRoutes(routes: readonly Cursor<CompleteRoute>[]): void {
  const first = new Map<string, string>();
  for (const route of routes) {
    const name = route.at('name');
    const other = first.get(name.value);
    if (other !== undefined) name.error(`another route has the name "${name.value}", at ${other}`);
    else first.set(name.value, placeOf(name));
  }
}

function placeOf({ place, path }: Cursor<unknown>): string {
  return place.line > 0 ? formatPlace(place) : path;
}

function checkReferences(route: Cursor<CompleteRoute>, names: KnownNames): void {
  for (const backend of route.at('to').items()) checkTarget(backend as Cursor<Target>, names);
  for (const target of route.at('mirror').items()) checkTarget(target as Cursor<Target>, names);
  checkRolloutNames(route, names);
  for (const service of route.at('internal').items()) checkService(service, service.value, names);
  const gateways = route.at('gateways').items();
  for (const gateway of gateways) {
    if (!names.gateways.has(gateway.value))
      gateway.error(`no gateway "${gateway.value}"${didYouMean(gateway.value, names.gateways.keys())}`);
  }
  const named = route.at('listeners').items();
  if (named.length === 0) return;
  const serving = gateways.length > 0 ? gateways.map(({ value }) => value) : [...names.gateways.keys()];
  const listeners = new Set(serving.flatMap((gateway) => [...(names.gateways.get(gateway) ?? [])]));
  for (const listener of named) {
    if (!listeners.has(listener.value)) {
      listener.error(
        `no listener "${listener.value}" in ${serving.map((gateway) => `gateway "${gateway}"`).join(' or ')}${didYouMean(listener.value, listeners)}`,
      );
    }
  }
}

interface Target {
  readonly service: string;
  readonly subset?: string;
}

function checkTarget(target: Cursor<Target>, names: KnownNames): void {
  const { service, subset } = target.value;
  const subsets = names.services.get(service);
  if (subsets === undefined) checkService(target.at('service'), service, names);
  else if (subset !== undefined && !subsets.has(subset))
    target.at('subset').error(`service "${service}" has no subset "${subset}"${didYouMean(subset, subsets)}`);
}

function checkService(at: Cursor<unknown>, name: string, { services }: KnownNames): void {
  if (!services.has(name)) at.error(`no service "${name}"${didYouMean(name, services.keys())}`);
}

/** Where a route applies. `redirects`: some listener has one. */
function checkScope(route: Cursor<CompleteRoute>, index: number, config: Config, redirects: boolean): void {
  const internal = route.at('internal').given();
  if (internal !== null) {
    route
      .at('gateways')
      .given()
      ?.error('a route is for gateways or for calls between services ("internal"), not for both');
    route.at('listeners').given()?.error('a route with "internal" is served by hops, which have no named listeners');
    if (!config.services.some((service) => service.internal?.outbound))
      internal.warn('no hop has an "outbound", so no call ever takes this route');
    return;
  }
  if (!redirects) return;
  const resolved = config.routes[index];
  const serving = config.gateways
    .filter(({ name }) => resolved.gateways.includes(name))
    .flatMap(({ listeners }) => listeners.filter(({ name }) => resolved.listeners?.includes(name) ?? true));
  if (serving.length > 0 && serving.every(({ redirect }) => redirect !== null))
    route.warn('takes no request: every listener that serves it has "redirect", which goes before all routes');
}

/** Services that nothing leads to: worth saying of a config that is otherwise sound. */
export function checkUnused(written: Cursor<CompleteConfig>, config: Config): void {
  // With an outbound side, an application can name any service by its Host header.
  if (config.services.some(({ internal }) => internal?.outbound)) return;
  const used = new Set(
    config.routes.flatMap(({ action, internal }) => [
      ...internal,
      ...(action.kind === 'forward' ? action.backends.map(({ service }) => service) : []),
    ]),
  );
  const mentioned = new Set<unknown>();
  const listeners = config.gateways.flatMap((gateway) => gateway.listeners);
  const owners = [...config.gateways, ...listeners, ...config.services, ...config.routes];
  for (const { plugins } of owners) {
    for (const plugin of plugins) if ('options' in plugin) collectStrings((plugin as PluginUse).options, mentioned);
  }
  for (const [name, service] of written.at('services').filled().entries()) {
    if (!used.has(name) && !mentioned.has(name) && service.value.internal === undefined)
      service.warnKey(`no route leads to service "${name}"`);
  }
}

/** Plugins may send requests to services that their options name. */
function collectStrings(value: unknown, found: Set<unknown>): void {
  if (typeof value === 'string') found.add(value);
  else if (typeof value === 'object' && value !== null)
    for (const inner of Object.values(value)) collectStrings(inner, found);
}
