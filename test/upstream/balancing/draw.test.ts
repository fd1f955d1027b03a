import fc from 'fast-check';
import t from 'tap';
import type { Draw } from '../../../src/upstream/balancing/draw.ts';
import { roundRobin, type Turns } from '../../../src/upstream/balancing/round-robin.ts';
import { leastRequest, peakEwma } from '../../../src/upstream/balancing/two-choices.ts';
import { weightedRandom } from '../../../src/upstream/balancing/weighted-random.ts';
import type { Endpoint } from '../../../src/upstream/endpoint.ts';
import { seededRandom } from '../../support/fake-upstream.ts';
import { areByWeight, countsOf, endpointAt, weighted } from './support/members.ts';

t.test('random draws by weight, fractions of it included', async (t) => {
  for (const weights of [[1, 1, 1], [1, 2, 0, 7], [0.1, 1, 1.5], Array.from({ length: 50 }, (_, index) => index + 1)]) {
    const members = weighted(...weights);
    const draw = weightedRandom(members, seededRandom(21));
    const counts = countsOf(() => draw([]), members, 20_000);
    t.ok(areByWeight(counts, weights), `${weights}: ${counts}`);
  }
});

t.test('least-request', async (t) => {
  t.test('uses an idle service by weight', async (t) => {
    for (const weights of [
      [1, 2, 0, 7],
      [0.1, 1],
    ]) {
      const members = weighted(...weights);
      const draw = leastRequest(members, seededRandom(7));
      const counts = countsOf(() => draw([]), members, 20_000);
      t.ok(areByWeight(counts, weights), `${weights}: ${counts}`);
    }
  });

  t.test('loads by weight when nothing ends, and equally when weights are equal', async (t) => {
    for (const weights of [
      [1, 1, 1, 1],
      [1, 3],
      [2, 5, 3],
      [0.1, 1],
    ]) {
      const members = weighted(...weights);
      const draw = leastRequest(members, seededRandom(11));
      for (let index = 0; index < 6_000; index++) (draw([]) as Endpoint).inFlight += 1;
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      for (const { endpoint, weight } of members) {
        const share = endpoint.inFlight / 6_000;
        t.ok(Math.abs(share - weight / total) < 0.01, `${weights}: ${endpoint.address} has ${share}`);
      }
    }
  });

  t.test('of two endpoints the less loaded one always wins', async (t) => {
    const members = weighted(1, 1);
    members[0].endpoint.inFlight = 1;
    const draw = leastRequest(members, seededRandom(3));
    t.same(
      countsOf(() => draw([]), members, 500),
      [0, 500],
    );
  });

  t.test('draws its second choice among all the others alike', async (t) => {
    for (const free of [0, 1, 2]) {
      const members = weighted(1, 1, 1);
      for (const [index, { endpoint }] of members.entries()) endpoint.inFlight = index === free ? 0 : 50;
      const draw = leastRequest(members, seededRandom(5));
      const found = countsOf(() => draw([]), members, 10_000)[free];
      t.ok(areByWeight([found, 10_000 - found], [2, 1]), `found ${found} times`);
    }
  });
});

t.test('round-robin', async (t) => {
  t.test('gives each cycle its shares, spread out', async (t) => {
    const draw = roundRobin(weighted(5, 1, 1, 0));
    const cycle = () => Array.from({ length: 7 }, () => (draw([]) as Endpoint).address).join(' ');
    t.equal(cycle(), 'e0:1 e0:1 e1:1 e0:1 e2:1 e0:1 e0:1');
    t.equal(cycle(), 'e0:1 e0:1 e1:1 e0:1 e2:1 e0:1 e0:1');
  });

  t.test('gives a fraction of a turn now and then', async (t) => {
    const members = weighted(1, 0.1);
    const draw = roundRobin(members);
    t.same(
      countsOf(() => draw([]), members, 1_100),
      [1_000, 100],
    );
  });

  t.test('goes on where it was when it is compiled anew', async (t) => {
    const members = weighted(1, 1, 1);
    const turns: Turns = new WeakMap();
    const counts = countsOf(() => roundRobin(members, turns)([]), members, 300);
    t.same(counts, [100, 100, 100]);
  });
});

t.test('peak-ewma', async (t) => {
  const now = () => 1_000;

  t.test('of two endpoints the faster one wins, whichever is chosen first', async (t) => {
    const members = weighted(1, 1);
    members[0].endpoint.latency.observe(40, 1_000);
    members[1].endpoint.latency.observe(50, 1_000);
    const draw = peakEwma(members, seededRandom(3), now);
    t.same(
      countsOf(() => draw([]), members, 500),
      [500, 0],
    );
    members[0].endpoint.inFlight = 1;
    t.same(
      countsOf(() => draw([]), members, 500),
      [0, 500],
      'until it has more to do than it is faster',
    );
  });

  t.test('compares every pair of equal weights alike', async (t) => {
    for (const fast of [0, 1, 2]) {
      const members = weighted(1, 1, 1);
      for (const [index, { endpoint }] of members.entries()) endpoint.latency.observe(index === fast ? 40 : 400, 1_000);
      const draw = peakEwma(members, seededRandom(5), now);
      const found = countsOf(() => draw([]), members, 10_000)[fast];
      t.ok(areByWeight([found, 10_000 - found], [2, 1]), `found ${found} times`);
    }
  });

  t.test('the fastest endpoint gets twice its share by weight, not more', async (t) => {
    for (const weights of [
      [1, 9],
      [1, 1, 8],
      [1, 2, 3, 4],
      [0.1, 1, 1],
    ]) {
      const members = weighted(...weights);
      for (const [index, { endpoint }] of members.entries()) endpoint.latency.observe(index === 0 ? 31 : 900, 1_000);
      const draw = peakEwma(members, seededRandom(9), now);
      const [first, ...others] = countsOf(() => draw([]), members, 20_000);
      const rest = others.reduce((sum, count) => sum + count, 0);
      const share = (2 * weights[0]) / weights.reduce((sum, weight) => sum + weight, 0);
      t.ok(areByWeight([first, rest], [share, 1 - share]), `${weights}: ${first}`);
    }
  });
});

t.test(
  'no algorithm draws a tried endpoint while another is left, nor weight 0, and all find one where there is one',
  async () => {
    const weight = fc.oneof(fc.integer({ min: 0, max: 4 }), fc.double({ min: 0.01, max: 3, noNaN: true }));
    fc.assert(
      fc.property(
        fc.array(weight, { maxLength: 6 }),
        fc.array(fc.nat({ max: 5 }), { maxLength: 6 }),
        fc.integer(),
        (weights, triedIndexes, seed) => {
          const members = weighted(...weights);
          const strange = endpointAt('strange:1');
          const tried = triedIndexes.map((index) => members[index]?.endpoint ?? strange);
          const drawable = members.filter((member) => member.weight > 0).map(({ endpoint }) => endpoint);
          const untried = drawable.filter((endpoint) => !tried.includes(endpoint));
          const random = seededRandom(seed);
          const draws: Draw[] = [
            leastRequest(members, random),
            peakEwma(members, random, () => 0),
            weightedRandom(members, random),
            roundRobin(members),
          ];
          for (const draw of draws) {
            for (let turn = 0; turn < 5; turn++) {
              const endpoint = draw(tried);
              if (drawable.length === 0) {
                if (endpoint !== null) return false;
              } else if (!(untried.length > 0 ? untried : drawable).includes(endpoint as Endpoint)) return false;
            }
          }
          return true;
        },
      ),
      { numRuns: 300 },
    );
  },
);
