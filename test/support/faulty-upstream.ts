// An HTTP/1.1 upstream that fails on demand: its behaviour is switched while requests are under way.
import {
  createServer as createHttp,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import { freePort } from '../e2e/support/ports.ts';
import type { Behaviour, ResetPhase, RetryAfter, Steady, UpstreamOptions } from './behaviour.ts';
import { Deliveries, type Delivery, NUMBER_HEADER } from './deliveries.ts';

export interface Upstream {
  readonly port: number;
  /** Resolves when it is in force. */
  behave(behaviour: Behaviour): Promise<void>;
  deliveries(): Deliveries;
  /** Breaks off whatever is under way. */
  close(): Promise<void>;
}

const BODY_BYTES = 128;

export async function startFaultyUpstream(options: UpstreamOptions = {}): Promise<Upstream> {
  const seen: Delivery[] = [];
  const upstream = new FaultyUpstream(options.port ?? (await freePort()), options.closeIdleMs ?? 0, (delivery) =>
    seen.push(delivery),
  );
  await upstream.behave(options.behaviour ?? { mode: 'ok' });
  return {
    port: upstream.port,
    behave: (behaviour) => upstream.behave(behaviour),
    deliveries: () => new Deliveries([...seen]),
    close: () => upstream.close(),
  };
}

type Flapping = Extract<Behaviour, { mode: 'flapping' }>;

/** What is known of one connection. */
interface Kept {
  /** Requests that it has been told. */
  requests: number;
  /** Requests under way. */
  active: number;
  idleTimer: NodeJS.Timeout | null;
}

/** A net server decides about connections; those that are read go on to an http server, which decides about requests. */
export class FaultyUpstream {
  readonly port: number;
  readonly #closeIdleMs: number;
  readonly #record: (delivery: Delivery) => void;
  readonly #http: HttpServer;
  readonly #connections = new Map<Socket, Kept>();
  #listener: Server | null = null;
  #current: Steady = { mode: 'ok' };
  #flapping: Flapping | null = null;
  #flapTimer: NodeJS.Timeout | null = null;
  #requestsOfTurn = 0;
  /** What of `status` with a share is owed: spread as evenly as can be. */
  #owed = 0;

  constructor(port: number, closeIdleMs: number, record: (delivery: Delivery) => void) {
    this.port = port;
    this.#closeIdleMs = closeIdleMs;
    this.#record = record;
    this.#http = createHttp({ keepAliveTimeout: 0, requestTimeout: 0 }, (req, res) => this.#serve(req, res));
    this.#http.on('clientError', (_error, socket) => socket.destroy());
  }

  async behave(behaviour: Behaviour): Promise<void> {
    if (this.#flapTimer !== null) clearInterval(this.#flapTimer);
    this.#flapTimer = null;
    this.#flapping = behaviour.mode === 'flapping' ? behaviour : null;
    this.#requestsOfTurn = 0;
    if (behaviour.mode !== 'flapping') return this.#enter(behaviour);
    const { every, between } = behaviour;
    await this.#enter(between[0]);
    if ('ms' in every) this.#flapTimer = setInterval(() => void this.#turn(), every.ms);
  }

  async close(): Promise<void> {
    if (this.#flapTimer !== null) clearInterval(this.#flapTimer);
    for (const socket of this.#connections.keys()) socket.destroy();
    await this.#stopListening();
  }

  async #enter(behaviour: Steady): Promise<void> {
    const before = this.#current;
    this.#current = behaviour;
    const idle = [...this.#connections].filter(([, { active }]) => active === 0);
    if (behaviour.mode === 'half-open') for (const [socket] of this.#connections) socket.pause();
    else if (before.mode === 'half-open') for (const [socket] of this.#connections) socket.destroy();
    if (behaviour.mode === 'refuse') {
      for (const [socket] of idle) socket.destroy();
      await this.#stopListening();
    } else if (this.#listener === null) await this.#listen();
  }

  #turn(): Promise<void> {
    const [one, other] = (this.#flapping as Flapping).between;
    return this.#enter(this.#current === one ? other : one);
  }

  #listen(): Promise<void> {
    const listener = createServer({ noDelay: true }, (socket) => this.#accept(socket));
    this.#listener = listener;
    return new Promise((resolve, reject) => {
      listener.once('error', reject);
      listener.listen(this.port, '127.0.0.1', 1024, resolve);
    });
  }

  /** Returns as soon as connections are refused; those that stand may live on. */
  async #stopListening(): Promise<void> {
    this.#listener?.close();
    this.#listener = null;
  }

  #accept(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    if (isReset(this.#current, 'accept')) {
      socket.resetAndDestroy();
      return;
    }
    const kept: Kept = { requests: 0, active: 0, idleTimer: null };
    this.#connections.set(socket, kept);
    socket.on('close', () => {
      this.#connections.delete(socket);
      if (kept.idleTimer !== null) clearTimeout(kept.idleTimer);
    });
    if (this.#current.mode === 'half-open') socket.pause();
    else this.#http.emit('connection', socket);
  }

  #serve(req: IncomingMessage, res: ServerResponse): void {
    const { socket } = req;
    this.#record({ method: req.method as string, number: Number(req.headers[NUMBER_HEADER] ?? -1) });
    const behaviour = this.#current;
    const { every } = this.#flapping ?? {};
    if (every !== undefined && 'requests' in every && ++this.#requestsOfTurn % every.requests === 0) void this.#turn();
    const kept = this.#connections.get(socket) as Kept;
    kept.requests += 1;
    kept.active += 1;
    if (kept.idleTimer !== null) clearTimeout(kept.idleTimer);
    res.on('finish', () => this.#answered(socket, kept));
    if (behaviour.mode === 'black-hole') req.resume();
    else if (behaviour.mode === 'reset') this.#reset(behaviour.phase, req, res, kept.requests);
    else req.resume().on('end', () => this.#answer(behaviour, res));
  }

  #answered(socket: Socket, kept: Kept): void {
    kept.active -= 1;
    if (this.#current.mode === 'refuse') socket.end();
    else if (this.#closeIdleMs > 0) kept.idleTimer = setTimeout(() => socket.end(), this.#closeIdleMs);
  }

  #answer(behaviour: Steady, res: ServerResponse): void {
    switch (behaviour.mode) {
      case 'status':
        this.#answerStatus(behaviour, res);
        break;
      case 'slow':
        setTimeout(
          () => trickle(res, behaviour.bodyBytes ?? BODY_BYTES, behaviour.trickleMs ?? 0),
          behaviour.firstByteMs,
        );
        break;
      case 'ok':
        if (behaviour.delayMs === undefined) succeed(res, behaviour.bodyBytes);
        else setTimeout(() => succeed(res, behaviour.bodyBytes), behaviour.delayMs);
        break;
      default:
        // It was under way when this began.
        succeed(res);
    }
  }

  #answerStatus({ status, share = 1, retryAfter }: Extract<Steady, { mode: 'status' }>, res: ServerResponse): void {
    this.#owed += share;
    if (this.#owed < 1) {
      succeed(res);
      return;
    }
    this.#owed -= 1;
    if (retryAfter !== undefined) res.setHeader('retry-after', retryAfterText(retryAfter));
    res.writeHead(status, { 'content-length': '7' }).end('failure');
  }

  #reset(phase: ResetPhase, req: IncomingMessage, res: ServerResponse, requests: number): void {
    const { socket } = req;
    const reset = (): void => void socket.resetAndDestroy();
    if (phase === 'head' || (phase === 'reused' && requests > 1)) reset();
    else if (phase === 'body') req.once('data', reset).once('end', reset);
    else {
      req.resume().on('end', () => {
        // A reset overtakes what the peer has not read yet: it gets a moment to.
        const cut = (): void => void setTimeout(reset, 10);
        if (phase === 'response-head') socket.write('HTTP/1.1 200 OK\r\ncontent-type: te', cut);
        else if (phase === 'response-body') socket.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf-', cut);
        else succeed(res);
      });
    }
  }
}

function isReset(behaviour: Steady, phase: ResetPhase): boolean {
  return behaviour.mode === 'reset' && behaviour.phase === phase;
}

function succeed(res: ServerResponse, bodyBytes = BODY_BYTES): void {
  res.writeHead(200, { 'content-length': String(bodyBytes) }).end(Buffer.alloc(bodyBytes, 'x'));
}

function trickle(res: ServerResponse, bodyBytes: number, everyMs: number): void {
  if (everyMs === 0) {
    succeed(res, bodyBytes);
    return;
  }
  res.writeHead(200, { 'content-length': String(bodyBytes) }).flushHeaders();
  let left = bodyBytes;
  const timer = setInterval(() => {
    left -= 1;
    if (left > 0) res.write('x');
    else res.end('x');
    if (left <= 0) clearInterval(timer);
  }, everyMs);
  res.on('close', () => clearInterval(timer));
}

function retryAfterText(wait: RetryAfter): string {
  return 'seconds' in wait ? String(wait.seconds) : new Date(Date.now() + wait.dateInMs).toUTCString();
}
