// `npm run bench -- --guard`: which ratios it compares, and when it says that one is worse.
import t from 'tap';
import { compare, ratiosOf, tellComparison } from '../../bench/guard.ts';
import { pointsOf, type Results } from '../../bench/points.ts';

t.test('a ratio is worse past what is allowed, and only then', async (t) => {
  const recorded = { same: 2, better: 2, atTheBound: 2, worse: 2 };
  const measured = { same: 2, better: 1, atTheBound: 2.5, worse: 2.51 };
  const { compared, worse, skipped } = compare(recorded, measured, 0.25);
  t.equal(compared.length, 4);
  t.same(
    worse.map(({ name, recorded, measured }) => [name, recorded, measured]),
    [['worse', 2, 2.51]],
  );
  t.same(skipped, []);
});

t.test('fifteen per cent are allowed', async (t) => {
  t.equal(compare({ one: 100 }, { one: 114 }).worse.length, 0);
  t.equal(compare({ one: 100 }, { one: 116 }).worse.length, 1);
});

t.test('what only one side has is named and not compared', async (t) => {
  const comparison = compare({ both: 1, 'x × envoy': 1 }, { both: 1, new: 9 });
  t.same(
    comparison.compared.map(({ name }) => name),
    ['both'],
  );
  t.same(comparison.skipped, [
    { name: 'new', why: 'not recorded' },
    { name: 'x × envoy', why: 'not measured: the peer is missing' },
  ]);
  t.same(comparison.worse, []);
  const told = tellComparison(comparison);
  t.match(told, 'compared: both: 1 recorded, 1 now (+0 %)');
  t.match(told, 'skipped: x × envoy: not measured: the peer is missing');
  t.match(told, '1 ratios compared, 2 skipped, 0 worse by more than 15 %');
});

t.test('each that is worse is told by name', async (t) => {
  t.match(tellComparison(compare({ hop: 2 }, { hop: 3 })), 'WORSE: hop: +50 %, allowed are 15 %');
});

const hop = { rssMiB: 98, ownMiB: 48, addedP99Ms: 0.5 };
const results: Results = {
  plain: {
    rounds: 7,
    table: [
      { name: 'nginx', cpuMicros: 10, overNginx: 1, overStock: 0.2 },
      { name: 'selvedge', cpuMicros: 20, overNginx: 2, overStock: 0.4 },
      { name: 'selvedge + JSON log', cpuMicros: 24, overNginx: 2.2, overStock: 0.5 },
    ],
  },
  edge: {
    rounds: 5,
    table: [
      { name: 'haproxy', tokens: 500, cpuMicros: 60, overHaproxy: 1, overEnvoy: null },
      { name: 'selvedge', tokens: 500, cpuMicros: 50, overHaproxy: 0.8, overEnvoy: null },
      { name: 'selvedge', tokens: 20_000, cpuMicros: 75, overHaproxy: 1.2, overEnvoy: null },
    ],
  },
  hop: {
    rounds: 3,
    rate: 1_000,
    calm: 200,
    shared: { perServiceMiB: 2 },
    table: [
      { ...hop, rate: 1_000, name: 'selvedge, plain', hop: 'plain', cpuPercent: 10, overNginx: 2, overEnvoy: 1 },
      { ...hop, rate: 1_000, name: 'selvedge, mTLS', hop: 'out', cpuPercent: 15, overNginx: 3, overEnvoy: 0.8 },
      {
        ...hop,
        rate: 1_000,
        name: 'selvedge, mTLS',
        hop: 'in',
        cpuPercent: 12,
        overNginx: 2,
        overEnvoy: 0.7,
        ownMiB: 58,
      },
      {
        ...hop,
        rate: 200,
        name: 'selvedge, mTLS',
        hop: 'in',
        cpuPercent: 3,
        overNginx: 9,
        overEnvoy: 9,
        addedP99Ms: 1.5,
      },
    ],
  },
};

t.test('ratios of Selvedge to peers and between its own variants are compared, absolute times never', async (t) => {
  t.same(ratiosOf(results), {
    'plain: selvedge × nginx with the same log': 2,
    'plain: selvedge + JSON log × nginx with the same log': 2.2,
    'plain: selvedge, with JSON log × without': 1.2,
    'edge: selvedge × haproxy, 500 tokens': 0.8,
    'edge: selvedge × haproxy, 20000 tokens': 1.2,
    'edge: selvedge, 20000 tokens × 500': 1.5,
    'hop: selvedge, plain, plain × nginx': 2,
    'hop: selvedge, plain, plain × envoy': 1,
    'hop: selvedge, mTLS, out × nginx': 3,
    'hop: selvedge, mTLS, out × envoy': 0.8,
    'hop: selvedge, mTLS, out × plain': 1.5,
    'hop: selvedge, mTLS, in × nginx': 2,
    'hop: selvedge, mTLS, in × envoy': 0.7,
    'hop: selvedge, mTLS, in × plain': 1.2,
  });
});

t.test('results of one or two rounds are not held against anything', async (t) => {
  t.same(ratiosOf({ plain: { rounds: 2, table: results.plain?.table ?? [] } }), {});
  t.same(ratiosOf({}), {});
});

t.test('the points of a run', async (t) => {
  const line = (results: Results, point: string) => pointsOf(results).find((one) => one.point === point);

  t.test('are met or not met by what was measured', async (t) => {
    t.match(line(results, 'edge job, CPU × HAProxy'), { target: '≤ 0.9', measured: '0.8', met: true });
    t.match(line(results, 'plain proxying, CPU × stock @fastify/http-proxy'), { measured: '0.4', met: false });
  });

  t.test('take the dearer of two hops, at the rate that the point is about', async (t) => {
    t.match(line(results, 'mTLS hop, CPU × nginx, the dearer side'), { measured: '3', met: false });
    t.match(line(results, 'two mTLS hops, added p99 at 200/s, ms'), { measured: '1.5', met: false });
  });

  t.test('are in megabytes where they are promised in megabytes', async (t) => {
    t.match(line(results, 'mTLS hop, memory of its own, MB'), { measured: '60.8', met: false });
    t.match(line(results, 'shared hop, MB a service'), { measured: '2.1', met: true });
  });

  t.test('that were not measured are neither met nor missed', async (t) => {
    t.ok(pointsOf({}).every(({ measured, met }) => measured === 'not measured' && met === null));
    t.match(line(results, 'edge job, CPU × Envoy'), { measured: 'not measured', met: null });
  });

  t.test('judge workers where they have cores of their own', async (t) => {
    const point = 'two workers, throughput × one';
    t.match(line({ scale: { workers: { free: true, timesOne: 1.9 } } }, point), { measured: '1.9', met: true });
    t.match(line({ scale: { workers: { free: false, timesOne: 1.1 } } }, point), { measured: /^1.1 \(/, met: null });
    t.match(line({ scale: { workers: null } }, point), { measured: 'not measured', met: null });
    const byCpu = 'two workers, capacity × one, by CPU a request';
    const shared = { free: false, timesOne: 1.1 };
    t.match(line({ scale: { workers: { ...shared, capacityTimesOne: 1.75 } } }, byCpu), {
      measured: '1.75',
      met: false,
    });
    t.match(line({ scale: { workers: { ...shared, capacityTimesOne: 1.9 } } }, byCpu), { met: true });
  });
});
