// What a plugin may import (`selvedge/plugin`): the request's own record, the two sides of a chain, shared state, typed options.
import type { FastifyInstance, FastifyPluginAsync, FastifyPluginCallback, FastifyRequest } from 'fastify';
import fastifyPlugin from 'fastify-plugin';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Static, TSchema } from 'typebox';
import type { DispatchHandler, DispatchOptions, Interceptor } from './dispatch.ts';
import type { Verdict } from './policies/authorization.ts';
import type { HedgePolicy } from './policies/hedge.ts';
import type { OutlierPolicy } from './policies/outlier-detection.ts';
import type { RetryPolicy } from './policies/retry.ts';

export { Counter, Gauge, Histogram } from 'prom-client';
export * as Type from 'typebox/type';
export type {
  Dispatch,
  DispatchController,
  DispatchHandler,
  DispatchOptions,
  Interceptor,
  ResponseHeaders,
} from './dispatch.ts';
export { TRANSPORT_CODES } from './dispatch.ts';
export type { Code, ErrorFacts } from './errors.ts';
export { SelvedgeError } from './errors.ts';
export { type ResponsePayload, readResponseBody, transformResponseBody } from './http/response-body.ts';
export type { Verdict } from './policies/authorization.ts';
export type { HedgePolicy } from './policies/hedge.ts';
export type { OutlierPolicy } from './policies/outlier-detection.ts';
export type { RetryPolicy } from './policies/retry.ts';
export { parseDurationMs, parseRate, parseShare, parseSizeBytes, UNIT_PATTERNS } from './units.ts';

/** Which side of the mesh a listener stands on. */
export type Role = 'gateway' | 'inbound' | 'outbound';

/** The client on the other end of the connection, as far as its certificate proves it. */
export interface Peer {
  /** First URI SAN (SPIFFE id), else the subject's common name. */
  readonly id: string;
  /** Of a SPIFFE id, else null: `shop.internal`. */
  readonly trustDomain: string | null;
  /** Of a SPIFFE id of a service of the mesh, else null: `orders` of `spiffe://shop.internal/service/orders`. */
  readonly service: string | null;
  readonly subject: string;
  readonly fingerprint256: string;
  /** True when the chain verified against the configured CA. */
  readonly verified: boolean;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

/** One try of one request. */
export interface Attempt {
  readonly endpoint: string;
  /** `ok`, or the reason of the failure (`upstream_refused`). */
  outcome: string;
  /** Upstream status, 0 when none arrived. */
  status: number;
  /** Milliseconds from dispatch to response headers or failure. */
  durationMs: number;
}

/** The route that was chosen, as plugins see it. */
export interface RouteInfo {
  readonly name: string;
  readonly matchedPrefix: string;
}

/**
 * The record of one request on its way through Selvedge: `request.selvedge`.
 * Readable in every hook; what is not known yet is null.
 */
export interface Exchange {
  /** Request id; the request-id plugin may replace it before anything is sent. */
  id: string;
  /** Trace that the request belongs to, 32 hexadecimal digits; set by the tracing plugin. */
  traceId: string | null;
  readonly role: Role;
  /** Gateway name, or the service whose hop this is. */
  readonly owner: string;
  readonly listener: string;
  readonly scheme: 'http' | 'https';
  /** Lower-case, without port. */
  readonly host: string;
  /** The port that the request names beside the host, as digits; null: none. */
  readonly port: string | null;
  /** Normalised path: what was matched and will be sent (before rewrites). */
  readonly path: string;
  /** Without `?`, byte for byte; empty when there is none. */
  readonly query: string;
  readonly clientAddress: string;
  readonly peer: Peer | null;
  /** Whether the other end of the connection may speak for others: a proxy in `trustedProxies`, a hop of the mesh. */
  readonly trusted: boolean;
  /** Null when nothing matched. */
  readonly route: RouteInfo | null;
  /** Names of the chosen service, subset and endpoint, once known. */
  service: string | null;
  subset: string | null;
  endpoint: string | null;
  readonly attempts: readonly Attempt[];
  /** Milliseconds on the process clock (performance.now). */
  readonly startedAt: number;
  /** Milliseconds on the process clock after which nothing is started for it any more; Infinity: it came without a deadline. */
  readonly deadlineAt: number;
  /** Why Selvedge itself answered or broke off: `route_not_found`, `upstream_reset` … null: the service's own answer went through. */
  reason: string | null;
  /** What exactly a plugin had against the request, for the log: `jwt_expired`. */
  because: string | null;
  /** What the cache did with it, for the log: `hit`, `miss` …; null: there was none in its way. */
  cache: string | null;
  /** Name of the policy that decided whether the request may go where it wants to; null: none was asked. */
  decidedBy: string | null;
  /** What it decided: `allowed`, `denied`, or `audit_denied` where it is on trial. */
  verdict: string | null;
  /** What the authorization policies of this hop or gateway said, and which one; null: none was asked. */
  authorization: Verdict | null;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Policies for this request alone; they come before the route's and the chain's. Set them before the request is forwarded. */
  policies: Policies | null;
  /** Lowers the largest request body that is let through; a larger one is answered 413. */
  limitBody(bytes: number): void;
  /** Takes every parameter of this name out of the query: it is neither sent on nor logged. Names are compared decoded. */
  dropQuery(name: string): void;
  /**
   * Sends the request to another service (or subset) than the route says. An unknown name is answered 500.
   * `service` null: the service that the route chooses, narrowed to `subset`.
   */
  sendTo(service: string | null, subset?: string | null): void;
  /** Whether the request wants to leave HTTP (`Upgrade: websocket` …): the protocol, or null. */
  readonly upgrade: string | null;
}

/** State that outlives a chain: the same object for every chain and across reloads while anyone uses it. */
export type Shared = <T>(key: string, make: () => T, dispose?: (value: T) => void) => T;

/**
 * Counts that all workers of a process share, kept where it supervises them. What is asked within one turn of the event loop travels
 * together.
 */
export interface Central {
  /** Rejects when there is no answer within `timeoutMs` (default 1,000). An answer that comes later goes to `onLate`. */
  ask(service: string, question: unknown, options?: CentralQuestion): Promise<unknown>;
  /** Nobody waits for it. */
  tell(service: string, message: unknown): void;
}

export interface CentralQuestion {
  readonly timeoutMs?: number;
  readonly onLate?: (answer: unknown) => void;
}

/** The other end of `Central`, in the supervisor. */
export interface CentralService {
  /** What it throws reaches who asked. */
  ask(worker: number, question: unknown): unknown;
  tell(worker: number, message: unknown): void;
  /** It has ended: what it held is free. */
  gone(worker: number): void;
}

/** How requests are sent upstream. What is left out is as the route, the service or the defaults say. */
export interface Policies {
  readonly retry?: RetryPolicy;
  /** Null: no hedging. */
  readonly hedge?: HedgePolicy | null;
  /** By what the outcome of a try is judged; null: not at all. The service owns the verdicts. */
  readonly outlierDetection?: OutlierPolicy | null;
}

/** What a try sends, as far as those who only watch are told. */
export type Outgoing = Pick<DispatchOptions, 'method' | 'path'> & {
  /** `http://host:port` that is dialled: of the hop where one stands in front. */
  readonly origin: string;
};

/** One try that somebody watches. */
export interface AttemptWatch {
  /**
   * Values of this try alone, lower-case name and value in turn. Each takes the place of the request's own; what the request does not
   * carry (a route may have removed it) is not added.
   */
  readonly headers: readonly string[];
  /** Once, when the try is over; `attempt` says what became of it. `pending`: it was given up before it had an answer. */
  end(attempt: Attempt): void;
}

/** Called once a try, when the endpoint is chosen and nothing was sent. Null: not watched, which costs nothing more. */
export type AttemptObserver = (request: FastifyRequest, attempt: Attempt, outgoing: Outgoing) => AttemptWatch | null;

/** A request of a plugin's own. */
export interface OwnRequest extends Pick<DispatchOptions, 'method' | 'path' | 'headers' | 'contentLength'> {
  readonly body: Buffer | null;
  /** Milliseconds to the response head. */
  readonly timeoutMs: number;
}

/** The part of `DispatchOptions.call` that interceptors may read; they hand `call` itself on untouched. */
interface Called {
  readonly service: { readonly name: string };
  readonly exchange?: Exchange;
}

/** For interceptors: the service that a request is for. */
export function calledService({ call }: DispatchOptions): string {
  return (call as Called).service.name;
}

/** For interceptors: the record of the request, the same as `request.selvedge` of hooks; null for a plugin's own requests. */
export function calledFor({ call }: DispatchOptions): Exchange | null {
  return (call as Called).exchange ?? null;
}

/** The upstream side of a chain. */
export interface Upstream {
  /**
   * Wraps every request (`perRequest`, outside retries) or every attempt (`perAttempt`, once the endpoint is chosen) of this chain.
   * Interceptors run in the order of registration, the first outermost. Call it while the plugin loads.
   */
  intercept(phase: 'perRequest' | 'perAttempt', interceptor: Interceptor): void;
  /**
   * Watches every try of this chain without standing in its way: unlike an interceptor it costs no header objects. What an observer
   * throws is logged, and the request goes on unwatched. Call it while the plugin loads.
   */
  observe(observer: AttemptObserver): void;
  /** Sets policies for every request of this chain whose route has no key of its own for them. Call it while the plugin loads; a later call wins. */
  policy(policies: Policies): void;
  /**
   * Sends a request of the plugin's own to a service of the config in force: balanced and judged like any other, never retried.
   * A service or subset that does not exist, or that has no endpoint to spare, ends in `onResponseError`.
   */
  send(service: string, subset: string | null, request: OwnRequest, handler: DispatchHandler): void;
}

/** What this chain belongs to: `app.chain`. */
export interface ChainInfo {
  readonly role: Role;
  /** Gateway name, or service whose hop this is. */
  readonly owner: string;
  /** Of Selvedge. */
  readonly version: string;
  /** True where this is what remains of a list for requests that no route takes: plugins beside yours may be missing. */
  readonly unrouted: boolean;
}

declare module 'fastify' {
  interface FastifyRequest {
    readonly selvedge: Exchange;
    /** Set by the `mtls` plugin: who the other end of the connection is, as far as its certificate proves it. */
    readonly peer: Peer | null;
    /** Set by the `api-key` plugin: the label of the key that the request showed; null (or, without the plugin, undefined): none. */
    readonly apiKey?: string | null;
  }
  interface FastifyInstance {
    readonly upstream: Upstream;
    readonly shared: Shared;
    readonly chain: ChainInfo;
    /** Process-wide prom-client registry. Label values must never come from a client. */
    readonly metrics: Registry;
    /**
     * Keys of your own for `rate-limit`: with `app.rateLimitKeys.set('tenant', (request) => …)`, `key: { plugin: tenant }` charges what the
     * function returns, asked in `preHandler`. Null: the client address is charged. Set them while the plugin loads.
     */
    readonly rateLimitKeys: Map<string, (request: FastifyRequest) => string | null>;
    /** What is counted once for all workers; null: this process is the only one. */
    readonly central: Central | null;
    /** Process logger. */
    readonly logger: Logger;
  }
}

/** A service, a subset or both that options name. `service` null: the service that the route chooses. */
export interface Reference {
  readonly service: string | null;
  readonly subset: string | null;
  /** Where in the options: `rules[0].to`. */
  readonly path: string;
}

/** Something wrong with options that their schema cannot say. */
export interface OptionProblem {
  /** Where in the options: `rules[0].value.regex`. */
  readonly path: string;
  /** What is wrong and what to do; no full stop. */
  readonly message: string;
  /** `warning`: said by `check`, `run` and a reload, and the options are used all the same. Default: `error`. */
  readonly severity?: 'error' | 'warning';
}

/** What Selvedge reads of a plugin beside fastify-plugin's own metadata. All of it works offline, for `selvedge check`. */
export interface PluginDescription<S extends TSchema> {
  readonly name: string;
  /** TypeBox schema of the options: checked by `selvedge check`, defaults filled in, documented. Unknown keys are refused. */
  readonly options?: S;
  /** Called with options that passed the schema. */
  readonly check?: (options: Static<S>) => readonly OptionProblem[];
  /** What the options refer to; `selvedge check` reports names that do not exist. Called after `check` found nothing. */
  readonly references?: (options: Static<S>) => readonly Reference[];
  /** Lower-case request headers that carry an identity which this plugin vouches for: removed from every request before the chain begins. */
  readonly identityHeaders?: (options: Static<S>) => readonly string[];
  /**
   * In the list of a gateway or listener: whether requests that match no route, or are refused before one is chosen, pass it too. `route` is null
   * then, and what they are refused for may be their host or path. Default: they pass what every gateway begins with, no more.
   */
  readonly unrouted?: boolean;
}

/** Built-in plugins by name; each is imported when the first config names it. */
export type Builtins = ReadonlyMap<string, Builtin>;
export type Builtin = () => Promise<{ readonly default: SelvedgePlugin<never> }>;

/** Key under which the description lies in the plugin's function. */
export const DESCRIPTION: unique symbol = Symbol.for('selvedge.plugin') as never;

export type SelvedgePlugin<Options = unknown> = ((app: FastifyInstance, options: Options) => Promise<void>) & {
  readonly [DESCRIPTION]: PluginDescription<TSchema>;
};

/**
 * Makes a plugin: wraps it in fastify-plugin (otherwise its hooks would stay in a scope of their own and never run)
 * and attaches name and options schema.
 *
 * @example
 * export default definePlugin({ name: 'tenant', options: Type.Object({ allow: Type.Array(Type.String()) }) }, async (app, { allow }) => {
 *   app.addHook('onRequest', async (request) => { … });
 * });
 */
export function definePlugin<S extends TSchema>(
  description: PluginDescription<S>,
  plugin: (app: FastifyInstance, options: Static<S>) => Promise<void>,
): SelvedgePlugin<Static<S>> {
  const wrapped = fastifyPlugin(plugin as FastifyPluginAsync | FastifyPluginCallback, {
    name: description.name,
    fastify: '5.x',
  });
  Object.defineProperty(wrapped, DESCRIPTION, { value: description, enumerable: false });
  return wrapped as unknown as SelvedgePlugin<Static<S>>;
}
