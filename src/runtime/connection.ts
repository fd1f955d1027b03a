// One open connection of a listener: what is known of the other end, and the response that is being sent on it.
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { plainAddress } from '../http/address.ts';
import type { Authority } from '../http/authority.ts';
import { parseSpiffeId } from '../identity/spiffe-id.ts';
import type { Peer } from '../plugin.ts';
import type { Passed } from './admission.ts';
import { type Certificates, covers, type ServedCertificate } from './certificates.ts';
import type { Connection, ListenerSpec } from './listener-spec.ts';
import { commonName, subjectNames } from './subject-names.ts';

const CONNECTION: unique symbol = Symbol('selvedge.connection');

/** What a connection asks of the listener that it came in by, as the listener is now. */
export interface Origin {
  readonly spec: ListenerSpec;
  readonly certificates: Certificates | null;
}

export class OpenConnection implements Connection {
  readonly scheme: 'http' | 'https';
  readonly remoteAddress: string;
  readonly localPort: number;
  readonly unnamed: boolean;
  readonly peer: Peer | null;
  readonly serverName: string | null;
  readonly socket: Socket;
  /** The response to the newest request; null before the first, and again once it is closed: it would keep that whole request alive. */
  response: ServerResponse | null = null;
  /** No request has come on it yet. */
  fresh = true;
  /** A refusal is on its way or waits for its turn. */
  refused = false;
  /** Target of the CONNECT inside which its requests come; null: they come by themselves. */
  tunnel: string | null = null;
  authority: Authority | undefined = undefined;
  inFlight = 0;
  readonly #origin: Origin;
  readonly #served: ServedCertificate | null;
  /** The last answer of `servesAuthority`: nearly every connection asks for one host only. */
  #asked = '';
  #answer = true;

  /**
   * @param peer of the mesh, verified already; undefined: as the TLS of the listener says
   * @param passed by its PROXY header; undefined: it had none to send
   */
  constructor(origin: Origin, socket: Socket, peer?: Peer | null, passed?: Passed) {
    this.#origin = origin;
    this.socket = socket;
    this.remoteAddress = passed?.sourceAddress ?? plainAddress(socket.remoteAddress ?? '');
    this.localPort = passed?.destinationPort ?? socket.localPort ?? 0;
    this.unnamed = passed === null;
    const { certificates } = origin;
    this.scheme = 'encrypted' in socket ? 'https' : 'http';
    const { servername } = socket as TLSSocket;
    this.serverName = certificates !== null && typeof servername === 'string' ? servername.toLowerCase() : null;
    this.#served = certificates === null || this.serverName === null ? null : certificates.choose(this.serverName);
    const asked = certificates !== null && origin.spec.tls?.clientCertificate != null;
    this.peer = peer !== undefined ? peer : asked ? peerOf(socket as TLSSocket, origin.spec.meshDomain) : null;
    (socket as Tagged)[CONNECTION] = this;
  }

  /** To be called with the response to each request that Node's parser hands over. */
  asked(response: ServerResponse): void {
    this.fresh = false;
    this.response = response;
    response.on('close', forget);
  }

  get listener(): ListenerSpec {
    return this.#origin.spec;
  }

  /** A response is not over yet. */
  get busy(): boolean {
    return this.response !== null && !this.response.closed && !this.response.writableFinished;
  }

  /** What still comes is no request (RFC 9112 section 9.6): acting on it would be acting without an answer. */
  get closing(): boolean {
    return this.refused || (this.busy && this.response?.shouldKeepAlive === false);
  }

  /**
   * False when the client asks for a host (`host[:port]` as received) that another certificate than the one of this connection would be
   * chosen for: 421 Misdirected Request (RFC 9110 section 15.5.20). Without TLS, server name or choice everything is served.
   */
  servesAuthority(authority: string): boolean {
    const served = this.#served;
    if (served === null || authority === '') return true;
    if (authority !== this.#asked) {
      const host = authority.toLowerCase().replace(/\.?(?::\d*)?$/, '');
      this.#asked = authority;
      this.#answer = covers(served, host) || (this.#origin.certificates as Certificates).choose(host) === served;
    }
    return this.#answer;
  }
}

interface Tagged {
  [CONNECTION]?: OpenConnection;
}

/** Null for a socket whose TLS handshake is not over. */
export function connectionOf(socket: object): OpenConnection | null {
  return (socket as Tagged)[CONNECTION] ?? null;
}

function forget(this: ServerResponse): void {
  const connection = connectionOf(this.req.socket);
  if (connection?.response === this) connection.response = null;
}

/**
 * Null without a certificate, and for one that did not verify against the CA of the listener. That CA is for clients: it cannot make ids
 * of the mesh, which only the mesh's own roots prove, so such a peer has an id but no trust domain and no service.
 */
function peerOf(socket: TLSSocket, meshDomain: string): Peer | null {
  if (!socket.authorized) return null;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return null;
  const uri = subjectNames(certificate).find(({ type }) => type === 'URI');
  const spiffe = parseSpiffeId(uri?.value ?? '');
  const foreign = spiffe === null || spiffe.trustDomain === meshDomain ? null : spiffe;
  const service = foreign?.path.startsWith('service/') ? foreign.path.slice('service/'.length) : null;
  // Undefined where the subject is empty, whatever its type says.
  const subject: string = certificate.subject ?? '';
  return {
    id: uri?.value ?? commonName(certificate) ?? subject,
    trustDomain: foreign?.trustDomain ?? null,
    service,
    subject,
    fingerprint256: certificate.fingerprint256,
    verified: true,
    expiresAt: Date.parse(certificate.validTo),
  };
}
