// Runs once per attempt, inside retry: chooses the endpoint, counts it in flight, and says to a hop what it needs to know.
import type { Duplex } from 'node:stream';
import type {
  DispatchController,
  DispatchHandler,
  DispatchOptions,
  Interceptor,
  ResponseHeaders,
} from '../dispatch.ts';
import { CODES, type Code, reasonOf, SelvedgeError } from '../errors.ts';
import type { Attempt } from '../plugin.ts';
import type { TimerWheel } from '../timer-wheel.ts';
import type { Call } from './call.ts';
import type { Endpoint } from './endpoint.ts';

/** Fails with SLV_NO_ENDPOINT when the service has none, with SLV_BACKEND_INVALID when it has no such subset. */
export const balance: Interceptor = (dispatch) => (options, handler) => {
  const call = options.call as Call;
  const { service, subset } = call;
  const endpoint = service.draw(subset, call.tried, call.preferred);
  if (endpoint === undefined || endpoint === null) {
    handler.onResponseError?.(null, noEndpoint(endpoint === null, service.name, subset));
    return true;
  }
  call.tried.push(endpoint);
  const attempt: Attempt = { endpoint: endpoint.address, outcome: 'pending', status: 0, durationMs: 0 };
  call.attempts.push(attempt);
  call.onEndpoint(endpoint);
  endpoint.acquire();
  const tried = new Try(handler, endpoint, attempt, service.wheel);
  try {
    if (call.internal || endpoint.hop !== null) return dispatch(withMeshHeaders(options, call, endpoint), tried);
    options.origin = endpoint.origin;
    return dispatch(options, tried);
  } catch (error) {
    tried.onResponseError(null, error instanceof Error ? error : new Error(String(error)));
    return true;
  }
};

function noEndpoint(subsetExists: boolean, service: string, subset: string | null): SelvedgeError {
  if (!subsetExists) return new SelvedgeError('SLV_BACKEND_INVALID', `service "${service}" has no subset "${subset}"`);
  const of = subset === null ? `service "${service}"` : `subset "${subset}" of service "${service}"`;
  return new SelvedgeError('SLV_NO_ENDPOINT', `${of} has no endpoint`);
}

/** Names that only this side of the hop may state; what came with the request is another hop's word. */
const MESH_HEADERS: ReadonlySet<string> = new Set([
  'x-selvedge-endpoint',
  'x-selvedge-timeout-ms',
  'x-selvedge-attempt',
]);

/** A copy for this try: the next one says something else. */
function withMeshHeaders(options: DispatchOptions, call: Call, endpoint: Endpoint): DispatchOptions {
  const { headers: given } = options;
  const headers: string[] = [];
  for (let index = 0; index < given.length; index += 2) {
    if (!MESH_HEADERS.has(given[index].toLowerCase())) headers.push(given[index], given[index + 1]);
  }
  if (endpoint.hop !== null) {
    if (call.service.sharesHop(endpoint)) headers.push('x-selvedge-endpoint', endpoint.address);
    headers.push('x-selvedge-attempt', String(call.tried.length));
  }
  if (call.deadlineAt !== Number.POSITIVE_INFINITY) {
    const remainingMs = Math.floor(call.deadlineAt - call.service.wheel.now());
    headers.push('x-selvedge-timeout-ms', String(Math.max(1, remainingMs)));
  }
  return { ...options, origin: endpoint.origin, headers };
}

/** Keeps the endpoint's count right: released exactly once, however the try ends. */
class Try implements DispatchHandler {
  readonly #handler: DispatchHandler;
  readonly #attempt: Attempt;
  readonly #wheel: TimerWheel;
  readonly #startedAt: number;
  /** Null once it is released. */
  #endpoint: Endpoint | null;

  constructor(handler: DispatchHandler, endpoint: Endpoint, attempt: Attempt, wheel: TimerWheel) {
    this.#handler = handler;
    this.#endpoint = endpoint;
    this.#attempt = attempt;
    this.#wheel = wheel;
    this.#startedAt = wheel.now();
  }

  onRequestStart(controller: DispatchController, context: unknown): void {
    this.#handler.onRequestStart?.(controller, context);
  }

  onRequestUpgrade(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    socket: Duplex,
    head?: Buffer,
  ): void {
    this.#answered(statusCode);
    // The connection is in use until it closes: one closure an upgrade.
    socket.once('close', () => this.#release());
    this.#handler.onRequestUpgrade?.(controller, statusCode, headers, socket, head);
  }

  onResponseStart(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    statusMessage?: string,
  ): void {
    if (statusCode >= 200) this.#answered(statusCode);
    this.#handler.onResponseStart?.(controller, statusCode, headers, statusMessage);
  }

  onResponseData(controller: DispatchController, chunk: Buffer): void {
    this.#handler.onResponseData?.(controller, chunk);
  }

  onResponseEnd(controller: DispatchController, trailers: ResponseHeaders): void {
    if (!this.#release()) return;
    this.#handler.onResponseEnd?.(controller, trailers);
  }

  onResponseError(controller: DispatchController | null, error: Error): void {
    if (!this.#release()) return;
    if (this.#attempt.status === 0) this.#attempt.durationMs = this.#elapsedMs();
    this.#attempt.outcome = outcomeOf(error);
    this.#handler.onResponseError?.(controller, error);
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
