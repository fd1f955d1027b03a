import fc from 'fast-check';
import t from 'tap';
import { AdaptiveLimit } from '../../src/upstream/adaptive-limit.ts';
import { seededRandom } from '../support/fake-upstream.ts';

/** How long one request occupies a server: the mean, in milliseconds. */
type ServiceTime = (random: () => number, meanMs: number) => number;

const always: ServiceTime = (_random, meanMs) => meanMs;
const exponential: ServiceTime = (random, meanMs) => -Math.log(1 - random()) * meanMs;
/** Cache hits and misses. */
const hitOrMiss: ServiceTime = (random, meanMs) => meanMs * (random() < 0.5 ? 0.1 : 1.9);
/** One in a hundred takes more than ten times as long as the median. */
const heavyTail: ServiceTime = (random, meanMs) => {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return meanMs * Math.exp(1.1 * normal - 0.605);
};

const TIMES = { always, exponential, hitOrMiss, heavyTail };

interface Scenario {
  readonly servers: number;
  readonly meanMs: number;
  readonly time: ServiceTime;
  /** Arrivals as a share of what the service can do at its usual pace. */
  readonly load: number;
  readonly seconds: number;
  readonly seed?: number;
  readonly min?: number;
  readonly max?: number;
  /** Factor of the service time at a moment. */
  readonly slowness?: (atMs: number) => number;
}

/** One second of it. */
interface Second {
  served: number;
  refused: number;
  latencySum: number;
  limit: number;
}

/** A service with so many servers and one queue, whose requests arrive at random, behind a limit. */
function simulate(scenario: Scenario) {
  const { servers, meanMs, time, load, seconds, seed = 1, min = 5, max = 2_000, slowness = () => 1 } = scenario;
  const random = seededRandom(seed);
  const limit = new AdaptiveLimit({ min, max });
  const freeAt = new Float64Array(servers);
  const underWay: { endsAt: number; latencyMs: number }[] = [];
  const log: Second[] = [];
  let now = 0;
  const second = (): Second => {
    const index = Math.floor(now / 1_000);
    while (log.length <= index) log.push({ served: 0, refused: 0, latencySum: 0, limit: limit.limit });
    return log[index];
  };
  const arrivalMs = meanMs / servers / load;
  for (;;) {
    const nextAt = now + exponential(random, arrivalMs);
    while (underWay.length > 0 && underWay[0].endsAt <= nextAt) {
      const { endsAt, latencyMs } = underWay.shift() as (typeof underWay)[number];
      now = endsAt;
      limit.release(latencyMs, now);
      const into = second();
      into.served += 1;
      into.latencySum += latencyMs;
    }
    now = nextAt;
    if (now >= seconds * 1_000) break;
    const into = second();
    if (!limit.tryAcquire(now)) {
      into.refused += 1;
      continue;
    }
    let server = 0;
    for (let other = 1; other < servers; other++) if (freeAt[other] < freeAt[server]) server = other;
    const endsAt = Math.max(now, freeAt[server]) + time(random, meanMs) * slowness(now);
    freeAt[server] = endsAt;
    let index = underWay.length;
    while (index > 0 && underWay[index - 1].endsAt > endsAt) index -= 1;
    underWay.splice(index, 0, { endsAt, latencyMs: endsAt - now });
  }
  /** Figures of the seconds from `from` up to `to`. */
  const between = (from: number, to: number) => {
    const part = log.slice(from, to);
    const sum = (of: (one: Second) => number) => part.reduce((total, one) => total + of(one), 0);
    const served = sum((one) => one.served);
    return {
      /** Of what the service can do at its usual pace. */
      throughput: (served * meanMs) / servers / (part.length * 1_000),
      refused: sum((one) => one.refused),
      meanMs: sum((one) => one.latencySum) / served,
      limits: part.map((one) => one.limit).sort((a, b) => a - b),
    };
  };
  return { limit, between };
}

const median = (sorted: readonly number[]) => sorted[sorted.length >> 1];

t.test('under three times the load that the service can take', async (t) => {
  const services = [
    { servers: 4, meanMs: 20 },
    { servers: 10, meanMs: 10 },
    { servers: 32, meanMs: 100 },
    { servers: 100, meanMs: 50 },
  ];
  for (const { servers, meanMs } of services) {
    for (const [name, time] of Object.entries(TIMES)) {
      t.test(`${servers} servers, ${meanMs} ms (${name}): all of its capacity, and a short queue`, async (t) => {
        for (const seed of [1, 2, 3]) {
          const { between } = simulate({ servers, meanMs, time, load: 3, seconds: 120, seed });
          const { throughput, meanMs: latencyMs, limits } = between(15, 120);
          t.ok(throughput > 0.9, `${throughput} of the capacity`);
          t.ok(latencyMs < 3.5 * meanMs, `${latencyMs} ms on average`);
          const limit = median(limits);
          t.ok(limit >= servers && limit <= 2 * servers + 6, `limit ${limit}`);
          t.ok((limits.at(-1) as number) <= 3 * servers + 10, `at most ${limits.at(-1)}`);
        }
      });
    }
  }

  t.test('one server alone', async (t) => {
    const { between } = simulate({ servers: 1, meanMs: 5, time: exponential, load: 3, seconds: 120, min: 1 });
    const { throughput, meanMs } = between(15, 120);
    t.ok(throughput > 0.9, `${throughput} of the capacity`);
    t.ok(meanMs < 40, `${meanMs} ms on average`);
  });

  t.test('it stays so for long: measuring the base under load does not raise it bit by bit', async (t) => {
    const { between } = simulate({ servers: 10, meanMs: 20, time: exponential, load: 3, seconds: 1_800 });
    const { throughput, limits } = between(1_500, 1_800);
    t.ok(throughput > 0.95, `${throughput} of the capacity`);
    t.ok(median(limits) <= 26, `limit ${median(limits)}`);
  });

  t.test('few and scattered latencies at the start do not hold the limit down', async (t) => {
    for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) {
      const { between } = simulate({ servers: 100, meanMs: 50, time: hitOrMiss, load: 3, seconds: 12, seed, min: 3 });
      t.ok(between(8, 12).throughput > 0.8, `${between(8, 12).throughput}`);
    }
  });

  t.test('the service is found quickly after a start', async (t) => {
    const { between } = simulate({ servers: 100, meanMs: 20, time: heavyTail, load: 3, seconds: 10, min: 10 });
    t.ok(between(4, 6).throughput > 0.9, `${between(4, 6).throughput}`);
  });
});

t.test('a service at ease', async (t) => {
  for (const [name, time] of Object.entries(TIMES)) {
    t.test(`loses no request, however its latency scatters (${name})`, async (t) => {
      for (const seed of [1, 2, 3]) {
        const { between, limit } = simulate({ servers: 32, meanMs: 40, time, load: 0.6, seconds: 300, seed });
        t.equal(between(20, 300).refused, 0);
        t.ok(limit.limit > 20, `limit ${limit.limit}`);
      }
    });
  }

  t.test('what is not used does not grow', async (t) => {
    const { limit } = simulate({ servers: 100, meanMs: 20, time: always, load: 0.1, seconds: 60, max: 1_000 });
    t.ok(limit.limit < 100, `limit ${limit.limit}`);
  });
});

t.test('a service that becomes four times slower and heals', async (t) => {
  const slowness = (atMs: number) => (atMs >= 40_000 && atMs < 100_000 ? 4 : 1);
  for (const [name, time] of Object.entries({ always, exponential, hitOrMiss })) {
    t.test(`is used to its capacity all the while (${name})`, async (t) => {
      const { between } = simulate({ servers: 32, meanMs: 20, time, load: 1.5, seconds: 240, slowness });
      t.ok(between(10, 40).throughput > 0.9, `before: ${between(10, 40).throughput}`);
      const slow = between(60, 100);
      t.ok(slow.throughput > 0.9 / 4, `slow: ${slow.throughput}`);
      t.ok(slow.meanMs < 3 * 4 * 20, `slow: ${slow.meanMs} ms`);
      t.ok(between(105, 240).throughput > 0.9, `healed: ${between(105, 240).throughput}`);
      const healed = between(180, 240);
      t.ok(healed.meanMs < 3 * 20, `healed: ${healed.meanMs} ms`);
      t.ok(median(healed.limits) < 90, `healed: limit ${median(healed.limits)}`);
    });
  }
});

t.test('the limit', async (t) => {
  t.test('starts at its minimum and holds what it says', async (t) => {
    const limit = new AdaptiveLimit({ min: 3, max: 10 });
    t.equal(limit.limit, 3);
    t.same(
      [1, 2, 3, 4].map((now) => limit.tryAcquire(now)),
      [true, true, true, false],
    );
    t.equal(limit.inFlight, 3);
    limit.release(null, 5);
    t.equal(limit.inFlight, 2);
    t.ok(limit.tryAcquire(6));
  });

  t.test('keeps to its maximum, though the service could take more', async (t) => {
    const { between } = simulate({ servers: 100, meanMs: 20, time: always, load: 3, seconds: 30, max: 40 });
    t.equal(between(5, 30).limits.at(-1), 40);
  });

  t.test('keeps to its minimum, though the service is slower than that', async (t) => {
    const { between } = simulate({ servers: 1, meanMs: 50, time: exponential, load: 5, seconds: 60, min: 20 });
    t.ok(between(5, 60).limits[0] >= 20);
  });

  t.test('never leaves its bounds, and what is under way never exceeds the highest of them', async (t) => {
    const step = fc.record({
      afterMs: fc.oneof(fc.double({ min: 0, max: 50, noNaN: true }), fc.constantFrom(0, 10_000, 100_000)),
      starts: fc.nat(40),
      ends: fc.nat(40),
      latencyMs: fc.oneof(
        fc.double({ min: 0, max: 5_000, noNaN: true }),
        fc.constantFrom(null, 0, -1, 1e12, Number.NaN),
      ),
    });
    const property = fc.property(
      fc.integer({ min: 0, max: 20 }),
      fc.integer({ min: 0, max: 200 }),
      fc.array(step, { maxLength: 200 }),
      (min, more, steps) => {
        const bounds = { min, max: min + more };
        const limit = new AdaptiveLimit(bounds);
        let now = 1_000;
        let underWay = 0;
        return steps.every(({ afterMs, starts, ends, latencyMs }) => {
          now += afterMs;
          for (let count = 0; count < starts; count++) if (limit.tryAcquire(now)) underWay += 1;
          for (let count = 0; count < ends && underWay > 0; count++, underWay--) limit.release(latencyMs, now);
          const whole = Number.isInteger(limit.limit) && limit.inFlight === underWay;
          const lowest = Math.max(1, bounds.min);
          const highest = Math.max(1, bounds.max);
          return whole && limit.limit >= lowest && limit.limit <= highest && underWay <= highest;
        });
      },
    );
    fc.assert(property, { numRuns: 500, seed: 9 });
    t.pass('held');
  });

  /** So many rounds of as many requests as are allowed, all of the same latency. */
  function rounds(limit: AdaptiveLimit, count: number, latencyMs: number | null, from: number, roundMs = 20): number {
    let now = from;
    for (let round = 0; round < count; round++) {
      let started = 0;
      while (limit.tryAcquire(now)) started += 1;
      now += roundMs;
      for (; started > 0; started--) limit.release(latencyMs, now);
    }
    return now;
  }

  t.test('failures say nothing about latency: it stays as it is', async (t) => {
    const limit = new AdaptiveLimit({ min: 10, max: 100 });
    const now = rounds(limit, 100, 20, 0);
    const before = limit.limit;
    t.ok(before > 50, `${before}`);
    rounds(limit, 1_000, null, now);
    t.ok(limit.limit >= Math.floor(before / 2));
    rounds(limit, 1_000, null, now + 60_000);
    t.equal(limit.limit, before, 'a measurement of nothing changes nothing');
  });

  t.test('a service that slows down for good is measured anew, and gets back what it can take', async (t) => {
    const limit = new AdaptiveLimit({ min: 10, max: 100 });
    const now = rounds(limit, 100, 20, 0);
    const slowed = rounds(limit, 30, 200, now, 200);
    const lowest = limit.limit;
    t.ok(lowest < 60, `lowered to ${lowest}`);
    rounds(limit, 100, 200, slowed, 200);
    t.equal(limit.limit, 100, 'within twenty seconds');
  });

  t.test('is not lowered to measure a service at ease, though most of it is used', async (t) => {
    const limit = new AdaptiveLimit({ min: 10, max: 100 });
    let now = rounds(limit, 200, 20, 0);
    t.equal(limit.limit, 100);
    const refusedAt: number[] = [];
    for (let round = 0; round < 10_000; round++) {
      let started = 0;
      for (let count = 0; count < 80; count++) {
        if (limit.tryAcquire(now)) started += 1;
        else refusedAt.push(now);
      }
      now += 20;
      for (; started > 0; started--) limit.release(20, now);
    }
    t.ok(refusedAt.length > 0, 'once, for what was refused while it grew');
    t.ok((refusedAt.at(-1) as number) - refusedAt[0] < 1_000, 'and not again');
    t.equal(limit.limit, 100);
  });

  t.test('streams that hold their places do not let a measurement refuse everybody for long', async (t) => {
    const limit = new AdaptiveLimit({ min: 10, max: 100 });
    let now = rounds(limit, 200, 20, 0);
    t.equal(limit.limit, 100);
    for (let stream = 0; stream < 80; stream++) t.ok(limit.tryAcquire(now));
    let refusedMs = 0;
    for (const end = now + 60_000; now < end; now += 20) {
      let started = 0;
      while (started < 20 && limit.tryAcquire(now)) started += 1;
      limit.tryAcquire(now);
      if (started === 0) refusedMs += 20;
      for (; started > 0; started--) limit.release(20, now);
    }
    t.ok(refusedMs > 0, 'it was tried');
    t.ok(refusedMs <= 400, `${refusedMs} ms of a minute`);
    t.equal(limit.limit, 100);
  });
});
