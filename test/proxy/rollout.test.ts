// A rollout from step to step: when it goes on, when it waits, when it goes back, and what it says.
import fc from 'fast-check';
import t from 'tap';
import { judge } from '../../src/proxy/rollout-verdict.ts';
import { policy, started } from './support/rollouts.ts';

const STEP = 120_000;

t.test('begins with the first step', async (t) => {
  const { rollout, told } = started();
  t.match(rollout.status(), {
    state: 'progressing',
    step: 1,
    share: 0.05,
    reason: 'moving orders from v1 to v2 begins',
  });
  t.match(told, [{ transition: 'started' }]);
});

t.test('goes from step to step while v2 is within its limits, and is complete after the last', async (t) => {
  const { rollout, wheel, told, requests } = started();
  const shares = [];
  for (let step = 0; step < 4; step++) {
    shares.push(rollout.share());
    requests('from', step === 3 ? 0 : 1_000);
    requests('to', 60);
    wheel.advance(STEP - 1_000);
    t.equal(rollout.status().step, step + 1, 'not before its time');
    wheel.advance(1_000);
  }
  t.strictSame(shares, [0.05, 0.25, 0.5, 1]);
  t.match(rollout.status(), {
    state: 'complete',
    share: 1,
    step: 4,
    nextStepAt: null,
    reason: 'orders has moved to v2',
  });
  t.strictSame(
    told.map(({ transition }) => transition),
    ['started', 'advanced', 'advanced', 'advanced', 'completed'],
  );
  t.match(told[1].status, { step: 2, reason: 'v2 goes to 25 %', from: { requests: 1_000 }, to: { requests: 60 } });
  t.equal(wheel.waiting, 0, 'no timer is left');
  requests('to', 500, { failed: 500 });
  t.equal(rollout.state, 'complete', 'and stays so');
});

t.test('waits for requests, and says so', async (t) => {
  const { rollout, wheel, told, requests } = started();
  requests('from', 1_000);
  requests('to', 49);
  wheel.advance(10 * STEP);
  t.match(rollout.status(), { step: 1, reason: 'waits: v2 has had 49 of the 50 requests that a comparison needs' });
  requests('to', 1);
  wheel.advance(1_000);
  t.equal(rollout.status().step, 2);
  t.strictSame(
    told.map(({ transition }) => transition),
    ['started', 'advanced'],
    'waiting is no news',
  );
});

t.test('every step needs requests of its own', async (t) => {
  const { rollout, wheel, requests } = started();
  requests('to', 5_000);
  wheel.advance(STEP + 1_000);
  t.equal(rollout.status().step, 2);
  wheel.advance(10 * STEP);
  t.match(rollout.status(), { step: 2, reason: /v2 has had 0 of the 50/ });
});

t.test('goes back at once when v2 fails and v1 does not, with the figures of both', async (t) => {
  const { rollout, told, wheel, requests } = started();
  requests('from', 2_280, { failed: 9 });
  requests('to', 100);
  t.equal(rollout.state, 'progressing');
  requests('to', 20, { failed: 20 });
  t.match(rollout.status(), { state: 'aborted', share: 0, nextStepAt: null });
  t.equal(rollout.status().reason, 'v2 failed 5.7 % of 106 requests, v1 0.4 % of 2,280, limit 2 %');
  t.match(told.at(-1), { transition: 'aborted', status: { to: { requests: 106, failed: 6 } } });
  t.equal(wheel.waiting, 0);
  requests('to', 1_000);
  wheel.advance(100 * STEP);
  t.match(
    rollout.status(),
    { state: 'aborted', share: 0, to: { requests: 106 } },
    'and stays so, with what it was judged by',
  );
});

t.test('is not judged before v2 has had its requests, and at once with the last of them', async (t) => {
  const { rollout, requests } = started();
  requests('from', 1_000);
  requests('to', 49, { failed: 49 });
  t.equal(rollout.state, 'progressing');
  requests('to', 1, { failed: 1 });
  t.equal(rollout.state, 'aborted');
});

t.test('what the last request that is missing does not show, the next look does', async (t) => {
  const { rollout, wheel, requests } = started();
  requests('from', 1_000);
  requests('to', 49, { failed: 49 });
  requests('to', 1);
  t.equal(rollout.state, 'progressing', 'a good request judges nothing');
  wheel.advance(1_000);
  t.equal(rollout.state, 'aborted');
});

t.test('goes back when v2 is slower than the limit and than v1', async (t) => {
  const { rollout, requests } = started();
  requests('from', 2_280, { ms: 140 });
  requests('to', 120, { slow: 12, ms: 140 });
  t.match(rollout.status(), {
    state: 'aborted',
    share: 0,
    reason: /^v2's p99 is 1,0\d\d ms over \d+ requests, v1's 14\d ms over 2,280, limit 500 ms$/,
  });
});

t.test('holds when v2 is over the limit that v1 only just keeps', async (t) => {
  const { rollout, wheel, told, requests } = started({ steps: [0.5, 1] });
  requests('from', 1_000, { ms: 490 });
  requests('to', 1_000, { ms: 510 });
  wheel.advance(STEP + 1_000);
  t.match(rollout.status(), {
    state: 'progressing',
    reason: /^holds: v2 is hardly slower than v1: v2's p99 is 5\d\d ms/,
  });
  t.equal(told.at(-1)?.transition, 'held');
  const far = started({ steps: [0.5, 1] });
  far.requests('from', 1_000, { ms: 400 });
  far.requests('to', 1_000, { ms: 510 });
  t.equal(far.rollout.state, 'aborted');
});

t.test('a limit of null is not looked at', async (t) => {
  const abortOn = { errorRate: null, p99Ms: null, minRequests: 50 };
  const { rollout, wheel, requests } = started({ abortOn });
  requests('from', 1_000);
  requests('to', 100, { failed: 100, slow: 100 });
  wheel.advance(STEP + 1_000);
  t.match(rollout.status(), { state: 'progressing', step: 2 });
});

t.test('holds while both versions fail alike, says it once, and goes on when that is over', async (t) => {
  const { rollout, wheel, told, requests } = started({ steps: [0.5, 1] });
  const minute = (failed: number) => {
    requests('from', 1_000, { failed });
    requests('to', 1_000, { failed });
    wheel.advance(60_000);
  };
  for (let count = 0; count < 5; count++) minute(300);
  t.match(rollout.status(), { state: 'progressing', step: 1, share: 0.5 });
  t.match(rollout.status().reason, /^holds: both versions fail: v2 failed 30\.0 % of [\d,]+ requests, v1 30\.0 % of/);
  t.strictSame(
    told.map(({ transition }) => transition),
    ['started', 'held'],
  );
  for (let count = 0; count < 4; count++) minute(1);
  t.equal(rollout.status().step, 2);
});

t.test('holds while both versions are slow alike', async (t) => {
  const { rollout, wheel, requests } = started({ steps: [0.5, 1] });
  for (let count = 0; count < 4; count++) {
    requests('from', 1_000, { slow: 200 });
    requests('to', 1_000, { slow: 200 });
    wheel.advance(60_000);
  }
  t.match(rollout.status(), { state: 'progressing', step: 1, reason: /^holds: both versions are slow: v2's p99 is/ });
});

t.test('goes back when both fail and v2 far more', async (t) => {
  const { rollout, requests } = started({ steps: [0.5, 1] });
  requests('from', 1_000, { failed: 50 });
  requests('to', 1_000, { failed: 300 });
  t.match(rollout.status(), { state: 'aborted', share: 0 });
});

t.test('neither goes back nor on while a v2 over the limit may be chance', async (t) => {
  const { rollout, wheel, told, requests } = started();
  requests('from', 950, { failed: 9 });
  requests('to', 50, { failed: 2 });
  wheel.advance(STEP + 1_000);
  t.match(rollout.status(), {
    state: 'progressing',
    step: 1,
    reason: /^holds: this may be chance: v2 failed 4\.0 % of 50 re/,
  });
  t.equal(told.at(-1)?.transition, 'held');
});

t.test('requests that began in an earlier step do not count in the next', async (t) => {
  const { rollout, wheel, requests } = started({ steps: [0.5, 1] });
  requests('from', 100);
  requests('to', 100);
  wheel.advance(STEP + 1_000);
  t.equal(rollout.share(), 1);
  for (let count = 0; count < 100; count++) rollout.record('from', false, 3_000, wheel.now() + 1_000);
  t.equal(rollout.status().from.requests, 0);
  requests('to', 100, { failed: 100 });
  t.equal(rollout.state, 'aborted', 'so that nobody is left to be compared with at 100 %');
});

t.test('with all requests at v2 the limits alone count', async (t) => {
  const { rollout, wheel, requests } = started({ steps: [1] });
  requests('to', 1_000, { failed: 15 });
  wheel.advance(10_000);
  t.equal(rollout.state, 'progressing', 'within the limit');
  requests('to', 1_000, { failed: 60 });
  t.match(rollout.status(), {
    state: 'aborted',
    reason: /^v2 failed \d\.\d % of 1,\d\d\d requests, v1 no requests, limit 2 %$/,
  });
});

t.test('what was measured long ago counts no more', async (t) => {
  const { rollout, wheel, requests } = started({ everyMs: 3_600_000 });
  for (let minute = 0; minute < 30; minute++) {
    requests('from', 1_000);
    requests('to', 60);
    wheel.advance(60_000);
  }
  t.ok(rollout.status().to.requests <= 10 * 60, 'two generations of five minutes');
  requests('to', 60, { failed: 60 });
  t.equal(rollout.state, 'aborted', 'so that the good half hour does not hide what happens now');
});

t.test('without traffic for v2 measurements are kept until it has had enough', async (t) => {
  const { rollout, wheel, requests } = started();
  for (let count = 0; count < 50; count++) {
    requests('to', 1);
    wheel.advance(600_000);
  }
  t.equal(rollout.status().step, 2);
});

t.test('a pause holds the share whatever is measured; resumed, it goes on where it was', async (t) => {
  const { rollout, wheel, told, requests } = started();
  requests('from', 1_000);
  requests('to', 60);
  wheel.advance(STEP / 2);
  t.equal(rollout.pause(), null);
  t.equal(rollout.pause(), null, 'again: nothing');
  wheel.advance(10 * STEP);
  t.match(rollout.status(), { state: 'paused', step: 1, share: 0.05, nextStepAt: null });
  t.equal(wheel.waiting, 0);
  t.equal(rollout.resume(), null);
  t.equal(rollout.resume(), null, 'again: nothing');
  wheel.advance(STEP / 2 - 1_000);
  t.equal(rollout.status().step, 1, 'the time of the pause does not count');
  wheel.advance(2_000);
  t.equal(rollout.status().step, 2);
  rollout.pause();
  requests('from', 1_000);
  requests('to', 100, { failed: 100 });
  t.match(rollout.status(), { state: 'paused', share: 0.25, to: { requests: 100, failed: 100 } });
  rollout.resume();
  wheel.advance(1_000);
  t.match(rollout.status(), { state: 'aborted', share: 0 }, 'what was measured meanwhile counts');
  t.strictSame(
    told.map(({ transition }) => transition),
    ['started', 'paused', 'resumed', 'advanced', 'paused', 'resumed', 'aborted'],
  );
});

t.test(
  'resumed after an abort it begins again with nothing measured, late ends of old requests included',
  async (t) => {
    const { rollout, wheel, requests } = started();
    requests('from', 1_000);
    requests('to', 60);
    wheel.advance(STEP + 1_000);
    requests('from', 1_000);
    requests('to', 100, { failed: 100 });
    t.equal(rollout.state, 'aborted');
    wheel.advance(5_000);
    t.equal(rollout.resume(), null);
    t.match(rollout.status(), {
      state: 'progressing',
      step: 1,
      share: 0.05,
      from: { requests: 0 },
      to: { requests: 0 },
    });
    for (let count = 0; count < 100; count++) rollout.record('to', true, 4_000, wheel.now() + 1_000);
    t.equal(rollout.status().to.requests, 0);
    requests('to', 60);
    wheel.advance(STEP + 1_000);
    t.equal(rollout.status().step, 2);
  },
);

t.test('an operator aborts it from any state, and is told what makes no sense', async (t) => {
  const complete = started({ steps: [1] });
  complete.requests('to', 60);
  complete.wheel.advance(STEP + 1_000);
  t.equal(complete.rollout.state, 'complete');
  t.match(complete.rollout.pause(), /is complete/);
  t.match(complete.rollout.resume(), /is complete/);
  const paused = started();
  paused.rollout.pause();
  for (const { rollout, told } of [complete, paused, started()]) {
    t.equal(rollout.abort(), null);
    t.match(rollout.status(), { state: 'aborted', share: 0, reason: 'aborted by an operator' });
    const news = told.length;
    rollout.abort();
    t.equal(told.length, news);
    t.match(rollout.pause(), /is aborted/);
  }
});

t.test('steps that do not lead to 100 % stay at the last one, and are still watched', async (t) => {
  const { rollout, wheel, requests } = started({ steps: [0.1] });
  requests('from', 1_000);
  requests('to', 60);
  wheel.advance(10 * STEP);
  t.match(rollout.status(), {
    state: 'progressing',
    share: 0.1,
    nextStepAt: null,
    reason: 'v2 stays at 10 %, the last step',
  });
  requests('to', 60, { failed: 60 });
  t.equal(rollout.state, 'aborted');
});

t.test('stopped, it neither counts nor moves', async (t) => {
  const { rollout, wheel, told, requests } = started();
  rollout.stop();
  requests('from', 1_000);
  requests('to', 100, { failed: 100 });
  wheel.advance(100 * STEP);
  t.match(rollout.status(), { state: 'progressing', to: { requests: 0 } });
  t.equal(told.length, 1);
});

t.test('upgraded connections count as requests, not for the latency', async (t) => {
  const { rollout, wheel } = started();
  for (let count = 0; count < 60; count++) rollout.record('to', false, null, wheel.now());
  t.match(rollout.status().to, { requests: 60, timed: 0, p99Ms: null });
  wheel.advance(STEP + 1_000);
  t.equal(rollout.status().step, 2);
});

t.test('no version without any request is judged, whatever minRequests says', async (t) => {
  const none = { requests: 0, failed: 0, timed: 0, slow: 0, p99Ms: null };
  const eager = policy({ abortOn: { errorRate: 0, p99Ms: 1, minRequests: 0 } });
  t.equal(judge(eager, none, none).kind, 'few');
  t.equal(judge(eager, none, { ...none, requests: 1, failed: 1 }).kind, 'unsure', 'one failure proves nothing');
});

t.test('the share is always 0 or one of the steps, and 0 when and only when it is aborted', async () => {
  const action = fc.oneof(
    fc.record({ kind: fc.constant('good' as const), to: fc.nat(80), from: fc.nat(300) }),
    fc.record({ kind: fc.constant('bad' as const), to: fc.nat(80), from: fc.nat(300) }),
    fc.record({ kind: fc.constant('both' as const), to: fc.nat(80), from: fc.nat(300) }),
    fc.record({ kind: fc.constant('time' as const), ms: fc.nat(200_000) }),
    fc.record({ kind: fc.constantFrom('pause', 'resume', 'abort') }),
  );
  const steps = fc.uniqueArray(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(steps, fc.array(action, { maxLength: 40 }), (written, actions) => {
      const shares = written.toSorted((one, other) => one - other).map((percent) => percent / 100);
      const { rollout, wheel, requests } = started({ steps: shares });
      let before = rollout.status();
      for (const next of actions) {
        if ('ms' in next) wheel.advance(next.ms);
        else if ('to' in next) {
          requests('from', next.from, { failed: next.kind === 'both' ? next.from : 0 });
          requests('to', next.to, { failed: next.kind === 'good' ? 0 : next.to });
        } else rollout[next.kind as 'pause' | 'resume' | 'abort']();
        const now = rollout.status();
        if (now.state === 'aborted' ? now.share !== 0 : !shares.includes(now.share)) return false;
        if (now.share !== rollout.share() || now.reason === '') return false;
        if (before.state === 'paused' && now.state === 'paused' && now.share !== before.share) return false;
        if (now.state === 'complete' && now.share !== 1) return false;
        before = now;
      }
      return true;
    }),
    { seed: 20_261_126, numRuns: 300 },
  );
});
