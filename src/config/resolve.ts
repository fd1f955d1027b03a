// From the complete config to the one that everything after reads: units parsed, names in one form, files absolute, frozen.
import type { Clock } from './certificates.ts';
import type { CompleteConfig, CompleteRoute } from './complete.ts';
import type { Cursor } from './cursor.ts';
import { listenHost } from './listen-host.ts';
import type { AccessLog, Config, Metrics, RouteConfig } from './model.ts';
import { withRedis } from './redis-use.ts';
import { resolveAuthorization } from './resolve-authorization.ts';
import { resolveEgress } from './resolve-egress.ts';
import { resolveGateway } from './resolve-gateway.ts';
import { resolveMesh } from './resolve-mesh.ts';
import { resolveRoute } from './resolve-route.ts';
import { resolveService } from './resolve-service.ts';
import { resolveTracing } from './resolve-tracing.ts';
import { DEFAULT_BUCKETS } from './schema.ts';
import { fraction, milliseconds } from './units.ts';

/**
 * Problems go to the cursor's findings; the result is for use only when none of them is an error. `routes`, by their plain values: those
 * that are resolved already; it gets those that need be resolved only once.
 */
export function resolveConfig(
  config: Cursor<CompleteConfig>,
  cwd: string,
  clock: Clock,
  routes: Map<unknown, RouteConfig>,
): Config {
  const telemetry = config.at('telemetry').filled();
  const drain = config.at('drain').filled();
  const mesh = resolveMesh(config.at('mesh').filled(), cwd, clock);
  const resolved: Config = {
    version: 1,
    admin: resolveAdmin(config.at('admin').filled()),
    accessLog: resolveAccessLog(telemetry.at('accessLog').filled()),
    metrics: resolveMetrics(telemetry.at('metrics').filled()),
    tracing: resolveTracing(telemetry.at('tracing').given()),
    drain: {
      graceMs: milliseconds(drain.at('grace').filled()),
      timeoutMs: milliseconds(drain.at('timeout').filled()),
    },
    workers: resolveWorkers(config),
    mesh,
    gateways: config
      .at('gateways')
      .filled()
      .entries()
      .map(([name, gateway]) => resolveGateway(name, gateway, clock)),
    services: config
      .at('services')
      .filled()
      .entries()
      .map(([name, service]) => resolveService(name, service, mesh.mtls, clock)),
    routes: config
      .at('routes')
      .filled()
      .items()
      .map((route) => routes.get(route.value) ?? resolveInto(routes, route, config)),
    egress: resolveEgress(config.at('egress')),
    authorization: resolveAuthorization(config, mesh.trustDomain),
  };
  return withRedis(resolved, config);
}

function resolveInto(
  routes: Map<unknown, RouteConfig>,
  route: Cursor<CompleteRoute>,
  config: Cursor<CompleteConfig>,
): RouteConfig {
  const { traces } = route;
  const resolved = resolveRoute(route, config);
  if (route.traces === traces) routes.set(route.value, resolved);
  return resolved;
}

function resolveWorkers(config: Cursor<CompleteConfig>): Config['workers'] {
  const { value } = config.at('workers').filled();
  const workers = value === 'auto' ? value : Number(value);
  if (workers === 1) return workers;
  for (const route of config.at('routes').filled().items())
    route
      .at('rollout')
      .given()
      ?.error('needs "workers: 1": every worker would measure and move its own share of the requests');
  return workers;
}

function resolveAdmin(admin: Cursor<NonNullable<CompleteConfig['admin']>>): Config['admin'] {
  const { value } = admin;
  if (value === false || value.port === false) return null;
  const map = admin as Cursor<typeof value>;
  return { host: listenHost(map.at('host').filled()), port: value.port as number };
}

type AccessLogInput = NonNullable<NonNullable<CompleteConfig['telemetry']>['accessLog']>;

function resolveAccessLog(written: Cursor<AccessLogInput>): AccessLog | null {
  if (written.value === false) return null;
  const log = written as Cursor<Exclude<AccessLogInput, false>>;
  let slowMs: number | null = null;
  let errors = false;
  for (const item of log.at('always').filled().items()) {
    if ((item.value as unknown) === 'errors') errors = true;
    else slowMs = Math.min(slowMs ?? Number.POSITIVE_INFINITY, milliseconds(item.at('slow')));
  }
  return {
    sample: fraction(log.at('sample').filled()),
    always: { errors, slowMs },
    redact: log
      .at('redact')
      .filled()
      .value.map((name) => name.toLowerCase()),
    fields: log.at('fields').filled().value,
    headers: log
      .at('headers')
      .filled()
      .value.map((name) => name.toLowerCase()),
  };
}

function resolveMetrics(metrics: Cursor<NonNullable<NonNullable<CompleteConfig['telemetry']>['metrics']>>): Metrics {
  const buckets = metrics.at('buckets').filled();
  const bounds = buckets.value;
  if (bounds.some((bound, index) => index > 0 && bound <= bounds[index - 1]))
    buckets.error('must ascend, each bound above the one before');
  return {
    buckets: bounds.length === 0 ? DEFAULT_BUCKETS : bounds,
    maxSeries: metrics.at('maxSeries').filled().value,
  };
}
