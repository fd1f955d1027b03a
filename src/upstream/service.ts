// A named upstream as one config says it is: endpoints, subsets, load balancing. Compiled at a reload, looked up by every request.
import type { EndpointConfig, ServiceConfig } from '../config/model.ts';
import type { OutlierPolicy } from '../policies/outlier-detection.ts';
import type { TimerWheel } from '../timer-wheel.ts';
import type { Draw, WeightedEndpoint } from './balancing/draw.ts';
import { roundRobin } from './balancing/round-robin.ts';
import { leastRequest } from './balancing/two-choices.ts';
import { Endpoint, type MakeTransport, splitAddress, type TransportStats } from './endpoint.ts';
import { NO_EVENTS, type UpstreamEvents } from './events.ts';
import { ServiceMemory } from './service-memory.ts';
import { connectionOptions, readCredentials, type UpstreamCredentials } from './tls.ts';

export interface ServiceDeps {
  readonly wheel: TimerWheel;
  readonly makeTransport: MakeTransport;
  /** In [0, 1); a seeded one makes draws repeatable. Default Math.random. */
  readonly random?: () => number;
  /** Default: nobody is told. */
  readonly events?: UpstreamEvents;
}

/** What the admin API shows. */
export interface ServiceDescription {
  readonly name: string;
  readonly endpoints: readonly EndpointDescription[];
}

export interface EndpointDescription extends TransportStats {
  readonly address: string;
  /** `host:port` that is dialled: the hop where there is one. */
  readonly dial: string;
  readonly weight: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly inFlight: number;
}

interface Member extends WeightedEndpoint {
  readonly labels: Readonly<Record<string, string>>;
}

interface Subset {
  readonly endpoints: readonly Endpoint[];
  readonly draw: Draw;
}

type Shape = Pick<ServiceConfig, 'name' | 'subsets' | 'loadBalancing' | 'outlierDetection'>;

export class Service {
  readonly name: string;
  readonly wheel: TimerWheel;
  readonly random: () => number;
  readonly events: UpstreamEvents;
  /** Outlives reloads. */
  readonly memory: ServiceMemory;
  readonly endpoints: readonly Endpoint[];
  /** Equal fingerprints mean equal services. */
  readonly fingerprint: string;
  readonly outlierDetection: OutlierPolicy | null;
  readonly #members: readonly Member[];
  readonly #all: Subset;
  readonly #subsets: ReadonlyMap<string, Subset>;
  /** Endpoints that share their hop with others: the hop has to be told which one is meant. */
  readonly #behindSharedHop: ReadonlySet<Endpoint>;

  constructor(shape: Shape, members: readonly Member[], fingerprint: string, memory: ServiceMemory, deps: ServiceDeps) {
    this.name = shape.name;
    this.wheel = deps.wheel;
    this.random = deps.random ?? Math.random;
    this.events = deps.events ?? NO_EVENTS;
    this.memory = memory;
    this.outlierDetection = shape.outlierDetection;
    this.fingerprint = fingerprint;
    this.#members = members;
    this.#all = this.#compileSubset(shape, members);
    this.endpoints = this.#all.endpoints;
    this.#subsets = new Map(
      Object.entries(shape.subsets).map(([name, labels]) => {
        const wanted = Object.entries(labels);
        const carry = members.filter((member) => wanted.every(([label, value]) => member.labels[label] === value));
        return [name, this.#compileSubset(shape, carry)];
      }),
    );
    this.#behindSharedHop = behindSharedHop(this.endpoints);
  }

  #compileSubset(shape: Shape, members: readonly Member[]): Subset {
    const draw =
      shape.loadBalancing.algorithm === 'round-robin' ? roundRobin(members) : leastRequest(members, this.random);
    return { endpoints: Object.freeze(members.map(({ endpoint }) => endpoint)), draw };
  }

  #subset(name: string | null): Subset | undefined {
    return name === null ? this.#all : this.#subsets.get(name);
  }

  /** The endpoints of a subset (null: all of them), weight 0 included; undefined: there is no such subset. */
  subset(name: string | null): readonly Endpoint[] | undefined {
    return this.#subset(name)?.endpoints;
  }

  /**
   * The endpoint for the next try: `preferred` (an address) where it is one of them and not tried yet, else as load balancing
   * says, another than those tried where there is one. Null: there is none; undefined: there is no such subset.
   */
  draw(subset: string | null, tried: readonly Endpoint[], preferred: string | null): Endpoint | null | undefined {
    const chosen = this.#subset(subset);
    if (chosen === undefined) return undefined;
    if (preferred !== null) {
      for (const { endpoint, weight } of this.#members) {
        if (endpoint.address !== preferred || weight === 0) continue;
        if (chosen.endpoints.includes(endpoint) && !tried.includes(endpoint)) return endpoint;
      }
    }
    return chosen.draw(tried);
  }

  /** True when a request has to say which endpoint it is for, because its hop serves several. */
  sharesHop(endpoint: Endpoint): boolean {
    return this.#behindSharedHop.has(endpoint);
  }

  describe(): ServiceDescription {
    const endpoints = this.#members.map(({ endpoint, weight, labels }) => {
      const { address, dial, inFlight, stats } = endpoint;
      const { connections, idle, active, pending } = stats;
      return { address, dial, weight, labels, inFlight, connections, idle, active, pending };
    });
    return { name: this.name, endpoints };
  }

  /** Resolves when every request has ended and every connection is closed. */
  async close(): Promise<void> {
    await Promise.all(this.endpoints.map((endpoint) => endpoint.close()));
  }

  destroy(reason?: Error): void {
    for (const endpoint of this.endpoints) endpoint.destroy(reason);
  }
}

function behindSharedHop(endpoints: readonly Endpoint[]): ReadonlySet<Endpoint> {
  const sharers = new Map<string, number>();
  for (const { hop } of endpoints) if (hop !== null) sharers.set(hop, (sharers.get(hop) ?? 0) + 1);
  return new Set(endpoints.filter(({ hop }) => hop !== null && (sharers.get(hop) as number) > 1));
}

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
    const { zone = null, priority = 0, labels = {}, at = config.at } = known ?? {};
    return { address, hop: null, weight: known?.weight || 1, zone, priority, labels, at };
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
  const { name, subsets, loadBalancing, connections } = config;
  const drawn = endpoints.map(({ address, hop, weight, labels }) => [address, hop, weight, labels]);
  const fingerprint = JSON.stringify([name, drawn, subsets, credentials?.digest, loadBalancing, connections]);
  if (previous !== null && previous.fingerprint === fingerprint) return previous;
  const known = new Map(previous?.endpoints.map((endpoint) => [endpoint.key, endpoint]));
  const members = endpoints.map(({ address, hop, weight, labels }): Member => {
    // A hop is dialled without the service's own TLS, which is for endpoints outside the mesh.
    const own = hop === null ? credentials : null;
    const key = JSON.stringify([address, hop, own?.digest, connections]);
    const kept = known.get(key);
    if (kept !== undefined) return { endpoint: kept, weight, labels };
    const tls = own === null ? null : connectionOptions(own, splitAddress(address).host);
    const endpoint = new Endpoint({ address, hop, tls, connections, key }, deps.makeTransport);
    known.set(key, endpoint);
    return { endpoint, weight, labels };
  });
  return new Service(config, members, fingerprint, previous?.memory ?? new ServiceMemory(), deps);
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
