import fc from 'fast-check';
import t from 'tap';
import {
  type EndpointState,
  type LevelMember,
  type LevelOptions,
  type Levels,
  levelsOf,
} from '../../../src/upstream/balancing/levels.ts';
import { rampOf } from '../../../src/upstream/balancing/slow-start.ts';
import { endpointAt } from './support/members.ts';

interface Place {
  readonly state?: EndpointState;
  readonly weight?: number;
  readonly zone?: string | null;
  readonly priority?: number;
  readonly ramp?: number;
}

function levels(places: readonly Place[], options: Partial<LevelOptions> = {}) {
  const members = places.map(
    ({ weight = 1, zone = null, priority = 0 }, index): LevelMember => ({
      endpoint: endpointAt(`e${index}:1`),
      weight,
      zone,
      priority,
    }),
  );
  const placeOf = new Map(members.map(({ endpoint }, index) => [endpoint, places[index]]));
  const result = levelsOf(
    members,
    { zone: null, prefer: true, panicThreshold: 0.5, ...options },
    (endpoint) => placeOf.get(endpoint)?.state ?? 'available',
    (endpoint) => placeOf.get(endpoint)?.ramp ?? 1,
  );
  return { ...result, placeOf };
}

/** `0.75: e0 e1 | 0.25: e2` */
function written({ groups }: Levels): string {
  return groups
    .map(({ share, candidates }) => {
      const names = candidates.map(({ endpoint }) => endpoint.address.replace(':1', '')).join(' ');
      return `${Math.round(share * 1_000) / 1_000}: ${names}`;
    })
    .join(' | ');
}

const up = (count: number, rest: Place = {}): Place[] => new Array<Place>(count).fill({ state: 'available', ...rest });
const out = (count: number, rest: Place = {}): Place[] => new Array<Place>(count).fill({ state: 'out', ...rest });
const down = (count: number, rest: Place = {}): Place[] => new Array<Place>(count).fill({ state: 'down', ...rest });

t.test('panic', async (t) => {
  t.test('what is out is left out while enough is available', async (t) => {
    const result = levels([...up(1), ...out(1)]);
    t.equal(written(result), '1: e0');
    t.equal(result.panicking, false, 'exactly the threshold is enough');
  });

  t.test('below the threshold what is out is used as well, what is down is not', async (t) => {
    const result = levels([...up(1), ...out(1), ...down(1)]);
    t.equal(written(result), '1: e0 e1');
    t.equal(result.panicking, true);
  });

  t.test('goes by weight', async (t) => {
    t.equal(levels([...up(1, { weight: 3 }), ...out(2)]).panicking, false);
    t.equal(levels([...up(2), ...out(1, { weight: 3 })]).panicking, true);
    t.equal(levels([...up(1), ...out(5, { weight: 0 })]).panicking, false, 'weight 0 counts for nothing');
  });

  t.test('with nothing available comes whatever the threshold is', async (t) => {
    const result = levels(out(2), { panicThreshold: 0 });
    t.equal(written(result), '1: e0 e1');
    t.equal(result.panicking, true);
    t.equal(levels([...up(1), ...out(9)], { panicThreshold: 0 }).panicking, false);
  });

  t.test('with everything down there is nothing to draw', async (t) => {
    const result = levels(down(2));
    t.same(result.groups, []);
    t.equal(result.panicking, true);
  });

  t.test('without a member that weighs something there is nothing to draw and no panic', async (t) => {
    for (const places of [[], up(2, { weight: 0 })]) {
      const result = levels(places);
      t.same(result.groups, []);
      t.equal(result.panicking, false);
    }
  });
});

t.test('priorities', async (t) => {
  const later = { priority: 1 };

  t.test('the first takes everything while it has 70 % of its weight; the next stands by for retries', async (t) => {
    t.equal(written(levels([...up(3), ...up(2, later)])), '1: e0 e1 e2 | 0: e3 e4');
    t.equal(written(levels([...up(7), ...out(3), ...up(1, later)])), '1: e0 e1 e2 e3 e4 e5 e6 | 0: e10');
  });

  t.test('then gives up what it cannot carry to the next', async (t) => {
    t.equal(written(levels([...up(7), ...down(13), ...up(20, later)])).slice(0, 4), '0.5:');
    t.equal(written(levels([...up(1), ...out(1), ...up(2, later)])), '0.714: e0 | 0.286: e2 e3');
    t.equal(written(levels([...down(2), ...up(2, later)])), '1: e2 e3');
  });

  t.test('fail over in order, not in the order of the config', async (t) => {
    const places = [...up(1, { priority: 7 }), ...down(1, { priority: -1 }), ...up(1, { priority: 2 })];
    t.equal(written(levels(places)), '1: e2 | 0: e0');
  });

  t.test('share in proportion when all together cannot carry everything', async (t) => {
    const places = [...up(1), ...down(9), ...up(3, later), ...down(7, later)];
    t.equal(written(levels(places, { panicThreshold: 0 })), '0.25: e0 | 0.75: e10 e11 e12');
  });

  t.test('in panic the first one with all that is not down takes it', async (t) => {
    t.equal(written(levels([...out(3), ...up(1, later)])), '1: e0 e1 e2 | 0: e3');
  });
});

t.test('zones', async (t) => {
  const near = { zone: 'a' };
  const far = { zone: 'b' };

  t.test(
    'the own zone takes everything while it has 70 % of its weight; the others stand by for retries',
    async (t) => {
      t.equal(written(levels([...up(2, near), ...up(2, far)], { zone: 'a' })), '1: e0 e1 | 0: e2 e3');
    },
  );

  t.test('then spills to all the others, whatever their zone', async (t) => {
    const places = [...up(1, near), ...out(1, near), ...up(1, far), ...up(1), ...out(1, far)];
    t.equal(written(levels(places, { zone: 'a' })), '0.714: e0 | 0.286: e2 e3');
    t.equal(written(levels([...down(1, near), ...up(1, far)], { zone: 'a' })), '1: e1');
  });

  t.test('keeps everything when nothing else is up', async (t) => {
    const places = [...up(3, near), ...out(3, near), ...down(1, far)];
    t.equal(written(levels(places, { zone: 'a', panicThreshold: 0 })), '1: e0 e1 e2');
  });

  t.test('do not count when the own one is unknown, has no members or is not preferred', async (t) => {
    const places = [...up(1, near), ...up(1, far)];
    t.equal(written(levels(places)), '1: e0 e1');
    t.equal(written(levels(places, { zone: 'c' })), '1: e0 e1');
    t.equal(written(levels(places, { zone: 'a', prefer: false })), '1: e0 e1');
    t.equal(written(levels(up(2), { zone: null })), '1: e0 e1');
  });

  t.test('count within a priority', async (t) => {
    const places = [
      ...up(1, { zone: 'b', priority: 0 }),
      ...down(1, { zone: 'a', priority: 0 }),
      ...up(1, { zone: 'b', priority: 1 }),
      ...up(1, { zone: 'a', priority: 1 }),
    ];
    t.equal(written(levels(places, { zone: 'a' })), '0.714: e0 | 0.286: e3 | 0: e2');
  });
});

t.test('slow start makes a candidate lighter, and its level no less able', async (t) => {
  const { groups } = levels([...up(1, { weight: 4, ramp: 0.1 }), ...up(1, { weight: 2 }), ...up(1, { priority: 1 })]);
  t.equal(groups[0].share, 1);
  t.same(
    groups[0].candidates.map(({ weight, ramp }) => [weight, ramp]),
    [
      [0.4, 0.1],
      [2, 1],
    ],
  );
});

t.test('slow start begins at a tenth and grows in a straight line', async (t) => {
  t.equal(rampOf(0, 30_000), 0.1);
  t.equal(rampOf(15_000, 30_000), 0.55);
  t.equal(rampOf(30_000, 30_000), 1);
  t.equal(rampOf(1e9, 30_000), 1);
  t.equal(rampOf(0, 0), 1, 'no window, no slow start');
  t.equal(rampOf(-5, 30_000), 0.1, 'a clock that was read before');
});

const place: fc.Arbitrary<Required<Place>> = fc.record({
  state: fc.constantFrom<EndpointState>('available', 'out', 'down'),
  weight: fc.oneof(fc.constant(1), fc.integer({ min: 0, max: 5 })),
  zone: fc.constantFrom('a', 'b', 'c', null),
  priority: fc.nat({ max: 3 }),
  ramp: fc.constantFrom(0.1, 0.5, 1),
});

t.test('whatever is up or down', async () => {
  const options = fc.record({
    zone: fc.constantFrom('a', null),
    prefer: fc.boolean(),
    panicThreshold: fc.constantFrom(0, 0.3, 0.5, 1),
  });
  fc.assert(
    fc.property(fc.array(place, { maxLength: 12 }), options, (places, options) => {
      const { groups, panicking, placeOf } = levels(places, options);
      const drawable = groups.flatMap(({ candidates }) => candidates.map(({ endpoint }) => endpoint));
      const expected = [...placeOf]
        .filter(([, { weight = 0 }]) => weight > 0)
        .filter(([, { state }]) => state === 'available' || (panicking && state === 'out'))
        .map(([endpoint]) => endpoint);
      // Nothing down, nothing that weighs nothing, and everything else exactly once.
      if (drawable.length !== expected.length || !expected.every((endpoint) => drawable.includes(endpoint)))
        return false;
      if (groups.length === 0) return expected.length === 0;
      if (groups.some(({ share, candidates }) => share < 0 || candidates.length === 0)) return false;
      if (groups.some(({ candidates }) => candidates.some(({ weight }) => !(weight > 0)))) return false;
      if (Math.abs(groups.reduce((sum, { share }) => sum + share, 0) - 1) > 1e-9) return false;

      // A later priority gets something only when no earlier one has 70 % of its weight; within one, the own zone comes first.
      const weightOf = (list: readonly Place[]) => list.reduce((sum, { weight = 0 }) => sum + weight, 0);
      const isUsed = ({ state }: Place) => state === 'available' || (panicking && state === 'out');
      let carried = false;
      let before = -1;
      for (const { share, candidates } of groups) {
        const { priority = 0 } = placeOf.get(candidates[0].endpoint) as Place;
        if (candidates.some(({ endpoint }) => placeOf.get(endpoint)?.priority !== priority)) return false;
        if (priority < before) return false;
        if (priority > before && carried && share > 0) return false;
        before = priority;
        const level = places.filter((one) => one.priority === priority);
        if (weightOf(level.filter(isUsed)) >= 0.7 * weightOf(level)) carried = true;
        const zones = new Set(candidates.map(({ endpoint }) => placeOf.get(endpoint)?.zone));
        if (options.prefer && options.zone === 'a' && zones.has('a') && zones.size > 1) return false;
      }
      return true;
    }),
    { numRuns: 2_000 },
  );
});

t.test('a share only grows when one of its endpoints returns', async () => {
  fc.assert(
    fc.property(fc.array(place, { minLength: 1, maxLength: 10 }), fc.nat(), (places, at) => {
      const first = places.map((one) => ({ ...one, priority: Math.min(one.priority, 1) }));
      const index = at % first.length;
      const returned = first.with(index, { ...first[index], state: 'available' as const });
      const share = (list: Place[]) => {
        const { groups, placeOf, panicking } = levels(list, { panicThreshold: 0 });
        const own = groups.filter(
          ({ candidates }) => placeOf.get(candidates[0].endpoint)?.priority === first[index].priority,
        );
        return panicking ? null : own.reduce((sum, { share }) => sum + share, 0);
      };
      const before = share(first);
      const after = share(returned);
      return before === null || after === null || after >= before - 1e-9;
    }),
    { numRuns: 1_000 },
  );
});
