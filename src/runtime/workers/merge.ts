// One answer out of those of all workers: what each counts for itself is added up, what is the same everywhere is said once.
import type { MetricObjectWithValues, MetricValue, Registry } from 'prom-client';
import { AggregatorRegistry } from 'prom-client';
import type { SeenTarget } from '../../policies/seen-requests.ts';
import type { ServiceDescription } from '../../upstream/service.ts';
import type { Health } from '../engine.ts';

/** What `Registry.getMetricsAsJSON` gives. */
export type Metrics = readonly MetricObjectWithValues<MetricValue<string>>[];

/** Counters and histograms are summed; gauges as each says by its `aggregator` (a sum where it says nothing). */
export function mergeMetrics(parts: readonly Metrics[]): Registry {
  return AggregatorRegistry.aggregate(parts.map((part) => [...part]));
}

/** What must not be forgotten with a worker that ended, or sums would go back. */
export function lasting(metrics: Metrics): Metrics {
  return metrics.filter(({ type }) => String(type) === 'counter' || String(type) === 'histogram');
}

/** Traffic is welcome while one worker wants it; if none does, the first one's reasons stand for all. */
export function mergeHealth(parts: readonly Health[]): Omit<Health, 'workers'> {
  const [first] = parts;
  if (first === undefined) return { reasons: ['no worker serves'], warnings: [], inFlight: 0 };
  return {
    reasons: parts.some(({ reasons }) => reasons.length === 0) ? [] : first.reasons,
    warnings: [...new Set(parts.flatMap(({ warnings }) => warnings))],
    inFlight: parts.reduce((sum, { inFlight }) => sum + inFlight, 0),
  };
}

/** Numbers of what is under way and has happened are sums; the verdict on an endpoint is the worst that any worker has. */
export function mergeServices(parts: readonly (readonly ServiceDescription[])[]): readonly ServiceDescription[] {
  const [first = [], ...others] = parts;
  return first.map((service) => {
    const same = others.flatMap((part) => part.find(({ name }) => name === service.name) ?? []);
    return {
      ...service,
      ...sums([service, ...same], OF_SERVICES),
      concurrencyLimit: nullOrSum([service, ...same].map(({ concurrencyLimit }) => concurrencyLimit)),
      endpoints: service.endpoints.map((endpoint, index) =>
        mergeEndpoint(
          endpoint,
          same.flatMap(({ endpoints }) => endpoints[index] ?? []),
        ),
      ),
    };
  });
}

type Endpoint = ServiceDescription['endpoints'][number];

function mergeEndpoint(endpoint: Endpoint, others: readonly Endpoint[]): Endpoint {
  const all = [endpoint, ...others];
  const worst = all.find(({ health }) => health !== 'healthy') ?? endpoint;
  const latencyMs = all.reduce((sum, one) => sum + one.latencyMs, 0) / all.length;
  return { ...worst, ...sums(all, OF_ENDPOINTS), latencyMs };
}

const OF_SERVICES = ['requests', 'retries', 'waiting', 'retriesRefused'] as const;
const OF_ENDPOINTS = ['inFlight', 'connections', 'idle', 'active', 'pending', 'resent'] as const;

function sums<K extends string>(all: readonly Readonly<Record<K, number>>[], keys: readonly K[]): Record<K, number> {
  const pairs = keys.map((key) => [key, all.reduce((sum, one) => sum + one[key], 0)]);
  return Object.fromEntries(pairs) as Record<K, number>;
}

function nullOrSum(values: readonly (number | null)[]): number | null {
  const numbers = values.filter((value) => value !== null);
  return numbers.length === 0 ? null : numbers.reduce((sum, value) => sum + value, 0);
}

type Seen = SeenTarget['callers'][number];

/** By target, caller and path. */
export function mergeSeen(parts: readonly (readonly SeenTarget[])[]): readonly SeenTarget[] {
  const targets = groups(parts.flat(), ({ target }) => target);
  return targets.map((same) => ({
    target: same[0].target,
    callers: groups(
      same.flatMap(({ callers }) => callers),
      ({ caller }) => String(caller),
    ).map(mergeCaller),
    unusable: sumByName(same.map(({ unusable }) => unusable)),
  }));
}

function mergeCaller(same: readonly Seen[]): Seen {
  const paths = groups(
    same.flatMap((seen) => seen.paths),
    ({ kind, value }) => JSON.stringify([kind, value]),
  );
  return {
    caller: same[0].caller,
    paths: paths.map((equal) => ({ ...equal[0], methods: sumByName(equal.map(({ methods }) => methods)) })),
  };
}

function groups<T>(items: readonly T[], keyOf: (item: T) => string): readonly (readonly T[])[] {
  const found = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = found.get(key);
    if (group === undefined) found.set(key, [item]);
    else group.push(item);
  }
  return [...found.values()];
}

function sumByName(all: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sums = new Map<string, number>();
  for (const one of all) for (const [name, count] of Object.entries(one)) sums.set(name, (sums.get(name) ?? 0) + count);
  return Object.fromEntries(sums);
}
