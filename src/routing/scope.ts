// At compile time: which routes one listener serves, those that nobody wrote included.
import type { Config, Place, RouteConfig, ServiceConfig, Timeouts } from '../config/model.ts';

/** A listener as far as routes are concerned. */
export type RouteScope =
  | { readonly role: 'gateway'; readonly owner: string; readonly listener: string }
  /** `fixedService`: a local port of one service; every request goes there, whatever its Host says. */
  | { readonly role: 'outbound'; readonly owner: string; readonly fixedService?: string | null }
  | { readonly role: 'inbound'; readonly owner: string };

/** Of routes that nobody wrote. */
const IMPLICIT_TIMEOUTS: Timeouts = Object.freeze({ requestMs: 15_000, perTryMs: 0, idleMs: 300_000 });

/** The routes of one listener in order of precedence on ties: written ones first. */
export function routesFor(config: Config, scope: RouteScope): RouteConfig[] {
  switch (scope.role) {
    case 'gateway':
      return config.routes.filter((route) => servesListener(route, scope.owner, scope.listener));
    case 'outbound':
      return scope.fixedService == null ? outboundRoutes(config) : fixedServiceRoutes(config, scope.fixedService);
    case 'inbound':
      return config.services.filter((service) => service.name === scope.owner).map(inboundRoute);
  }
}

export function servesListener(route: RouteConfig, gateway: string, listener: string): boolean {
  return route.gateways.includes(gateway) && (route.listeners === null || route.listeners.includes(listener));
}

/** The hosts that an internal route answers to at an outbound listener: its own, or else the names of its services. */
export function internalHosts(route: RouteConfig): readonly string[] {
  return route.hosts.length > 0 ? route.hosts : route.internal.map((service) => service.toLowerCase());
}

function outboundRoutes(config: Config): RouteConfig[] {
  const written = config.routes
    .filter((route) => route.internal.length > 0)
    .map((route) => (route.hosts.length > 0 ? route : Object.freeze({ ...route, hosts: internalHosts(route) })));
  return [...written, ...httpServices(config).map((service) => outboundRoute(service, [service.name.toLowerCase()]))];
}

/** What speaks TCP is reached by local ports alone: see runtime/tcp-listener.ts. */
function httpServices({ services }: Config): ServiceConfig[] {
  return services.filter(({ protocol }) => protocol !== 'tcp');
}

function fixedServiceRoutes(config: Config, name: string): RouteConfig[] {
  const written = config.routes
    .filter((route) => route.internal.includes(name))
    .map((route) => (route.hosts.length === 0 ? route : Object.freeze({ ...route, hosts: [] })));
  const implicit = config.services
    .filter((service) => service.name === name)
    .map((service) => outboundRoute(service, []));
  return [...written, ...implicit];
}

function outboundRoute(service: ServiceConfig, hosts: readonly string[]): RouteConfig {
  return implicitRoute(service, `internal/${service.name}`, hosts, false);
}

/** What no route of an outbound listener takes, where the config has a word for that: it leaves the mesh. The path is the other side's concern. */
export function egressRoute(at: Place): RouteConfig {
  return implicitRoute({ name: 'egress', at }, 'egress', [], true);
}

/** The edge or the caller's hop has judged the path already; the runtime leads it to the local applications. */
function inboundRoute(service: ServiceConfig): RouteConfig {
  return implicitRoute(service, `inbound/${service.name}`, [], true);
}

function implicitRoute(
  service: Pick<ServiceConfig, 'name' | 'at'>,
  name: string,
  hosts: readonly string[],
  keepEncodedSlashes: boolean,
): RouteConfig {
  const { at } = service;
  return Object.freeze({
    name,
    at,
    gateways: [],
    internal: [service.name],
    listeners: null,
    hosts,
    matches: [{ path: { kind: 'prefix' as const, value: '/' }, methods: [], headers: [], query: [], cookies: [], at }],
    plugins: [],
    action: {
      kind: 'forward' as const,
      backends: [
        {
          service: service.name,
          subset: null,
          weight: 1,
          rewrite: null,
          requestHeaders: null,
          responseHeaders: null,
          at,
        },
      ],
    },
    rewrite: null,
    requestHeaders: null,
    responseHeaders: null,
    timeouts: IMPLICIT_TIMEOUTS,
    bodyBytes: Number.POSITIVE_INFINITY,
    retry: null,
    hedge: null,
    session: null,
    rollout: null,
    keepEncodedSlashes,
  });
}
