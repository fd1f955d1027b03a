import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import t from 'tap';
import { FleetMetrics } from '../../../src/runtime/workers/fleet-metrics.ts';
import { mergeHealth, mergeSeen, mergeServices } from '../../../src/runtime/workers/merge.ts';
import type { ServiceDescription } from '../../../src/upstream/service.ts';

function registry(requests: number, healthy: number): Registry {
  const made = new Registry();
  const registers = [made];
  new Counter({ name: 'requests_total', help: 'x', labelNames: ['route'], registers }).inc({ route: 'a' }, requests);
  new Gauge({ name: 'open', help: 'x', registers }).set(requests);
  new Gauge({ name: 'healthy', help: 'x', registers, aggregator: 'average' }).set(healthy);
  const seconds = new Histogram({ name: 'seconds', help: 'x', buckets: [1], registers });
  for (let i = 0; i < requests; i++) seconds.observe(0.5);
  return made;
}

const answering = (from: Registry) => ({ channel: { ask: async () => from.getMetricsAsJSON() } }) as never;

t.test('metrics are summed, and a worker that ends takes back none of what it counted', async (t) => {
  const own = new Registry();
  new Gauge({ name: 'revision', help: 'x', registers: [own] }).set(3);
  const metrics = new FleetMetrics(own);
  const [one, two, three] = [answering(registry(5, 1)), answering(registry(7, 0)), answering(registry(1, 1))];
  const before = await metrics.scrape([one, two], 1_000);
  t.match(before, /^requests_total\{route="a"\} 12$/m);
  t.match(before, /^open 12$/m);
  t.match(before, /^healthy 0\.5$/m);
  t.match(before, /^seconds_bucket\{le="1"\} 12$/m);
  t.match(before, /^revision 3$/m);
  metrics.gone(one);
  const after = await metrics.scrape([two, three], 1_000);
  t.match(after, /^requests_total\{route="a"\} 13$/m);
  t.match(after, /^seconds_count 13$/m);
  t.match(after, /^open 8$/m, 'what is open ended with it');
  metrics.gone(two);
  t.match(await metrics.scrape([three], 1_000), /^requests_total\{route="a"\} 13$/m, 'nor does the second one');
});

t.test('one that does not answer stands as it stood before', async (t) => {
  const metrics = new FleetMetrics(new Registry());
  let fails = false;
  const from = registry(4, 1);
  const worker = {
    channel: { ask: async () => (fails ? Promise.reject(new Error('late')) : from.getMetricsAsJSON()) },
  } as never;
  await metrics.scrape([worker], 1_000);
  fails = true;
  t.match(await metrics.scrape([worker], 1_000), /^requests_total\{route="a"\} 4$/m);
});

t.test('traffic is welcome while one worker wants it', async (t) => {
  const ready = { reasons: [], warnings: ['old certificate'], inFlight: 2 };
  const waiting = { reasons: ['not checked'], warnings: ['old certificate'], inFlight: 1 };
  t.strictSame(mergeHealth([waiting, ready]), { reasons: [], warnings: ['old certificate'], inFlight: 3 });
  t.strictSame(mergeHealth([waiting, waiting]).reasons, ['not checked']);
  t.strictSame(mergeHealth([]).reasons, ['no worker serves']);
});

t.test('services: what is under way is added up, the worst verdict stands for an endpoint', async (t) => {
  const service = (inFlight: number, health: string, limit: number | null): ServiceDescription =>
    ({
      name: 'orders',
      requests: inFlight,
      retries: 1,
      waiting: 0,
      retriesRefused: 2,
      concurrencyLimit: limit,
      endpoints: [
        {
          address: '10.0.0.5:3000',
          weight: 3,
          health,
          ejectedForMs: health === 'ejected' ? 900 : 0,
          latencyMs: inFlight,
          upstreamIdleMs: 5_000,
          inFlight,
          connections: 4,
          idle: 1,
          active: 3,
          pending: 0,
          resent: 1,
        },
      ],
    }) as unknown as ServiceDescription;
  const [merged] = mergeServices([[service(2, 'healthy', 10)], [service(6, 'ejected', 20)]]);
  t.match(merged, { requests: 8, retries: 2, retriesRefused: 4, concurrencyLimit: 30 });
  t.match(merged.endpoints[0], {
    weight: 3,
    health: 'ejected',
    ejectedForMs: 900,
    latencyMs: 4,
    upstreamIdleMs: 5_000,
    inFlight: 8,
    connections: 8,
  });
  t.equal(mergeServices([[service(1, 'healthy', null)], [service(1, 'healthy', null)]])[0].concurrencyLimit, null);
  t.strictSame(mergeServices([]), []);
});

t.test('what was seen under audit is added up by target, caller, path and method', async (t) => {
  const seen = (count: number) => [
    {
      target: 'service orders',
      callers: [{ caller: 'a', paths: [{ kind: 'exact', value: '/x', methods: { GET: count } }] }],
      unusable: { refused: count },
    },
  ];
  t.strictSame(mergeSeen([seen(1), seen(4)] as never), seen(5));
});
