// How often a rollout is wrong: whole rollouts with random traffic, seeded.
import t from 'tap';
import { likelihoodRatio } from '../../src/proxy/rollout-verdict.ts';
import { seeded, started } from './support/rollouts.ts';

interface World {
  readonly perSecond: number;
  /** Chance that a request of the version fails at this second. */
  readonly failing: (version: 'from' | 'to', second: number) => number;
  readonly durationMs?: (version: 'from' | 'to', random: () => number) => number;
  readonly everyMs?: number;
  readonly maxSeconds?: number;
}

/** One rollout from its start to its end, or to the end of the time. */
function simulate(seed: number, { perSecond, failing, durationMs, everyMs = 120_000, maxSeconds = 1_200 }: World) {
  const random = seeded(seed);
  const { rollout, wheel } = started({ everyMs });
  let second = 0;
  while (second < maxSeconds && rollout.state === 'progressing') {
    for (let request = 0; request < perSecond; request++) {
      wheel.advance(1_000 / perSecond);
      const version = random() < rollout.share() ? 'to' : 'from';
      const took = durationMs?.(version, random) ?? 20;
      rollout.record(version, random() < failing(version, second), took, wheel.now() + took);
    }
    second += 1;
  }
  return { state: rollout.state, second, share: rollout.share(), step: rollout.status().step };
}

function shareOf(count: number, state: string, world: World, seed = 1): number {
  let found = 0;
  for (let run = 0; run < count; run++) if (simulate(seed * 100_000 + run, world).state === state) found += 1;
  return found / count;
}

t.test('two equal versions at 1 % errors, limit 2 %: fewer than 2 % of 200 rollouts are aborted', async (t) => {
  for (const perSecond of [5, 20]) {
    const aborted = shareOf(200, 'aborted', { perSecond, failing: () => 0.01 }, perSecond);
    t.ok(aborted < 0.02, `${aborted} at ${perSecond} requests a second`);
  }
});

t.test('equal versions get through to the end', async (t) => {
  const complete = shareOf(50, 'complete', { perSecond: 20, failing: () => 0.005 });
  t.ok(complete > 0.95, String(complete));
});

t.test('v2 at 6 % errors beside 1 %, limit 2 %: more than 99 % of 200 rollouts are aborted', async (t) => {
  const aborted = shareOf(200, 'aborted', { perSecond: 20, failing: (version) => (version === 'to' ? 0.06 : 0.01) });
  t.ok(aborted > 0.99, String(aborted));
});

t.test('an outage of both at once is held, and goes on when it is over', async (t) => {
  const outage = { perSecond: 20, failing: (_: string, second: number) => (second > 60 && second < 400 ? 0.2 : 0.001) };
  const aborted = shareOf(50, 'aborted', outage);
  t.ok(aborted < 0.02, `aborted: ${aborted}`);
  const { state, second } = simulate(7, { ...outage, maxSeconds: 1_500 });
  t.match({ state, late: second > 600 }, { state: 'complete', late: true });
});

t.test('a v2 that breaks late in a long step goes back within seconds', async (t) => {
  for (let seed = 0; seed < 20; seed++) {
    const breaksAt = 2_000;
    const { state, second } = simulate(seed, {
      perSecond: 40,
      everyMs: 3_600_000,
      maxSeconds: 2_200,
      failing: (version, second) => (version === 'to' && second >= breaksAt ? 1 : 0.002),
    });
    t.equal(state, 'aborted');
    t.ok(second - breaksAt < 30, `after ${second - breaksAt} s at 5 %`);
  }
});

t.test('equal tails near the limit are not taken for a slower v2; a slower v2 is', async (t) => {
  const tail = (chance: number) => (_: string, random: () => number) => (random() < chance ? 800 : 50);
  const equal = shareOf(60, 'aborted', { perSecond: 20, failing: () => 0, durationMs: tail(0.009) });
  t.ok(equal < 0.02, `equal: ${equal}`);
  const slower = shareOf(60, 'aborted', {
    perSecond: 20,
    failing: () => 0,
    durationMs: (version, random) => tail(version === 'to' ? 0.06 : 0.005)(version, random),
  });
  t.ok(slower > 0.98, `slower: ${slower}`);
});

t.test('the likelihood ratio of two equal versions stays small whenever it is looked at', async (t) => {
  const random = seeded(11);
  let passed = 0;
  const runs = 2_000;
  for (let run = 0; run < runs; run++) {
    let hits = 0;
    for (let failures = 1; failures <= 300; failures++) {
      if (random() < 0.25) hits += 1;
      if (likelihoodRatio(hits, failures, 0.25) >= 100) {
        passed += 1;
        break;
      }
    }
  }
  t.ok(passed / runs < 0.01 + 3 * Math.sqrt(0.01 / runs), `${passed / runs} of them ever pass 100`);
});

t.test('as many failures are needed beside a v1 without any as docs/progressive-delivery.md says', async (t) => {
  const needed = (share: number): number => {
    let failures = 0;
    while (likelihoodRatio(failures, failures, share) < 1_000) failures += 1;
    return failures;
  };
  t.strictSame([0.05, 0.25, 0.5].map(needed), [4, 7, 13]);
});
