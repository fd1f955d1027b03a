// How a connection gets into a listener: admitted, through its TLS handshake where there is one, and open from then on.
import type * as http from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Logger } from 'pino';
import type { Peer } from '../plugin.ts';
import { Admission, type Passed } from './admission.ts';
import { codeOfClientError } from './client-error.ts';
import { connectionOf, OpenConnection, type Origin } from './connection.ts';
import { Handshakes } from './handshakes.ts';
import type { ListenerSpec, RequestSink } from './listener-spec.ts';
import type { MeshIdentity } from './mesh-identity.ts';
import { peerFault, RefusedPeers } from './peer-fault.ts';
import { tellTls } from './tell-tls.ts';

export class Acceptor {
  readonly #origin: Origin;
  readonly #sink: Pick<RequestSink, 'rejected'>;
  readonly #log: Logger;
  readonly #identity: MeshIdentity | null;
  readonly #open = new Set<OpenConnection>();
  readonly #closed = forgetIn(this.#open);
  readonly #handshakes = new Handshakes();
  readonly #refusedPeers: RefusedPeers;
  readonly #admission: Admission;
  /** By the TCP socket, until its connection is open. */
  readonly #passed = new WeakMap<Socket, Passed>();

  /**
   * @param origin the listener, asked with every connection
   * @param identity for `spec.mesh`
   */
  constructor(origin: Origin, sink: Pick<RequestSink, 'rejected'>, log: Logger, identity: MeshIdentity | null) {
    this.#origin = origin;
    this.#sink = sink;
    this.#log = log;
    this.#identity = identity;
    this.#refusedPeers = new RefusedPeers(log);
    this.#admission = new Admission(origin.spec, sink, this.#handshakes, this.#refusedPeers);
  }

  /** Upgraded ones included, handshakes not. */
  get open(): ReadonlySet<OpenConnection> {
    return this.#open;
  }

  /** Open connections and handshakes. */
  get size(): number {
    return this.#open.size + this.#handshakes.size;
  }

  /** For the next connections. */
  update(spec: ListenerSpec): void {
    this.#admission.update(spec);
  }

  destroyAll(): void {
    this.#handshakes.destroyAll();
    for (const { socket } of this.#open) socket.destroy();
  }

  listenTo(server: http.Server): void {
    if (this.#origin.spec.mesh !== null) this.#listenToMesh(server);
    else this.#listenToClients(server);
    server.on('clientError', (error, socket) => {
      if (connectionOf(socket) === null) this.#handshakeFailed(error, socket as TLSSocket);
    });
    server.on('drop', (dropped) =>
      this.#sink.rejected(this.#origin.spec, 'SLV_CONNECTION_LIMIT', dropped?.remoteAddress ?? ''),
    );
  }

  #listenToClients(server: http.Server): void {
    const [enter] = server.listeners('connection') as ((socket: Socket) => void)[];
    server.removeAllListeners('connection');
    server.on('connection', (socket: Socket) => {
      // Known already: an offer to upgrade that was not taken, or the inside of a tunnel.
      if (connectionOf(socket) !== null) {
        enter.call(server, socket);
        return;
      }
      const secure = this.#origin.certificates !== null;
      if (secure) this.#handshakeBegins(socket);
      this.#admission.admit(socket, (passed) => {
        if (!secure) this.#opened(socket, undefined, passed);
        else if (passed !== undefined) this.#passed.set(socket, passed);
        enter.call(server, socket);
      });
    });
    if (this.#origin.certificates === null) return;
    server.prependListener('secureConnection', (socket: TLSSocket) => {
      const wire = this.#handshakes.succeeded(socket);
      this.#opened(socket, undefined, wire === null ? undefined : this.#passed.get(wire));
    });
  }

  /** The mode is looked up with every connection: a mesh migrates without a listener being bound anew. */
  #listenToMesh(server: http.Server): void {
    const [handshake] = server.listeners('connection') as ((socket: Socket) => void)[];
    server.removeAllListeners('connection');
    const enter = (socket: Socket): void => {
      const mode = this.#origin.spec.mesh?.mode ?? 'strict';
      if (mode === 'off') {
        server.emit('secureConnection', socket);
        return;
      }
      this.#handshakeBegins(socket);
      if (mode === 'strict') handshake.call(server, socket);
      else
        tellTls(socket, (isTls) => {
          if (isTls) handshake.call(server, socket);
          else server.emit('secureConnection', socket);
        });
    };
    server.on('connection', (socket: Socket) => this.#admission.admit(socket, () => enter(socket)));
    // Before the server's own: a peer that is refused never gets as far as a request.
    server.prependListener('secureConnection', (socket: TLSSocket | Socket) => {
      this.#handshakes.succeeded(socket);
      const peer = 'encrypted' in socket ? (this.#identity as MeshIdentity).verify(socket) : null;
      if (typeof peer === 'string') this.#refusePeer(socket, peer);
      this.#opened(socket, typeof peer === 'string' ? null : peer);
    });
  }

  #handshakeBegins(socket: Socket): void {
    const from = socket.remoteAddress ?? '';
    this.#handshakes.begin(socket, this.#origin.spec.limits.tlsHandshakeTimeoutMs, () => {
      this.#sink.rejected(this.#origin.spec, 'SLV_REQUEST_TIMEOUT', from);
    });
  }

  /** Who only opens and closes, as health checks of load balancers do, is nobody's concern. */
  #handshakeFailed(error: NodeJS.ErrnoException, socket: TLSSocket): void {
    const { spec } = this.#origin;
    const fault = spec.mesh === null ? null : peerFault(error, socket);
    if (fault !== null) {
      this.#refusePeer(socket, fault);
      return;
    }
    const code = codeOfClientError(error);
    if (code !== null) this.#sink.rejected(spec, code, socket.remoteAddress ?? '');
    this.#log.debug({ err: error }, 'TLS handshake failed');
    socket.destroy();
  }

  #refusePeer(socket: Socket, reason: string): void {
    const { remoteAddress = '' } = socket;
    this.#sink.rejected(this.#origin.spec, 'SLV_PEER_REFUSED', remoteAddress);
    this.#refusedPeers.tell(remoteAddress, reason, performance.now());
    socket.destroy();
  }

  #opened(socket: Socket, peer?: Peer | null, passed?: Passed): void {
    // Known already: put back after an upgrade that was not taken.
    if (connectionOf(socket) !== null) return;
    const connection = new OpenConnection(this.#origin, socket, peer, passed);
    this.#open.add(connection);
    socket.on('close', this.#closed);
  }
}

/** One function for all connections of a listener: a closure for each takes 280 bytes. */
function forgetIn(open: Set<OpenConnection>): (this: Socket) => void {
  return function forget(this: Socket) {
    const connection = connectionOf(this);
    if (connection !== null) open.delete(connection);
  };
}
