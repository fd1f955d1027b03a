// One place that answers for a service. It remembers: its connections and its load outlive the config that named it.
import type { ConnectionOptions } from 'node:tls';
import type { Connections } from '../config/model.ts';
import type { Dispatch, DispatchHandler, DispatchOptions } from '../dispatch.ts';
import { PeakEwma } from './balancing/peak-ewma.ts';

export interface TransportStats {
  readonly connections: number;
  readonly idle: number;
  readonly active: number;
  /** Requests that wait for a connection. */
  readonly pending: number;
}

/** The connections to one endpoint. */
export interface Transport {
  readonly dispatch: Dispatch;
  /** Takes no new requests; resolves when the last one has ended and every connection is closed. */
  close(): Promise<void>;
  /** Breaks everything off at once. */
  destroy(reason?: Error): void;
  readonly stats: TransportStats;
}

export type MakeTransport = (endpoint: Endpoint) => Transport;

export interface EndpointSpec {
  /** `host:port` of the application. */
  readonly address: string;
  /** `host:port` of the hop in front of it, which is dialled instead; null: the application is dialled. */
  readonly hop: string | null;
  /** Null: plain. */
  readonly tls: ConnectionOptions | null;
  readonly connections: Connections;
  /** Equal keys mean the same endpoint across reloads. */
  readonly key: string;
}

const NO_CONNECTIONS: TransportStats = Object.freeze({ connections: 0, idle: 0, active: 0, pending: 0 });

export class Endpoint {
  readonly address: string;
  readonly hop: string | null;
  /** `host:port` that is dialled. */
  readonly dial: string;
  readonly host: string;
  readonly port: number;
  readonly origin: string;
  readonly tls: ConnectionOptions | null;
  readonly connections: Connections;
  readonly key: string;
  /** Requests that have chosen this endpoint and not ended. */
  inFlight = 0;
  /** What peak-ewma goes by. */
  readonly latency = new PeakEwma();
  readonly #makeTransport: MakeTransport;
  /** Made with the first request. */
  #transport: Transport | null = null;
  #retired = false;

  constructor(spec: EndpointSpec, makeTransport: MakeTransport) {
    this.address = spec.address;
    this.hop = spec.hop;
    this.dial = spec.hop ?? spec.address;
    const { host, port } = splitAddress(this.dial);
    this.host = host;
    this.port = port;
    this.origin = `${spec.tls === null ? 'http' : 'https'}://${this.dial}`;
    this.tls = spec.tls;
    this.connections = spec.connections;
    this.key = spec.key;
    this.#makeTransport = makeTransport;
  }

  get stats(): TransportStats {
    return this.#transport?.stats ?? NO_CONNECTIONS;
  }

  dispatch(options: DispatchOptions, handler: DispatchHandler): boolean {
    this.#transport ??= this.#makeTransport(this);
    return this.#transport.dispatch(options, handler);
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
    if (this.inFlight === 0) void this.#closeTransport();
  }

  /** Resolves when its requests have ended and its connections are closed. */
  async close(): Promise<void> {
    this.#retired = true;
    await this.#closeTransport();
  }

  destroy(reason?: Error): void {
    const transport = this.#transport;
    this.#transport = null;
    transport?.destroy(reason);
  }

  async #closeTransport(): Promise<void> {
    const transport = this.#transport;
    if (transport === null) return;
    this.#transport = null;
    try {
      await transport.close();
    } catch (error) {
      transport.destroy(error instanceof Error ? error : undefined);
    }
  }
}

/** `127.0.0.1:80`, `[::1]:80`, `orders:80`; the host without brackets. */
export function splitAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon);
  return { host: host.startsWith('[') ? host.slice(1, -1) : host, port: Number(address.slice(colon + 1)) };
}
