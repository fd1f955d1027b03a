// Beside the journey, for people: what is in force for a forwarded request beyond where it goes.
import type { PluginUse, RolloutPolicy, RouteConfig } from '../config/model.ts';
import type { HedgePolicy } from '../policies/hedge.ts';
import { DEFAULT_RETRY, GRPC_STATUS } from '../policies/retry.ts';

export interface ExplainedPolicies {
  readonly retry: ExplainedRetry;
  /** Null: none. */
  readonly hedge: HedgePolicy | null;
  /** Null: none. What the cookie is signed with is not shown. */
  readonly session: { readonly kind: 'cookie' | 'header'; readonly name: string } | null;
  readonly rollout: Pick<RolloutPolicy, 'from' | 'to' | 'steps' | 'everyMs'> | null;
}

export type ExplainedRetry =
  | {
      readonly from: 'route' | 'default';
      readonly attempts: number;
      /** As a config writes it; statuses as `503`, gRPC statuses as `grpc unavailable`. */
      readonly on: readonly string[];
      readonly methods: readonly string[];
      readonly backoffMs: number;
      readonly maxBackoffMs: number;
      readonly bufferBytes: number;
    }
  /** Only running it would tell what it sets. */
  | { readonly from: 'plugin' };

export function explainPolicies(route: RouteConfig, chain: readonly PluginUse[]): ExplainedPolicies {
  const { session, rollout } = route;
  return {
    retry: explainRetry(route, chain),
    hedge: route.hedge === false ? null : route.hedge,
    session: session === null ? null : { kind: session.kind, name: session.name },
    rollout:
      rollout === null ? null : { from: rollout.from, to: rollout.to, steps: rollout.steps, everyMs: rollout.everyMs },
  };
}

function explainRetry({ retry }: RouteConfig, chain: readonly PluginUse[]): ExplainedRetry {
  if (retry === null && chain.some(({ name }) => name === 'retry')) return { from: 'plugin' };
  const { attempts, conditions, statuses, grpc, methods, backoffMs, maxBackoffMs, bufferBytes } =
    retry ?? DEFAULT_RETRY;
  const grpcNames = Object.entries(GRPC_STATUS).flatMap(([name, status]) => (grpc.has(status) ? [`grpc ${name}`] : []));
  return {
    from: retry === null ? 'default' : 'route',
    attempts,
    on: [...conditions, ...[...statuses].map(String), ...grpcNames],
    methods: [...methods],
    backoffMs,
    maxBackoffMs,
    bufferBytes,
  };
}
