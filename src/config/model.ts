// The resolved config: defaults filled in, units parsed, names checked. What every part after `config/` reads; frozen all the way down.
import type { ErrorPage } from '../http/error-pages.ts';
import type { AuthorizationRule, AuthorizationRules } from '../policies/authorization.ts';
import type { HedgePolicy } from '../policies/hedge.ts';
import type { OutlierPolicy } from '../policies/outlier-detection.ts';
import type { RetryPolicy } from '../policies/retry.ts';

/** Where something was written: `config/shop.yaml:41:11`, or the file alone for TypeScript. */
export interface Place {
  readonly file: string;
  /** 1-based; 0 when unknown. */
  readonly line: number;
  readonly column: number;
}

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

export interface AccessLog {
  /** Share of ordinary requests that are logged, 0 to 1. */
  readonly sample: number;
  /** Requests that are logged whatever the sample says. */
  readonly always: { readonly errors: boolean; readonly slowMs: number | null };
  /** Lower-case header names whose values are never written. */
  readonly redact: readonly string[];
  /** Fixed fields added to every line. */
  readonly fields: Readonly<Record<string, string>>;
  /** Request header names that are written (redacted ones as `[redacted]`). */
  readonly headers: readonly string[];
}

export interface Metrics {
  /** Seconds. */
  readonly buckets: readonly number[];
  readonly maxSeries: number;
}

export interface Tracing {
  /** Base URL of the collector. */
  readonly otlp: string;
  /** Share of requests that are recorded, of those about which no trusted caller has decided, 0 to 1. */
  readonly sample: number;
  readonly propagate: readonly ('w3c' | 'b3' | 'b3multi')[];
  /** For the collector, by lower-case name. */
  readonly headers: Readonly<Record<string, string>>;
  /** Whether gateways go by what their callers decided. */
  readonly trustParent: boolean;
}

export interface Drain {
  /** Time between failing readiness and closing listeners. */
  readonly graceMs: number;
  /** Time that in-flight requests get after that. */
  readonly timeoutMs: number;
}

/** How hops and gateways know each other. */
export interface Mesh {
  /** Of SPIFFE ids: `shop.internal`. */
  readonly trustDomain: string;
  readonly mtls: MtlsMode;
  /** Other trust domains whose peers are known; `ca` is the absolute path of a PEM file with their roots. */
  readonly aliases: readonly { readonly trustDomain: string; readonly ca: string }[];
  readonly identity: IdentityConfig;
}

/** `strict`: certificates both ways. `permissive`: plain requests are served too, and counted. `off`: plain HTTP. */
export type MtlsMode = 'strict' | 'permissive' | 'off';

/** Where certificates come from. Paths are absolute. */
export type IdentityConfig =
  /** A CA of this machine, made on first start. */
  | { readonly kind: 'builtin'; readonly dir: string }
  | { readonly kind: 'files'; readonly cert: string; readonly key: string; readonly ca: string }
  /** `selvedge ca serve`. `dir` keeps certificates over a restart; `token` null: only renewal with those. */
  | {
      readonly kind: 'ca';
      readonly url: string;
      readonly token: string | null;
      readonly trust: string;
      readonly dir: string;
    }
  /** Path of the unix socket of the SPIFFE Workload API. */
  | { readonly kind: 'spiffe'; readonly socket: string };

/** Bounds of one listener. `Infinity` where a limit is off; a timeout of 0 is off. */
export interface Limits {
  readonly headerBytes: number;
  readonly headerCount: number;
  readonly urlBytes: number;
  readonly bodyBytes: number;
  readonly headerTimeoutMs: number;
  readonly bodyIdleTimeoutMs: number;
  /** Bytes a second after 5 s of grace; 0: off. */
  readonly bodyMinRate: number;
  readonly keepAliveTimeoutMs: number;
  readonly tlsHandshakeTimeoutMs: number;
  readonly connections: number;
  readonly connectionsPerClient: number;
}

export interface Gateway {
  readonly name: string;
  readonly at: Place;
  readonly clientAddress: ClientAddress;
  readonly listeners: readonly Listener[];
  readonly errorPages: readonly ErrorPage[];
  readonly plugins: readonly PluginUse[];
}

/** How the client's address is found; see docs/config-reference.md, `clientAddress`. */
export interface ClientAddress {
  /** CIDRs whose forwarding headers are believed. */
  readonly trustedProxies: readonly string[];
  /** Lower-case header that carries the address list. */
  readonly header: string;
  /** How many trusted proxies stand in front; null: as many as `trustedProxies` matches. */
  readonly hops: number | null;
  /** Connections of `trustedProxies` begin with a PROXY header. */
  readonly proxyProtocol: boolean;
}

export interface Listener {
  /** Unique in its gateway. */
  readonly name: string;
  readonly at: Place;
  readonly host: string;
  readonly port: number;
  readonly tls: ListenerTls | null;
  readonly limits: Limits;
  /** After those of the gateway. */
  readonly plugins: readonly (PluginUse | PluginOff)[];
  /** Every request is sent to https, at this port; null: requests are served. */
  readonly redirect: { readonly port: number } | null;
}

export interface ListenerTls {
  readonly certificates: readonly { readonly cert: string; readonly key: string; readonly at: Place }[];
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3';
  /** `ca` is a file path. */
  readonly clientCertificate: { readonly ca: string; readonly mode: 'require' | 'request' } | null;
}

/** One link of a chain as the config wrote it. Paths inside are absolute. */
export interface PluginUse {
  /** Built-in name, package name, or absolute path of a module. */
  readonly name: string;
  /** As written, for messages. */
  readonly written: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly at: Place;
  /** Folder that packages are resolved from. */
  readonly baseDir: string;
  /** Lists further in can neither replace it nor switch it off; of gateways and listeners. */
  readonly locked?: true;
  /** Absolute paths of files that the options name: the chain is another one when their content is. */
  readonly files?: readonly string[];
}

export interface ServiceConfig {
  readonly name: string;
  readonly at: Place;
  /** `tcp`: connections are passed on as they are, whatever is inside. */
  readonly protocol: 'http1' | 'tcp';
  readonly endpoints: readonly EndpointConfig[];
  /** Subset name → labels that an endpoint must carry. */
  readonly subsets: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly tls: UpstreamTls | null;
  readonly internal: Hop | null;
  /** Between its hop and its callers: as the service says, else as the mesh does. */
  readonly mtls: MtlsMode;
  /** The inbound chain at the hop. */
  readonly plugins: readonly PluginUse[];
  readonly loadBalancing: LoadBalancing;
  readonly locality: Locality;
  /** Milliseconds in which a new or returned endpoint comes to its full weight; 0: at once. */
  readonly slowStartMs: number;
  readonly connections: Connections;
  /** Null: the limits of `connections` alone. */
  readonly concurrency: AdaptiveConcurrency | null;
  readonly healthCheck: HealthCheckPolicy | null;
  /** Null: off. */
  readonly outlierDetection: OutlierPolicy | null;
  readonly retryBudget: RetryBudgetPolicy;
}

/** `by` is null unless the algorithm goes by a key (`ring-hash`, `maglev`). */
export interface LoadBalancing {
  readonly algorithm: 'least-request' | 'round-robin' | 'random' | 'peak-ewma' | 'ring-hash' | 'maglev';
  readonly by: HashKey | null;
}

/** What requests must have in common to reach the same endpoint. `name`: a header in lower case, a cookie or query parameter as written. */
export type HashKey =
  | { readonly kind: 'header' | 'cookie' | 'query'; readonly name: string }
  | { readonly kind: 'clientAddress' };

export interface Locality {
  /** The zone of this process; null: unknown, and zones do not count. */
  readonly zone: string | null;
  /** True: endpoints of the same zone first. */
  readonly prefer: boolean;
}

/** A limit on the requests under way that follows the latency of the service. */
export interface AdaptiveConcurrency {
  readonly min: number;
  readonly max: number;
}

export interface HealthCheckPolicy {
  readonly probe:
    | {
        readonly kind: 'http';
        readonly path: string;
        readonly host: string | null;
        readonly statuses: readonly number[];
      }
    | { readonly kind: 'tcp' }
    /** grpc.health.v1; `service` empty: the whole server. */
    | { readonly kind: 'grpc'; readonly service: string };
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Results in a row that change the verdict. */
  readonly unhealthyAfter: number;
  readonly healthyAfter: number;
}

export interface RetryBudgetPolicy {
  /** Retries as a share of the requests of the window, 0 to 1. */
  readonly share: number;
  readonly windowMs: number;
  /** Retries a second that need no share. */
  readonly minPerSecond: number;
}

export interface EndpointConfig {
  /** `host:port` of the application. */
  readonly address: string;
  /** `host:port` of the hop in front of it; peers dial this instead. */
  readonly hop: string | null;
  readonly weight: number;
  /** Null: not said. */
  readonly zone: string | null;
  /** 0 is used first; the next ones as those before them fail. */
  readonly priority: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly at: Place;
}

/** To endpoints that are dialled directly. File paths are absolute. */
export interface UpstreamTls {
  /** SNI and the name that is verified; null: the host of the endpoint. */
  readonly serverName: string | null;
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
  readonly verify: boolean;
}

export interface Connections {
  /** Connections per endpoint. */
  readonly max: number;
  /** Requests that may wait for a connection, per endpoint; and for an endpoint, per service. */
  readonly pending: number;
  /** Requests under way, per service. */
  readonly requests: number;
  /** Retries and hedges under way, per service. */
  readonly retries: number;
  /** How long a request may wait while no endpoint is up; 0: not at all. */
  readonly waitForEndpointMs: number;
  readonly connectTimeoutMs: number;
  /** Of a connection without a request; with `protocol: tcp`, of one without a byte either way. 0: no limit. */
  readonly idleTimeoutMs: number;
}

/** The internal hop of one service. */
export interface Hop {
  readonly at: Place;
  readonly inbound: { readonly host: string; readonly port: number };
  readonly outbound: {
    readonly host: string;
    readonly port: number;
    /** Local ports that lead to one service whatever the Host header says. */
    readonly ports: readonly {
      readonly service: string;
      readonly host: string;
      readonly port: number;
      readonly at: Place;
    }[];
  } | null;
  /** Addresses of the local applications that this hop serves (`host:port`): every endpoint whose hop it is. */
  readonly apps: readonly string[];
}

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

/** Who may call what: applied by the hop of a service, or by a gateway. */
export interface AuthorizationPolicy extends AuthorizationRules {
  /** `name` is `*` for every one of its kind. */
  readonly target: { readonly kind: 'service' | 'gateway'; readonly name: string };
  readonly rules: readonly (AuthorizationRule & { readonly at: Place })[];
  readonly at: Place;
}

/** What keeps a client at its endpoint. */
export type Session =
  | {
      readonly kind: 'cookie';
      readonly name: string;
      /** Seconds; null: until the browser closes. */
      readonly maxAgeS: number | null;
      readonly sameSite: 'strict' | 'lax' | 'none';
      /** `auto`: when the request came by https. */
      readonly secure: boolean | 'auto';
      readonly httpOnly: boolean;
      /** Signs the cookies; null: a random one of this process. */
      readonly secret: string | null;
    }
  /** The same value (name in lower case) leads to the same endpoint. */
  | { readonly kind: 'header'; readonly name: string };

/** Moves a route from one subset of its service to another by itself, and back when the new one is worse. */
export interface RolloutPolicy {
  readonly service: string;
  readonly from: string;
  readonly to: string;
  /** Shares of the new version, 0 to 1, ascending; the last is 1 where it is to be complete. */
  readonly steps: readonly number[];
  readonly everyMs: number;
  /** Null parts are not looked at. */
  readonly abortOn: { readonly errorRate: number | null; readonly p99Ms: number | null; readonly minRequests: number };
  readonly at: Place;
}

/** `- cors: false`: switches an inherited plugin off; of listeners and routes. */
export interface PluginOff {
  readonly off: string;
  readonly at: Place;
}

/** All conditions hold. */
export interface Match {
  readonly path: PathMatch;
  /** Upper-case; empty: any. */
  readonly methods: readonly string[];
  readonly headers: readonly ValueMatch[];
  readonly query: readonly ValueMatch[];
  readonly cookies: readonly ValueMatch[];
  readonly at: Place;
}

/** Exact and prefix values are normalised like a request path; a regex matches the whole path, RE2 syntax. */
export interface PathMatch {
  readonly kind: 'exact' | 'prefix' | 'regex';
  readonly value: string;
}

/** A header (name lower-case), query parameter or cookie. `value` is empty for `present` and `absent`. */
export interface ValueMatch {
  readonly name: string;
  readonly kind: 'exact' | 'prefix' | 'regex' | 'present' | 'absent';
  readonly value: string;
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

/** Deny rules first, then allow rules, then the default. */
export interface Egress {
  readonly default: 'deny' | 'allow';
  /** True: what would be denied is let through, counted and logged. */
  readonly audit: boolean;
  readonly deny: readonly EgressRule[];
  readonly allow: readonly EgressRule[];
}

/** Calls that meet all of it; an empty list is met by any call. */
export interface EgressRule {
  /** As written, else its place: `egress.allow[0]`. */
  readonly name: string;
  readonly at: Place;
  /** Services whose applications call; null: any. */
  readonly from: readonly string[] | null;
  /** Lower-case, without trailing dot; IPv6 without brackets; `*.example.com`: any name below it. */
  readonly hosts: readonly string[];
  readonly ports: readonly number[];
  /** Networks that the host resolves to. */
  readonly cidrs: readonly string[];
  /** Upper-case. */
  readonly methods: readonly string[];
  readonly paths: readonly PathMatch[];
  /** Of allow rules: a tunnel must carry TLS that names its host. */
  readonly tls: boolean;
}
