// Services of a config made from those of the one before: what did not change stays the same object, with its connections and all it knows.
import type { EndpointConfig, ServiceConfig } from '../config/model.ts';
import { Endpoint, splitAddress } from './endpoint.ts';
import { Service, type ServiceDeps, type ServiceMember } from './service.ts';
import { ServiceMemory } from './service-memory.ts';
import { connectionOptions, readCredentials, type UpstreamCredentials } from './tls.ts';

/**
 * Compiles every service. What did not change is the same object as in `previous`; a changed service keeps those endpoints
 * that did not change, with their connections and load. Nothing of `previous` is touched: call `retireServices` after the swap.
 *
 * @throws Error naming the service whose TLS files cannot be used.
 */
export function compileServices(
  configs: readonly ServiceConfig[],
  previous: ReadonlyMap<string, Service> | null,
  deps: ServiceDeps,
): Map<string, Service> {
  const services = new Map<string, Service>();
  for (const config of configs) {
    const credentials = config.tls === null ? null : credentialsOf(config);
    services.set(config.name, compile(config, config.endpoints, credentials, previous?.get(config.name) ?? null, deps));
  }
  return services;
}

/**
 * The service as its own hop sees it: the local applications, dialled directly. Without a hop there are none.
 * Reuse, errors and retirement as in `compileServices`.
 */
export function compileApps(config: ServiceConfig, previous: Service | null, deps: ServiceDeps): Service {
  const endpoints = (config.internal?.apps ?? []).map((address): EndpointConfig => {
    const known = config.endpoints.find((endpoint) => endpoint.address === address);
    // Whoever sent the request here has weighed already: an endpoint that is being drained still answers for its hop.
    const { weight, labels = {}, at = config.at } = known ?? {};
    return { address, hop: null, weight: weight || 1, zone: null, priority: 0, labels, at };
  });
  const credentials = config.tls === null ? null : credentialsOf(config);
  return compile(config, endpoints, credentials, previous, deps);
}

function compile(
  config: ServiceConfig,
  endpoints: readonly EndpointConfig[],
  credentials: UpstreamCredentials | null,
  previous: Service | null,
  deps: ServiceDeps,
): Service {
  // Where it was written changes with every line above it, and what hangs on hop and chain is compiled elsewhere.
  const { at: _at, internal: _internal, plugins: _plugins, tls: _tls, endpoints: _endpoints, ...settings } = config;
  const drawn = endpoints.map(({ at: _place, ...rest }) => rest);
  const fingerprint = JSON.stringify([settings, drawn, credentials?.digest]);
  if (previous !== null && previous.fingerprint === fingerprint) return previous;
  const memory = previous?.memory ?? new ServiceMemory(deps.wheel);
  const mode = config.mtls;
  const { max, pending, connectTimeoutMs, idleTimeoutMs } = config.connections;
  const known = new Map(previous?.endpoints.map((endpoint) => [endpoint.key, endpoint]));
  const members = endpoints.map(({ address, hop, weight, zone, priority, labels }): ServiceMember => {
    // A hop is dialled without the service's own TLS, which is for endpoints outside the mesh.
    const own = hop === null ? credentials : null;
    const mesh = hop === null || mode === 'off' ? null : { expects: deps.idOf(config.name), mode };
    const key = JSON.stringify([address, hop, mesh, own?.digest, max, pending, connectTimeoutMs, idleTimeoutMs]);
    let endpoint = known.get(key);
    if (endpoint === undefined) {
      const tls = own === null ? null : connectionOptions(own, splitAddress(address).host);
      const { connections, name } = config;
      const onOpened = (): void => deps.events?.opened(name, address);
      endpoint = new Endpoint(
        { address, hop, tls, mesh, connections, key, owner: memory, onOpened },
        deps.makeTransport,
      );
      known.set(key, endpoint);
    }
    return { endpoint, weight, zone, priority, labels };
  });
  return new Service(config, members, fingerprint, memory, deps);
}

function credentialsOf(config: ServiceConfig): UpstreamCredentials {
  try {
    return readCredentials(config.tls as NonNullable<ServiceConfig['tls']>);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`service "${config.name}": ${message}`, { cause: error });
  }
}

/** Retires the endpoints of `previous` that `current` does not use; for after the swap. */
export function retireServices(previous: Iterable<Service>, current: Iterable<Service>): void {
  const used = new Set<Endpoint>();
  for (const service of current) for (const endpoint of service.endpoints) used.add(endpoint);
  for (const service of previous) {
    for (const endpoint of service.endpoints) if (!used.has(endpoint)) endpoint.retire();
  }
}
