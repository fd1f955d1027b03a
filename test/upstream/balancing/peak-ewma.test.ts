import t from 'tap';
import type { WeightedEndpoint } from '../../../src/upstream/balancing/draw.ts';
import { PeakEwma } from '../../../src/upstream/balancing/peak-ewma.ts';
import { peakEwma } from '../../../src/upstream/balancing/two-choices.ts';
import type { Endpoint } from '../../../src/upstream/endpoint.ts';
import { seededRandom } from '../../support/fake-upstream.ts';
import { weighted } from './support/members.ts';

function near(t: { ok(value: unknown, message: string): unknown }, actual: number, expected: number): void {
  t.ok(Math.abs(actual - expected) <= expected * 1e-6, `${actual} is ${expected}`);
}

t.test('cost', async (t) => {
  t.test('is 30 ms until something is observed, however long that takes', async (t) => {
    const latency = new PeakEwma();
    t.equal(latency.cost(0), 30);
    t.equal(latency.cost(1_000_000), 30);
  });

  t.test('rises to a peak at once and comes down in ten seconds to 1/e of the difference', async (t) => {
    const latency = new PeakEwma();
    latency.observe(130, 5_000);
    t.equal(latency.cost(5_000), 130);
    latency.observe(30, 15_000);
    near(t, latency.cost(15_000), 30 + 100 / Math.E);
  });

  t.test('leaves the initial guess as slowly as any other', async (t) => {
    const latency = new PeakEwma();
    latency.observe(10, 50_000);
    t.equal(latency.cost(50_000), 30);
    latency.observe(10, 60_000);
    near(t, latency.cost(60_000), 10 + 20 / Math.E);
  });

  t.test('falls while nothing is observed, and the next observation counts against what was known', async (t) => {
    const latency = new PeakEwma();
    latency.observe(200, 0);
    near(t, latency.cost(10_000), 200 / Math.E);
    t.equal(latency.cost(10_000_000), 0.1, 'in flight counts however long ago it was');
    latency.observe(100, 10_000);
    near(t, latency.cost(10_000), 100 + 100 / Math.E);
  });

  t.test('is not thrown off by a clock that stands or answers in no time', async (t) => {
    const latency = new PeakEwma();
    for (let index = 0; index < 100; index++) latency.observe(0, 1_000);
    t.equal(latency.cost(1_000), 30);
    t.equal(latency.cost(900), 30);
    for (let now = 2_000; now < 300_000; now += 1_000) latency.observe(0, now);
    t.equal(latency.cost(300_000), 0.1);
  });
});

t.test('a failure', async (t) => {
  /** Answers in 50 ms until this moment, so that its cost is known. */
  function settled(): PeakEwma {
    const latency = new PeakEwma();
    for (let now = 0; now <= 100_000; now += 100) latency.observe(50, now);
    return latency;
  }

  t.test('counts as a success of twice the average, each further one in a row doubles it, to 64 times', async (t) => {
    const latency = settled();
    for (const factor of [2, 4, 8, 16, 32, 64, 64, 64]) {
      latency.observeFailure(1, 100_000);
      near(t, latency.cost(100_000), 50 * factor);
    }
  });

  t.test('counts as long as it took where that is more', async (t) => {
    const latency = settled();
    latency.observeFailure(15_000, 100_000);
    near(t, latency.cost(100_000), 15_000);
  });

  t.test('starts over after a success', async (t) => {
    const latency = settled();
    for (let index = 0; index < 6; index++) {
      latency.observeFailure(1, 100_000);
      latency.observe(50, 100_000);
    }
    near(t, latency.cost(100_000), 100);
  });

  t.test('is measured by successes alone: failures do not make the next failure dearer', async (t) => {
    const latency = settled();
    for (let now = 100_000; now < 200_000; now += 100) latency.observeFailure(1, now);
    near(t, latency.cost(200_000 - 100), 50 * 64);
  });

  t.test('before any success is measured by the initial guess', async (t) => {
    const latency = new PeakEwma();
    latency.observeFailure(1, 0);
    t.equal(latency.cost(0), 60);
    latency.observe(4, 0);
    latency.observeFailure(1, 1_000_000);
    near(t, latency.cost(1_000_000), 8);
  });
});

interface Answer {
  readonly ms: number;
  readonly failed: boolean;
}

/** Requests come one after the other, whatever is under way; returns the share of each endpoint after `fromMs`. */
function simulate(
  members: readonly WeightedEndpoint[],
  answer: (index: number, now: number) => Answer,
  { everyMs, fromMs, untilMs }: { everyMs: number; fromMs: number; untilMs: number },
): number[] {
  let now = 0;
  const draw = peakEwma(members, seededRandom(17), () => now);
  const indexes = new Map(members.map(({ endpoint }, index) => [endpoint, index]));
  const counts = new Array<number>(members.length).fill(0);
  let underWay: { endpoint: Endpoint; at: number; answer: Answer }[] = [];
  const end = (until: number) => {
    underWay.sort((a, b) => a.at - b.at);
    for (const { endpoint, at, answer } of underWay.filter(({ at }) => at <= until)) {
      endpoint.release();
      if (answer.failed) endpoint.latency.observeFailure(answer.ms, at);
      else endpoint.latency.observe(answer.ms, at);
    }
    underWay = underWay.filter(({ at }) => at > until);
  };
  for (; now < untilMs; now += everyMs) {
    end(now);
    const endpoint = draw([]) as Endpoint;
    const index = indexes.get(endpoint) as number;
    if (now >= fromMs) counts[index] += 1;
    endpoint.acquire();
    const given = answer(index, now);
    underWay.push({ endpoint, at: now + given.ms, answer: given });
  }
  const total = counts.reduce((sum, count) => sum + count, 0);
  return counts.map((count) => count / total);
}

t.test('load', async (t) => {
  const window = { everyMs: 5, fromMs: 20_000, untilMs: 60_000 };

  t.test('leaves an endpoint that is ten times slower, and comes back when it is not any more', async (t) => {
    for (const size of [2, 4, 10]) {
      const members = weighted(...new Array<number>(size).fill(1));
      const slow = (index: number): Answer => ({ ms: index === 0 ? 200 : 20, failed: false });
      const [share] = simulate(members, slow, window);
      t.ok(share < 0.25 / size, `${size} endpoints: ${share}`);
      const healed = () => ({ ms: 20, failed: false });
      const [back] = simulate(members, healed, { everyMs: 5, fromMs: 200_000, untilMs: 240_000 });
      t.ok(back > 0.6 / size, `${size} endpoints, healed: ${back}`);
    }
  });

  t.test('is not drawn to an endpoint that fails fast', async (t) => {
    for (const size of [2, 4, 10]) {
      const members = weighted(...new Array<number>(size).fill(1));
      const failing = (index: number): Answer => (index === 0 ? { ms: 1, failed: true } : { ms: 20, failed: false });
      const [share] = simulate(members, failing, window);
      t.ok(share < 0.25 / size, `${size} endpoints: ${share}`);
    }
  });

  t.test('tells an endpoint that always fails from those that fail once in a hundred', async (t) => {
    const random = seededRandom(4);
    const members = weighted(1, 1, 1, 1);
    const failing = (index: number): Answer => ({ ms: 20, failed: index === 0 || random() < 0.01 });
    const shares = simulate(members, failing, window);
    t.ok(shares[0] < 0.05, `${shares}`);
    for (const share of shares.slice(1)) t.ok(share > 0.2, `${shares}`);
  });

  t.test('of endpoints that are equally fast lies by weight, more closely the more traffic there is', async (t) => {
    for (const weights of [
      [1, 1, 1],
      [1, 3],
      [1, 1, 8],
      [0.1, 1, 1],
    ]) {
      for (const { everyMs, within } of [
        { everyMs: 50, within: 0.15 },
        { everyMs: 1, within: 0.05 },
      ]) {
        const random = seededRandom(8);
        const answer = () => ({ ms: 1 - 20 * Math.log(1 - random()), failed: false });
        const shares = simulate(weighted(...weights), answer, { everyMs, fromMs: 0, untilMs: everyMs * 20_000 });
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        for (const [index, share] of shares.entries()) {
          const expected = weights[index] / total;
          t.ok(Math.abs(share - expected) < within, `${weights}, every ${everyMs} ms: ${index} has ${share}`);
          t.ok(share < 2.1 * expected, `${weights}, every ${everyMs} ms: ${index} has not over twice its share`);
        }
      }
    }
  });
});
