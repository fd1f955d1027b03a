// Runs once per attempt, inside retry: chooses the endpoint, counts it in flight, and says to a hop what it needs to know.
import type { Duplex } from 'node:stream';
import type {
  Dispatch,
  DispatchController,
  DispatchHandler,
  DispatchOptions,
  Interceptor,
  ResponseHeaders,
} from '../dispatch.ts';
import { CODES, type Code, reasonOf, SelvedgeError } from '../errors.ts';
import { formatGrpcTimeout } from '../http/grpc-timeout.ts';
import type { Attempt, AttemptWatch, Outgoing } from '../plugin.ts';
import type { TimerWheel } from '../timer-wheel.ts';
import type { Call } from './call.ts';
import type { Endpoint } from './endpoint.ts';
import { ABANDONED } from './outcome.ts';
import { PassThrough } from './pass-through.ts';

/**
 * Fails with SLV_NO_ENDPOINT when the service has none to give, with SLV_BACKEND_INVALID when it has no such subset. Where
 * `connections.waitForEndpoint` says so the request waits for one, in a queue that has a bound (SLV_POOL_FULL).
 */
export const balance: Interceptor = (dispatch) => (options, handler) => {
  const call = options.call as Call;
  const endpoint = draw(call, options);
  if (endpoint === undefined) handler.onResponseError?.(null, noSubset(call));
  else if (endpoint !== null) send(dispatch, options, handler, call, endpoint);
  else if (!call.service.mayWait(call)) handler.onResponseError?.(null, noEndpoint(call));
  else wait(dispatch, options, handler, call);
  return true;
};

function draw(call: Call, { method, body }: DispatchOptions): Endpoint | null | undefined {
  const safe = body === null && (method === 'GET' || method === 'HEAD' || method === 'OPTIONS');
  return call.service.draw(call, safe);
}

function wait(dispatch: Dispatch, options: DispatchOptions, handler: DispatchHandler, call: Call): void {
  const { service } = call;
  const { waiting } = service.memory;
  if (waiting.size >= service.connections.pending) {
    const message = `service "${service.name}": ${waiting.size} requests wait for an endpoint already`;
    handler.onResponseError?.(null, new SelvedgeError('SLV_POOL_FULL', message, { retryAfter: 1 }));
    return;
  }
  const tryAgain = (): boolean => {
    const endpoint = draw(call, options);
    if (endpoint === null || endpoint === undefined) return false;
    send(dispatch, options, handler, call, endpoint);
    return true;
  };
  const forMs = Math.max(0, call.waitUntil - service.wheel.now());
  waiting.add(handler, service.wheel, forMs, tryAgain, () => noEndpoint(call));
}

function send(
  dispatch: Dispatch,
  options: DispatchOptions,
  handler: DispatchHandler,
  call: Call,
  endpoint: Endpoint,
): void {
  call.tried.push(endpoint);
  const attempt: Attempt = { endpoint: endpoint.address, outcome: 'pending', status: 0, durationMs: 0 };
  call.attempts.push(attempt);
  call.onEndpoint(endpoint);
  options.origin = endpoint.origin;
  const watch = call.observe(attempt, options as Outgoing);
  endpoint.acquire();
  const tried = new Try(handler, endpoint, attempt, watch, call.service.wheel);
  try {
    if (call.internal || endpoint.hop !== null || call.grpcTimeout || watch !== null)
      dispatch(withTravellingHeaders(options, call, endpoint, watch?.headers ?? NONE), tried);
    else dispatch(options, tried);
  } catch (error) {
    tried.onResponseError(null, error instanceof Error ? error : new Error(String(error)));
  }
}

function noSubset({ service, subset }: Call): SelvedgeError {
  return new SelvedgeError('SLV_BACKEND_INVALID', `service "${service.name}" has no subset "${subset}"`);
}

function noEndpoint({ service, subset }: Call): SelvedgeError {
  const of = subset === null ? `service "${service.name}"` : `subset "${subset}" of service "${service.name}"`;
  const none = (service.subset(subset)?.length ?? 0) === 0 ? 'has no endpoint' : 'has no healthy endpoint';
  return new SelvedgeError('SLV_NO_ENDPOINT', `${of} ${none}`);
}

/** Names that only this side of the hop may state; what came with the request is another hop's word. */
const MESH_HEADERS: ReadonlySet<string> = new Set([
  'x-selvedge-endpoint',
  'x-selvedge-timeout-ms',
  'x-selvedge-attempt',
  'x-selvedge-path',
]);

const NONE: readonly string[] = [];

/** A copy for this try: the next one says something else. */
function withTravellingHeaders(
  options: DispatchOptions,
  call: Call,
  endpoint: Endpoint,
  instead: readonly string[],
): DispatchOptions {
  const { headers: given } = options;
  const headers: string[] = [];
  const mesh = call.internal || endpoint.hop !== null;
  const remainingMs = Math.max(1, Math.floor(call.deadlineAt - call.service.wheel.now()));
  for (let index = 0; index < given.length; index += 2) {
    const name = given[index].toLowerCase();
    if (mesh && MESH_HEADERS.has(name)) continue;
    const shrinks = name === 'grpc-timeout' && remainingMs !== Number.POSITIVE_INFINITY;
    headers.push(given[index], shrinks ? formatGrpcTimeout(remainingMs) : (lineOf(instead, name) ?? given[index + 1]));
  }
  if (endpoint.hop !== null) {
    if (call.service.sharesHop(endpoint)) headers.push('x-selvedge-endpoint', endpoint.address);
    headers.push('x-selvedge-attempt', String(call.tried.length));
  }
  if (mesh && call.hopPath !== null) headers.push('x-selvedge-path', call.hopPath);
  if (mesh && remainingMs !== Number.POSITIVE_INFINITY) headers.push('x-selvedge-timeout-ms', String(remainingMs));
  return { ...options, headers };
}

function lineOf(lines: readonly string[], name: string): string | undefined {
  for (let index = 0; index < lines.length; index += 2) if (lines[index] === name) return lines[index + 1];
  return undefined;
}

/** Keeps the endpoint's count right: released exactly once, however the try ends. */
class Try extends PassThrough {
  readonly #attempt: Attempt;
  readonly #watch: AttemptWatch | null;
  readonly #wheel: TimerWheel;
  readonly #startedAt: number;
  /** Null once it is released. */
  #endpoint: Endpoint | null;

  constructor(
    handler: DispatchHandler,
    endpoint: Endpoint,
    attempt: Attempt,
    watch: AttemptWatch | null,
    wheel: TimerWheel,
  ) {
    super(handler);
    this.#endpoint = endpoint;
    this.#attempt = attempt;
    this.#watch = watch;
    this.#wheel = wheel;
    this.#startedAt = wheel.now();
  }

  override onRequestUpgrade(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    socket: Duplex,
    head?: Buffer,
  ): void {
    this.#answered(statusCode);
    // The connection is in use until it closes: one closure an upgrade.
    socket.once('close', () => {
      if (this.#release()) this.#watch?.end(this.#attempt);
    });
    super.onRequestUpgrade(controller, statusCode, headers, socket, head);
  }

  override onResponseStart(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    statusMessage?: string,
  ): void {
    if (statusCode >= 200) this.#answered(statusCode);
    super.onResponseStart(controller, statusCode, headers, statusMessage);
  }

  override onResponseEnd(controller: DispatchController, trailers: ResponseHeaders): void {
    if (!this.#release()) return;
    this.#watch?.end(this.#attempt);
    super.onResponseEnd(controller, trailers);
  }

  override onResponseError(controller: DispatchController | null, error: Error): void {
    if (!this.#release()) return;
    if (this.#attempt.status === 0) this.#attempt.durationMs = this.#elapsedMs();
    // A status that is not good enough says more than that its body was not read.
    if (error !== ABANDONED) this.#attempt.outcome = outcomeOf(error);
    this.#watch?.end(this.#attempt);
    super.onResponseError(controller, error);
  }

  #answered(status: number): void {
    this.#attempt.outcome = 'ok';
    this.#attempt.status = status;
    this.#attempt.durationMs = this.#elapsedMs();
  }

  #elapsedMs(): number {
    return this.#wheel.now() - this.#startedAt;
  }

  /** False when it had been released. */
  #release(): boolean {
    const endpoint = this.#endpoint;
    if (endpoint === null) return false;
    this.#endpoint = null;
    endpoint.release();
    return true;
  }
}

function outcomeOf(error: Error): string {
  const { code } = error as { code?: unknown };
  return typeof code === 'string' && Object.hasOwn(CODES, code) ? reasonOf(code as Code) : reasonOf('SLV_INTERNAL');
}
