// What closings teach about the upstream's idle timeout, and what they do not.
import fc from 'fast-check';
import t from 'tap';
import { IdleAllowance, retireAfterMs } from '../../../src/upstream/http1/idle-allowance.ts';

const MINUTE = 60_000;

t.test('ours are retired a second sooner, or half-way where the upstream keeps them for less than two', (t) => {
  for (const [allowedMs, ms] of [
    [60_000, 59_000],
    [5_000, 4_000],
    [2_000, 1_000],
    [1_000, 500],
    [50, 25],
    [0, 0],
  ])
    t.equal(retireAfterMs(allowedMs), ms);
  t.end();
});

t.test('the same age at two times is a timeout', (t) => {
  const allowance = new IdleAllowance();
  t.match(allowance, { allowedMs: null, limitMs: Number.POSITIVE_INFINITY });
  allowance.closed(5_010, 3_000, 10_000);
  t.equal(allowance.allowedMs, null, 'one closing proves nothing');
  allowance.closed(5_002, 0, 20_000);
  t.match(allowance, { allowedMs: 5_002, limitMs: 4_002 });
  t.end();
});

t.test('many that are closed at one instant are one observation', (t) => {
  const allowance = new IdleAllowance();
  for (let i = 0; i < 50; i++) allowance.closed(5_000 + (i % 3), 0, 10_000 + i);
  t.equal(allowance.allowedMs, null);
  for (let i = 0; i < 50; i++) allowance.closed(5_000 + (i % 3), 0, 16_000 + i);
  t.equal(allowance.allowedMs, 5_000);
  t.end();
});

t.test('a restart teaches nothing, though its closings agree with what was seen before', (t) => {
  const ages = [5_001, 30_000, 12_000];
  for (const order of [
    [0, 1, 2],
    [1, 0, 2],
    [2, 1, 0],
  ]) {
    const allowance = new IdleAllowance();
    allowance.closed(5_000, 0, 10_000);
    const open = new Set(ages);
    order.forEach((index, turn) => {
      open.delete(ages[index]);
      allowance.closed(ages[index], Math.max(0, ...open), MINUTE + turn);
    });
    t.equal(allowance.allowedMs, null, order.join());
    allowance.closed(30_010, 0, 2 * MINUTE);
    t.equal(allowance.allowedMs, null, 'nor does the next closing make it a timeout');
  }
  t.end();
});

t.test('a restart takes nothing away that was learned before it', (t) => {
  const allowance = new IdleAllowance();
  for (const at of [10_000, 20_000]) allowance.closed(5_000, 0, at);
  allowance.closed(3_500, 0, MINUTE);
  allowance.closed(2_000, 0, MINUTE + 1);
  t.equal(allowance.allowedMs, 5_000);
  t.end();
});

t.test('connections that fell idle together and are closed one after the other agree on nothing', (t) => {
  const allowance = new IdleAllowance();
  // Two processes behind one address that stop within half a second.
  for (const ms of [0, 150, 300, 450]) allowance.closed(10_000 + ms, 0, MINUTE + ms);
  t.equal(allowance.allowedMs, null);
  t.end();
});

t.test('an upstream that leaves older ones open has another reason to close', (t) => {
  const allowance = new IdleAllowance();
  for (let i = 1; i < 20; i++) allowance.closed(40, 30_000, i * 1_000);
  t.equal(allowance.allowedMs, null);
  t.end();
});

t.test('noise between two closings does not hide that they agree', (t) => {
  const allowance = new IdleAllowance();
  [5_000, 900, 2_345, 5_003].forEach((idleMs, turn) => {
    allowance.closed(idleMs, 0, turn * 10_000);
  });
  t.equal(allowance.allowedMs, 5_000);
  t.end();
});

t.test('a shorter timeout of a new version is learned in its turn', (t) => {
  const allowance = new IdleAllowance();
  for (const at of [100_000, 200_000]) allowance.closed(60_000, 0, at);
  for (const at of [300_000, 310_000]) allowance.closed(5_000, 0, at);
  t.match(allowance, { allowedMs: 5_000, limitMs: 4_000 });
  t.end();
});

t.test('the smaller of what is announced and what was learned counts', (t) => {
  const allowance = new IdleAllowance();
  allowance.announced(60_000);
  t.equal(allowance.allowedMs, 60_000);
  for (const at of [10_000, 20_000]) allowance.closed(5_000, 0, at);
  t.equal(allowance.allowedMs, 5_000);
  allowance.announced(2_000);
  t.equal(allowance.allowedMs, 2_000);
  t.end();
});

t.test(
  'what was learned is doubted after ten minutes; a closing confirms it, one that is left open refutes it',
  (t) => {
    const allowance = new IdleAllowance();
    t.notOk(allowance.doubtful(60 * MINUTE), 'nothing to doubt');
    for (const at of [10_000, 20_000]) allowance.closed(5_000, 0, at);
    t.notOk(allowance.doubtful(20_000 + 10 * MINUTE));
    t.ok(allowance.doubtful(20_001 + 10 * MINUTE));
    allowance.closed(5_004, 0, 20_001 + 10 * MINUTE);
    t.notOk(allowance.doubtful(20_002 + 10 * MINUTE));
    t.equal(allowance.allowedMs, 5_000);
    allowance.outlived(7_000);
    t.equal(allowance.allowedMs, 5_000, 'a server may be late');
    allowance.outlived(7_251);
    t.match(allowance, { allowedMs: null, limitMs: Number.POSITIVE_INFINITY });
    t.notOk(allowance.doubtful(60 * MINUTE));
    allowance.closed(5_000, 0, 90 * MINUTE);
    t.equal(allowance.allowedMs, null, 'and it starts anew');
    t.end();
  },
);

t.test('whatever the timeout and however late each closing is seen, two of them suffice', (t) => {
  const timeout = fc.integer({ min: 50, max: 300_000 });
  const late = fc.tuple(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 0, max: 20 }));
  fc.assert(
    fc.property(timeout, late, (timeoutMs, [first, second]) => {
      const allowance = new IdleAllowance();
      allowance.closed(timeoutMs + first, 0, 1_000_000);
      allowance.closed(timeoutMs + second, 0, 2_000_000);
      return allowance.limitMs < timeoutMs && allowance.allowedMs === timeoutMs + Math.min(first, second);
    }),
  );
  t.end();
});

t.test('what is believed is always an age that was seen', (t) => {
  const closing = fc.record({
    idleMs: fc.integer({ min: 1, max: 100_000 }),
    longestMs: fc.integer({ min: 0, max: 100_000 }),
    afterMs: fc.integer({ min: 0, max: 20_000 }),
  });
  fc.assert(
    fc.property(fc.array(closing, { maxLength: 60 }), (closings) => {
      const allowance = new IdleAllowance();
      const seen = new Set<number | null>([null]);
      let now = 0;
      for (const { idleMs, longestMs, afterMs } of closings) {
        now += afterMs;
        seen.add(idleMs);
        allowance.closed(idleMs, longestMs, now);
        if (!seen.has(allowance.allowedMs)) return false;
      }
      return true;
    }),
  );
  t.end();
});
