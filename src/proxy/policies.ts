// Which policies hold for a request: what a plugin set for it alone, else the route's own keys, else the chain's plugins, else the defaults.
import type { RouteConfig } from '../config/model.ts';
import type { Policies } from '../plugin.ts';
import type { HedgePolicy } from '../policies/hedge.ts';
import type { OutlierPolicy } from '../policies/outlier-detection.ts';
import { DEFAULT_RETRY, type RetryPolicy } from '../policies/retry.ts';

export interface RoutePolicies {
  readonly retry: RetryPolicy;
  /** Null: no hedging. */
  readonly hedge: HedgePolicy | null;
  /** Undefined: as the service says. */
  readonly outlierDetection: OutlierPolicy | null | undefined;
  /** Plugins of this very hop said how to retry: then it does, though another one in front of it does too. */
  readonly retriesHere: boolean;
}

/** Compiled once a reload. */
export function routePolicies({ retry, hedge }: RouteConfig, chain: Policies): RoutePolicies {
  return {
    retry: retry ?? chain.retry ?? DEFAULT_RETRY,
    hedge: hedge === null ? (chain.hedge ?? null) : hedge || null,
    outlierDetection: chain.outlierDetection,
    retriesHere: chain.retry !== undefined,
  };
}

/** `own`: what a plugin set for this request; null: nothing, which is nearly always so. */
export function requestPolicies(route: RoutePolicies, own: Policies | null): RoutePolicies {
  return own === null ? route : { ...route, ...own, retriesHere: route.retriesHere || own.retry !== undefined };
}
