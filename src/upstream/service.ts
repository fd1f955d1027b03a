// A named upstream as one config says it is: endpoints, subsets, load balancing. Compiled at a reload, looked up by every request.
import type { Connections, HashKey, ServiceConfig } from '../config/model.ts';
import type { OutlierPolicy } from '../policies/outlier-detection.ts';
import type { TimerWheel } from '../timer-wheel.ts';
import type { LevelMember } from './balancing/levels.ts';
import type { Caller } from './caller.ts';
import type { Endpoint, MakeTransport, TransportStats } from './endpoint.ts';
import type { HealthDescription } from './endpoint-health.ts';
import { NO_EVENTS, type UpstreamEvents } from './events.ts';
import type { HealthCheckDeps } from './health-check/health-check.ts';
import type { ServiceMemory } from './service-memory.ts';
import { awaitContact, CHECKS, CONTACT, checkHealth } from './service-watch.ts';
import { Subset } from './subset.ts';

export interface ServiceDeps {
  readonly wheel: TimerWheel;
  readonly makeTransport: MakeTransport;
  /** In [0, 1); a seeded one makes draws repeatable. Default Math.random. */
  readonly random?: () => number;
  /** Default: nobody is told. */
  readonly events?: UpstreamEvents;
  /** SPIFFE id of a service. */
  readonly idOf: (service: string) => string;
  /** Who asks hops whether they are well; default nobody: plain. */
  readonly checker?: Caller | null;
}

/** What the admin API shows. */
export interface ServiceDescription {
  readonly name: string;
  /** Requests under way, and how many of them are retries or hedges, or wait for an endpoint. */
  readonly requests: number;
  readonly retries: number;
  readonly waiting: number;
  /** Retries that the budget did not pay for, since the start. */
  readonly retriesRefused: number;
  /** What `concurrency.adaptive` has come to; null: off. */
  readonly concurrencyLimit: number | null;
  readonly endpoints: readonly EndpointDescription[];
}

export interface EndpointDescription extends TransportStats, HealthDescription {
  readonly address: string;
  /** `host:port` that is dialled: the hop where there is one. */
  readonly dial: string;
  readonly weight: number;
  readonly zone: string | null;
  readonly priority: number;
  readonly labels: Readonly<Record<string, string>>;
  /** Milliseconds to the response head, recent ones counting most. */
  readonly latencyMs: number;
  readonly inFlight: number;
}

export interface ServiceMember extends LevelMember {
  readonly labels: Readonly<Record<string, string>>;
}

/** What the draw of an endpoint goes by; see Call. */
export interface Drawing {
  readonly subset: string | null;
  readonly tried: readonly Endpoint[];
  readonly preferred: string | null;
  readonly sticky: Endpoint | null;
  readonly hashKey: number;
}

type Shape = Omit<ServiceConfig, 'endpoints' | 'plugins' | 'internal' | 'tls' | 'at'>;

export class Service {
  readonly name: string;
  readonly wheel: TimerWheel;
  readonly random: () => number;
  readonly events: UpstreamEvents;
  /** Outlives reloads. */
  readonly memory: ServiceMemory;
  readonly endpoints: readonly Endpoint[];
  /** Those with a weight. */
  readonly drawable: readonly Endpoint[];
  /** Equal fingerprints mean equal services. */
  readonly fingerprint: string;
  readonly outlierDetection: OutlierPolicy | null;
  readonly connections: Connections;
  readonly hashBy: HashKey | null;
  /** There are active checks. */
  readonly checksHealth: boolean;
  readonly #config: Shape;
  readonly #members: readonly ServiceMember[];
  readonly #all: Subset;
  readonly #subsets: ReadonlyMap<string, Subset>;
  /** Endpoints that share their hop with others: the hop has to be told which one is meant. */
  readonly #behindSharedHop: ReadonlySet<Endpoint>;
  readonly #deps: ServiceDeps;
  #active = false;
  #checked = false;

  constructor(
    config: Shape,
    members: readonly ServiceMember[],
    fingerprint: string,
    memory: ServiceMemory,
    deps: ServiceDeps,
  ) {
    this.name = config.name;
    this.wheel = deps.wheel;
    this.random = deps.random ?? Math.random;
    this.events = deps.events ?? NO_EVENTS;
    this.memory = memory;
    this.fingerprint = fingerprint;
    this.outlierDetection = config.outlierDetection;
    this.connections = config.connections;
    this.hashBy = config.loadBalancing.by;
    this.checksHealth = config.healthCheck !== null;
    this.#config = config;
    this.#members = members;
    this.#deps = deps;
    const { loadBalancing, locality, slowStartMs, outlierDetection } = config;
    const selection = {
      loadBalancing,
      locality,
      slowStartMs,
      panicThreshold: outlierDetection?.panicThreshold ?? 0,
      random: this.random,
      now: this.wheel.now,
      memory,
    };
    const onPanic = (panicking: boolean): void => this.events.panicking(this.name, panicking);
    this.#all = new Subset(members, { ...selection, onPanic });
    this.endpoints = this.#all.endpoints;
    this.drawable = members.filter(({ weight }) => weight > 0).map(({ endpoint }) => endpoint);
    this.#subsets = new Map(
      Object.entries(config.subsets).map(([name, labels]) => {
        const wanted = Object.entries(labels);
        const carry = members.filter((member) => wanted.every(([label, value]) => member.labels[label] === value));
        return [name, new Subset(carry, { ...selection, onPanic: () => {} })];
      }),
    );
    this.#behindSharedHop = behindSharedHop(this.endpoints);
  }

  /**
   * It is in force from here on: settings reach what outlives reloads, and new endpoints begin slowly where old ones go on.
   * `eager`: active checks begin at once, else with the first request. Calling it again does nothing.
   */
  activate(eager: boolean): void {
    if (!this.#active) this.#takeOver();
    if (eager) this.#startChecks();
  }

  #takeOver(): void {
    this.#active = true;
    const { healthCheck, retryBudget, concurrency, connections } = this.#config;
    this.memory.configure(retryBudget, concurrency);
    const now = this.wheel.now();
    const grown = this.endpoints.some(({ health }) => health.seen) && this.endpoints.some(({ health }) => !health.seen);
    for (const endpoint of this.endpoints) {
      const { health } = endpoint;
      if (grown && !health.seen) health.availableSince = now;
      health.seen = true;
      health.awaitsCheck = healthCheck !== null;
      if (healthCheck === null) endpoint.watch(CHECKS, '', null);
      const contact = connections.waitForEndpointMs === 0;
      if (contact) endpoint.watch(CONTACT, '', null);
      health.forget({ ejection: this.outlierDetection === null, check: healthCheck === null, contact });
    }
  }

  #startChecks(): void {
    if (this.#checked) return;
    this.#checked = true;
    const { healthCheck } = this.#config;
    if (healthCheck !== null)
      for (const endpoint of this.endpoints) checkHealth(this, endpoint, healthCheck, this.#checkDeps(endpoint));
  }

  #checkDeps(endpoint: Endpoint): HealthCheckDeps {
    const { wheel, makeTransport, checker = null } = this.#deps;
    const headers = this.sharesHop(endpoint) ? ['x-selvedge-endpoint', endpoint.address] : [];
    return { wheel, makeTransport, caller: checker, random: this.random, headers };
  }

  /** Its endpoints have been checked actively once, where they are. */
  get knowsHealth(): boolean {
    return this.#config.healthCheck === null || this.drawable.every(({ health }) => health.checked !== null);
  }

  /** Nothing accepted a connection there. Where requests wait for endpoints it is left out until something does. */
  lostContact(endpoint: Endpoint): void {
    if (this.connections.waitForEndpointMs > 0) awaitContact(this, endpoint, this.#checkDeps(endpoint));
  }

  /** Whether this request may still wait for an endpoint; its time begins with the first question. */
  mayWait(call: { waitUntil: number }): boolean {
    const { waitForEndpointMs } = this.connections;
    if (waitForEndpointMs === 0) return false;
    const now = this.wheel.now();
    if (call.waitUntil === 0) call.waitUntil = now + waitForEndpointMs;
    return now < call.waitUntil;
  }

  #subset(name: string | null): Subset | undefined {
    return name === null ? this.#all : this.#subsets.get(name);
  }

  /** The endpoints of a subset (null: all of them), weight 0 included; undefined: there is no such subset. */
  subset(name: string | null): readonly Endpoint[] | undefined {
    return this.#subset(name)?.endpoints;
  }

  /**
   * The endpoint for the next try: the preferred one (an address that the caller's side chose) where it is one of them and not
   * tried yet; the one of the client's session; one that has to show whether it works again (`safe`: see Subset); else as
   * load balancing says, another than those tried where there is one. Null: there is none; undefined: there is no such subset.
   */
  draw({ subset, tried, preferred, sticky, hashKey }: Drawing, safe: boolean): Endpoint | null | undefined {
    const chosen = this.#subset(subset);
    if (chosen === undefined) return undefined;
    if (!this.#checked) this.#startChecks();
    const now = this.wheel.now();
    if (preferred !== null) {
      for (const endpoint of this.drawable) {
        if (endpoint.address !== preferred || endpoint.health.unreachable) continue;
        if (chosen.endpoints.includes(endpoint) && !tried.includes(endpoint)) return endpoint;
      }
    }
    if (sticky !== null && !tried.includes(sticky) && chosen.isUsable(sticky, now)) return sticky;
    return chosen.probe(tried, safe, now) ?? chosen.draw(tried, hashKey, now);
  }

  /** Load balancing would find an endpoint that has not been tried. */
  hasUntried({ subset, tried }: Pick<Drawing, 'subset' | 'tried'>): boolean {
    const now = this.wheel.now();
    const chosen = this.#subset(subset);
    return chosen?.endpoints.some((endpoint) => !tried.includes(endpoint) && chosen.isUsable(endpoint, now)) ?? false;
  }

  /** True when a request has to say which endpoint it is for, because its hop serves several. */
  sharesHop(endpoint: Endpoint): boolean {
    return this.#behindSharedHop.has(endpoint);
  }

  describe(): ServiceDescription {
    const now = this.wheel.now();
    const endpoints = this.#members.map(({ endpoint, weight, labels, zone, priority }) => {
      const { address, dial, inFlight, stats, health, latency } = endpoint;
      const seen = { ...health.describe(now), latencyMs: latency.cost(now), inFlight, ...stats };
      return { address, dial, weight, labels, zone, priority, ...seen };
    });
    const { requests, retries, waiting, retryBudget, adaptive } = this.memory;
    return {
      name: this.name,
      requests,
      retries,
      waiting: waiting.size,
      retriesRefused: retryBudget.exhausted,
      concurrencyLimit: adaptive === null ? null : Math.floor(adaptive.limit),
      endpoints,
    };
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
