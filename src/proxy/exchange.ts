// The record of one request, made when its head has arrived and read by every later step: `request.selvedge`.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex, Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';
import type { DispatchController } from '../dispatch.ts';
import type { SelvedgeError } from '../errors.ts';
import { withoutQuery } from '../http/query.ts';
import type { LinkedList, Member } from '../linked-list.ts';
import type { Attempt, Exchange, Peer, Policies, Role, RouteInfo, Verdict } from '../plugin.ts';
import type { Connection } from '../runtime/listener-spec.ts';
import type { Version } from './rollout.ts';
import type { RouteTarget, TargetBackend, TargetChain } from './target.ts';

/** Where the exchange hangs on Node's request, so that chain and plugins find it. */
export const EXCHANGE: unique symbol = Symbol('selvedge.exchange');

declare module 'node:http' {
  interface IncomingMessage {
    [EXCHANGE]?: RequestExchange;
  }
}

/** Beyond the mesh, where every request says by itself where it goes. */
export interface WayOut {
  /** Rejects with a SelvedgeError where it may not go. */
  backend(exchange: RequestExchange): Promise<TargetBackend>;
  /** Of a CONNECT: answers it. Rejects while it has no answer; resolves when the tunnel is closed. */
  tunnel(exchange: RequestExchange, reply: FastifyReply): Promise<void>;
}

export class RequestExchange implements Exchange, Member<RequestExchange> {
  list: LinkedList<RequestExchange> | null = null;
  previous: RequestExchange | null = null;
  next: RequestExchange | null = null;
  id: string;
  traceId: string | null = null;
  readonly role: Role;
  readonly owner: string;
  readonly listener: string;
  readonly scheme: 'http' | 'https';
  readonly peer: Peer | null;
  readonly startedAt: number;
  readonly connection: Connection;
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  /** Sink that is told once, when the response is finished or given up. */
  readonly onEnd: (exchange: RequestExchange) => void;

  host = '';
  path = '/';
  query = '';
  /** Normalised request target in origin form: what plugins see as `request.url`. */
  url = '/';
  /** Host header as received, with its port: what is sent on unless a rewrite says otherwise. */
  authority = '';
  /** The port that it names, or null. */
  port: string | null = null;
  clientAddress = '';
  /** The path has `%2F`, `%5C` or a backslash, which only some routes take. */
  encodedSlash = false;
  /** True when the direct peer may state X-Forwarded-* and x-selvedge-* headers. */
  trusted = false;
  route: RouteInfo | null = null;
  target: RouteTarget | null = null;
  chain: TargetChain | null = null;
  service: string | null = null;
  subset: string | null = null;
  /** Of the route's rollout, from the choice of the backend until its outcome is recorded. */
  version: Version | null = null;
  endpoint: string | null = null;
  readonly attempts: Attempt[] = [];
  reason: string | null = null;
  because: string | null = null;
  cache: string | null = null;
  decidedBy: string | null = null;
  verdict: string | null = null;
  /** Set where it leaves the mesh. */
  wayOut: WayOut | null = null;
  authorization: Verdict | null = null;
  policies: Policies | null = null;
  /** Tries that the caller's side has made, this one included; 0: the caller is no hop of the mesh. */
  outerAttempt = 0;
  /** Hops that it has passed, this one included, as the next one is told; null at gateways. */
  hopPath: string | null = null;
  /** It came with a `grpc-timeout`, which is to say what is left when it goes on. */
  grpcTimeout = false;
  bytesOut = 0;
  /** The service's body was read to its end; a plugin may still be sending what it made of it. */
  bodyRead = false;
  /** Of a response that is complete here: bytes that the client has not taken, and since when nothing moved; see runtime/stalled-clients.ts. */
  unsentBytes = 0;
  unsentSince = 0;
  /** Largest request body let through; Infinity: any. */
  bodyLimit = Number.POSITIVE_INFINITY;
  /** Declared body length, or null when chunked or absent. */
  contentLength: number | null = null;
  hasBody = false;
  /** What a preParsing hook made of the body, when it is not the request itself. */
  payload: (Readable & { readonly byteLength?: number }) | null = null;
  expectContinue = false;
  upgrade: string | null = null;
  upgradeSocket: Duplex | null = null;
  upgradeHead: Buffer | null = null;
  /** Its socket belongs to a tunnel, which ends the exchange. */
  tunnelled = false;
  /** Refused before any route was chosen: the chain's terminal handler answers with it. */
  refusal: SelvedgeError | null = null;
  /** Sent to https instead of to any route: the chain's terminal handler says so. */
  redirect: { readonly status: number; readonly location: string } | null = null;
  /** performance.now() milliseconds; Infinity: none came with the request. */
  deadlineAt = Number.POSITIVE_INFINITY;
  /** Endpoint that the caller's side chose, when one hop serves several. */
  preferredEndpoint: string | null = null;
  /** Name of the plugin whose hook ran last: who is to blame when it throws. */
  plugin: string | null = null;
  answeringError = false;
  /** sendTo() of a plugin. */
  override: { readonly service: string | null; readonly subset: string | null } | null = null;
  controller: DispatchController | null = null;
  /** The client went away, or the response is over. */
  ended = false;
  aborted = false;

  constructor(
    connection: Connection,
    req: IncomingMessage,
    res: ServerResponse,
    id: string,
    now: number,
    onEnd: (exchange: RequestExchange) => void,
  ) {
    const spec = connection.listener;
    this.connection = connection;
    this.req = req;
    this.res = res;
    this.id = id;
    this.startedAt = now;
    this.onEnd = onEnd;
    this.role = spec.role;
    this.owner = spec.owner;
    this.listener = spec.name;
    this.scheme = connection.scheme;
    this.peer = connection.peer;
  }

  /** Payload bytes of the request read so far. */
  get bytesIn(): number {
    return receivedBytes(this.req) ?? this.contentLength ?? 0;
  }

  limitBody(bytes: number): void {
    if (bytes < this.bodyLimit) this.bodyLimit = bytes;
  }

  dropQuery(name: string): void {
    const query = withoutQuery(this.query, name);
    if (query.length === this.query.length) return;
    const bare = this.url.slice(0, this.url.length - this.query.length - 1);
    this.query = query;
    this.url = query === '' ? bare : `${bare}?${query}`;
    this.req.url = this.url;
  }

  sendTo(service: string | null, subset: string | null = null): void {
    this.override = { service, subset };
  }

  /** The upstream is let go at once, in whatever phase it is. */
  abort(reason: Error): void {
    if (this.aborted) return;
    this.aborted = true;
    const controller = this.controller;
    if (controller !== null) {
      this.controller = null;
      controller.abort(reason);
    }
  }

  /** Called once by whoever sees the end first: response finished, client gone, tunnel closed. */
  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.onEnd(this);
  }
}

/** A request that counts its payload; see http/metered-request.ts. */
interface Metered {
  readonly receivedBytes: number;
}

function receivedBytes(req: IncomingMessage): number | null {
  const received = (req as Partial<Metered>).receivedBytes;
  return received === undefined ? null : received;
}
