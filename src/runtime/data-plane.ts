// Where a request begins and ends: counted in, sent into its chain by the current snapshot, counted out.
import { randomBytes } from 'node:crypto';
import { type IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Logger } from 'pino';
import type { Counter, Registry } from 'prom-client';
import * as prom from 'prom-client';
import { type Code, reasonOf, SelvedgeError } from '../errors.ts';
import { LinkedList } from '../linked-list.ts';
import { EXCHANGE, RequestExchange } from '../proxy/exchange.ts';
import { recordOutcome } from '../proxy/rollout-outcome.ts';
import { TcpConnections } from '../proxy/tcp/connections.ts';
import { leaveWithClient } from '../proxy/upgrade.ts';
import { chooseChain } from './choose-chain.ts';
import { namesMesh } from './connect.ts';
import type { Connection, ListenerSpec, RequestSink, TcpArrival } from './listener-spec.ts';
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

  /** What is thrown on the way into a chain is nobody's answer any more: it costs this connection, and nothing else. */
  #enter(exchange: RequestExchange): void {
    try {
      const plan = this.#snapshot?.plans.get(exchange.connection.listener.key);
      if (plan === undefined) {
        // The listener outlived its plan by a moment (removed by a reload): nothing is left to answer with.
        exchange.req.socket.destroy();
        exchange.end();
        return;
      }
      const chain = chooseChain(exchange, plan);
      const { refusal } = exchange;
      if (refusal !== null && refusal.code === 'SLV_LOOP_DETECTED') this.#tellLoop(exchange, refusal);
      chain.enter(exchange);
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
