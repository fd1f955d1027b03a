import fc from 'fast-check';
import t from 'tap';
import { hashOf, variant } from '../../../src/upstream/balancing/hash-key.ts';
import type { HashTable } from '../../../src/upstream/balancing/hash-table.ts';
import { maglev } from '../../../src/upstream/balancing/maglev.ts';
import { ringHash } from '../../../src/upstream/balancing/ring-hash.ts';
import type { Endpoint } from '../../../src/upstream/endpoint.ts';
import { endpointAt, weighted } from './support/members.ts';

const keys = Array.from({ length: 20_000 }, (_, index) => hashOf(`user-${index}`));
const any = () => true;

function owners(table: HashTable, accepts: (endpoint: Endpoint) => boolean = any): (Endpoint | null)[] {
  return keys.map((key) => table.lookup(key, accepts));
}

t.test('hashes spread evenly in every bit, and one changed character changes half of them', async (t) => {
  const ones = new Array<number>(32).fill(0);
  let flipped = 0;
  for (const [index, key] of keys.entries()) {
    for (let bit = 0; bit < 32; bit++) ones[bit] += (key >>> bit) & 1;
    const difference = key ^ hashOf(`vser-${index}`);
    for (let bit = 0; bit < 32; bit++) flipped += (difference >>> bit) & 1;
  }
  for (const [bit, count] of ones.entries()) t.ok(Math.abs(count - 10_000) < 4 * 71, `bit ${bit}: ${count}`);
  t.ok(Math.abs(flipped / keys.length - 16) < 0.5, `${flipped / keys.length}`);
  t.ok(keys.every((key) => Number.isInteger(key) && key >= 0 && key < 2 ** 32));
});

t.test('the variants of one hash are as far apart as those of different hashes', async (t) => {
  const tenths = new Array<number>(10).fill(0);
  for (let index = 0; index < 10_000; index++) tenths[Math.floor((variant(0, index) / 2 ** 32) * 10)] += 1;
  for (const count of tenths) t.ok(Math.abs(count - 1_000) < 120, `${tenths}`);
  t.equal(new Set(Array.from({ length: 10_000 }, (_, index) => variant(7, index))).size, 10_000);
});

t.test('a hash is the same in every process and version', async (t) => {
  t.equal(hashOf(''), 2_872_998_923);
  t.equal(hashOf('10.0.0.5:3000'), 3_323_054_794);
});

const tables = [
  { name: 'ring-hash', table: ringHash, error: 0.3, heirError: 0.5 },
  { name: 'maglev', table: maglev, error: 0.15, heirError: 0.15 },
];

for (const { name, table, error, heirError } of tables) {
  t.test(name, async (t) => {
    t.test('gives keys by weight', async (t) => {
      for (const weights of [[1, 1, 1], [1, 2, 0, 7], new Array<number>(20).fill(1), [100, 300], [0.5, 1]]) {
        const members = weighted(...weights);
        const found = owners(table(members));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        for (const [index, { endpoint }] of members.entries()) {
          const share = found.filter((owner) => owner === endpoint).length / keys.length;
          const expected = weights[index] / total;
          t.ok(Math.abs(share - expected) <= error * expected, `${weights}: ${index} has ${share}`);
        }
      }
    });

    t.test('moves its share when an endpoint leaves, is added or comes back, and next to nothing else', async (t) => {
      for (let size = 3; size <= 50; size = Math.ceil(size * 1.6)) {
        const members = weighted(...new Array<number>(size).fill(1));
        const before = owners(table(members));
        const gone = size >> 1;
        const after = owners(table(members.toSpliced(gone, 1)));
        const moved = before.filter((endpoint, index) => endpoint !== after[index]).length / keys.length;
        t.ok(moved <= 1.5 / size, `${size} endpoints: one leaves, ${moved} move`);
        const needless =
          before.filter((endpoint, index) => endpoint !== after[index] && endpoint !== members[gone].endpoint).length /
          keys.length;
        t.ok(needless <= (name === 'maglev' ? 0.4 / size : 0), `${size} endpoints: ${needless} move needlessly`);

        const more = owners(table([...members, { endpoint: endpointAt('added:1'), weight: 1 }]));
        const taken = before.filter((endpoint, index) => endpoint !== more[index]).length / keys.length;
        t.ok(taken <= 1.5 / (size + 1), `${size} endpoints: one is added, ${taken} move`);
      }
    });

    t.test('an endpoint that is out moves its own keys alone, to all the others by weight', async (t) => {
      const members = weighted(1, 1, 2, 1, 1);
      const whole = table(members);
      const before = owners(whole);
      for (const { endpoint: out } of members) {
        const during = owners(whole, (endpoint) => endpoint !== out);
        t.ok(
          before.every((endpoint, index) => (endpoint === out ? during[index] !== out : during[index] === endpoint)),
        );
        const moved = during.filter((_, index) => before[index] === out);
        const heirs = members.filter(({ endpoint }) => endpoint !== out);
        const total = heirs.reduce((sum, { weight }) => sum + weight, 0);
        for (const { endpoint, weight } of heirs) {
          const share = moved.filter((heir) => heir === endpoint).length / moved.length / (weight / total);
          t.ok(Math.abs(share - 1) < heirError, `${out.address} out, ${endpoint.address} has ${share} of its share`);
        }
      }
    });

    t.test('does not depend on the order of endpoints, nor on what weighs nothing', async () => {
      fc.assert(
        fc.property(
          fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 12 }).chain((weights) => {
            const indexes = weights.map((_, index) => index);
            return fc.tuple(
              fc.constant(weights),
              fc.shuffledSubarray(indexes, { minLength: indexes.length, maxLength: indexes.length }),
            );
          }),
          fc.array(fc.nat({ max: 2 ** 32 - 1 }), { minLength: 20, maxLength: 20 }),
          ([weights, order], some) => {
            const mine = table(weighted(...weights));
            // As another process has them: other objects, another order.
            const others = weighted(...weights);
            const theirs = table(order.map((index) => others[index]).filter(({ weight }) => weight > 0));
            return some.every((key) => mine.lookup(key, any)?.address === theirs.lookup(key, any)?.address);
          },
        ),
        { numRuns: name === 'maglev' ? 30 : 100 },
      );
    });

    t.test('finds the first that is accepted in an order of the key, and null only when none is', async () => {
      const members = weighted(...Array.from({ length: 40 }, (_, index) => (index === 0 ? 1_000 : index % 3)));
      const whole = table(members);
      const drawable = members.filter(({ weight }) => weight > 0).map(({ endpoint }) => endpoint);
      const subset = fc.subarray(drawable);
      fc.assert(
        fc.property(fc.nat({ max: 2 ** 32 - 1 }), subset, subset, (key, some, others) => {
          const first = whole.lookup(key, (endpoint) => some.includes(endpoint));
          if (first === null) return some.length === 0;
          if (!some.includes(first)) return false;
          // Fewer to choose from, the first still among them: the same one.
          const fewer = some.filter((endpoint) => endpoint === first || others.includes(endpoint));
          return whole.lookup(key, (endpoint) => fewer.includes(endpoint)) === first;
        }),
        { numRuns: 500 },
      );
    });

    t.test('without endpoints finds none', async (t) => {
      t.equal(table([]).lookup(5, any), null);
      t.equal(table(weighted(0)).lookup(5, any), null);
    });

    t.test('takes every key there is', async (t) => {
      const members = weighted(1, 1);
      for (const key of [0, 1, 65_536, 65_537, 2 ** 31, 2 ** 32 - 1]) t.ok(table(members).lookup(key, any));
    });

    t.test('an endpoint listed twice has both weights, an application behind two hops is two endpoints', async (t) => {
      const [a, b] = weighted(1, 1);
      const twice = owners(table([a, b, a]));
      const share = twice.filter((endpoint) => endpoint === a.endpoint).length / keys.length;
      t.ok(Math.abs(share - 2 / 3) < 0.1, `${share}`);

      const one = { endpoint: endpointAt('app:1', 'h1:1'), weight: 1 };
      const two = { endpoint: endpointAt('app:1', 'h2:1'), weight: 1 };
      const found = owners(table([one, two]));
      const reversed = owners(table([two, one]));
      t.ok(found.every((endpoint, index) => endpoint === reversed[index]));
      const half = found.filter((endpoint) => endpoint === one.endpoint).length / keys.length;
      t.ok(Math.abs(half - 1 / 2) < 0.1, `${half}`);
    });

    t.test('weights up to a million and thousands of endpoints keep their keys by weight', async (t) => {
      const heavy = weighted(1_000_000, 3_000_000, 1);
      const found = owners(table(heavy));
      const share = found.filter((endpoint) => endpoint === heavy[0].endpoint).length / keys.length;
      t.ok(Math.abs(share - 1 / 4) < 0.03, `${share}`);

      const many = weighted(...new Array<number>(2_000).fill(5));
      const counts = new Map<Endpoint | null, number>();
      for (const endpoint of owners(table(many))) counts.set(endpoint, (counts.get(endpoint) ?? 0) + 1);
      t.ok(counts.size > 1_950, `${counts.size} endpoints have keys`);
      t.ok(Math.max(...counts.values()) < 40, 'ten each on average');
    });
  });
}

t.test('a ring gives the keys of an endpoint that is out to those who have them once it has left', async (t) => {
  const members = weighted(1, 1, 2, 1);
  const [{ endpoint: out }, ...others] = members;
  const during = owners(ringHash(members), (endpoint) => endpoint !== out);
  const after = owners(ringHash(others));
  t.ok(during.every((endpoint, index) => endpoint === after[index]));
});

t.test('a ring that has come to its most points moves no more than twice its share', async (t) => {
  const members = weighted(...new Array<number>(50).fill(100));
  const before = owners(ringHash(members));
  const after = owners(ringHash(members.slice(1)));
  const moved = before.filter((endpoint, index) => endpoint !== after[index]).length / keys.length;
  t.ok(moved < 2.5 / 50, `${moved}`);
});
