// A scripted endpoint that answers byte for byte, a pool in front of it on a clock that stands still, and a handler that writes down what it is told.
import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import type { Test } from 'tap';
import type { DispatchController, DispatchHandler, DispatchOptions, ResponseHeaders } from '../../../src/dispatch.ts';
import { TimerWheel } from '../../../src/timer-wheel.ts';
import { Http1Pool, type PoolOptions } from '../../../src/upstream/http1/pool.ts';
import { FakeClock } from '../../support/fake-clock.ts';

/** One connection as the endpoint sees it. */
export class Accepted {
  readonly socket: Socket;
  /** All that came, as latin1. */
  text = '';
  readonly closed: Promise<void>;
  #changed: () => void = () => undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      this.text += chunk.toString('latin1');
      this.#changed();
    });
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
  }

  /** Resolves with all that came since the last call, once that ends with `end`. */
  async until(end: string): Promise<string> {
    while (!this.text.endsWith(end)) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
    const { text } = this;
    this.text = '';
    return text;
  }

  head(): Promise<string> {
    return this.until('\r\n\r\n');
  }

  write(text: string): void {
    this.socket.write(text, 'latin1');
  }
}

export class RawUpstream {
  readonly server: Server;
  readonly accepted: Accepted[] = [];
  readonly #waiting: Accepted[] = [];
  #arrived: () => void = () => undefined;

  constructor(server: Server, event: 'connection' | 'secureConnection') {
    this.server = server;
    server.on(event, (socket: Socket) => {
      const accepted = new Accepted(socket);
      this.accepted.push(accepted);
      this.#waiting.push(accepted);
      this.#arrived();
    });
  }

  static async start(
    t: Test,
    server: Server = createServer(),
    event: 'connection' | 'secureConnection' = 'connection',
  ) {
    const upstream = new RawUpstream(server, event);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.teardown(() => {
      for (const { socket } of upstream.accepted) socket.destroy();
      return new Promise((resolve) => server.close(resolve));
    });
    return upstream;
  }

  get port(): number {
    return (this.server.address() as { port: number }).port;
  }

  /** The next connection that nobody has taken yet. */
  async next(): Promise<Accepted> {
    for (;;) {
      const accepted = this.#waiting.shift();
      if (accepted !== undefined) return accepted;
      await new Promise<void>((resolve) => {
        this.#arrived = resolve;
      });
    }
  }
}

export class Recorder implements DispatchHandler {
  controller: DispatchController | null = null;
  interims: number[] = [];
  status = 0;
  headers: ResponseHeaders = {};
  body = '';
  bytes = 0;
  trailers: ResponseHeaders = {};
  error: (Error & { code?: string; unsent?: boolean; reused?: boolean; cause?: unknown }) | null = null;
  socket: Duplex | null = null;
  rest = '';
  /** Names of the calls in their order. */
  readonly calls: string[] = [];
  /** Resolves once the exchange is over, in whatever way. */
  readonly over: Promise<this>;
  readonly started: Promise<this>;
  readonly keepsBody: boolean;
  #end: () => void = () => undefined;
  #start: () => void = () => undefined;

  constructor({ keepsBody = true } = {}) {
    this.keepsBody = keepsBody;
    this.over = new Promise((resolve) => {
      this.#end = () => resolve(this);
    });
    this.started = new Promise((resolve) => {
      this.#start = () => resolve(this);
    });
  }

  onRequestStart(controller: DispatchController): void {
    this.calls.push('request');
    this.controller = controller;
  }

  onResponseStart(_controller: DispatchController, status: number, headers: ResponseHeaders): void {
    this.calls.push(`start ${status}`);
    if (status < 200) this.interims.push(status);
    else Object.assign(this, { status, headers });
    this.#start();
  }

  onResponseData(_controller: DispatchController, chunk: Buffer): void {
    if (this.keepsBody) this.body += chunk.toString('latin1');
    this.bytes += chunk.length;
  }

  onResponseEnd(_controller: DispatchController, trailers: ResponseHeaders): void {
    this.calls.push('end');
    this.trailers = trailers;
    this.#end();
  }

  onRequestUpgrade(
    _controller: DispatchController,
    status: number,
    headers: ResponseHeaders,
    socket: Duplex,
    rest?: Buffer,
  ): void {
    this.calls.push('upgrade');
    Object.assign(this, { status, headers, socket, rest: rest?.toString('latin1') });
    this.#end();
  }

  onResponseError(_controller: DispatchController | null, error: Error): void {
    this.calls.push('error');
    this.error = error;
    this.#end();
  }
}

export interface Setup {
  readonly upstream: RawUpstream;
  readonly pool: Http1Pool;
  readonly clock: FakeClock;
  readonly wheel: TimerWheel;
  send(options?: Partial<DispatchOptions>, recorder?: Recorder): Recorder;
}

export function requestOf(options: Partial<DispatchOptions> = {}): DispatchOptions {
  return {
    method: 'GET',
    path: '/',
    headers: ['host', 'a.test'],
    body: null as Readable | null,
    contentLength: null,
    upgrade: null,
    expectContinue: false,
    rawOnly: false,
    ...options,
  };
}

export async function setUp(t: Test, options: Partial<PoolOptions> = {}, upstream?: RawUpstream): Promise<Setup> {
  const endpoint = upstream ?? (await RawUpstream.start(t));
  const clock = new FakeClock();
  const wheel = new TimerWheel(clock);
  const pool = new Http1Pool({
    host: '127.0.0.1',
    port: endpoint.port,
    tls: null,
    maxConnections: 2,
    maxPending: 2,
    connectTimeoutMs: 5_000,
    idleTimeoutMs: 60_000,
    wheel,
    ...options,
  });
  t.teardown(() => pool.destroy());
  return {
    upstream: endpoint,
    pool,
    clock,
    wheel,
    send(request = {}, recorder = new Recorder()) {
      pool.dispatch(requestOf(request), recorder);
      return recorder;
    },
  };
}

/** Lets everything that is under way on loopback sockets arrive. */
/** Also lets the time go by in which a pool waits for a reset. */
export async function doubtSettled({ clock }: Pick<Setup, 'clock'>, recorder: Recorder): Promise<Recorder> {
  let over = false;
  void recorder.over.then(() => {
    over = true;
  });
  while (!over) {
    await settle();
    clock.advance(50);
  }
  return recorder.over as Promise<Recorder>;
}

export async function settle(turns = 10): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
}
