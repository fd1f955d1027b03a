// Before a connection may speak: whose it is, and whether that client has not too many already.
import type { Socket } from 'node:net';
import type { ProxiedConnection } from '../gateway/proxy-protocol.ts';
import { AddressSet, plainAddress } from '../http/address.ts';
import { ClientConnections } from './client-connections.ts';
import type { Handshakes } from './handshakes.ts';
import type { ListenerSpec, RequestSink } from './listener-spec.ts';
import type { RefusedPeers } from './peer-fault.ts';
import { readProxied } from './read-proxied.ts';

/** What a PROXY header says of a connection; null: the load balancer names nobody. */
export type Passed = ProxiedConnection | null;

export class Admission {
  #spec: ListenerSpec;
  #proxies: AddressSet;
  readonly #clients = new ClientConnections();
  readonly #sink: Pick<RequestSink, 'rejected'>;
  readonly #handshakes: Handshakes;
  readonly #refused: RefusedPeers;

  constructor(spec: ListenerSpec, sink: Pick<RequestSink, 'rejected'>, handshakes: Handshakes, refused: RefusedPeers) {
    this.#spec = spec;
    this.#proxies = new AddressSet(spec.clientAddress.trustedProxies);
    this.#sink = sink;
    this.#handshakes = handshakes;
    this.#refused = refused;
  }

  /** For the next connections. */
  update(spec: ListenerSpec): void {
    this.#spec = spec;
    this.#proxies = new AddressSet(spec.clientAddress.trustedProxies);
  }

  /** Calls `enter` for a connection that may go on, at once unless it has a PROXY header to send; destroys it otherwise. */
  admit(socket: Socket, enter: (passed: Passed | undefined) => void): void {
    const remoteAddress = plainAddress(socket.remoteAddress ?? '');
    const trusted = this.#proxies.has(remoteAddress);
    if (!trusted || !this.#spec.clientAddress.proxyProtocol) {
      if (this.#count(socket, remoteAddress, trusted)) enter(undefined);
      return;
    }
    this.#await(socket, remoteAddress);
    readProxied(socket, (proxied) => {
      if (typeof proxied === 'string') {
        this.#sink.rejected(this.#spec, 'SLV_PROXY_HEADER', remoteAddress);
        this.#refused.tell(remoteAddress, proxied, performance.now());
        socket.destroy();
        return;
      }
      if (this.#spec.tls === null) this.#handshakes.succeeded(socket);
      const client = proxied?.sourceAddress ?? remoteAddress;
      if (this.#count(socket, client, this.#proxies.has(client))) enter(proxied);
    });
  }

  /** Over TLS the time of the handshake runs already. */
  #await(socket: Socket, remoteAddress: string): void {
    const { tls, limits } = this.#spec;
    if (tls !== null) return;
    this.#handshakes.begin(socket, limits.headerTimeoutMs, () =>
      this.#sink.rejected(this.#spec, 'SLV_REQUEST_TIMEOUT', remoteAddress),
    );
  }

  /** A trusted proxy has the connections of many clients. */
  #count(socket: Socket, client: string, trusted: boolean): boolean {
    if (trusted) return true;
    if (!this.#clients.take(client, this.#spec.limits.connectionsPerClient)) {
      this.#sink.rejected(this.#spec, 'SLV_CLIENT_CONNECTION_LIMIT', client);
      socket.destroy();
      return false;
    }
    socket.once('close', () => this.#clients.release(client));
    return true;
  }
}
