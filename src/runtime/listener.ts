// Where the outside comes in: one address, its server, and every connection from accept to close.
import type * as http from 'node:http';
import type * as https from 'node:https';
import { Server as NetServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { Logger } from 'pino';
import type { Problem } from '../config/problem.ts';
import type { Code } from '../errors.ts';
import { checkRequest } from '../http/request-check.ts';
import type { Peer } from '../plugin.ts';
import { Admission, type Passed } from './admission.ts';
import { BindError } from './bind-error.ts';
import { Certificates } from './certificates.ts';
import { codeOfClientError } from './client-error.ts';
import { connectionOf, OpenConnection } from './connection.ts';
import { Handshakes } from './handshakes.ts';
import { type ListenPlace, listenAt, ownSocket } from './listen-place.ts';
import { EXPECT_CONTINUE, type ListenerSpec, type RequestSink } from './listener-spec.ts';
import type { MeshIdentity } from './mesh-identity.ts';
import { peerFault, RefusedPeers } from './peer-fault.ts';
import { newRefusal, refuseInTurn, refuseRequest } from './refusal.ts';
import { applyLimits, applyTls, createMeshServer, createServer } from './server.ts';
import { tellTls } from './tell-tls.ts';
import { putBack, takesUpgrade } from './upgrade-offer.ts';

/**
 * Requests of one connection that may be under way at once. Node hands over all that it finds in one read, up to some 1,800, and each
 * would go upstream; no client that means well pipelines this deep.
 */
const MAX_PIPELINED = 100;

export class Listener {
  #spec: ListenerSpec;
  readonly #sink: RequestSink;
  readonly #log: Logger;
  readonly #identity: MeshIdentity | null;
  readonly #place: ListenPlace;
  #server: http.Server | null = null;
  #certificates: Certificates | null = null;
  #draining = false;
  readonly #open = new Set<OpenConnection>();
  readonly #closed = forgetIn(this.#open);
  readonly #handshakes = new Handshakes();
  readonly #refusedPeers: RefusedPeers;
  readonly #admission: Admission;
  /** By the TCP socket, until its connection is open. */
  readonly #passed = new WeakMap<Socket, Passed>();

  /** @param identity for `spec.mesh` */
  constructor(
    spec: ListenerSpec,
    sink: RequestSink,
    log: Logger,
    identity: MeshIdentity | null = null,
    place: ListenPlace = ownSocket,
  ) {
    this.#place = place;
    this.#spec = spec;
    this.#sink = sink;
    this.#identity = identity;
    this.#log = log.child({ listener: spec.key });
    this.#refusedPeers = new RefusedPeers(this.#log);
    this.#admission = new Admission(spec, sink, this.#handshakes, this.#refusedPeers);
  }

  get spec(): ListenerSpec {
    return this.#spec;
  }

  /** As connections need it: see OpenConnection. */
  get certificates(): Certificates | null {
    return this.#certificates;
  }

  /** Open connections, handshakes and upgraded ones included. */
  get connections(): number {
    return this.#open.size + this.#handshakes.size;
  }

  /** Rejects with a BindError that names listener, address and cause. */
  async bind(): Promise<void> {
    const { tls, limits } = this.#spec;
    try {
      this.#certificates = tls === null ? null : new Certificates(tls);
    } catch (error) {
      throw new BindError(this.#spec, error as Error);
    }
    const server = this.#create();
    applyLimits(server, limits);
    if (tls !== null) applyTls(server, tls, this.#certificates as Certificates, false);
    this.#listenTo(server);
    await listenAt(server, this.#spec, this.#place);
    // A failed accept (no file descriptors left) is that connection's misfortune, not the listener's.
    server.on('error', (error) => this.#log.error({ err: error }, 'cannot accept a connection'));
    this.#server = server;
  }

  /** Null when it is not bound. */
  address(): { readonly host: string; readonly port: number } | null {
    const address = this.#server?.address() ?? null;
    return address === null || typeof address === 'string' ? null : { host: address.address, port: address.port };
  }

  /** True when `update` can take `spec` over: the same address, with TLS or without as now, and nobody else of the mesh. */
  canUpdate(spec: ListenerSpec): boolean {
    const { host, port, tls, mesh, protocol } = this.#spec;
    return (
      spec.protocol === protocol &&
      spec.host === host &&
      spec.port === port &&
      (spec.tls === null) === (tls === null) &&
      spec.mesh?.id === mesh?.id
    );
  }

  /**
   * Takes limits, certificates and client certificate policy over without dropping a connection; open ones keep their certificate.
   * Never throws: a certificate that cannot be used leaves the old one in force, is logged, and returned by the next `reloadCertificates`.
   */
  update(spec: ListenerSpec): void {
    this.#spec = spec;
    this.#admission.update(spec);
    if (this.#server !== null) applyLimits(this.#server, spec.limits);
    for (const problem of this.#readCertificates()) this.#log.error(problem.message);
  }

  /** The mesh has given this hop another certificate, or trusts others: for the next handshakes. Open connections go on. */
  refreshIdentity(): void {
    const { mesh } = this.#spec;
    const context = mesh === null || mesh.mode === 'off' ? null : (this.#identity?.contextOptions(mesh.id) ?? null);
    if (context !== null && this.#server !== null) (this.#server as https.Server).setSecureContext(context);
  }

  /** Reads certificates, keys and CA again. What cannot be used keeps the old one and is returned. */
  async reloadCertificates(): Promise<readonly Problem[]> {
    return this.#readCertificates();
  }

  /** Closes the listening socket only: open connections go on, idle ones too. */
  async stopAccepting(): Promise<void> {
    // http.Server.close would also cut idle connections and stop enforcing headerTimeout.
    if (this.#server?.listening) NetServer.prototype.close.call(this.#server);
  }

  /** From now on every response says `connection: close`, and idle keep-alive connections are closed. Upgraded connections go on. */
  drain(): void {
    this.#draining = true;
    for (const connection of this.#open) closeWhenIdle(connection);
  }

  /** Ends everything at once. */
  destroy(): void {
    void this.stopAccepting();
    this.#handshakes.destroyAll();
    for (const { socket } of this.#open) socket.destroy();
  }

  #readCertificates(): readonly Problem[] {
    const { tls } = this.#spec;
    if (tls === null || this.#certificates === null || this.#server === null) return [];
    const { changed, problems } = this.#certificates.reload(tls);
    applyTls(this.#server, tls, this.#certificates, changed);
    return problems;
  }

  #create(): http.Server {
    const { mesh } = this.#spec;
    return mesh === null
      ? createServer(this.#certificates)
      : createMeshServer(this.#identity?.contextOptions(mesh.id) ?? {});
  }

  #listenTo(server: http.Server): void {
    const { mesh } = this.#spec;
    if (mesh !== null) this.#listenToMesh(server);
    else this.#listenToClients(server);
    server.on('request', (req, res) => this.#request(req, res));
    server.on('checkContinue', (req, res) => {
      (req as { [EXPECT_CONTINUE]?: boolean })[EXPECT_CONTINUE] = true;
      this.#request(req, res);
    });
    server.on('checkExpectation', (req, res) => this.#request(req, res, 'SLV_EXPECTATION_FAILED'));
    server.on('upgrade', (req, socket, head) => this.#upgrade(req, socket, head));
    server.on('connect', (req, socket, head) => this.#connect(req, socket, head));
    server.on('clientError', (error, socket) => this.#clientError(error, socket as Socket));
    server.on('drop', (dropped) =>
      this.#sink.rejected(this.#spec, 'SLV_CONNECTION_LIMIT', dropped?.remoteAddress ?? ''),
    );
    // Node's look-out for late heads runs until http.Server.close, which stopAccepting avoids.
    server.once('close', () => server.close());
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
      const secure = this.#certificates !== null;
      if (secure) this.#handshakeBegins(socket);
      this.#admission.admit(socket, (passed) => {
        if (!secure) this.#opened(socket, undefined, passed);
        else if (passed !== undefined) this.#passed.set(socket, passed);
        enter.call(server, socket);
      });
    });
    if (this.#certificates === null) return;
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
      const mode = this.#spec.mesh?.mode ?? 'strict';
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

  #refusePeer(socket: Socket, reason: string): void {
    const { remoteAddress = '' } = socket;
    this.#sink.rejected(this.#spec, 'SLV_PEER_REFUSED', remoteAddress);
    this.#refusedPeers.tell(remoteAddress, reason, performance.now());
    socket.destroy();
  }

  #handshakeBegins(socket: Socket): void {
    const from = socket.remoteAddress ?? '';
    this.#handshakes.begin(socket, this.#spec.limits.tlsHandshakeTimeoutMs, () => {
      this.#sink.rejected(this.#spec, 'SLV_REQUEST_TIMEOUT', from);
    });
  }

  #opened(socket: Socket, peer?: Peer | null, passed?: Passed): void {
    // Known already: put back after an upgrade that was not taken.
    if (connectionOf(socket) !== null) return;
    const connection = new OpenConnection(this, socket, peer, passed);
    this.#open.add(connection);
    socket.on('close', this.#closed);
  }

  #request(req: http.IncomingMessage, res: http.ServerResponse, refusal: Code | null = null): void {
    const connection = connectionOf(req.socket) as OpenConnection;
    if (connection.closing) return;
    // Behind an offer to upgrade that is not taken, Node's parser drops what it has read of the next request: there must be none.
    if (this.#draining || req.headers.upgrade !== undefined) res.shouldKeepAlive = false;
    const code = this.#check(connection, req) ?? refusal;
    connection.asked(res);
    if (code === null) {
      this.#handOver(connection, () => this.#sink.request(connection, req, res));
      return;
    }
    connection.refused = true;
    refuseRequest(res, this.#refusal(connection, code), this.#spec.errorPages);
  }

  #upgrade(req: http.IncomingMessage, socket: Duplex, head: Buffer): void {
    const connection = connectionOf(socket) as OpenConnection;
    socket.on('error', ignore);
    if (connection.closing) return;
    const code = this.#check(connection, req);
    if (code !== null) this.#refuseInTurn(connection, code);
    else if (takesUpgrade(req)) this.#handOver(connection, () => this.#sink.upgrade(connection, req, socket, head));
    else if (connection.busy) connection.response?.once('close', () => this.#parseAgain(connection, req, head));
    else this.#parseAgain(connection, req, head);
  }

  /** Only Node before 24.9 gets here: see `putBack`. */
  #parseAgain({ socket, scheme }: OpenConnection, req: http.IncomingMessage, head: Buffer): void {
    socket.off('error', ignore);
    putBack(req, socket, head);
    this.#server?.emit(scheme === 'https' ? 'secureConnection' : 'connection', socket);
  }

  #connect(req: http.IncomingMessage, socket: Duplex, head: Buffer): void {
    const connection = connectionOf(socket) as OpenConnection;
    socket.on('error', ignore);
    if (connection.closing) return;
    const code = this.#refusesConnect(connection) ?? this.#check(connection, req) ?? checkConnect(req);
    if (code !== null) {
      this.#refuseInTurn(connection, code);
      return;
    }
    const enter = (): void => {
      if (!socket.writable) return;
      this.#handOver(connection, () =>
        this.#sink.connect(connection, req, socket, head, () => this.#openTunnel(connection, req, head)),
      );
    };
    // Responses to earlier requests come first.
    if (connection.busy) connection.response?.once('close', enter);
    else enter();
  }

  /** An outbound side is an HTTP proxy, once a connection; a local port of it leads to one service and is none. */
  #refusesConnect({ tunnel }: OpenConnection): Code | null {
    const { role, fixedService } = this.#spec;
    return role === 'outbound' && fixedService === null && tunnel === null ? null : 'SLV_METHOD_UNSUPPORTED';
  }

  /** What follows the 200 enters like any request: as a new connection for Node's parser, as the same one for us. */
  #openTunnel(connection: OpenConnection, req: http.IncomingMessage, head: Buffer): void {
    const { socket } = connection;
    if (!socket.writable) return;
    connection.tunnel = req.url as string;
    socket.off('error', ignore);
    socket.setTimeout(0);
    socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
    if (head.length > 0) socket.unshift(head);
    this.#server?.emit('connection', socket);
  }

  /** What is thrown here would end the process: it ends the connection instead. */
  #handOver({ socket }: OpenConnection, enter: () => void): void {
    try {
      enter();
    } catch (error) {
      this.#log.error({ err: error }, 'a request failed before it entered its chain');
      socket.destroy();
    }
  }

  #check(connection: OpenConnection, req: http.IncomingMessage): Code | null {
    const code = checkRequest(req, this.#spec.limits);
    if (code !== null) return code;
    if (connection.inFlight >= MAX_PIPELINED) return 'SLV_CONNECTION_LIMIT';
    if (req.method === 'TRACE' && this.#spec.role === 'gateway') return 'SLV_METHOD_UNSUPPORTED';
    return connection.servesAuthority(req.headers.host ?? '') ? null : 'SLV_MISDIRECTED';
  }

  #clientError(error: NodeJS.ErrnoException, socket: Socket): void {
    const connection = connectionOf(socket);
    const code = codeOfClientError(error);
    if (connection === null) {
      // The TLS handshake failed. Who only opens and closes, as health checks of load balancers do, is nobody's concern.
      const fault = this.#spec.mesh === null ? null : peerFault(error, socket as TLSSocket);
      if (fault !== null) {
        this.#refusePeer(socket, fault);
        return;
      }
      if (code !== null) this.#sink.rejected(this.#spec, code, socket.remoteAddress ?? '');
      this.#log.debug({ err: error }, 'TLS handshake failed');
      socket.destroy();
      return;
    }
    if (connection.refused) return;
    if (connection.tunnel !== null && beginsTls(error))
      this.#log.warn(
        { authority: connection.tunnel },
        'TLS inside CONNECT to a service of the mesh: call it by http://',
      );
    const silent = connection.fresh && socket.bytesRead === 0;
    if (code === null || silent) socket.destroy(error);
    // What follows `connection: close` is no request any more (RFC 9112 section 9.6); the answer before it still goes out.
    else if (error.code !== 'HPE_CLOSED_CONNECTION') this.#refuseInTurn(connection, code, error);
  }

  #refuseInTurn(connection: OpenConnection, code: Code, cause?: Error): void {
    connection.refused = true;
    refuseInTurn(connection, this.#refusal(connection, code, cause));
  }

  #refusal(connection: OpenConnection, code: Code, cause?: Error) {
    const refusal = newRefusal(code);
    this.#sink.rejected(this.#spec, code, connection.remoteAddress);
    this.#log.debug({ ...refusal, remoteAddress: connection.remoteAddress, err: cause }, 'request refused');
    return refusal;
  }
}

/** One function for all connections of a listener: a closure for each takes 280 bytes. */
function forgetIn(open: Set<OpenConnection>): (this: Socket) => void {
  return function forget(this: Socket) {
    const connection = connectionOf(this);
    if (connection !== null) open.delete(connection);
  };
}

/** A connection that has had no request yet may still send one: it is answered with `connection: close`. */
function closeWhenIdle(connection: OpenConnection): void {
  const { fresh, response, socket } = connection;
  if (fresh) return;
  if (response === null || !connection.busy) {
    socket.destroySoon();
    return;
  }
  response.shouldKeepAlive = false;
  // A newer one says by itself that the connection ends.
  response.once('close', () => {
    if (!connection.busy) socket.destroySoon();
  });
}

/** It has no content (RFC 9110 section 9.3.6): whoever reads a length there sees the tunnel begin elsewhere than we do. */
function checkConnect({ headers }: http.IncomingMessage): Code | null {
  const framed = headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined;
  return framed ? 'SLV_BAD_REQUEST' : null;
}

/** Content type 22, handshake (RFC 8446 section 5.1), where a request line was expected. */
function beginsTls(error: NodeJS.ErrnoException & { readonly rawPacket?: Buffer }): boolean {
  return error.rawPacket?.[0] === 22;
}

function ignore(): void {
  // Whoever has the socket sees its close.
}
