// The resolved config: defaults filled in, units parsed, names checked. What every part after `config/` reads; frozen all the way down.
// Each part of it stands in a file of its own beside this one, and is imported from here.
import type { AuthorizationPolicy } from './model-authorization.ts';
import type { Egress } from './model-egress.ts';
import type { Gateway } from './model-gateway.ts';
import type { Mesh } from './model-mesh.ts';
import type { RouteConfig } from './model-route.ts';
import type { ServiceConfig } from './model-service.ts';
import type { AccessLog, Metrics, Tracing } from './model-telemetry.ts';

export type { AuthorizationPolicy } from './model-authorization.ts';
export type {
  AdaptiveConcurrency,
  Connections,
  HashKey,
  HealthCheckPolicy,
  LoadBalancing,
  Locality,
  RetryBudgetPolicy,
} from './model-balancing.ts';
export type { Egress, EgressRule } from './model-egress.ts';
export type { ClientAddress, Gateway, Limits, Listener, ListenerTls } from './model-gateway.ts';
export type { Match, PathMatch, ValueMatch } from './model-match.ts';
export type { IdentityConfig, Mesh, MtlsMode } from './model-mesh.ts';
export type { PluginOff, PluginUse } from './model-plugins.ts';
export type { Action, Backend, HeaderChanges, Redirect, Rewrite, RouteConfig, Timeouts } from './model-route.ts';
export type { EndpointConfig, Hop, ServiceConfig, UpstreamTls } from './model-service.ts';
export type { AccessLog, Metrics, Tracing } from './model-telemetry.ts';
export type { RolloutPolicy, Session } from './model-traffic.ts';
export type { Place } from './place.ts';

export interface Config {
  readonly version: 1;
  readonly admin: Admin | null;
  readonly accessLog: AccessLog | null;
  readonly metrics: Metrics;
  /** Null: none. */
  readonly tracing: Tracing | null;
  readonly drain: Drain;
  /** Processes that serve; `auto`: one for each core. */
  readonly workers: number | 'auto';
  readonly mesh: Mesh;
  readonly gateways: readonly Gateway[];
  readonly services: readonly ServiceConfig[];
  /** In declaration order: files by name, then position. */
  readonly routes: readonly RouteConfig[];
  /** What hops let their applications call beyond the mesh; null: nothing. */
  readonly egress: Egress | null;
  /** Those of the top, then those of the services. */
  readonly authorization: readonly AuthorizationPolicy[];
}

export interface Admin {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
}

export interface Drain {
  /** Time between failing readiness and closing listeners. */
  readonly graceMs: number;
  /** Time that in-flight requests get after that. */
  readonly timeoutMs: number;
}
