// Where a request begins: normalised, matched against the current snapshot, and sent into its chain.
import { randomBytes } from 'node:crypto';
import { type IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Logger } from 'pino';
import type { Counter, Registry } from 'prom-client';
import * as prom from 'prom-client';
import { type Code, reasonOf, SelvedgeError } from '../errors.ts';
import { clientOf } from '../gateway/trust.ts';
import { type Authority, parseAuthority } from '../http/authority.ts';
import { parseGrpcTimeout } from '../http/grpc-timeout.ts';
import { normalizeHost, normalizePath, splitTarget } from '../http/path.ts';
import { LinkedList } from '../linked-list.ts';
import type { Chain } from '../proxy/chain.ts';
import { EXCHANGE, RequestExchange } from '../proxy/exchange.ts';
import { HOP_PATH, passThrough } from '../proxy/hop-path.ts';
import { sanitiseHeaders } from '../proxy/request-headers.ts';
import { recordOutcome } from '../proxy/rollout-outcome.ts';
import type { RouteTarget } from '../proxy/target.ts';
import { TcpConnections } from '../proxy/tcp/connections.ts';
import { leaveWithClient } from '../proxy/upgrade.ts';
import { calledHost } from '../routing/address-book.ts';
import type { Lookup } from '../routing/table.ts';
import { namesMesh, understandTunnel } from './connect.ts';
import type { ListenerPlan } from './listener-plan.ts';
import {
  type Connection,
  EXPECT_CONTINUE,
  type ListenerSpec,
  type RequestSink,
  type TcpArrival,
} from './listener-spec.ts';
import { sendToHttps } from './redirect.ts';
import type { Snapshot } from './snapshot.ts';
import { cutStalled, STALL_CHECK_MS } from './stalled-clients.ts';

export class DataPlane implements RequestSink {
  #snapshot: Snapshot | null = null;
  #inFlight = 0;
  #draining = false;
  #sequence = 0;
  #nextLoopAt = 0;
  #idle: (() => void)[] = [];
  readonly #live = new LinkedList<RequestExchange>();
  readonly #rejected: Counter<string>;
  readonly #tcp: TcpConnections;
  readonly #log: Logger;
  /** Unguessable, and apart from other processes'; a counter makes it unique within this one. */
  readonly #idPrefix = randomBytes(9).toString('base64url');
  readonly #stallCheck = setInterval(() => cutStalled(this.#live, performance.now()), STALL_CHECK_MS).unref();

  constructor(registry: Registry, log: Logger) {
    this.#log = log;
    this.#tcp = new TcpConnections(registry, log, () => this.#tellIdle());
    this.#rejected =
      (registry.getSingleMetric('selvedge_rejected_requests_total') as Counter<string> | undefined) ??
      new prom.Counter({
        name: 'selvedge_rejected_requests_total',
        help: 'Connections and requests refused before they could be read: malformed, too slow, too large, too many.',
        labelNames: ['role', 'owner', 'listener', 'code'],
        registers: [registry],
      });
  }

  get current(): Snapshot | null {
    return this.#snapshot;
  }

  /** Requests, upgraded connections and those of TCP services that are not over. */
  get inFlight(): number {
    return this.#inFlight + this.#tcp.size;
  }

  /** From here on requests see the new snapshot; what only the old one used closes once its last request is over. */
  swap(snapshot: Snapshot): void {
    const previous = this.#snapshot;
    this.#snapshot = snapshot;
    snapshot.activate();
    previous?.retire(snapshot);
  }

  /** Every response from now on says `connection: close`. */
  drain(): void {
    this.#draining = true;
  }

  /** Resolves when nothing is in flight. */
  whenIdle(): Promise<void> {
    if (this.inFlight === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Ends everything that is in flight, at once. */
  abortAll(): void {
    const error = new SelvedgeError('SLV_DRAINING', 'the gateway is shutting down');
    for (const exchange of [...this.#live]) {
      exchange.reason ??= error.reason;
      exchange.req.socket.destroy();
    }
    this.#tcp.abortAll();
  }

  async close(): Promise<void> {
    clearInterval(this.#stallCheck);
    this.abortAll();
    this.#tcp.close();
    const snapshot = this.#snapshot;
    this.#snapshot = null;
    await snapshot?.close();
  }

  request(connection: Connection, req: IncomingMessage, res: ServerResponse): void {
    const exchange = this.#begin(connection, req, res);
    res.on('close', onResponseClose);
    this.#enter(exchange);
  }

  upgrade(connection: Connection, req: IncomingMessage, socket: Duplex, head: Buffer): void {
    const exchange = this.#beginRaw(connection, req, socket, head);
    exchange.upgrade = String(req.headers.upgrade).toLowerCase();
    this.#enter(exchange);
  }

  connect(connection: Connection, req: IncomingMessage, socket: Duplex, head: Buffer, open: () => void): void {
    const plan = this.#snapshot?.plans.get(connection.listener.key);
    if (plan === undefined) {
      socket.destroy();
      return;
    }
    if (namesMesh(plan, req.url as string)) open();
    else this.#enter(this.#beginRaw(connection, req, socket, head));
  }

  accept(arrival: TcpArrival): void {
    const plan = this.#snapshot?.tcp.get(arrival.listener.key);
    if (plan === undefined) arrival.socket.destroy();
    else this.#tcp.accept(plan, arrival);
  }

  /** Node's parser has let go of the socket: the response has to be told where it goes. */
  #beginRaw(connection: Connection, req: IncomingMessage, socket: Duplex, head: Buffer): RequestExchange {
    const res = new ServerResponse(req);
    res.shouldKeepAlive = false;
    res.assignSocket(socket as Socket);
    const exchange = this.#begin(connection, req, res);
    exchange.upgradeSocket = socket;
    exchange.upgradeHead = head;
    socket.on('error', ignoreSocketError);
    socket.once('close', () => finishAbandoned(exchange));
    leaveWithClient(socket);
    res.once('finish', () => {
      if (res.socket === null) return;
      res.detachSocket(socket as Socket);
      (socket as Socket).destroySoon();
    });
    return exchange;
  }

  rejected(listener: ListenerSpec, code: Code): void {
    this.#rejected.inc({ role: listener.role, owner: listener.owner, listener: listener.name, code });
  }

  #begin(connection: Connection, req: IncomingMessage, res: ServerResponse): RequestExchange {
    const id = `${this.#idPrefix}${(++this.#sequence).toString(36)}`;
    const exchange = new RequestExchange(connection, req, res, id, performance.now(), this.#ended);
    req[EXCHANGE] = exchange;
    this.#inFlight++;
    connection.inFlight = (connection.inFlight ?? 0) + 1;
    this.#live.push(exchange);
    if (this.#draining) res.shouldKeepAlive = false;
    return exchange;
  }

  readonly #ended = (exchange: RequestExchange): void => {
    this.#live.remove(exchange);
    if (exchange.version !== null) recordOutcome(exchange, performance.now());
    const { connection } = exchange;
    connection.inFlight = (connection.inFlight ?? 1) - 1;
    exchange.chain?.leave();
    this.#inFlight--;
    this.#tellIdle();
  };

  #tellIdle(): void {
    if (this.#idle.length === 0 || this.inFlight > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** What is thrown on the way into a chain is nobody's answer any more: it costs this connection, and nothing else. */
  #enter(exchange: RequestExchange): void {
    try {
      this.#route(exchange);
    } catch (error) {
      this.#log.error({ err: error, requestId: exchange.id }, 'a request failed on its way into its chain');
      exchange.reason = reasonOf('SLV_INTERNAL');
      exchange.req.socket.destroy();
      finishAbandoned(exchange);
    }
  }

  /** The config is to blame, so all of them say the same. */
  #tellLoop(exchange: RequestExchange, { message }: SelvedgeError): void {
    if (exchange.startedAt < this.#nextLoopAt) return;
    this.#nextLoopAt = exchange.startedAt + LOOP_LOG_MS;
    this.#log.error({ requestId: exchange.id, host: exchange.host }, message);
  }

  /** Refusals go through a chain as well: every answer is logged and counted the same way. */
  #route(exchange: RequestExchange): void {
    const snapshot = this.#snapshot;
    const plan = snapshot?.plans.get(exchange.connection.listener.key);
    if (plan === undefined) {
      // The listener outlived its plan by a moment (removed by a reload): nothing is left to answer with.
      exchange.req.socket.destroy();
      exchange.end();
      return;
    }
    const { redirect } = plan.spec;
    if (redirect !== undefined) {
      exchange.refusal = understand(exchange, plan) ?? sendToHttps(exchange, redirect);
      plan.fallback.enter(exchange);
      return;
    }
    // One that got here leads past every route: see `connect`.
    const tunnel = exchange.req.method === 'CONNECT';
    const refusal = tunnel ? understandTunnel(exchange, plan) : understand(exchange, plan);
    if (refusal === null) {
      const lookup = tunnel
        ? null
        : plan.table.lookup({
            host: exchange.host,
            path: exchange.path,
            query: exchange.query,
            method: exchange.req.method as string,
            headers: exchange.req.headers,
          });
      if (lookup === null && plan.egress !== null && leave(exchange, plan.egress)) {
        plan.egress.target.chain.enter(exchange);
        return;
      }
      if (lookup !== null && follow(exchange, lookup)) {
        lookup.value.chain.enter(exchange);
        return;
      }
      exchange.refusal ??= notFound(exchange);
    } else {
      exchange.refusal = refusal;
      if (refusal.code === 'SLV_LOOP_DETECTED') this.#tellLoop(exchange, refusal);
    }
    plan.fallback.enter(exchange);
  }
}

/** Reads target, host, client and framing off the request. Returns why it is refused, or null. */
function understand(exchange: RequestExchange, plan: ListenerPlan): SelvedgeError | null {
  const { req, connection, role } = exchange;
  const target = splitTarget(req.url as string);
  const headers = req.headers;
  const source = clientOf(plan.trust, connection, headers);
  exchange.clientAddress = source.address;
  exchange.trusted = source.trusted;
  exchange.contentLength = headers['content-length'] === undefined ? null : Number(headers['content-length']);
  exchange.hasBody = headers['transfer-encoding'] !== undefined || (exchange.contentLength ?? 0) > 0;
  exchange.bodyLimit = connection.listener.limits.bodyBytes;
  exchange.expectContinue = (req as { [EXPECT_CONTINUE]?: boolean })[EXPECT_CONTINUE] === true;
  // Until it is normalised, log and plugins of a refusal see it as it came; nothing is matched or sent by it.
  exchange.path = target?.path ?? (req.url as string);
  exchange.url = exchange.path;
  if (target === null) return new SelvedgeError('SLV_BAD_PATH', 'the request target is malformed');
  const { host, port, raw } = authorityOf(connection, target.authority ?? headers.host ?? '');
  exchange.authority = raw;
  exchange.port = port;
  if (host === null) return new SelvedgeError('SLV_BAD_HOST', 'the Host header is malformed');
  if (target.authority !== null && headers.host !== undefined && role !== 'outbound') {
    if (normalizeHost(headers.host) !== host)
      return new SelvedgeError('SLV_BAD_HOST', 'the Host header contradicts the request target');
  }
  exchange.host = plan.fixedHost ?? (plan.addresses === null ? host : calledHost(plan.addresses, host, port));
  const normal = normalizePath(target.path);
  if (normal === null) return new SelvedgeError('SLV_BAD_PATH', 'the request path is malformed');
  exchange.path = normal.path;
  exchange.query = target.query;
  exchange.url = target.query === '' ? normal.path : `${normal.path}?${target.query}`;
  exchange.encodedSlash = normal.encodedSlash;
  sanitiseHeaders(exchange);
  return travellingFacts(exchange);
}

function authorityOf(connection: Connection, raw: string): Authority {
  const { authority } = connection;
  if (authority !== undefined && authority.raw === raw) return authority;
  connection.authority = parseAuthority(raw);
  return connection.authority;
}

/** What the caller's side says about the request: its deadline and, between hops, the endpoint it chose. */
function travellingFacts(exchange: RequestExchange): SelvedgeError | null {
  const { headers } = exchange.req;
  const left = headers['x-selvedge-timeout-ms'];
  if (left !== undefined) {
    const ms = Number(left);
    if (Number.isFinite(ms)) exchange.deadlineAt = exchange.startedAt + Math.max(0, ms);
    delete headers['x-selvedge-timeout-ms'];
  }
  const grpc = headers['grpc-timeout'];
  if (grpc !== undefined) {
    const ms = parseGrpcTimeout(String(grpc));
    exchange.grpcTimeout = ms !== null;
    if (ms !== null) exchange.deadlineAt = Math.min(exchange.deadlineAt, exchange.startedAt + ms);
  }
  if (exchange.role === 'gateway') return overdue(exchange);
  const passed = headers[HOP_PATH];
  const path = passThrough(passed, exchange.role, exchange.owner);
  // To delete what is not there costs as much as to delete.
  if (passed !== undefined) delete headers[HOP_PATH];
  if (typeof path !== 'string') return path;
  exchange.hopPath = path;
  if (exchange.role === 'inbound') {
    const endpoint = headers['x-selvedge-endpoint'];
    if (endpoint !== undefined) {
      if (typeof endpoint === 'string') exchange.preferredEndpoint = endpoint;
      delete headers['x-selvedge-endpoint'];
    }
    const attempt = headers['x-selvedge-attempt'];
    if (attempt !== undefined) {
      const tries = Number(attempt);
      if (Number.isInteger(tries) && tries > 0) exchange.outerAttempt = tries;
      delete headers['x-selvedge-attempt'];
    }
  }
  return overdue(exchange);
}

function overdue(exchange: RequestExchange): SelvedgeError | null {
  return exchange.deadlineAt <= exchange.startedAt
    ? new SelvedgeError('SLV_DEADLINE_EXCEEDED', 'the deadline of the request had passed when it arrived')
    : null;
}

/** False, with the reason as refusal, for what cannot be sent on. */
function leave(exchange: RequestExchange, { target, way }: NonNullable<ListenerPlan['egress']>): boolean {
  // Without a Host there is nowhere to go.
  if (exchange.host === '') return false;
  if (/^https:/i.test(exchange.req.url as string)) {
    exchange.refusal = new SelvedgeError(
      'SLV_BAD_REQUEST',
      'https is asked of a proxy by CONNECT, not by an absolute URL',
    );
    return false;
  }
  exchange.target = target;
  exchange.route = { name: target.route.name, matchedPrefix: '/' };
  exchange.wayOut = way;
  return true;
}

/** Takes the route on, unless the path needs a leave that it does not give. */
function follow(exchange: RequestExchange, lookup: Lookup<RouteTarget<Chain>>): boolean {
  const { value: target, route } = lookup;
  if (exchange.encodedSlash && !route.keepEncodedSlashes) {
    exchange.refusal = new SelvedgeError('SLV_BAD_PATH', 'the request path has an encoded slash or a backslash', {
      detail: 'Encoded slashes and backslashes are not accepted here.',
    });
    return false;
  }
  exchange.target = target;
  exchange.route = { name: route.name, matchedPrefix: lookup.matchedPrefix };
  exchange.limitBody(route.bodyBytes);
  return true;
}

function notFound(exchange: RequestExchange): SelvedgeError {
  if (exchange.role === 'outbound')
    return new SelvedgeError('SLV_SERVICE_NOT_FOUND', `no service of the mesh is called "${exchange.host}"`);
  return new SelvedgeError('SLV_ROUTE_NOT_FOUND', `no route of ${exchange.role} ${exchange.owner} matches`);
}

/** `close` comes after `finish`, or instead of it when the client went away or the response was broken off. */
function onResponseClose(this: ServerResponse): void {
  finishAbandoned(this.req[EXCHANGE] as RequestExchange);
}

function finishAbandoned(exchange: RequestExchange): void {
  const { res } = exchange;
  if (exchange.tunnelled) return;
  if (!exchange.ended && !res.writableFinished) {
    exchange.reason ??= 'client_aborted';
    exchange.abort(new SelvedgeError('SLV_CLIENT_ABORTED', 'the client went away'));
    // Fastify runs onResponse on finish or error; after neither, log and metrics would miss this request.
    if (res.listenerCount('error') > 0) res.emit('error', CLIENT_GONE);
  }
  exchange.end();
}

function ignoreSocketError(): void {
  // An upgraded socket that fails also closes; the close is what ends the exchange.
}

/** Between two log lines about loops. */
const LOOP_LOG_MS = 1_000;

const CLIENT_GONE = new Error('the client went away');
