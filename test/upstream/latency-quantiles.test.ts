import fc from 'fast-check';
import t from 'tap';
import { LatencyQuantiles } from '../../src/upstream/latency-quantiles.ts';

/** From a tenth of a millisecond to twenty minutes, every magnitude alike. */
const latency = fc.double({ min: Math.log(0.1), max: Math.log(1_200_000), noNaN: true }).map(Math.exp);

/** The smallest latency within which the share `quantile` of them came. */
function exact(latencies: readonly number[], quantile: number): number {
  const sorted = [...latencies].sort((a, b) => a - b);
  return sorted.find((_, index) => index + 1 >= quantile * sorted.length) as number;
}

function within(estimate: number | null, wanted: number): boolean {
  if (estimate === null) return false;
  return estimate > wanted / 1.051 && estimate < wanted * 1.051;
}

t.test('a quantile is within 5 % of the exact one', async (t) => {
  const property = fc.property(
    fc.array(latency, { minLength: 50, maxLength: 400 }),
    fc.double({ min: 0.5, max: 0.999, noNaN: true }),
    (latencies, quantile) => {
      const quantiles = new LatencyQuantiles();
      for (const ms of latencies) quantiles.observe(ms, 1_000);
      return within(quantiles.quantile(quantile, 1_000), exact(latencies, quantile));
    },
  );
  fc.assert(property, { numRuns: 1_000, seed: 1 });
  t.pass('held');
});

t.test('what is shorter or longer than any bucket is counted at the ends', async (t) => {
  const quantiles = new LatencyQuantiles();
  for (let count = 0; count < 60; count++) quantiles.observe(count < 30 ? 0 : 1e9, 0);
  t.ok((quantiles.quantile(0.5, 0) as number) <= 0.2);
  const last = quantiles.quantile(0.99, 0) as number;
  t.ok(last > 1_200_000 && Number.isFinite(last));
});

t.test('too few observations say nothing', async (t) => {
  const quantiles = new LatencyQuantiles();
  t.equal(quantiles.quantile(0.95, 0), null);
  for (let count = 1; count < 50; count++) quantiles.observe(10, 0);
  t.equal(quantiles.quantile(0.95, 0), null);
  quantiles.observe(10, 0);
  t.ok(within(quantiles.quantile(0.95, 0), 10));
});

t.test('forgets what is a minute old, and not what is half a minute old', async (t) => {
  const property = fc.property(
    fc.array(fc.record({ afterMs: fc.nat(3_000), ms: fc.constantFrom(1, 10, 100, 1_000) }), {
      minLength: 50,
      maxLength: 200,
    }),
    fc.nat(60_000),
    (observations, quietMs) => {
      const quantiles = new LatencyQuantiles();
      let now = 5_000;
      const seen = observations.map(({ afterMs, ms }) => {
        now += afterMs;
        quantiles.observe(ms, now);
        return { at: now, ms };
      });
      now += quietMs;
      const estimate = quantiles.quantile(0.9, now);
      const count = (ageMs: number) => seen.filter(({ at }) => now - at < ageMs).length;
      // Which generation the middle ones are in depends on when the first one began.
      if (count(30_000) >= 50 && estimate === null) return false;
      if (count(60_001) < 50 && estimate !== null) return false;
      if (estimate === null) return true;
      return seen.some(({ at, ms }) => now - at <= 60_000 && within(estimate, ms));
    },
  );
  fc.assert(property, { numRuns: 500, seed: 2 });

  const quantiles = new LatencyQuantiles();
  for (let count = 0; count < 1_000; count++) quantiles.observe(1_000, 0);
  t.ok(within(quantiles.quantile(0.9, 29_000), 1_000));
  t.equal(quantiles.quantile(0.9, 60_000), null, 'after a quiet minute nothing is known');
});

t.test('follows a service that becomes faster within a minute of traffic', async (t) => {
  const quantiles = new LatencyQuantiles();
  let now = 0;
  for (; now < 60_000; now += 100) quantiles.observe(1_000, now);
  for (; now < 120_100; now += 100) quantiles.observe(10, now);
  t.ok(within(quantiles.quantile(0.99, now), 10));
});
