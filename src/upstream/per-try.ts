// Runs once per attempt, closest to the wire: bounds one try where the route asks for it.
import type { DispatchHandler, Interceptor } from '../dispatch.ts';
import { type Code, SelvedgeError } from '../errors.ts';
import type { Call } from './call.ts';
import { ResponseClock } from './response-clock.ts';

/** `timeouts.perTryMs` to the response head, from the end of the request's body (SLV_TRY_TIMEOUT); 0: the rest of the request's time. */
export const perTry: Interceptor = (dispatch) => (options, handler) => {
  const call = options.call as Call;
  if (call.timeouts.perTryMs === 0) return dispatch(options, handler);
  const bounded = new PerTry(handler, call);
  bounded.start(options.body);
  return dispatch(options, bounded);
};

class PerTry extends ResponseClock {
  protected override readonly limitCode = 'SLV_TRY_TIMEOUT';
  readonly #call: Call;

  constructor(handler: DispatchHandler, call: Call) {
    super(handler, call.service.wheel, call.timeouts.perTryMs, Number.POSITIVE_INFINITY);
    this.#call = call;
  }

  protected override lateError(code: Code): SelvedgeError {
    const { service, timeouts, tried } = this.#call;
    const address = tried.at(-1)?.address ?? '';
    return new SelvedgeError(
      code,
      `service "${service.name}": ${address} did not answer within ${timeouts.perTryMs} ms`,
    );
  }
}
