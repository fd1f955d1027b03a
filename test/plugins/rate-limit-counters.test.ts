// The accounts behind rate-limit, on a clock that the test moves: windows, buckets, and what is forgotten when there are too many keys.
import fc from 'fast-check';
import t from 'tap';
import { clientNetwork } from '../../src/http/client-network.ts';
import { Counters } from '../../src/plugins/rate-limit/counters.ts';
import type { Quota } from '../../src/plugins/rate-limit/quota.ts';
import { UnderWay } from '../../src/plugins/rate-limit/under-way.ts';
import { FakeClock } from '../support/fake-clock.ts';

const PLENTY = 1_000_000;

function windowOf(capacity: number, periodMs: number, maxKeys = PLENTY) {
  const clock = new FakeClock();
  let forgotten = 0;
  const quota: Quota = { algorithm: 'fixed-window', capacity, periodMs };
  const counters = new Counters(quota, maxKeys, clock.now, () => forgotten++);
  return { clock, counters, forgotten: () => forgotten };
}

t.test('a window', async (t) => {
  t.test('begins with the first request of its key and ends by itself', async (t) => {
    const { clock, counters } = windowOf(2, 1_000);
    t.strictSame(counters.take('a', 1), { granted: true, remaining: 1, waitMs: 1_000 });
    clock.advance(400);
    t.strictSame(counters.take('a', 1), { granted: true, remaining: 0, waitMs: 600 });
    t.strictSame(counters.take('a', 1), { granted: false, remaining: 0, waitMs: 600 });
    t.strictSame(counters.take('b', 1), { granted: true, remaining: 1, waitMs: 1_000 }, 'another key has its own');
    clock.advance(599);
    t.equal(counters.take('a', 1).granted, false);
    clock.advance(1);
    t.strictSame(counters.take('a', 1), { granted: true, remaining: 1, waitMs: 1_000 });
  });

  t.test('is not made longer by what it refuses', async (t) => {
    const { clock, counters } = windowOf(1, 1_000);
    counters.take('a', 1);
    for (let i = 0; i < 9; i++) {
      clock.advance(100);
      t.equal(counters.take('a', 1).granted, false);
    }
    clock.advance(100);
    t.equal(counters.take('a', 1).granted, true);
  });

  t.test('refuses what costs more than is left, and still grants what does not', async (t) => {
    const { counters } = windowOf(5, 1_000);
    t.equal(counters.take('a', 3).remaining, 2);
    t.strictSame(counters.take('a', 3), { granted: false, remaining: 2, waitMs: 1_000 });
    t.equal(counters.take('a', 2).granted, true);
    counters.giveBack('a', 2);
    t.equal(counters.take('a', 2).granted, true);
    counters.giveBack('unknown', 2);
    t.equal(counters.take('unknown', 1).remaining, 4, 'nobody can be owed anything');
  });
});

t.test('a bucket is full at first and fills evenly', async (t) => {
  const clock = new FakeClock();
  // 10 a second, 3 at once.
  const counters = new Counters({ algorithm: 'token-bucket', capacity: 3, periodMs: 300 }, PLENTY, clock.now);
  t.strictSame(
    [1, 2, 3].map(() => counters.take('a', 1)),
    [
      { granted: true, remaining: 2, waitMs: 100 },
      { granted: true, remaining: 1, waitMs: 200 },
      { granted: true, remaining: 0, waitMs: 300 },
    ],
  );
  t.strictSame(counters.take('a', 1), { granted: false, remaining: 0, waitMs: 100 });
  clock.advance(99);
  t.strictSame(counters.take('a', 1), { granted: false, remaining: 0, waitMs: 1 });
  clock.advance(1);
  t.equal(counters.take('a', 1).granted, true);
  clock.advance(60_000);
  t.equal(counters.take('a', 1).remaining, 2, 'never more than full');
  counters.giveBack('a', 1);
  t.equal(counters.take('a', 1).remaining, 2);
});

t.test('a bucket grants what a bucket with tokens in it would, whatever is asked and when', async (t) => {
  const step = fc.record({
    afterMs: fc.integer({ min: 0, max: 500 }),
    cost: fc.integer({ min: 1, max: 4 }),
    undo: fc.boolean(),
  });
  const property = fc.property(
    fc.integer({ min: 4, max: 20 }),
    fc.integer({ min: 1, max: 100 }),
    fc.array(step, { maxLength: 200 }),
    (capacity, perTokenMs, steps) => {
      const clock = new FakeClock();
      const quota: Quota = { algorithm: 'token-bucket', capacity, periodMs: capacity * perTokenMs };
      const counters = new Counters(quota, PLENTY, clock.now);
      // The naive model: so many tokens, one more every so often, counted in thousandths of nothing but whole milliseconds.
      let filled = capacity * perTokenMs;
      for (const { afterMs, cost, undo } of steps) {
        clock.advance(afterMs);
        filled = Math.min(capacity * perTokenMs, filled + afterMs);
        const wanted = cost * perTokenMs;
        const grant = counters.take('a', cost);
        if (grant.granted !== filled >= wanted) return false;
        if (!grant.granted && Math.abs(grant.waitMs - (wanted - filled)) > 1e-6) return false;
        if (grant.granted) filled -= wanted;
        if (grant.remaining !== Math.floor(filled / perTokenMs)) return false;
        if (grant.granted && undo) {
          counters.giveBack('a', cost);
          filled += wanted;
        }
      }
      return true;
    },
  );
  fc.assert(property, { numRuns: 500 });
  t.pass('500 runs');
});

t.test('a rate that comes out at no whole millisecond is kept over a long time', async (t) => {
  const clock = new FakeClock();
  const counters = new Counters({ algorithm: 'token-bucket', capacity: 1, periodMs: 60_000 / 7 }, PLENTY, clock.now);
  let granted = 0;
  for (let ms = 0; ms < 3_600_000; ms += 50) {
    if (counters.take('a', 1).granted) granted++;
    clock.advance(50);
  }
  t.ok(granted <= 421 && granted >= 415, `${granted} of at most 7 * 60 + 1`);
});

t.test('a flood of made-up keys', async (t) => {
  const FLOOD = 100_000;
  const ROOM = 5_000;

  t.test('takes no more room than there is, and leaves the counts of real clients alone', async (t) => {
    const { counters, forgotten } = windowOf(10, 3_600_000, ROOM);
    for (let i = 0; i < 4; i++) counters.take('real', 1);
    for (let i = 0; i < 10; i++) counters.take('used up', 1);
    for (let i = 0; i < FLOOD; i++) {
      counters.take(`flood-${i}`, 1);
      if (counters.size > ROOM) t.fail('too many');
    }
    t.equal(counters.size, ROOM);
    t.equal(forgotten(), FLOOD + 2 - ROOM);
    t.equal(counters.take('real', 1).remaining, 5);
    t.equal(counters.take('used up', 1).granted, false);
  });

  t.test('that each comes twice pushes out half-used accounts, never one that is used up', async (t) => {
    const { counters } = windowOf(10, 3_600_000, ROOM);
    for (let i = 0; i < 10; i++) counters.take('used up', 1);
    for (let i = 0; i < FLOOD; i++) for (const _ of [1, 2]) counters.take(`flood-${i}`, 1);
    t.equal(counters.size, ROOM);
    t.equal(counters.take('used up', 1).granted, false);
  });

  t.test('leaves buckets alone likewise', async (t) => {
    const clock = new FakeClock();
    const quota: Quota = { algorithm: 'token-bucket', capacity: 3, periodMs: 3_600_000 };
    const counters = new Counters(quota, ROOM, clock.now);
    for (let i = 0; i < 3; i++) counters.take('used up', 1);
    for (let i = 0; i < FLOOD; i++) counters.take(`flood-${i}`, 1);
    t.equal(counters.take('used up', 1).granted, false);
  });

  t.test('is gone when its windows are over', async (t) => {
    const { clock, counters } = windowOf(10, 1_000, PLENTY);
    for (let i = 0; i < 1_000; i++) counters.take(`flood-${i}`, 1);
    clock.advance(1_000);
    for (let i = 0; i < 600; i++) counters.take(`other-${i}`, 1);
    t.ok(counters.size <= 600, `${counters.size}`);
  });
});

t.test('what is under way is counted only while it is', async (t) => {
  const underWay = new UnderWay();
  t.strictSame(underWay.enter('a', 2), { granted: true, remaining: 1, waitMs: 0 });
  t.equal(underWay.enter('a', 2).granted, true);
  t.equal(underWay.enter('a', 2).granted, false);
  underWay.leave('a');
  t.equal(underWay.enter('a', 2).granted, true);
  underWay.leave('a');
  underWay.leave('a');
  t.equal(underWay.size, 0);
});

t.test('addresses are grouped as subscribers are', async (t) => {
  for (const [address, network] of [
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:DB8:0001:2::', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['2001:db8::2:3:4:5:6', '2001:db8:0:2::/64'],
    ['::1', '0:0:0:0::/64'],
    ['::', '0:0:0:0::/64'],
    ['64:ff9b::192.0.2.1', '64:ff9b:0:0::/64'],
    ['1:2:3::192.0.2.1', '1:2:3:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['', ''],
  ])
    t.equal(clientNetwork(address), network, address);
  const group = fc.integer({ min: 0, max: 0xffff }).map((value) => value.toString(16));
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), fc.ipV6(), (groups, other) => {
      const full = groups.join(':');
      // The shortest form, as a URL writes it, names the same network.
      const short = new URL(`http://[${full}]`).hostname.slice(1, -1);
      const expanded = new URL(`http://[${other}]`).hostname.slice(1, -1);
      return (
        clientNetwork(short) === (short.startsWith('::ffff:') ? clientNetwork(short) : clientNetwork(full)) &&
        (clientNetwork(other) === clientNetwork(expanded) || expanded.startsWith('::ffff:'))
      );
    }),
  );
});
