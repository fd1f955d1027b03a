// One place that answers for a service. It remembers: its connections, load and health outlive the config that named it.
import type { ConnectionOptions } from 'node:tls';
import type { Connections } from '../config/model.ts';
import type { Dispatch, DispatchHandler, DispatchOptions } from '../dispatch.ts';
import { PeakEwma } from './balancing/peak-ewma.ts';
import type { Caller, MeshDial } from './caller.ts';
import { NO_CONNECTIONS, sumOf, type TransportStats } from './transport-stats.ts';

export type { TransportStats };

import { EndpointHealth, type HealthOwner } from './endpoint-health.ts';

/** The connections to one endpoint. */
export interface Transport {
  readonly dispatch: Dispatch;
  /** Takes no new requests; resolves when the last one has ended and every connection is closed. */
  close(): Promise<void>;
  /** Breaks everything off at once. */
  destroy(reason?: Error): void;
  readonly stats: TransportStats;
}

/** Who calls is null for endpoints that are not in the mesh, or where its hops speak plain HTTP. */
export type MakeTransport = (endpoint: Endpoint, caller: Caller | null) => Transport;

export interface EndpointSpec {
  /** `host:port` of the application. */
  readonly address: string;
  /** `host:port` of the hop in front of it, which is dialled instead; null: the application is dialled. */
  readonly hop: string | null;
  /** Null: plain. */
  readonly tls: ConnectionOptions | null;
  /** Null: not a hop, or one that speaks plain HTTP. */
  readonly mesh: MeshDial | null;
  readonly connections: Connections;
  /** Equal keys mean the same endpoint across reloads. */
  readonly key: string;
  /** Told when its fitness changes. */
  readonly owner: HealthOwner;
  /** Called for every connection that is opened to it; not given: nobody counts them. */
  readonly onOpened?: () => void;
}

/** Something that looks after an endpoint until it is stopped. */
export interface Watch {
  stop(): void;
}

export class Endpoint {
  readonly address: string;
  readonly hop: string | null;
  /** `host:port` that is dialled. */
  readonly dial: string;
  readonly host: string;
  readonly port: number;
  readonly origin: string;
  readonly tls: ConnectionOptions | null;
  readonly mesh: MeshDial | null;
  readonly connections: Connections;
  readonly key: string;
  readonly onOpened: (() => void) | undefined;
  readonly health: EndpointHealth;
  readonly latency = new PeakEwma();
  /** Of a local application: whether it accepts connections; null: nobody has looked. See app-watch.ts. */
  accepting: boolean | null = null;
  /** Requests that have chosen this endpoint and not ended. */
  inFlight = 0;
  /** What finds out whether it is fit, by what started it: active checks, or a wait for it to accept connections. */
  readonly #watches = new Map<string, { readonly as: string; readonly watch: Watch }>();
  readonly #makeTransport: MakeTransport;
  /** By SPIFFE id of the caller, '' without one; each made with its first request. Bounded by the roles of this process. */
  readonly #transports = new Map<string, Transport>();
  #retired = false;

  constructor(spec: EndpointSpec, makeTransport: MakeTransport) {
    this.address = spec.address;
    this.hop = spec.hop;
    this.dial = spec.hop ?? spec.address;
    const { host, port } = splitAddress(this.dial);
    this.host = host;
    this.port = port;
    this.origin = `${spec.tls === null && spec.mesh === null ? 'http' : 'https'}://${this.dial}`;
    this.tls = spec.tls;
    this.mesh = spec.mesh;
    this.connections = spec.connections;
    this.key = spec.key;
    this.onOpened = spec.onOpened;
    this.health = new EndpointHealth(spec.owner);
    this.#makeTransport = makeTransport;
  }

  get stats(): TransportStats {
    const { size } = this.#transports;
    if (size === 0) return NO_CONNECTIONS;
    const all = [...this.#transports.values()].map(({ stats }) => stats);
    return size === 1 ? all[0] : sumOf(all);
  }

  /** @param caller who this process is to the hop; null where nobody asks */
  dispatch(options: DispatchOptions, handler: DispatchHandler, caller: Caller | null): boolean {
    const id = this.mesh === null || caller === null ? '' : caller.id;
    let transport = this.#transports.get(id);
    if (transport === undefined) {
      transport = this.#makeTransport(this, caller);
      this.#transports.set(id, transport);
    }
    return transport.dispatch(options, handler);
  }

  /**
   * Starts a watch of this kind in place of the one there was, unless that was started as the same; null: none from here on.
   * A retired endpoint is watched no more.
   */
  watch(kind: string, as: string, start: (() => Watch) | null): void {
    const running = this.#watches.get(kind);
    if (running !== undefined && start !== null && running.as === as) return;
    running?.watch.stop();
    this.#watches.delete(kind);
    if (start !== null && !this.#retired) this.#watches.set(kind, { as, watch: start() });
  }

  /** A request has chosen this endpoint; exactly one `release` follows. */
  acquire(): void {
    this.inFlight += 1;
  }

  release(): void {
    this.inFlight -= 1;
    if (this.#retired && this.inFlight === 0) void this.#closeTransport();
  }

  /**
   * No config names it any more: its connections close once the last request has ended. A request of the old config that
   * still comes (it was waiting to retry) is served all the same.
   */
  retire(): void {
    this.#retired = true;
    this.#unwatch();
    if (this.inFlight === 0) void this.#closeTransport();
  }

  /** Resolves when its requests have ended and its connections are closed. */
  async close(): Promise<void> {
    this.#retired = true;
    this.#unwatch();
    await this.#closeTransport();
  }

  destroy(reason?: Error): void {
    this.#unwatch();
    const transports = [...this.#transports.values()];
    this.#transports.clear();
    for (const transport of transports) transport.destroy(reason);
  }

  #unwatch(): void {
    for (const kind of [...this.#watches.keys()]) this.watch(kind, '', null);
  }

  async #closeTransport(): Promise<void> {
    const transports = [...this.#transports.values()];
    this.#transports.clear();
    await Promise.all(transports.map(closeOrDestroy));
  }
}

async function closeOrDestroy(transport: Transport): Promise<void> {
  try {
    await transport.close();
  } catch (error) {
    transport.destroy(error instanceof Error ? error : undefined);
  }
}

/** `127.0.0.1:80`, `[::1]:80`, `orders:80`; the host without brackets. */
export function splitAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon);
  return { host: host.startsWith('[') ? host.slice(1, -1) : host, port: Number(address.slice(colon + 1)) };
}
