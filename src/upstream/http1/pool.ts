// The transport below all policies: the HTTP/1.1 connections to one endpoint, and the bounded queue for them.
import { type ConnectionOptions, createSecureContext } from 'node:tls';
import { type Dispatch, type DispatchHandler, type DispatchOptions, TRANSPORT_CODES } from '../../dispatch.ts';
import { LinkedList } from '../../linked-list.ts';
import type { Wheel } from '../../timer-wheel.ts';
import { Connection, type ConnectionOwner, type ConnectionSettings } from './connection.ts';
import { dialError } from './dial.ts';
import { Exchange, type ExchangeOwner, tellError } from './exchange.ts';
import { IdleConnections } from './idle-connections.ts';
import { writeHead } from './request-head.ts';
import { TransportError } from './transport-error.ts';

export interface PoolOptions {
  /** Dial target: a name or an IP address. */
  readonly host: string;
  readonly port: number;
  /** Null: plain. Otherwise resolved already: ca, cert, key, servername, rejectUnauthorized … */
  readonly tls: ConnectionOptions | null;
  /** Instead of `tls`: options that change while the pool lives, asked for with every connection; another version retires those of before. */
  readonly identity?: { version(): number; options(): ConnectionOptions };
  /** Bound of the open connections, those being opened included. Upgraded ones count no more. */
  readonly maxConnections: number;
  /** Bound of the requests that wait for a connection of others; one more is refused with `SLV_POOL_FULL`. */
  readonly maxPending: number;
  /** Name lookup, TCP and TLS together; 0: no limit. */
  readonly connectTimeoutMs: number;
  /** 0: idle connections are kept as long as the upstream keeps them. */
  readonly idleTimeoutMs: number;
  /** Bound of one response head, and of one trailer section. Default 64 KiB. */
  readonly maxHeaderBytes?: number;
  /** Bound of the interim responses to one request. Default 32. */
  readonly maxInformational?: number;
  /** Called for every connection that stands: TCP, and TLS where there is any. */
  readonly onOpened?: () => void;
  readonly wheel: Wheel;
}

export interface PoolStats {
  /** All of them, those being opened included. */
  readonly connections: number;
  readonly idle: number;
  /** Those that carry a request. */
  readonly active: number;
  /** Requests that have no connection yet. */
  readonly pending: number;
  /** Requests that died on a reused connection and were sent once more, since the pool was made. */
  readonly resent: number;
  /** How long the upstream keeps idle connections, as it announced or as was learned, in milliseconds; null: unknown. */
  readonly upstreamIdleMs: number | null;
}

export class Http1Pool implements ExchangeOwner, ConnectionOwner {
  /** The last TLS session that a verified peer gave to the identity of now. */
  session: Buffer | null = null;
  readonly #options: PoolOptions;
  readonly #authority: string;
  #settings: ConnectionSettings | null = null;
  /** Of the identity that `session` belongs to. */
  #sessionVersion = 0;
  readonly #connections = new Set<Connection>();
  readonly #idle: IdleConnections;
  /** How many are being opened. */
  #opening = 0;
  #resent = 0;
  /** Requests that each have a connection being opened on their account. */
  readonly #dialing = new LinkedList<Exchange>();
  /** Likewise, but they take no other: upgrades, and what died on a reused connection. */
  readonly #reserved = new LinkedList<Exchange>();
  /** Requests that wait because every connection is taken; at most `maxPending`. */
  readonly #queued = new LinkedList<Exchange>();
  #closed = false;
  /** Who waits for the last connection to be gone. */
  #closing: (() => void)[] = [];

  constructor(options: PoolOptions) {
    this.#options = options;
    const { host, port } = options;
    this.#authority = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
    this.#idle = new IdleConnections(options.wheel, options.idleTimeoutMs);
  }

  get stats(): PoolStats {
    let active = 0;
    for (const connection of this.#connections) if (connection.exchange !== null) active += 1;
    return {
      connections: this.#connections.size,
      idle: this.#idle.size,
      active,
      pending: this.#queued.size + this.#dialing.size + this.#reserved.size,
      resent: this.#resent,
      upstreamIdleMs: this.#idle.upstreamIdleMs,
    };
  }

  /** @returns whether a further request would find a connection at once or may open one */
  readonly dispatch: Dispatch = (options: DispatchOptions, handler: DispatchHandler): boolean => {
    let head: string;
    try {
      head = writeHead(options, this.#authority);
    } catch (error) {
      tellError(handler, null, error as Error);
      return true;
    }
    const exchange = new Exchange(this, options, handler, head);
    try {
      handler.onRequestStart?.(exchange, null);
    } catch (error) {
      exchange.fail(error instanceof Error ? error : new Error(String(error)));
    }
    if (!exchange.finished) this.#place(exchange);
    return this.#queued.size === 0;
  };

  /**
   * Takes no further request, lets those that it has taken finish, then ends.
   * @returns fulfilled once the last connection is closed
   */
  close(): Promise<void> {
    this.#closed = true;
    this.#idle.dropAll();
    return new Promise((resolve) => {
      this.#closing.push(resolve);
      this.#settleClosing();
    });
  }

  /** Ends at once: every request fails with `reason`. */
  destroy(reason: Error = closedError()): void {
    this.#closed = true;
    for (const list of [this.#queued, this.#dialing, this.#reserved]) {
      for (let exchange = list.first; exchange !== null; exchange = list.first) exchange.fail(reason);
    }
    for (const connection of [...this.#connections]) {
      connection.exchange?.fail(reason);
      connection.drop();
    }
    this.#settleClosing();
  }

  release(exchange: Exchange): void {
    exchange.list?.remove(exchange);
    const { dial, connection } = exchange;
    exchange.dial = null;
    exchange.connection = null;
    dial?.drop();
    connection?.drop();
  }

  opened(connection: Connection): void {
    this.#opening -= 1;
    this.#options.onOpened?.();
    const { origin } = connection;
    if (origin === null) {
      this.released(connection);
      return;
    }
    origin.list?.remove(origin);
    connection.send(origin);
  }

  failedToOpen(connection: Connection, error: TransportError): void {
    this.#opening -= 1;
    this.#connections.delete(connection);
    this.session = null;
    const { origin } = connection;
    // Nothing stands and nothing can be opened: whoever waits for a turn would only wait to hear the same.
    if (this.#connections.size === this.#opening) this.#failQueued(error);
    if (origin !== null) {
      origin.dial = null;
      origin.fail(error);
    }
    this.#pump();
  }

  released(connection: Connection): void {
    if (this.#isStale(connection)) {
      connection.drop();
      return;
    }
    const exchange = this.#dialing.first ?? this.#queued.first;
    if (exchange === null) {
      if (this.#closed || !connection.usable) connection.drop();
      else this.#idle.push(connection);
      return;
    }
    if (exchange.needsOwnConnection || !connection.usable) {
      connection.drop();
      return;
    }
    exchange.list?.remove(exchange);
    // The one that is being opened on its account will serve whoever is first then.
    const dial = exchange.dial as Connection | null;
    if (dial !== null) dial.origin = null;
    connection.send(exchange);
  }

  gone(connection: Connection, resend: Exchange | null): void {
    if (!connection.isOpen) this.#opening -= 1;
    this.#connections.delete(connection);
    this.#idle.remove(connection);
    if (resend !== null) {
      this.#resent += 1;
      this.#dialFor(resend, this.#reserved);
    }
    this.#pump();
  }

  keepSession(connection: Connection, session: Buffer | null): void {
    // A handshake that began with the identity of before ends with a session of it, which would outlive that certificate.
    if (session === null || !this.#isStale(connection)) this.session = session;
  }

  closedByUpstream(connection: Connection): void {
    this.#idle.closedByUpstream(connection);
  }

  #place(exchange: Exchange): void {
    if (this.#closed) {
      exchange.fail(closedError());
      return;
    }
    const needsOwn = exchange.needsOwnConnection;
    let idle = needsOwn ? null : this.#idle.pop(exchange);
    while (idle !== null && this.#isStale(idle)) {
      idle.drop();
      idle = this.#idle.pop(exchange);
    }
    if (idle !== null) {
      idle.send(exchange);
      return;
    }
    const { maxConnections, maxPending } = this.#options;
    // Those that are idle still are of no use to this request, but take up room.
    if (this.#connections.size >= maxConnections) this.#idle.dropOldest();
    if (this.#connections.size < maxConnections) this.#dialFor(exchange, needsOwn ? this.#reserved : this.#dialing);
    else if (this.#queued.size < maxPending) this.#queued.push(exchange);
    else exchange.fail(poolFull(this.#authority));
  }

  /** Opens connections for those that wait, as far as there is room. */
  #pump(): void {
    while (this.#queued.first !== null && this.#connections.size < this.#options.maxConnections) {
      const exchange = this.#queued.first;
      this.#queued.remove(exchange);
      this.#dialFor(exchange, exchange.needsOwnConnection ? this.#reserved : this.#dialing);
    }
    this.#settleClosing();
  }

  #dialFor(exchange: Exchange, list: LinkedList<Exchange>): void {
    try {
      const connection = new Connection(this, this.#dialSettings(), exchange, this.#version());
      this.#connections.add(connection);
      this.#opening += 1;
      exchange.dial = connection;
      list.push(exchange);
    } catch (error) {
      // A certificate or key that cannot be read, a port out of range.
      const secure = this.#options.tls !== null || this.#options.identity !== undefined;
      exchange.fail(dialError(error as Error, this.#authority, secure));
    }
  }

  #version(): number {
    const version = this.#options.identity?.version() ?? 0;
    if (version !== this.#sessionVersion) {
      // A session of before would carry the identity of before.
      this.session = null;
      this.#sessionVersion = version;
    }
    return version;
  }

  #isStale(connection: Connection): boolean {
    return connection.version !== (this.#options.identity?.version() ?? 0);
  }

  #dialSettings(): ConnectionSettings {
    const { identity } = this.#options;
    if (identity !== undefined) {
      const { maxHeaderBytes = 64 * 1024, maxInformational = 32 } = this.#options;
      return { ...this.#options, tls: identity.options(), maxHeaderBytes, maxInformational };
    }
    if (this.#settings === null) {
      const { tls, maxHeaderBytes = 64 * 1024, maxInformational = 32 } = this.#options;
      // CA, certificate and key are parsed once a pool, not once a connection.
      const context = tls === null ? null : { ...tls, secureContext: tls.secureContext ?? createSecureContext(tls) };
      this.#settings = { ...this.#options, tls: context, maxHeaderBytes, maxInformational };
    }
    return this.#settings;
  }

  #failQueued({ code, message, cause }: TransportError): void {
    for (let waiting = this.#queued.size; waiting > 0; waiting--) {
      this.#queued.shift()?.fail(new TransportError(code, message, { unsent: true, cause }));
    }
  }

  #settleClosing(): void {
    if (!this.#closed || this.#connections.size > 0 || this.#queued.size > 0) return;
    for (const settle of this.#closing.splice(0)) settle();
  }
}

function poolFull(authority: string): TransportError {
  return new TransportError(TRANSPORT_CODES.poolFull, `every connection to ${authority} is taken`, { unsent: true });
}

function closedError(): TransportError {
  return new TransportError(TRANSPORT_CODES.reset, 'the connection pool is closed', { unsent: true });
}
