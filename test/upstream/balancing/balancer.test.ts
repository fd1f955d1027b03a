import fc from 'fast-check';
import t from 'tap';
import { type BalancerDeps, balancer } from '../../../src/upstream/balancing/balancer.ts';
import { hashOf } from '../../../src/upstream/balancing/hash-key.ts';
import type { Group, LevelMember } from '../../../src/upstream/balancing/levels.ts';
import type { Endpoint } from '../../../src/upstream/endpoint.ts';
import { seededRandom } from '../../support/fake-upstream.ts';
import { areByWeight, countsOf, weighted } from './support/members.ts';

const drawn = ['round-robin', 'random', 'least-request', 'peak-ewma'] as const;
const hashed = ['ring-hash', 'maglev'] as const;
const algorithms = [...drawn, ...hashed];

function deps(seed: number): BalancerDeps {
  return { random: seededRandom(seed), now: () => 0 };
}

function group(share: number, members: readonly LevelMember[], ramp = 1): Group {
  return {
    share,
    candidates: members.map(({ endpoint, weight }) => ({ endpoint, weight: weight * ramp, ramp })),
  };
}

const keys = Array.from({ length: 10_000 }, (_, index) => hashOf(`user-${index}`));

for (const algorithm of algorithms) {
  t.test(algorithm, async (t) => {
    t.test('draws in each group as often as its share says', async (t) => {
      const members = weighted(1, 1, 1, 1);
      const draw = balancer(
        algorithm,
        members,
        deps(3),
      )([group(0.7, members.slice(0, 1)), group(0.25, members.slice(1, 3)), group(0.05, members.slice(3))]);
      let turn = 0;
      const [a, b, c, d] = countsOf(() => draw([], keys[turn++]), members, keys.length);
      t.ok(areByWeight([a, b + c, d], [0.7, 0.25, 0.05]), `${[a, b, c, d]}`);
      t.ok(Math.abs(b / (b + c) - 0.5) < 0.15, `${b} and ${c}`);
    });

    t.test('leaves a group whose share is 0 to retries', async (t) => {
      const members = weighted(1, 1, 1);
      const draw = balancer(
        algorithm,
        members,
        deps(4),
      )([group(0, members.slice(0, 1)), group(1, members.slice(1, 2)), group(0, members.slice(2))]);
      const [a, b, c] = members.map(({ endpoint }) => endpoint);
      for (const key of keys.slice(0, 500)) {
        if (draw([], key) !== b || draw([b], key) !== a || draw([b, a], key) !== c) t.fail(`${key}`);
        if (draw([a, b, c], key) !== b) t.fail('tried them all: as if it were the first try');
      }
    });

    t.test('has nothing to draw without groups', async (t) => {
      t.equal(balancer(algorithm, weighted(1), deps(5))([])([], 7), null);
    });

    t.test('slow start holds an endpoint back to a tenth of its weight', async (t) => {
      const members = weighted(1, 1, 1);
      const draw = balancer(
        algorithm,
        members,
        deps(6),
      )([
        {
          share: 1,
          candidates: members.map(({ endpoint, weight }, index) =>
            index === 0 ? { endpoint, weight: weight / 10, ramp: 0.1 } : { endpoint, weight, ramp: 1 },
          ),
        },
      ]);
      let turn = 0;
      const [cold] = countsOf(() => draw([], keys[turn++]), members, keys.length);
      t.ok(cold > 0.02 * keys.length && cold < 0.08 * keys.length, `${cold}`);
    });
  });
}

t.test('always another endpoint than those tried where any group has one', async () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...algorithms),
      fc.array(fc.record({ group: fc.nat({ max: 2 }), weight: fc.integer({ min: 1, max: 4 }), cold: fc.boolean() }), {
        maxLength: 7,
      }),
      fc.array(fc.nat({ max: 6 }), { maxLength: 7 }),
      fc.nat({ max: 2 ** 32 - 1 }),
      fc.integer(),
      (algorithm, places, triedIndexes, key, seed) => {
        const members = weighted(...places.map(({ weight }) => weight));
        const groups = [0, 1, 2]
          .map((at) => members.filter((_, index) => places[index].group === at))
          .filter((one) => one.length > 0)
          .map((one, index, all): Group => {
            const share = index === 0 ? 1 - (all.length - 1) / 10 : 1 / 10;
            const candidates = one.map(({ endpoint, weight }) => {
              const ramp = places[members.findIndex((member) => member.endpoint === endpoint)].cold ? 0.1 : 1;
              return { endpoint, weight: weight * ramp, ramp };
            });
            return { share, candidates };
          });
        const tried = triedIndexes.flatMap((index) => members[index]?.endpoint ?? []);
        const left = members.filter(({ endpoint }) => !tried.includes(endpoint)).map(({ endpoint }) => endpoint);
        const endpoint = balancer(algorithm, members, deps(seed))(groups)(tried, key);
        if (members.length === 0) return endpoint === null;
        if (left.length === 0) return endpoint !== null;
        return left.includes(endpoint as Endpoint);
      },
    ),
    { numRuns: 300 },
  );
});

for (const algorithm of hashed) {
  t.test(`${algorithm} keeps keys where they are`, async (t) => {
    const members = weighted(1, 1, 1, 1, 1, 1);
    const near = members.slice(0, 3);
    const far = members.slice(3);
    const compile = balancer(algorithm, members, deps(7));
    const owners = (groups: Group[]) => {
      const draw = compile(groups);
      return keys.map((key) => draw([], key));
    };

    t.test('whatever random draws say', async (t) => {
      const groups = [group(0.8, near), group(0.2, far)];
      const before = owners(groups);
      const after = owners(groups);
      t.ok(before.every((endpoint, index) => endpoint === after[index]));
    });

    t.test('but for the share that goes to another group', async (t) => {
      const before = owners([group(1, near), group(0, far)]);
      const after = owners([group(0.9, near), group(0.1, far)]);
      const moved = before.filter((endpoint, index) => endpoint !== after[index]).length;
      t.ok(areByWeight([moved, keys.length - moved], [0.1, 0.9]), `${moved}`);
      const given = new Set(after.filter((endpoint, index) => endpoint !== before[index]));
      t.equal(given.size, 3, 'all of the other group get some');
      const giving = new Set(before.filter((endpoint, index) => endpoint !== after[index]));
      t.equal(giving.size, 3, 'all of the first group give some');
    });

    t.test('and gives all endpoints of the other group alike, however small its share', async (t) => {
      const draw = compile([group(0.99, near), group(0.01, far)]);
      let turn = 0;
      const counts = countsOf(() => draw([], hashOf(`session-${turn++}`)), far, 100_000);
      const total = counts.reduce((sum, count) => sum + count, 0);
      t.ok(areByWeight([total, 100_000 - total], [0.01, 0.99]), `${total}`);
      for (const count of counts) t.ok(count > 0.25 * total && count < 0.42 * total, `${counts}`);
    });

    t.test('in slow start gives an endpoint more of its own keys as it gets warmer, and no others', async (t) => {
      const at = (ramp: number) =>
        owners([{ share: 1, candidates: members.map((member, index) => warm(member, index === 0 ? ramp : 1)) }]);
      const warm = ({ endpoint, weight }: LevelMember, ramp: number) => ({ endpoint, weight: weight * ramp, ramp });
      const steps = [0.1, 0.3, 0.6, 1].map(at);
      const [{ endpoint }] = members;
      const full = steps[3];
      for (const [index, step] of steps.entries()) {
        t.ok(
          step.every((owner, key) => owner === full[key] || full[key] === endpoint),
          'other keys stay',
        );
        const kept =
          index === 0 || steps[index - 1].every((owner, key) => owner !== endpoint || step[key] === endpoint);
        t.ok(kept, 'what has come back stays');
      }
      const counts = steps.map((step) => step.filter((owner) => owner === endpoint).length);
      t.ok(areByWeight([counts[0], counts[3] - counts[0]], [0.1, 0.9]), `${counts}`);
      t.ok(areByWeight([counts[2], counts[3] - counts[2]], [0.6, 0.4]), `${counts}`);
    });

    t.test('when all endpoints are new', async (t) => {
      const cold = owners([group(1, members, 0.1)]);
      const warm = owners([group(1, members)]);
      t.ok(cold.every((endpoint, index) => endpoint === warm[index]));
    });

    t.test('and leads every retry of a key the same way', async (t) => {
      const draw = compile([group(1, members)]);
      for (const key of keys.slice(0, 200)) {
        const tried: Endpoint[] = [];
        while (tried.length < members.length) tried.push(draw(tried, key) as Endpoint);
        const again: Endpoint[] = [];
        while (again.length < members.length) again.push(draw(again, key) as Endpoint);
        if (new Set(tried).size !== members.length || tried.some((endpoint, index) => endpoint !== again[index])) {
          t.fail(`${key}`);
        }
      }
    });
  });
}

t.test('round-robin goes on where it was when health changes what may be drawn', async (t) => {
  const members = weighted(1, 1, 1, 1);
  const compile = balancer('round-robin', members, deps(8));
  const counts = countsOf(() => compile([group(1, members)])([], 0), members, 400);
  t.same(counts, [100, 100, 100, 100]);
});
