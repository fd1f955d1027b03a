// Counts every request once it is over: Prometheus metrics whose labels come from the config and from Selvedge, never from a client.
import type { Registry } from 'prom-client';
import { Counter, definePlugin, Gauge, Type } from '../plugin.ts';
import { DurationHistogram } from './duration-histogram.ts';
import { finalStatus } from './final-status.ts';
import { collectInto, SeriesBudget, SeriesTable, tally } from './series.ts';

const REQUESTS = 'selvedge_requests_total';
const DURATION = 'selvedge_request_duration_seconds';
const ATTEMPTS = 'selvedge_upstream_attempts_total';
const IN_FLIGHT = 'selvedge_requests_in_flight';
const FOLDED = 'selvedge_metrics_folded_total';
const REQUEST_LABELS = ['role', 'owner', 'route', 'service', 'code', 'reason'] as const;
/** In the order of look-ups. The rest has few values: with the route last, a request looks into one large table instead of four of its route. */
const REQUEST_KEYS = ['role', 'owner', 'service', 'code', 'reason', 'route'] as const;
const ATTEMPT_LABELS = ['service', 'endpoint', 'outcome'] as const;
const DEFAULT_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export default definePlugin(
  {
    name: 'metrics',
    options: Type.Object({
      buckets: Type.Array(Type.Number({ exclusiveMinimum: 0 }), {
        default: DEFAULT_BUCKETS,
        description:
          'Upper bounds of the duration histogram in seconds, ascending. Empty: the default ones. Other ones start the histogram anew.',
      }),
      maxSeries: Type.Integer({
        minimum: 1,
        default: 20_000,
        description:
          'Label sets kept in the whole process; what comes beyond is counted in one series with `other` in every label.',
      }),
    }),
    check: ({ buckets }) =>
      buckets.some((bound, index) => index > 0 && bound <= buckets[index - 1])
        ? [{ path: 'buckets', message: 'must ascend' }]
        : [],
  },
  async (app, options) => {
    const buckets = options.buckets.length === 0 ? DEFAULT_BUCKETS : options.buckets;
    const counters = app.shared(
      'metrics counters',
      () => makeCounters(app.metrics),
      (made) => made.dispose(),
    );
    const durations = app.shared(
      `metrics durations ${buckets.join(' ')}`,
      () => makeDurations(app.metrics, buckets, counters),
      (made) => made.dispose(),
    );
    durations.publish();
    counters.budget.max = options.maxSeries;

    const { role, owner } = app.chain;
    const inFlight = counters.inFlight.get([role, owner]);
    const counted = Symbol('counted in flight');
    app.decorateRequest(counted, false);

    app.addHook('onRequest', (request, _reply, done) => {
      (request as { [counted]?: boolean })[counted] = true;
      inFlight.pending++;
      done();
    });

    app.addHook('onResponse', (request, reply, done) => {
      // A plugin before this one may have answered: then the request never counted as in flight.
      if ((request as { [counted]?: boolean })[counted]) inFlight.pending--;
      const { route, service, reason, verdict, attempts, startedAt } = request.selvedge;
      const name = route?.name ?? '';
      const status = finalStatus(request, reply);
      counters.requests.get([role, owner, service ?? '', String(status), reason ?? '', name]).pending++;
      // An upgraded connection or a tunnel lasts as long as its ends like: no latency of anything.
      if (status !== 101 && (request.method !== 'CONNECT' || reason !== null))
        durations.table.get([role, owner, name]).observe((performance.now() - startedAt) / 1_000);
      // Beyond the mesh addresses are as many as applications like.
      const beyond = verdict !== null && role === 'outbound' && service === 'egress';
      for (const { endpoint, outcome } of attempts)
        counters.attempts.get([service ?? '', beyond ? '' : endpoint, outcome]).pending++;
      done();
    });
  },
);

function makeCounters(registry: Registry) {
  const registers = [registry];
  const budget = new SeriesBudget(Number.POSITIVE_INFINITY);
  const folded = new Counter({
    name: FOLDED,
    help: 'Observations counted under "other" because maxSeries was reached',
    labelNames: ['metric'],
    registers,
  });
  const foldsOf = (metric: string) => () => folded.inc({ metric });
  const requests = new SeriesTable(budget, tally(REQUEST_KEYS, REQUEST_LABELS), foldsOf(REQUESTS));
  const attempts = new SeriesTable(budget, tally(ATTEMPT_LABELS), foldsOf(ATTEMPTS));
  const inFlight = new SeriesTable(budget, tally(['role', 'owner']), foldsOf(IN_FLIGHT));
  new Counter({
    name: REQUESTS,
    help: 'Requests that are over, by what became of them',
    labelNames: REQUEST_LABELS,
    registers,
    collect() {
      collectInto(this, requests);
    },
  });
  new Counter({
    name: ATTEMPTS,
    help: 'Tries to have a request answered by an endpoint',
    labelNames: ATTEMPT_LABELS,
    registers,
    collect() {
      collectInto(this, attempts);
    },
  });
  new Gauge({
    name: IN_FLIGHT,
    help: 'Requests that are not over yet',
    labelNames: ['role', 'owner'],
    registers,
    collect() {
      for (const { labels, pending } of inFlight) this.set(labels, pending);
    },
  });
  const dispose = (): void => {
    for (const name of [FOLDED, REQUESTS, ATTEMPTS, IN_FLIGHT]) registry.removeSingleMetric(name);
  };
  return { budget, requests, attempts, inFlight, foldsOf, dispose };
}

/** One histogram a list of buckets; the one that was published last is scraped. A chain of an older config goes on with its own, unseen. */
function makeDurations(
  registry: Registry,
  buckets: readonly number[],
  { budget, foldsOf }: ReturnType<typeof makeCounters>,
) {
  const histogram = new DurationHistogram(
    DURATION,
    'From the arrival of a request head to the end of its response',
    buckets,
  );
  const table = new SeriesTable(
    budget,
    ([role, owner, route]) => histogram.add({ role, owner, route }),
    foldsOf(DURATION),
  );
  const published = (): boolean => registry.getSingleMetric(DURATION) === histogram.asMetric();
  const publish = (): void => {
    if (published()) return;
    registry.removeSingleMetric(DURATION);
    registry.registerMetric(histogram.asMetric());
  };
  const dispose = (): void => {
    if (published()) registry.removeSingleMetric(DURATION);
    table.clear();
  };
  return { table, publish, dispose };
}
