// What the benchmarks calculate with.
import t from 'tap';
import { laterHalf, type Point, slopePerMinute, timesOf } from '../../bench/figures.ts';

t.test('the slope', async (t) => {
  t.test('is what a straight line rises a minute', async (t) => {
    const line = Array.from({ length: 13 }, (_, at): Point => [at * 5, 100 + at * 0.25]);
    t.ok(Math.abs(slopePerMinute(line) - 3) < 1e-9);
    t.ok(Math.abs(slopePerMinute(line.map(([at, value]): Point => [at, -value])) + 3) < 1e-9);
  });

  t.test('is that of the nearest line where points lie around one', async (t) => {
    // By hand: mean time 15, mean value 2.5; sum of products 50, of squares 500; 0.1 a second.
    const points: Point[] = [
      [0, 1],
      [10, 3],
      [20, 2],
      [30, 4],
    ];
    t.ok(Math.abs(slopePerMinute(points) - 0.08 * 60) < 1e-9);
  });

  t.test('is not moved by where time begins, nor by the order of the points', async (t) => {
    const points: Point[] = [
      [5, 7],
      [9, 2],
      [30, 11],
    ];
    const later = points.map(([at, value]): Point => [at + 1_000, value]).reverse();
    t.ok(Math.abs(slopePerMinute(points) - slopePerMinute(later)) < 1e-9);
  });

  t.test('is 0 where there is no line', async (t) => {
    t.equal(slopePerMinute([]), 0);
    t.equal(slopePerMinute([[3, 8]]), 0);
    t.equal(
      slopePerMinute([
        [3, 8],
        [3, 9],
      ]),
      0,
    );
  });
});

t.test('the later half is one of time, however many points were seen before', async (t) => {
  const points: Point[] = [
    [0, 9],
    [1, 9],
    [2, 9],
    [3, 9],
    [60, 1],
    [100, 2],
  ];
  t.same(laterHalf(points), [
    [60, 1],
    [100, 2],
  ]);
});

t.test('ratios are those of each round, whatever the rounds were like among themselves', async (t) => {
  t.equal(timesOf([20, 200, 30], [10, 100, 10]), 2);
  t.equal(timesOf([20], undefined), null, 'nothing to compare with');
  t.equal(timesOf([20, 30], [10]), null, 'other rounds');
  t.equal(timesOf([], []), null);
});
