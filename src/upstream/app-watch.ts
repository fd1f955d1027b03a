// Beside the requests of an inbound hop: whether the local application accepts connections, which readiness follows.
import { type TimerWheel, WheelEntry } from '../timer-wheel.ts';
import type { Endpoint, Watch } from './endpoint.ts';
import type { Probe } from './health-check/probe.ts';
import { tcpProbe } from './health-check/tcp-probe.ts';
import type { Service } from './service.ts';

/** Kind of `Endpoint.watch`. */
const APPLICATION = 'application';

/** Milliseconds between two looks at one that accepts, and the longest between two at one that does not. */
const INTERVAL_MS = 1_000;
/** After the first failure; doubled with each further one. */
const FIRST_RETRY_MS = 100;
const TIMEOUT_MS = 1_000;

/**
 * `service` as its own hop sees it. Where it has active checks those say whether an application is well; else a connection is opened
 * and closed. Application and hop may start and end in any order. Calling it again does nothing.
 */
export function watchApps(service: Service): void {
  for (const endpoint of service.endpoints) {
    if (service.checksHealth) {
      endpoint.watch(APPLICATION, '', null);
      endpoint.accepting = null;
    } else endpoint.watch(APPLICATION, '', () => new AppWatch(service, endpoint));
  }
}

/**
 * Why its hop should get no traffic: none of its applications serves. Several share the hop, and each is known to callers by its own
 * endpoint, so one that serves is enough. `unknown`: what has not been looked at yet counts as well.
 */
export function appProblems({ name, endpoints, checksHealth }: Service, unknown: boolean): readonly string[] {
  const states = endpoints.map(({ health, accepting }) => (checksHealth ? health.checked : accepting));
  if (states.includes(true)) return [];
  // Active checks that have not answered yet are told by Snapshot.unchecked.
  if (states.includes(null)) return unknown && !checksHealth ? [`application of "${name}" has not been tried yet`] : [];
  const fails = checksHealth ? 'fails its health checks' : 'does not accept connections';
  return endpoints.map(({ address }) => `application of "${name}" ${fails} at ${address}`);
}

class AppWatch extends WheelEntry implements Watch {
  readonly #service: Pick<Service, 'name' | 'events'>;
  readonly #wheel: TimerWheel;
  readonly #endpoint: Endpoint;
  readonly #probe: Probe;
  #retryMs = FIRST_RETRY_MS;
  #underWay = false;

  constructor(service: Service, endpoint: Endpoint) {
    super();
    this.#service = service;
    this.#wheel = service.wheel;
    this.#endpoint = endpoint;
    this.#probe = tcpProbe(endpoint);
    this.#look();
  }

  stop(): void {
    this.#underWay = false;
    this.cancel();
    this.#probe.close();
  }

  override onTimer(): void {
    if (!this.#underWay) {
      this.#look();
      return;
    }
    this.#probe.abort();
    this.#ended(false);
  }

  #look(): void {
    this.#underWay = true;
    this.#wheel.schedule(this, TIMEOUT_MS);
    this.#probe.begin((accepting) => this.#ended(accepting));
  }

  #ended(accepting: boolean): void {
    if (!this.#underWay) return;
    this.#underWay = false;
    this.#wheel.schedule(this, accepting ? INTERVAL_MS : this.#retryMs);
    this.#retryMs = accepting ? FIRST_RETRY_MS : Math.min(2 * this.#retryMs, INTERVAL_MS);
    const before = this.#endpoint.accepting;
    if (before === accepting) return;
    this.#endpoint.accepting = accepting;
    this.#service.events.application(this.#service.name, this.#endpoint.address, accepting, before === null);
  }
}
