// What a role asks of the runtime: one address to listen on, with whose limits and for whom.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { ClientAddress, Limits, ListenerTls, MtlsMode, Place } from '../config/model.ts';
import type { Authority } from '../http/authority.ts';
import type { ErrorPages } from '../http/error-pages.ts';
import type { HostSet } from '../http/host-set.ts';
import type { Peer, Role } from '../plugin.ts';

/** Set on a request that came with `Expect: 100-continue`: nobody has answered 100 yet. */
export const EXPECT_CONTINUE: unique symbol = Symbol('selvedge.expectContinue');

export interface ListenerSpec {
  /** Stable across reloads: `gateway/public/https`, `inbound/orders`, `outbound/orders`, `outbound/orders/inventory`. */
  readonly key: string;
  readonly role: Role;
  /** Gateway name, or the service whose hop this is. */
  readonly owner: string;
  /** Listener name in its gateway; `inbound`, `outbound`, or the service name of a local port. */
  readonly name: string;
  readonly host: string;
  /** 0: any free port (tests, `selvedge proxy :0`). */
  readonly port: number;
  readonly tls: ListenerTls | null;
  /** The inbound side of a hop: who it is (SPIFFE id), and how peers are to come. Null: not of the mesh, see `tls`. */
  readonly mesh: { readonly id: string; readonly mode: MtlsMode } | null;
  /** Trust domain of the mesh: who comes in by the certificates of `tls` cannot be of it, whatever they say. */
  readonly meshDomain: string;
  readonly limits: Limits;
  /** `anyPeer`: whoever connects may say where a request comes from (hops); otherwise trusted proxies only. */
  readonly clientAddress: ClientAddress & { readonly anyPeer?: boolean };
  /** `tcp`: connections are passed on as they are; not given: HTTP. */
  readonly protocol?: 'tcp';
  /** Outbound local port: every request goes to this service, whatever its Host says. */
  readonly fixedService: string | null;
  /** Every request is sent to https at `port`, those for hosts that nobody serves excepted; not given: requests are served. */
  readonly redirect?: { readonly port: number; readonly hosts: HostSet | null };
  /** What its answers say instead of problem documents; not given: nothing else. */
  readonly errorPages?: ErrorPages;
  readonly at: Place;
}

/** What a connection is known by; one object per connection, made when it opens. */
export interface Connection {
  readonly listener: ListenerSpec;
  readonly scheme: 'http' | 'https';
  /** The TCP peer, or who its PROXY header says it passes on; IPv4-mapped IPv6 written as IPv4. */
  readonly remoteAddress: string;
  /** The port that was connected to; with a PROXY header, that of the load balancer. */
  readonly localPort: number;
  /** Its PROXY header names nobody: the load balancer's own check, or it does not know. Its headers count for nothing. */
  readonly unnamed?: boolean;
  /** Verified client certificate, when the listener asks for one. */
  readonly peer: Peer | null;
  /** Server name of the TLS handshake, lower-case; null without TLS or SNI. */
  readonly serverName: string | null;
  /** Of its last request: clients repeat themselves. */
  authority?: Authority;
  /** Requests of it that are not over; more than one when the client pipelines. */
  inFlight?: number;
}

/** A connection that is no HTTP, its peer verified already where it showed who it is. */
export interface TcpArrival {
  readonly listener: ListenerSpec;
  /** What to read and write; kept from reading until somebody wants to. */
  readonly socket: Socket;
  /** The TCP connection below it: the same without TLS. */
  readonly wire: Socket;
  /** IPv4-mapped IPv6 written as IPv4. */
  readonly remoteAddress: string;
  /** Null: no certificate, or nobody asked. */
  readonly peer: Peer | null;
  /** Its listener is gone and it has had its time. */
  cut?: boolean;
}

/** Where a listener hands over; implemented by the data plane. */
export interface RequestSink {
  request(connection: Connection, req: IncomingMessage, res: ServerResponse): void;
  upgrade(connection: Connection, req: IncomingMessage, socket: Duplex, head: Buffer): void;
  /**
   * CONNECT where it may be a service of the mesh (`RequestIntake` refuses it elsewhere). Either `open` is called and what follows is read as
   * HTTP of this listener, or it is answered or taken over here.
   */
  connect(connection: Connection, req: IncomingMessage, socket: Duplex, head: Buffer, open: () => void): void;
  /** Of a listener with `protocol: tcp`. */
  accept(arrival: TcpArrival): void;
  /** A connection was refused before any request could be read: malformed, too slow, too large. For metrics and log. */
  rejected(listener: ListenerSpec, code: import('../errors.ts').Code, remoteAddress: string): void;
}
