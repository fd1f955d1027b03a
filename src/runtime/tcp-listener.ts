// Where connections come in that are no HTTP: a local port of a hop, or the inbound side of one whose service speaks TCP.
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from 'node:tls';
import type { Logger } from 'pino';
import type { Problem } from '../config/problem.ts';
import { plainAddress } from '../http/address.ts';
import type { Peer } from '../plugin.ts';
import { KEEP_ALIVE_PROBE_MS } from '../upstream/http1/dial.ts';
import { TCP_PROTOCOL } from '../upstream/tcp/greeting.ts';
import { reset } from '../upstream/tcp/splice.ts';
import { Handshakes } from './handshakes.ts';
import { type ListenPlace, listenAt, ownSocket } from './listen-place.ts';
import type { ListenerSpec, RequestSink, TcpArrival } from './listener-spec.ts';
import type { MeshIdentity } from './mesh-identity.ts';
import { NEVER_MS } from './server.ts';
import { tellTls } from './tell-tls.ts';

/**
 * How long a client may say nothing while `mtls: permissive`; then it is one that waits to be spoken to, which no TLS client does.
 * A mesh caller sends its ClientHello at once.
 */
const SILENT_MS = 2_000;

export class TcpListener {
  #spec: ListenerSpec;
  readonly #sink: Pick<RequestSink, 'accept' | 'rejected'>;
  readonly #log: Logger;
  readonly #identity: MeshIdentity | null;
  readonly #place: ListenPlace;
  readonly #server: Server;
  /** Makes handshakes, and listens nowhere; null at a local port. */
  readonly #tls: TlsServer | null;
  readonly #open = new Set<TcpArrival>();
  readonly #handshakes = new Handshakes();

  /** @param identity for `spec.mesh` */
  constructor(
    spec: ListenerSpec,
    sink: Pick<RequestSink, 'accept' | 'rejected'>,
    log: Logger,
    identity: MeshIdentity | null,
    place: ListenPlace = ownSocket,
  ) {
    this.#place = place;
    this.#spec = spec;
    this.#sink = sink;
    this.#identity = identity;
    this.#log = log.child({ listener: spec.key });
    const keepAlive = { keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_PROBE_MS };
    this.#server = createServer({ noDelay: true, ...keepAlive }, (socket) => this.#arrived(socket));
    this.#tls = spec.mesh === null ? null : this.#createTls(spec.mesh.id);
  }

  get spec(): ListenerSpec {
    return this.#spec;
  }

  /** Open connections, handshakes included. */
  get connections(): number {
    return this.#open.size + this.#handshakes.size;
  }

  /** Rejects with a BindError that names listener, address and cause. */
  async bind(): Promise<void> {
    const server = this.#server;
    server.maxConnections = this.#spec.limits.connections;
    await listenAt(server, this.#spec, this.#place);
    server.on('error', (error) => this.#log.error({ err: error }, 'cannot accept a connection'));
    server.on('drop', (dropped) =>
      this.#sink.rejected(this.#spec, 'SLV_CONNECTION_LIMIT', dropped?.remoteAddress ?? ''),
    );
  }

  /** Null when it is not bound. */
  address(): { readonly host: string; readonly port: number } | null {
    const address = this.#server.address();
    return address === null || typeof address === 'string' ? null : { host: address.address, port: address.port };
  }

  /** True when `update` can take `spec` over: the same address, the same protocol, and nobody else of the mesh. */
  canUpdate(spec: ListenerSpec): boolean {
    const { host, port, mesh, protocol } = this.#spec;
    return spec.protocol === protocol && spec.host === host && spec.port === port && spec.mesh?.id === mesh?.id;
  }

  /** For the next connections; open ones go on as they are. */
  update(spec: ListenerSpec): void {
    this.#spec = spec;
    this.#server.maxConnections = spec.limits.connections;
  }

  /** The mesh has given this hop another certificate, or trusts others: for the next handshakes. Open connections go on. */
  refreshIdentity(): void {
    const { mesh } = this.#spec;
    const context = mesh === null || mesh.mode === 'off' ? null : (this.#identity?.contextOptions(mesh.id) ?? null);
    if (context !== null) this.#tls?.setSecureContext(context);
  }

  /** There are none but those of the mesh. */
  async reloadCertificates(): Promise<readonly Problem[]> {
    return [];
  }

  /** Closes the listening socket only. */
  async stopAccepting(): Promise<void> {
    if (this.#server.listening) this.#server.close();
  }

  /** Nobody can tell when such a connection has nothing more to do: it has until it is cut. */
  drain(): void {}

  /** As for `drain`. */
  leave(): void {}

  /** Ends everything at once. */
  destroy(): void {
    void this.stopAccepting();
    this.#handshakes.destroyAll();
    for (const arrival of this.#open) {
      arrival.cut = true;
      reset(arrival);
    }
  }

  #createTls(id: string): TlsServer {
    const peers = { requestCert: true, rejectUnauthorized: true };
    const server = createTlsServer({
      ...(this.#identity?.contextOptions(id) ?? {}),
      ...peers,
      ALPNProtocols: [TCP_PROTOCOL],
      handshakeTimeout: NEVER_MS,
    });
    server.on('secureConnection', (socket) => this.#proven(socket));
    server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
      // Who only opens and closes, as health checks do, is nobody's concern.
      if (error.code === 'ECONNRESET') socket.destroy();
      else this.#refusePeer(socket, error.message);
    });
    return server;
  }

  /** The mode is looked up with every connection: a mesh migrates without a listener being bound anew. */
  #arrived(socket: Socket): void {
    socket.on('error', ignore);
    const mode = this.#spec.mesh?.mode ?? 'off';
    if (mode === 'off') {
      this.#accept(socket, socket, null);
      return;
    }
    const from = socket.remoteAddress ?? '';
    this.#handshakes.begin(socket, this.#spec.limits.tlsHandshakeTimeoutMs, () =>
      this.#sink.rejected(this.#spec, 'SLV_REQUEST_TIMEOUT', from),
    );
    if (mode === 'strict') this.#tls?.emit('connection', socket);
    else
      tellTls(
        socket,
        (isTls) => {
          if (isTls) this.#tls?.emit('connection', socket);
          else this.#accept(socket, this.#handshakes.succeeded(socket) ?? socket, null);
        },
        SILENT_MS,
      );
  }

  /**
   * OpenSSL has accepted the chain; whether it says a name of the mesh is asked here. What becomes of it waits for the next turn: this is
   * called from inside of OpenSSL, and to reset the connection there would free what it still works with (Node crashes).
   */
  #proven(socket: TLSSocket): void {
    socket.on('error', ignore);
    socket.allowHalfOpen = true;
    const peer = (this.#identity as MeshIdentity).verify(socket);
    if (typeof peer === 'string') {
      this.#refusePeer(socket, peer);
      return;
    }
    setImmediate(() => {
      const wire = this.#handshakes.succeeded(socket);
      if (wire === null || wire.destroyed || socket.destroyed) socket.destroy();
      else this.#accept(socket, wire, peer);
    });
  }

  #accept(socket: Socket, wire: Socket, peer: Peer | null): void {
    // Not before: who ends in the middle of a handshake is gone.
    socket.allowHalfOpen = true;
    const remoteAddress = plainAddress(socket.remoteAddress ?? '');
    const arrival: TcpArrival = { listener: this.#spec, socket, wire, remoteAddress, peer };
    this.#open.add(arrival);
    socket.once('close', () => this.#open.delete(arrival));
    try {
      this.#sink.accept(arrival);
    } catch (error) {
      this.#log.error({ err: error }, 'a connection failed on its way in');
      socket.destroy();
    }
  }

  #refusePeer(socket: Socket, reason: string): void {
    const { remoteAddress = '' } = socket;
    this.#sink.rejected(this.#spec, 'SLV_PEER_REFUSED', remoteAddress);
    this.#log.warn({ remoteAddress, reason }, 'a peer was refused');
    socket.destroy();
  }
}

function ignore(): void {
  // It closes as well, and that is what counts.
}
