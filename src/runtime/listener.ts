// Where the outside comes in: one address with its server, from bind to drain, as reloads and the mesh change it.
import type * as http from 'node:http';
import type * as https from 'node:https';
import { Server as NetServer } from 'node:net';
import type { Logger } from 'pino';
import type { Problem } from '../config/problem.ts';
import { Acceptor } from './acceptor.ts';
import { BindError } from './bind-error.ts';
import { Certificates } from './certificates.ts';
import type { OpenConnection } from './connection.ts';
import { type ListenPlace, listenAt, ownSocket } from './listen-place.ts';
import type { ListenerSpec, RequestSink } from './listener-spec.ts';
import type { MeshIdentity } from './mesh-identity.ts';
import { RequestIntake } from './request-intake.ts';
import { applyLimits, applyTls, createMeshServer, createServer } from './server.ts';

/** Closing at once would break a request that is on its way, for as long as a round trip across the world takes. */
const PARTING_MS = 250;

export class Listener {
  #spec: ListenerSpec;
  readonly #log: Logger;
  readonly #identity: MeshIdentity | null;
  readonly #place: ListenPlace;
  readonly #acceptor: Acceptor;
  readonly #intake: RequestIntake;
  #server: http.Server | null = null;
  #certificates: Certificates | null = null;

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
    this.#identity = identity;
    this.#log = log.child({ listener: spec.key });
    this.#acceptor = new Acceptor(this, sink, this.#log, identity);
    this.#intake = new RequestIntake(sink, this.#log);
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
    return this.#acceptor.size;
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
    this.#acceptor.listenTo(server);
    this.#intake.listenTo(server);
    // Node's look-out for late heads runs until http.Server.close, which stopAccepting avoids.
    server.once('close', () => server.close());
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
    this.#acceptor.update(spec);
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

  /**
   * From now on every response says `connection: close`, and connections that stay idle for `partingMs` are closed. Upgraded connections
   * go on.
   */
  drain(partingMs = PARTING_MS): void {
    this.#intake.drain();
    for (const connection of this.#acceptor.open) closeWhenIdle(connection, partingMs);
  }

  /** It has gone from the config: what is under way ends, idle connections are closed at once, and further requests are refused. */
  leave(): void {
    this.#intake.leave();
    for (const connection of this.#acceptor.open) closeWhenIdle(connection, 0);
  }

  /** Ends everything at once. */
  destroy(): void {
    void this.stopAccepting();
    this.#acceptor.destroyAll();
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
}

/** A connection that has had no request yet may still send one: it is answered with `connection: close`. */
function closeWhenIdle(connection: OpenConnection, partingMs: number): void {
  const { fresh, response } = connection;
  if (fresh) return;
  if (response === null || !connection.busy) {
    closeUnlessAsked(connection, partingMs);
    return;
  }
  response.shouldKeepAlive = false;
  response.once('close', () => closeUnlessAsked(connection, partingMs));
}

/** A request that comes meanwhile is answered, and says by itself that the connection ends. */
function closeUnlessAsked(connection: OpenConnection, partingMs: number): void {
  const { socket } = connection;
  const close = (): void => {
    if (!connection.busy && !socket.destroyed) socket.destroySoon();
  };
  if (partingMs > 0) setTimeout(close, partingMs).unref();
  else close();
}
