// Around retry, inside deadline: where a first try is slow, a second one sets out beside it, and the better answer goes on.
import type { Duplex } from 'node:stream';
import type {
  Dispatch,
  DispatchController,
  DispatchHandler,
  DispatchOptions,
  Interceptor,
  ResponseHeaders,
} from '../dispatch.ts';
import { SelvedgeError } from '../errors.ts';
import type { HedgePolicy } from '../policies/hedge.ts';
import { WheelEntry } from '../timer-wheel.ts';
import type { Call } from './call.ts';
import { HedgeTry, type Race } from './hedge-try.ts';
import { SecondCall } from './second-call.ts';

/** Safe or idempotent, so that two of them do what one does (RFC 9110 section 9.2). */
const HEDGEABLE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);

/**
 * For requests that may be sent twice: a method that is safe or idempotent, nothing of a body that streams, nobody in front of
 * us who hedges himself. The second try goes once, to an endpoint that has not been tried, within the retry budget of the
 * service and `connections.retries`.
 *
 * The first response head wins and the other try is aborted, but a failure waits: a head of 500 and above is held back, and an
 * error kept, while the other try is still under way. Then any response is better than an error, one below 500 better than
 * one above, and of two alike that of the first head, or the error of the first try.
 */
export const hedge: Interceptor = (dispatch) => (options, handler) => {
  const call = options.call as Call;
  if (call.hedge === null || call.outerAttempt !== 0 || !mayGoTwice(options)) return dispatch(options, handler);
  const afterMs = patienceMs(call, call.hedge);
  if (afterMs === null) return dispatch(options, handler);
  const hedged = new Hedged(dispatch, options, handler);
  call.service.wheel.schedule(hedged, afterMs);
  return dispatch(options, hedged.first);
};

function mayGoTwice({ method, body, upgrade, expectContinue }: DispatchOptions): boolean {
  return HEDGEABLE.has(method) && (body === null || Buffer.isBuffer(body)) && upgrade === null && !expectContinue;
}

/** Null: too little is known of the service to call a try slow. */
function patienceMs({ service }: Call, { afterMs, quantile }: HedgePolicy): number | null {
  if (afterMs !== null) return afterMs;
  return quantile === null ? null : service.memory.latencies.quantile(quantile, service.wheel.now());
}

const LOST = new SelvedgeError('SLV_HEDGE_LOST', 'the other try answered first');

/** One request with its one or two tries. It is the controller that the client's side holds, whichever try that reaches. */
class Hedged extends WheelEntry implements DispatchController, Race {
  readonly first: HedgeTry;
  readonly #dispatch: Dispatch;
  readonly #options: DispatchOptions;
  readonly #handler: DispatchHandler;
  readonly #call: Call;
  #second: HedgeTry | null = null;
  #secondCall: SecondCall | null = null;
  /** Counted among the service's retries under way. */
  #secondCounted = false;
  #winner: HedgeTry | null = null;
  #started = false;
  /** The handler has had its last call. */
  #over = false;
  paused = false;
  aborted = false;
  reason: Error | null = null;
  rawHeaders: string[] | null = null;
  rawTrailers: string[] | null = null;

  constructor(dispatch: Dispatch, options: DispatchOptions, handler: DispatchHandler) {
    super();
    this.#dispatch = dispatch;
    this.#options = options;
    this.#handler = handler;
    this.#call = options.call as Call;
    this.first = new HedgeTry(this);
  }

  /** The first try is slow. */
  override onTimer(): void {
    const { service, deadlineAt } = this.#call;
    const { memory, events, connections } = service;
    const now = service.wheel.now();
    // Paused, it cannot be told from slow; and where nothing untried is left, a second try meets the same queue.
    if (this.paused || now >= deadlineAt) return;
    if (!service.hasUntried(this.#call)) return;
    if (memory.retries >= connections.retries) {
      events.hedge(service.name, 'too_many');
      return;
    }
    if (!memory.retryBudget.withdraw(now)) {
      events.hedge(service.name, 'budget_exhausted');
      return;
    }
    memory.retries += 1;
    this.#secondCounted = true;
    this.#secondCall = new SecondCall(this.#call);
    this.#second = new HedgeTry(this);
    this.#dispatch({ ...this.#options, call: this.#secondCall }, this.#second);
  }

  started(context: unknown): void {
    if (this.#started) return;
    this.#started = true;
    this.#handler.onRequestStart?.(this, context);
  }

  interim(
    by: HedgeTry,
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    text?: string,
  ): void {
    // What a hint of the second try promises, the first may not keep; and the client has seen hints of the first.
    if (by !== this.first || this.#over) return;
    this.rawHeaders = controller.rawHeaders;
    this.#handler.onResponseStart?.(this, statusCode, headers, text);
  }

  answered(by: HedgeTry, statusCode: number): 'goes on' | 'waits' | 'has lost' {
    if (this.#winner === by) return 'goes on';
    const other = this.#otherOf(by);
    if (statusCode >= 500 && other !== null) {
      if (other.underWay) return 'waits';
      if (other.holds) {
        this.#decide(other);
        return 'has lost';
      }
    }
    this.#decide(by);
    return 'goes on';
  }

  head(controller: DispatchController, statusCode: number, headers: ResponseHeaders, text?: string): void {
    this.rawHeaders = controller.rawHeaders;
    this.#handler.onResponseStart?.(this, statusCode, headers, text);
  }

  data(chunk: Buffer): void {
    if (!this.#over) this.#handler.onResponseData?.(this, chunk);
  }

  ended(controller: DispatchController, trailers: ResponseHeaders): void {
    if (!this.#finish()) return;
    this.rawTrailers = controller.rawTrailers;
    this.#handler.onResponseEnd?.(this, trailers);
  }

  upgraded(by: HedgeTry, statusCode: number, headers: ResponseHeaders, socket: Duplex, head?: Buffer): void {
    this.#decide(by);
    this.#finish();
    this.rawHeaders = by.controller?.rawHeaders ?? null;
    if (this.#handler.onRequestUpgrade === undefined) socket.destroy();
    else this.#handler.onRequestUpgrade(this, statusCode, headers, socket, head);
  }

  failed(by: HedgeTry, error: Error): void {
    if (by === this.#second) this.#uncount();
    if (this.#winner !== by) {
      const other = this.#otherOf(by);
      if (other?.underWay) return;
      if (other?.holds) {
        this.#decide(other);
        return;
      }
    }
    if (!this.#finish()) return;
    const shown = this.#winner === null ? (this.first.error ?? error) : error;
    this.#handler.onResponseError?.(this.#started ? this : null, shown);
  }

  #otherOf(one: HedgeTry): HedgeTry | null {
    return one === this.first ? this.#second : this.first;
  }

  #decide(winner: HedgeTry): void {
    this.cancel();
    this.#winner = winner;
    if (this.#second === null) return;
    const secondWins = winner === this.#second;
    if (secondWins) this.#secondCall?.tellEndpoint();
    else this.#uncount();
    this.#tell(secondWins);
    this.#otherOf(winner)?.drop(LOST);
    winner.letGo();
  }

  /** False when it was over already. */
  #finish(): boolean {
    if (this.#over) return false;
    this.#over = true;
    this.cancel();
    this.#uncount();
    if (this.#winner === null) this.#tell(false);
    return true;
  }

  #tell(secondWins: boolean): void {
    const { service } = this.#call;
    if (this.#second !== null) service.events.hedge(service.name, secondWins ? 'won' : 'lost');
  }

  #uncount(): void {
    if (!this.#secondCounted) return;
    this.#secondCounted = false;
    this.#call.service.memory.retries -= 1;
  }

  pause(): void {
    this.paused = true;
    if (this.#winner !== null) this.#winner.controller?.pause();
    else for (const one of [this.first, this.#second]) one?.controller?.pause();
  }

  resume(): void {
    this.paused = false;
    if (this.#winner !== null) this.#winner.controller?.resume();
    else for (const one of [this.first, this.#second]) if (one?.underWay) one.controller?.resume();
  }

  abort(reason: Error): void {
    if (this.#over || this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    if (this.#winner?.underWay) {
      this.#winner.controller?.abort(reason);
      return;
    }
    // Told before the tries are, for neither of them speaks for the request.
    this.#finish();
    this.first.drop(reason);
    this.#second?.drop(reason);
    this.#handler.onResponseError?.(this, reason);
  }
}
