// Routes and configs with everything filled in, so that a test names only what it is about.
import type {
  Backend,
  Config,
  Gateway,
  Match,
  Place,
  PluginUse,
  RouteConfig,
  ServiceConfig,
  ValueMatch,
} from '../../../src/config/model.ts';
import type { RequestView } from '../../../src/routing/table.ts';

export const HERE: Place = { file: 'shop.yaml', line: 0, column: 0 };

export function at(line: number): Place {
  return { file: 'shop.yaml', line, column: 3 };
}

export function exact(name: string, value: string): ValueMatch {
  return { name, kind: 'exact', value };
}

export function match(parts: Partial<Match> = {}): Match {
  return { path: { kind: 'prefix', value: '/' }, methods: [], headers: [], query: [], cookies: [], at: HERE, ...parts };
}

export function backend(service: string, parts: Partial<Backend> = {}): Backend {
  return {
    service,
    subset: null,
    weight: 1,
    rewrite: null,
    requestHeaders: null,
    responseHeaders: null,
    at: HERE,
    ...parts,
  };
}

export function route(name: string, parts: Partial<RouteConfig> = {}): RouteConfig {
  return {
    name,
    at: HERE,
    gateways: ['public'],
    internal: [],
    listeners: null,
    hosts: [],
    matches: [match()],
    plugins: [],
    action: { kind: 'respond', respond: { status: 204, body: '', headers: {} } },
    rewrite: null,
    requestHeaders: null,
    responseHeaders: null,
    timeouts: { requestMs: 15_000, perTryMs: 0, idleMs: 300_000 },
    bodyBytes: Number.POSITIVE_INFINITY,
    retry: null,
    hedge: null,
    session: null,
    rollout: null,
    keepEncodedSlashes: false,
    ...parts,
  };
}

export function plugin(name: string, options: Record<string, unknown> = {}): PluginUse {
  return { name, written: name, options, at: HERE, baseDir: '/' };
}

export function service(name: string, parts: Partial<ServiceConfig> = {}): ServiceConfig {
  return {
    name,
    at: HERE,
    endpoints: [],
    protocol: 'http1',
    subsets: {},
    tls: null,
    mtls: 'off',
    internal: null,
    plugins: [],
    loadBalancing: { algorithm: 'least-request', by: null },
    locality: { zone: null, prefer: true },
    slowStartMs: 0,
    connections: {
      max: 1,
      pending: 1,
      requests: 1,
      retries: 1,
      connectTimeoutMs: 1,
      idleTimeoutMs: 1,
      waitForEndpointMs: 0,
    },
    concurrency: null,
    healthCheck: null,
    outlierDetection: null,
    retryBudget: { share: 0.2, windowMs: 10_000, minPerSecond: 10 },
    ...parts,
  };
}

export function gateway(
  name: string,
  listeners: readonly { name: string; port: number; secure?: boolean }[],
  plugins: readonly PluginUse[] = [],
): Gateway {
  const limits = {
    headerBytes: 1,
    headerCount: 1,
    urlBytes: 1,
    bodyBytes: 1,
    headerTimeoutMs: 1,
    bodyIdleTimeoutMs: 1,
    bodyMinRate: 0,
    keepAliveTimeoutMs: 1,
    tlsHandshakeTimeoutMs: 1,
    connections: 1,
    connectionsPerClient: Number.POSITIVE_INFINITY,
  };
  return {
    name,
    at: HERE,
    errorPages: [],
    clientAddress: { trustedProxies: [], header: 'x-forwarded-for', hops: null, proxyProtocol: false },
    plugins,
    listeners: listeners.map(({ name, port, secure }) => ({
      name,
      port,
      host: '0.0.0.0',
      at: HERE,
      limits,
      plugins: [],
      tls: secure === true ? { certificates: [], minVersion: 'TLSv1.2', clientCertificate: null } : null,
      redirect: null,
    })),
  };
}

export function config(parts: Partial<Config>): Config {
  return {
    version: 1,
    admin: null,
    accessLog: null,
    egress: null,
    metrics: { buckets: [], maxSeries: 1 },
    tracing: null,
    drain: { graceMs: 0, timeoutMs: 0 },
    workers: 1,
    mesh: {
      trustDomain: 'mesh.internal',
      mtls: 'off',
      aliases: [],
      identity: { kind: 'builtin', dir: '/nowhere' },
    },
    gateways: [gateway('public', [{ name: 'http', port: 8080 }])],
    services: [],
    authorization: [],
    routes: [],
    ...parts,
  };
}

export function view(parts: Partial<RequestView> = {}): RequestView {
  return { host: 'shop.example.com', path: '/', query: '', method: 'GET', headers: {}, ...parts };
}
