// Services whose endpoints are scripted instead of dialled, and a handler that writes down what reaches the client's side.
import type { Connections, EndpointConfig, ServiceConfig, Timeouts } from '../../src/config/model.ts';
import type { DispatchController, DispatchHandler, DispatchOptions, ResponseHeaders } from '../../src/dispatch.ts';
import { type Code, SelvedgeError } from '../../src/errors.ts';
import type { Attempt } from '../../src/plugin.ts';
import { DEFAULT_RETRY } from '../../src/policies/retry.ts';
import type { TimerWheel } from '../../src/timer-wheel.ts';
import type { Call } from '../../src/upstream/call.ts';
import type { Endpoint, Transport } from '../../src/upstream/endpoint.ts';
import type { HealthOwner } from '../../src/upstream/endpoint-health.ts';
import type { Service } from '../../src/upstream/service.ts';

/** Uniform draws that repeat (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Nobody compiles anything of these endpoints. */
export const NOBODY: HealthOwner = { healthChanged() {} };

const AT = { file: 'test.yaml', line: 1, column: 1 };
const CONNECTIONS: Connections = {
  max: 10,
  pending: 10,
  requests: 1_024,
  retries: 1_024,
  connectTimeoutMs: 5_000,
  idleTimeoutMs: 60_000,
  waitForEndpointMs: 0,
};

export function endpointConfig(address: string, rest: Partial<EndpointConfig> = {}): EndpointConfig {
  return { address, hop: null, weight: 1, zone: null, priority: 0, labels: {}, at: AT, ...rest };
}

export function serviceConfig(
  endpoints: readonly (string | EndpointConfig)[],
  rest: Partial<ServiceConfig> = {},
): ServiceConfig {
  return {
    name: 'orders',
    at: AT,
    endpoints: endpoints.map((endpoint) => (typeof endpoint === 'string' ? endpointConfig(endpoint) : endpoint)),
    protocol: 'http1',
    subsets: {},
    tls: null,
    mtls: 'off',
    internal: null,
    plugins: [],
    loadBalancing: { algorithm: 'round-robin', by: null },
    locality: { zone: null, prefer: true },
    slowStartMs: 0,
    connections: CONNECTIONS,
    concurrency: null,
    healthCheck: null,
    outlierDetection: null,
    retryBudget: { share: 0.2, windowMs: 10_000, minPerSecond: 10 },
    ...rest,
  };
}

/** One exchange as the endpoint sees it; the test says what happens. */
export class FakeExchange implements DispatchController {
  readonly endpoint: string;
  readonly options: DispatchOptions;
  readonly handler: DispatchHandler;
  paused = false;
  aborted = false;
  over = false;
  reason: Error | null = null;
  rawHeaders: string[] | null = null;
  rawTrailers: string[] | null = null;

  constructor(endpoint: string, options: DispatchOptions, handler: DispatchHandler) {
    this.endpoint = endpoint;
    this.options = options;
    this.handler = handler;
  }

  header(name: string): string | undefined {
    const index = this.options.headers.indexOf(name);
    return index < 0 ? undefined : this.options.headers[index + 1];
  }

  respond(status: number, headers: ResponseHeaders = {}): this {
    this.rawHeaders = Object.entries(headers).flatMap(([name, value]) => [name, String(value)]);
    this.handler.onResponseStart?.(this, status, this.options.rawOnly ? {} : headers);
    return this;
  }

  data(text: string): this {
    this.handler.onResponseData?.(this, Buffer.from(text));
    return this;
  }

  end(trailers: ResponseHeaders = {}): void {
    this.over = true;
    this.handler.onResponseEnd?.(this, trailers);
  }

  fail(error: Error): void {
    this.over = true;
    this.handler.onResponseError?.(this, error);
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }

  abort(reason: Error): void {
    if (this.over || this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    this.fail(reason);
  }
}

/** Every exchange that reached an endpoint, in order; `answer` runs when one begins. */
export class FakeNetwork {
  readonly exchanges: FakeExchange[] = [];
  readonly closed: string[] = [];
  opened = 0;
  answer: (exchange: FakeExchange) => void = () => {};

  readonly makeTransport = (endpoint: Endpoint): Transport => {
    this.opened += 1;
    let connections = 0;
    return {
      dispatch: (options, handler) => {
        connections = 1;
        const exchange = new FakeExchange(endpoint.address, options, handler);
        this.exchanges.push(exchange);
        handler.onRequestStart?.(exchange, null);
        if (!exchange.over) this.answer(exchange);
        return true;
      },
      close: async () => {
        this.closed.push(endpoint.address);
      },
      destroy: () => {
        this.closed.push(endpoint.address);
      },
      get stats() {
        return { connections, idle: 0, active: connections, pending: 0, resent: 0, upstreamIdleMs: null };
      },
    };
  };

  get last(): FakeExchange {
    return this.exchanges.at(-1) as FakeExchange;
  }
}

/** What the client's side of the stack was told. */
export class Recorder implements DispatchHandler {
  readonly events: string[] = [];
  /** The current controller, as the outermost handler has to keep it. */
  controller: DispatchController | null = null;
  error: (Error & { code?: string; statusCode?: number }) | null = null;
  status = 0;
  headers: ResponseHeaders = {};
  body = '';
  starts = 0;
  endings = 0;

  onRequestStart(controller: DispatchController): void {
    this.controller = controller;
    this.starts += 1;
  }

  onRequestUpgrade(_controller: DispatchController, status: number): void {
    this.events.push(`upgrade ${status}`);
    this.endings += 1;
  }

  onResponseStart(_controller: DispatchController, status: number, headers: ResponseHeaders): void {
    this.events.push(`start ${status}`);
    this.status = status;
    this.headers = headers;
  }

  onResponseData(_controller: DispatchController, chunk: Buffer): void {
    this.body += chunk.toString();
  }

  onResponseEnd(): void {
    this.events.push('end');
    this.endings += 1;
  }

  onResponseError(_controller: DispatchController | null, error: Error): void {
    this.events.push(`error ${(error as { code?: string }).code ?? error.message}`);
    this.error = error;
    this.endings += 1;
  }
}

export const NO_TIMEOUTS: Timeouts = { requestMs: 0, perTryMs: 0, idleMs: 0 };

export function makeCall(service: Service, rest: Partial<Call> = {}): Call & { readonly chosen: string[] } {
  const chosen: string[] = [];
  const attempts: Attempt[] = [];
  return {
    service,
    subset: null,
    timeouts: NO_TIMEOUTS,
    retry: DEFAULT_RETRY,
    hedge: null,
    outlierDetection: service.outlierDetection,
    outerAttempt: 0,
    hopPath: null,
    hashKey: 0,
    sticky: null,
    waitUntil: 0,
    grpcTimeout: false,
    deadlineAt: Number.POSITIVE_INFINITY,
    attempts,
    preferred: null,
    tried: [],
    internal: false,
    caller: null,
    onEndpoint: (endpoint) => chosen.push(endpoint.address),
    observe: () => null,
    chosen,
    ...rest,
  };
}

export function makeOptions(call: Call, rest: Partial<DispatchOptions> = {}): DispatchOptions {
  return {
    method: 'GET',
    path: '/',
    headers: ['host', 'shop.example.com'],
    body: null,
    contentLength: null,
    upgrade: null,
    expectContinue: false,
    rawOnly: true,
    call,
    ...rest,
  };
}

/** A failure as the transport reports it. */
export function transportError(
  code: Code,
  facts: { unsent?: boolean; reused?: boolean; body?: Buffer } = {},
): SelvedgeError {
  return Object.assign(new SelvedgeError(code, code), { unsent: false, reused: false, ...facts });
}

export interface FakeUpstream {
  readonly network: FakeNetwork;
  readonly deps: {
    readonly wheel: TimerWheel;
    readonly makeTransport: FakeNetwork['makeTransport'];
    readonly random: () => number;
    readonly idOf: (service: string) => string;
  };
}

export function fakeUpstream(wheel: TimerWheel, seed = 1): FakeUpstream {
  const network = new FakeNetwork();
  return {
    network,
    deps: {
      wheel,
      makeTransport: network.makeTransport,
      random: seededRandom(seed),
      idOf: (name) => `spiffe://mesh.internal/service/${name}`,
    },
  };
}
