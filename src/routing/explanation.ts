// Beside the journey, for people: why one request goes where it goes, by the same table and the same functions that serve traffic.
import type { Backend, Config, Match, RouteConfig, ServiceConfig, Timeouts, ValueMatch } from '../config/model.ts';
import { formatPlace } from '../config/problem.ts';
import { parseAuthority } from '../http/authority.ts';
import type { HostSet } from '../http/host-set.ts';
import { httpsLocation, permanentStatus } from '../http/https-location.ts';
import { normalizeWrittenPath } from '../http/path.ts';
import { addressBook, calledHost } from './address-book.ts';
import { type ChainLayer, composeChain, routeLayers } from './chain-list.ts';
import { type ExplainedChain, type ExplainedLink, explainChain } from './explained-chain.ts';
import { type ExplainedPolicies, explainPolicies } from './explained-policies.ts';
import { redirectLocation, rewritePath } from './rewrite.ts';
import { type Considered, type Lookup, RouteTable } from './table.ts';

/** One listener with what it serves. */
export interface ExplainedListener {
  readonly role: 'gateway' | 'inbound' | 'outbound';
  readonly owner: string;
  readonly name: string;
  /** `host:port`. */
  readonly address: string;
  readonly scheme: 'http' | 'https';
  readonly routes: readonly RouteConfig[];
  /** Lists of plugins that a route inherits. */
  readonly layers: readonly ChainLayer[];
  /** Local port of one service: Host does not matter. */
  readonly fixedService: string | null;
  /** Every request is sent to https; not given: requests are served. */
  readonly redirect?: { readonly port: number; readonly hosts: HostSet | null };
}

export interface AskedRequest {
  readonly method: string;
  /** `host:port` as a client would send it. */
  readonly authority: string;
  /** As written, without query. */
  readonly path: string;
  readonly query: string;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface Explanation {
  readonly listener: { readonly role: string; readonly owner: string; readonly name: string; readonly address: string };
  readonly request: {
    readonly method: string;
    readonly host: string | null;
    readonly path: string | null;
    readonly query: string;
  };
  readonly considered: readonly ExplainedCandidate[];
  /** How it leaves the mesh; not there where it does not. */
  readonly egress?: string;
  /** The whole listener sends requests to https. */
  readonly redirected?: { readonly status: number; readonly location: string };
  /** What authorization policies say on its way; not there where none is asked. */
  readonly authorization?: readonly ExplainedVerdict[];
  /** What Selvedge answers instead of following a route. */
  readonly refused: { readonly status: 400 | 403 | 404; readonly code: string; readonly why: string } | null;
  /** The plugins that it meets all the same, where it is refused without a route. */
  readonly unrouted?: readonly ExplainedLink[];
  readonly route: ExplainedRoute | null;
}

export interface ExplainedVerdict {
  /** `gateway public`, `service orders`. */
  readonly target: string;
  /** SPIFFE id; null: nobody that is known. */
  readonly caller: string | null;
  readonly verdict: string;
  readonly policy: string | null;
}

export interface ExplainedCandidate {
  readonly route: string;
  readonly place: string;
  readonly match: string;
  readonly host: string | null;
  /** `later`: all conditions hold, but another goes first. */
  readonly outcome: 'chosen' | 'failed' | 'later';
  readonly failed: string | null;
}

export interface ExplainedRoute extends ExplainedChain {
  readonly name: string;
  readonly place: string;
  readonly match: string;
  readonly matchedPrefix: string;
  readonly action: ExplainedAction;
}

export type ExplainedAction =
  | {
      readonly kind: 'forward';
      readonly backends: readonly ExplainedBackend[];
      readonly timeouts: Timeouts;
      readonly policies: ExplainedPolicies;
    }
  | { readonly kind: 'redirect'; readonly status: number; readonly location: string }
  | {
      readonly kind: 'respond';
      readonly status: number;
      readonly body: string;
      readonly headers: Readonly<Record<string, string>>;
    };

export interface ExplainedBackend {
  readonly service: string;
  readonly subset: string | null;
  /** 0 to 1. */
  readonly share: number;
  /** Path and Host that the service sees. */
  readonly path: string;
  readonly host: string;
  readonly endpoints: readonly { readonly address: string; readonly hop: string | null; readonly weight: number }[];
  /** Why this share of the requests is answered with an error; null: nothing known offline. */
  readonly problem: string | null;
}

export function explainRequest(config: Config, listener: ExplainedListener, asked: AskedRequest): Explanation {
  const { role, owner, name, address } = listener;
  const host = listener.fixedService ?? askedHost(config, role, asked.authority);
  const normal = normalizeWrittenPath(asked.path);
  const base = {
    listener: { role, owner, name, address },
    request: { method: asked.method, host, path: normal?.path ?? null, query: asked.query },
  };
  const refuse = (status: 400 | 404, code: string, why: string, considered: readonly ExplainedCandidate[] = []) => ({
    ...base,
    considered,
    refused: { status, code, why },
    route: null,
  });
  if (host === null) return refuse(400, 'SLV_BAD_HOST', `the host ${JSON.stringify(asked.authority)} is malformed`);
  if (normal === null) return refuse(400, 'SLV_BAD_PATH', `the path ${whyUnacceptable(asked.path)}`);

  if (listener.redirect !== undefined) {
    const { port, hosts } = listener.redirect;
    if (host === '') return refuse(400, 'SLV_BAD_HOST', 'a request without a Host cannot be sent to https');
    if (hosts !== null && !hosts.has(host))
      return refuse(
        404,
        'SLV_ROUTE_NOT_FOUND',
        'this listener sends requests to https, and no route there has this host',
      );
    const location = httpsLocation(host, port, normal.path, asked.query);
    const redirected = { status: permanentStatus(asked.method), location };
    return { ...base, considered: [], refused: null, route: null, redirected };
  }
  const table = new RouteTable(listener.routes.map((route) => ({ route, value: null })));
  const view = { host, path: normal.path, query: asked.query, method: asked.method, headers: asked.headers };
  const considered = table.consider(view).map(explainCandidate);
  const found = table.lookup(view);
  if (found === null) {
    const code = role === 'outbound' ? 'SLV_SERVICE_NOT_FOUND' : 'SLV_ROUTE_NOT_FOUND';
    return refuse(404, code, 'no route matches', considered);
  }
  if (normal.encodedSlash && !found.route.keepEncodedSlashes) {
    const why = `the path has %2F, %5C or a backslash, and route "${found.route.name}" does not say encodedSlashes: keep`;
    return refuse(400, 'SLV_BAD_PATH', why, considered);
  }
  const action = explainAction(config, listener, asked, { host, path: normal.path }, found);
  return { ...base, considered, refused: null, route: explainRoute(listener, found, action) };
}

/** Null: malformed. */
function askedHost(config: Config, role: ExplainedListener['role'], authority: string): string | null {
  const { host, port } = parseAuthority(authority);
  return host === null || role !== 'outbound' ? host : calledHost(addressBook(config), host, port);
}

function whyUnacceptable(path: string): string {
  if (!path.startsWith('/')) return 'does not start with a slash';
  if (/%00|\0/.test(path)) return 'has a NUL';
  const invalid = /%(?![0-9A-Fa-f]{2})/.exec(path);
  if (invalid !== null) return `has the invalid escape ${JSON.stringify(path.slice(invalid.index, invalid.index + 3))}`;
  return 'has a space, a control character, "#" or "?"';
}

function explainCandidate({ route, match, host, failed, chosen }: Considered): ExplainedCandidate {
  const outcome = chosen ? 'chosen' : failed === null ? 'later' : 'failed';
  return { route: route.name, place: formatPlace(match.at), match: describeMatch(match), host, outcome, failed };
}

/** `prefix /orders, GET or POST, header x-group exact "beta"`. */
export function describeMatch(match: Match): string {
  const parts = [`${match.path.kind} ${match.path.value}`];
  if (match.methods.length > 0) parts.push(match.methods.join(' or '));
  const add = (source: string, list: readonly ValueMatch[]): void => {
    for (const { name, kind, value } of list) {
      parts.push(
        `${source} ${name} ${kind}${kind === 'present' || kind === 'absent' ? '' : ` ${JSON.stringify(value)}`}`,
      );
    }
  };
  add('header', match.headers);
  add('query', match.query);
  add('cookie', match.cookies);
  return parts.join(', ');
}

function explainRoute(listener: ExplainedListener, found: Lookup<null>, action: ExplainedAction): ExplainedRoute {
  const { route, match, matchedPrefix } = found;
  const place = formatPlace(route.at);
  const chain = explainChain(composeChain(routeLayers(listener.layers, route)));
  return { name: route.name, place, match: describeMatch(match), matchedPrefix, ...chain, action };
}

function explainAction(
  config: Config,
  listener: ExplainedListener,
  asked: AskedRequest,
  normal: { readonly host: string; readonly path: string },
  { route, matchedPrefix }: Lookup<null>,
): ExplainedAction {
  const { action } = route;
  switch (action.kind) {
    case 'redirect': {
      const port = /:(\d+)$/.exec(asked.authority);
      const source = {
        ...normal,
        scheme: listener.scheme,
        port: port === null ? null : Number(port[1]),
        query: asked.query,
      };
      return {
        kind: 'redirect',
        status: action.redirect.status,
        location: redirectLocation(action.redirect, { ...source, matchedPrefix }),
      };
    }
    case 'respond':
      return { kind: 'respond', ...action.respond };
    case 'forward': {
      const total = action.backends.reduce((sum, backend) => sum + backend.weight, 0);
      const backends = action.backends.map((backend): ExplainedBackend => {
        const rewrite = backend.rewrite ?? route.rewrite;
        return {
          service: backend.service,
          subset: backend.subset,
          share: total === 0 ? 0 : backend.weight / total,
          path: rewrite === null ? normal.path : rewritePath(rewrite, normal.path, matchedPrefix),
          host: rewrite?.host ?? asked.authority,
          ...reachable(config, listener, backend),
        };
      });
      const chain = composeChain(routeLayers(listener.layers, route)).links.map(({ use }) => use);
      return { kind: 'forward', backends, timeouts: route.timeouts, policies: explainPolicies(route, chain) };
    }
  }
}

function reachable(
  config: Config,
  listener: ExplainedListener,
  backend: Backend,
): Pick<ExplainedBackend, 'endpoints' | 'problem'> {
  const service = config.services.find((candidate) => candidate.name === backend.service);
  if (service === undefined) return { endpoints: [], problem: `no service "${backend.service}": answered 500` };
  const endpoints = listener.role === 'inbound' ? localApps(service) : inSubset(service, backend.subset);
  return { endpoints, problem: endpoints.length === 0 ? 'no endpoint: answered 503' : null };
}

function localApps(service: ServiceConfig): ExplainedBackend['endpoints'] {
  return (service.internal?.apps ?? []).map((address) => ({ address, hop: null, weight: 1 }));
}

function inSubset(service: ServiceConfig, subset: string | null): ExplainedBackend['endpoints'] {
  const wanted = Object.entries(subset === null ? {} : (service.subsets[subset] ?? {}));
  return service.endpoints
    .filter((endpoint) => wanted.every(([label, value]) => endpoint.labels[label] === value))
    .map(({ address, hop, weight }) => ({ address, hop, weight }));
}
