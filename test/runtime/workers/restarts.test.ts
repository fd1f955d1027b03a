import t from 'tap';
import { Restarts } from '../../../src/runtime/workers/restarts.ts';

t.test('at once, then later and later up to half a minute, and at once again after a good run', async (t) => {
  const restarts = new Restarts();
  const delays = Array.from({ length: 10 }, () => restarts.next(1_000));
  t.strictSame(delays, [0, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  t.equal(restarts.next(60_000), 0);
  t.equal(restarts.next(59_999), 250);
  t.equal(restarts.count, 12);
});
