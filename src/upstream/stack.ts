// THE order of the upstream side. Composed once a chain; the service comes with each call.
import type { Dispatch, Interceptor } from '../dispatch.ts';
import { balance } from './balance.ts';
import { bulkhead } from './bulkhead.ts';
import type { Call } from './call.ts';
import { deadline } from './deadline.ts';
import type { Endpoint } from './endpoint.ts';
import { fence } from './fence.ts';
import { hedge } from './hedge.ts';
import { outlier } from './outlier.ts';
import { perTry } from './per-try.ts';
import { retry } from './retry.ts';

/** What the plugins of a chain registered, in the order of registration. */
export interface ChainInterceptors {
  readonly perRequest: readonly Interceptor[];
  readonly perAttempt: readonly Interceptor[];
}

/** The first layer runs first. Errors may reach the handler before `dispatch` returns, and then with a null controller. */
export function buildStack({ perRequest, perAttempt }: ChainInterceptors): Dispatch {
  const layers = [
    ...fence(perRequest),
    deadline, // bounds everything below it
    bulkhead, // one place a request, however often it is tried
    hedge, // two of what follows, the first answer wins
    retry, // around balance, or it would meet the same dead endpoint again
    balance, // from here on there is an endpoint
    outlier, // sees what becomes of each try, those that time out included
    ...fence(perAttempt),
    perTry, // next to the wire, so that one try includes nothing of another
  ];
  return layers.reduceRight((inner, layer) => layer(inner), transport);
}

/** Hands over to the connections of the endpoint that balance chose. */
const transport: Dispatch = (options, handler) => {
  const { tried } = options.call as Call;
  return (tried[tried.length - 1] as Endpoint).dispatch(options, handler);
};
