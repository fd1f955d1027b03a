import fc from 'fast-check';
import t from 'tap';
import { RESOLUTION_MS, TimerWheel, WheelEntry } from '../src/timer-wheel.ts';
import { fakeWheel } from './support/fake-clock.ts';

class Entry extends WheelEntry {
  readonly fired: number[] = [];
  readonly #onFire: (entry: Entry) => void;

  constructor(onFire: (entry: Entry) => void = () => {}) {
    super();
    this.#onFire = onFire;
  }

  override onTimer(): void {
    this.fired.push(1);
    this.#onFire(this);
  }
}

t.test(
  'every timer fires exactly once, never early and at most two resolutions late, whatever is cancelled',
  async () => {
    const plan = fc.array(
      fc.record({
        at: fc.integer({ min: 0, max: 3_000 }),
        ms: fc.double({ min: 0, max: 40_000, noNaN: true }),
        cancelAfter: fc.option(fc.integer({ min: 0, max: 40_000 }), { nil: null }),
      }),
      { maxLength: 40 },
    );
    fc.assert(
      fc.property(plan, (timers) => {
        const { clock, wheel } = fakeWheel();
        const results = timers.map(() => [] as number[]);
        const due: number[] = [];
        const actions = timers
          .flatMap(({ at, ms, cancelAfter }, index) => {
            let cancel: () => void;
            const start = () => {
              due[index] = clock.now() + ms;
              const timer = wheel.after(ms, () => results[index].push(clock.now()));
              cancel = () => timer.cancel();
            };
            const stop = cancelAfter === null ? [] : [{ time: at + cancelAfter, run: () => cancel() }];
            return [{ time: at, run: start }, ...stop];
          })
          .sort((a, b) => a.time - b.time);
        const begin = clock.now();
        for (const { time, run } of actions) {
          clock.advance(Math.max(0, begin + time - clock.now()));
          run();
        }
        clock.advance(90_000);
        for (const [index, { at, cancelAfter }] of timers.entries()) {
          const fired = results[index];
          const cancelledAt = cancelAfter === null ? Number.POSITIVE_INFINITY : begin + at + cancelAfter;
          if (fired.length > 1) throw new Error('fired twice');
          if (fired.length === 0) {
            if (cancelledAt > due[index] + 2 * RESOLUTION_MS) throw new Error('never fired');
            continue;
          }
          if (fired[0] < due[index]) throw new Error(`early by ${due[index] - fired[0]}`);
          if (fired[0] > due[index] + 2 * RESOLUTION_MS) throw new Error(`late by ${fired[0] - due[index]}`);
          if (fired[0] > cancelledAt) throw new Error('fired after it was cancelled');
        }
        return wheel.waiting === 0 && clock.timers === 0;
      }),
      { numRuns: 150 },
    );
  },
);

t.test('the process is woken only when something is due', async (t) => {
  const { clock, wheel } = fakeWheel();
  let wakes = 0;
  const { setTimeout } = clock;
  const counting = new TimerWheel({
    now: clock.now,
    setTimeout: (wake, ms) =>
      setTimeout(() => {
        wakes += 1;
        wake();
      }, ms),
    clearTimeout: clock.clearTimeout,
  });
  t.equal(clock.timers, 0);
  const one = counting.after(100, () => {});
  counting.after(60_000, () => {});
  counting.after(200, () => {});
  t.equal(clock.timers, 1, 'one timeout for all');
  one.cancel();
  clock.advance(50_000);
  t.equal(wakes, 2 + Math.ceil(50_000 / 10_240), 'and once in each turn of the wheel for what is further away');
  clock.advance(20_000);
  t.equal(counting.waiting, 0);
  t.equal(clock.timers, 0);
  let fired = 0;
  wheel.after(10_000, () => {});
  wheel.after(50, () => {
    fired += 1;
  });
  t.equal(clock.timers, 1, 'what is due sooner moves it');
  clock.advance(100);
  t.equal(fired, 1);
});

t.test('a timer is kept by a wheel whose error handler throws', async (t) => {
  const { clock, wheel } = fakeWheel(() => {
    throw new Error('the handler is broken too');
  });
  let fired = 0;
  wheel.after(10, () => {
    throw new Error('broken');
  });
  wheel.after(10, () => {
    fired += 1;
  });
  t.throws(() => clock.advance(40), /too/);
  clock.advance(40);
  t.equal(fired, 1);
});

t.test('a callback that throws is reported and stops no other', async (t) => {
  const errors: Error[] = [];
  const { clock, wheel } = fakeWheel((error) => errors.push(error));
  const fired: number[] = [];
  wheel.after(10, () => fired.push(1));
  wheel.after(10, () => {
    throw new Error('broken');
  });
  wheel.after(10, () => fired.push(3));
  clock.advance(60);
  t.same(fired, [1, 3]);
  t.match(errors, [{ message: 'broken' }]);
});

t.test('a callback can cancel another that is due in the same tick', async (t) => {
  const { clock, wheel } = fakeWheel();
  const second = new Entry();
  const first = new Entry(() => second.cancel());
  wheel.schedule(first, 10);
  wheel.schedule(second, 10);
  clock.advance(100);
  t.equal(first.fired.length, 1);
  t.equal(second.fired.length, 0);
  t.equal(wheel.waiting, 0);
});

t.test('an entry can schedule itself anew when it fires, and is moved when it waits already', async (t) => {
  const { clock, wheel } = fakeWheel();
  const entry = new Entry((self) => {
    if (self.fired.length < 3) wheel.schedule(self, 0);
  });
  wheel.schedule(entry, 10);
  wheel.schedule(entry, 1_000);
  t.equal(wheel.waiting, 1);
  clock.advance(900);
  t.equal(entry.fired.length, 0);
  clock.advance(300);
  t.equal(entry.fired.length, 3);
});

t.test('after a blocked event loop everything due fires once and nothing else does', async (t) => {
  const { clock, wheel } = fakeWheel();
  const fired: number[] = [];
  for (const ms of [0, 100, 5_000, 10_240, 12_000, 29_990, 30_100, 41_000]) wheel.after(ms, () => fired.push(ms));
  clock.stall(30_000);
  t.same(
    fired.toSorted((a, b) => a - b),
    [0, 100, 5_000, 10_240, 12_000, 29_990],
  );
  clock.advance(200);
  t.ok(fired.includes(30_100));
  clock.advance(11_000);
  t.equal(fired.length, 8);
});

t.test('a timeout that is not finite is refused', async (t) => {
  const { wheel } = fakeWheel();
  t.throws(() => wheel.after(Number.POSITIVE_INFINITY, () => {}), RangeError);
  t.throws(() => wheel.after(Number.NaN, () => {}), RangeError);
  t.equal(wheel.waiting, 0);
});

t.test('a waiting timer does not keep the process alive', async (t) => {
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const before = timers();
  const wheel = new TimerWheel();
  const timer = wheel.after(60_000, () => {});
  t.equal(timers(), before);
  timer.cancel();
  await new Promise<void>((resolve) => {
    const real = setTimeout(resolve, 2_000);
    wheel.after(1, () => {
      clearTimeout(real);
      resolve();
    });
    real.ref();
  });
  t.equal(wheel.waiting, 0, 'and it fires on the real clock');
});
