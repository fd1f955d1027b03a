// Where calls beyond the mesh go, as services of their own: made when somebody calls, with the usual connections, limits and retries.
import type { ServiceConfig } from '../config/model.ts';
import { formatHostPort } from '../http/address.ts';
import { compileServices, retireServices } from '../upstream/compile-services.ts';
import type { Service, ServiceDeps } from '../upstream/service.ts';

/** Destinations remembered. The one that was called longest ago goes first; what is under way there ends in peace. */
export const MAX_DESTINATIONS = 256;

/** What access log and metrics call all of them: hosts come from applications and must not become labels. */
export const EGRESS = 'egress';

export class Destinations {
  readonly #deps: ServiceDeps;
  /** In order of use, at most MAX_DESTINATIONS. */
  readonly #services = new Map<string, Service>();

  constructor(deps: ServiceDeps) {
    this.#deps = deps;
  }

  get size(): number {
    return this.#services.size;
  }

  /** @param addresses - sorted; exactly those are dialled, and nothing is looked up again */
  service(host: string, port: number, addresses: readonly string[]): Service {
    // Two hosts share no connection even where they share an address: a connection belongs to what was judged.
    const key = `${host} ${port} ${addresses.join(' ')}`;
    const known = this.#services.get(key);
    if (known !== undefined) {
      this.#services.delete(key);
      this.#services.set(key, known);
      return known;
    }
    const [service] = compileServices([destination(port, addresses)], null, this.#deps).values();
    service.activate(false);
    this.#services.set(key, service);
    if (this.#services.size > MAX_DESTINATIONS) {
      const [[oldest, retired]] = this.#services;
      this.#services.delete(oldest);
      retireServices([retired], []);
    }
    return service;
  }

  /** Breaks everything off at once. */
  destroy(): void {
    for (const service of this.#services.values()) service.destroy();
    this.#services.clear();
  }
}

const CONNECT_TIMEOUT_MS = 5_000;

const NOWHERE = Object.freeze({ file: '', line: 0, column: 0 });

/** The defaults of a service, with fewer connections: there may be many destinations. */
function destination(port: number, addresses: readonly string[]): ServiceConfig {
  return {
    name: EGRESS,
    at: NOWHERE,
    protocol: 'http1',
    endpoints: addresses.map((address) => ({
      address: formatHostPort(address, port),
      hop: null,
      weight: 1,
      zone: null,
      priority: 0,
      labels: {},
      at: NOWHERE,
    })),
    subsets: {},
    tls: null,
    internal: null,
    mtls: 'off',
    plugins: [],
    loadBalancing: { algorithm: 'least-request', by: null },
    locality: { zone: null, prefer: false },
    slowStartMs: 0,
    connections: {
      max: 128,
      pending: 128,
      requests: 512,
      retries: 64,
      waitForEndpointMs: 0,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      idleTimeoutMs: 30_000,
    },
    concurrency: null,
    healthCheck: null,
    outlierDetection: null,
    retryBudget: { share: 0.2, windowMs: 10_000, minPerSecond: 10 },
  };
}
