import t from 'tap';
import { atOnce, inSlices, Slices } from '../src/slices.ts';

function* work(steps: number, step: () => void): Generator<void, number> {
  for (let done = 0; done < steps; done++) {
    step();
    yield;
  }
  return steps;
}

t.test('others have their turn between slices', async (t) => {
  let turns = 0;
  const count = (): void => {
    turns++;
  };
  const seen: number[] = [];
  const step = (): void => {
    seen.push(turns);
    setImmediate(count);
    // Longer than a slice.
    for (const end = performance.now() + 10; performance.now() < end; );
  };
  t.equal(await inSlices(work(3, step), new Slices()), 3);
  t.strictSame(seen, [0, 1, 2]);
});

t.test('the same work is done at once where nobody waits', async (t) => {
  let steps = 0;
  t.equal(atOnce(work(5, () => steps++)), 5);
  t.equal(steps, 5);
});
