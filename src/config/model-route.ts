// A route: which requests are its own, where they go and how they are changed on the way.
import type { HedgePolicy } from '../policies/hedge.ts';
import type { RetryPolicy } from '../policies/retry.ts';
import type { Match } from './model-match.ts';
import type { PluginOff, PluginUse } from './model-plugins.ts';
import type { RolloutPolicy, Session } from './model-traffic.ts';
import type { Place } from './place.ts';

export interface RouteConfig {
  /** Unique. */
  readonly name: string;
  readonly at: Place;
  /** Gateways that serve it; empty with `internal`. */
  readonly gateways: readonly string[];
  /** Services whose east-west calls it shapes; empty for edge routes. */
  readonly internal: readonly string[];
  /** Listener names; null: every listener of its gateways. */
  readonly listeners: readonly string[] | null;
  /** Lower-case, without trailing dot; empty: any host. */
  readonly hosts: readonly string[];
  /** Any of; never empty (a route without `match` has one match of prefix `/`). */
  readonly matches: readonly Match[];
  readonly plugins: readonly (PluginUse | PluginOff)[];
  readonly action: Action;
  readonly rewrite: Rewrite | null;
  readonly requestHeaders: HeaderChanges | null;
  readonly responseHeaders: HeaderChanges | null;
  readonly timeouts: Timeouts;
  /** Null: as the chain's plugins say, else one retry of what cannot have been acted on. */
  readonly retry: RetryPolicy | null;
  /** Null: as the chain's plugins say, else none; false: none. */
  readonly hedge: HedgePolicy | false | null;
  readonly session: Session | null;
  readonly rollout: RolloutPolicy | null;
  /** Bytes; Infinity: the listener's limit alone. */
  readonly bodyBytes: number;
  /** True: `%2F`, `%5C` and `\` pass as they are instead of 400. */
  readonly keepEncodedSlashes: boolean;
}

export type Action =
  | { readonly kind: 'forward'; readonly backends: readonly Backend[] }
  | { readonly kind: 'redirect'; readonly redirect: Redirect }
  | { readonly kind: 'respond'; readonly respond: Respond };

export interface Backend {
  readonly service: string;
  readonly subset: string | null;
  /** Relative; at least one backend of a route is above 0. */
  readonly weight: number;
  readonly rewrite: Rewrite | null;
  readonly requestHeaders: HeaderChanges | null;
  readonly responseHeaders: HeaderChanges | null;
  readonly at: Place;
}

/** Gateway API HTTPRequestRedirectFilter. `null`: as the request has it. */
export interface Redirect {
  readonly scheme: 'http' | 'https' | null;
  readonly host: string | null;
  readonly port: number | null;
  /** Replaces the whole path. */
  readonly path: string | null;
  /** Replaces the prefix that matched. */
  readonly prefix: string | null;
  readonly status: 301 | 302 | 303 | 307 | 308;
}

export interface Respond {
  readonly status: number;
  readonly body: string;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
}

/** Gateway API HTTPURLRewriteFilter: `prefix` replaces the matched prefix, `path` the whole path; one of them at most. */
export interface Rewrite {
  readonly prefix: string | null;
  readonly path: string | null;
  readonly host: string | null;
}

/** Gateway API HTTPHeaderFilter; names lower-case. Order: remove, set, add. */
export interface HeaderChanges {
  readonly set: Readonly<Record<string, string>>;
  readonly add: Readonly<Record<string, string>>;
  readonly remove: readonly string[];
}

/** Milliseconds; 0: none. `perTry` 0: the rest of `request`. */
export interface Timeouts {
  readonly requestMs: number;
  readonly perTryMs: number;
  readonly idleMs: number;
}
