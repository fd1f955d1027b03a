// Durations, sizes, shares and rates as people write them.
import fc from 'fast-check';
import t from 'tap';
import { parseDurationMs, parseRate, parseShare, parseSizeBytes, UNIT_PATTERNS } from '../src/units.ts';

type Parse = (text: string | number) => number | null;

function table(t: Tap, parse: Parse, rows: readonly (readonly [string | number, number | null])[]): void {
  for (const [written, expected] of rows) t.equal(parse(written), expected, JSON.stringify(written));
}

interface Tap {
  equal(found: unknown, wanted: unknown, message: string): boolean;
}

t.test('durations are whole milliseconds, and need a unit', async (t) => {
  table(t, parseDurationMs, [
    ['250ms', 250],
    ['10s', 10_000],
    ['1.5s', 1_500],
    ['5m', 300_000],
    ['1h30m', 5_400_000],
    ['2d', 172_800_000],
    ['0s', 0],
    ['0', 0],
    [0, 0],
    ['1.1s', 1_100],
    ['0.1ms', null],
    ['10', null],
    [10, null],
    ['', null],
    ['s', null],
    ['-1s', null],
    ['1e3s', null],
    ['1 s', null],
    ['1S', null],
    ['9999999999999s', null],
  ]);
});

t.test('sizes are whole bytes', async (t) => {
  table(t, parseSizeBytes, [
    ['512B', 512],
    ['64KiB', 65_536],
    ['1.5KiB', 1_536],
    ['64KB', 64_000],
    ['1kB', 1_000],
    ['1MiB', 1_048_576],
    ['2GiB', 2_147_483_648],
    ['1048576', 1_048_576],
    [5, 5],
    [0, 0],
    ['0.3B', null],
    ['1 MiB', null],
    ['1mib', null],
    ['MiB', null],
    [-1, null],
    [1.5, null],
    ['', null],
    ['999999999TiB', null],
  ]);
});

t.test('shares are 0 to 1, and need a percent sign', async (t) => {
  table(t, parseShare, [
    ['20%', 0.2],
    ['0.5%', 0.005],
    ['0%', 0],
    ['100%', 1],
    ['100.1%', null],
    ['0.2', null],
    [1, null],
    ['%', null],
    ['-1%', null],
  ]);
});

t.test('rates are a second', async (t) => {
  table(t, parseRate, [
    ['240B/s', 240],
    ['1KiB/s', 1_024],
    ['60/m', 1],
    ['100/30s', 100 / 30],
    ['0', 0],
    ['5/0s', null],
    ['/s', null],
    ['5', null],
    ['5/x', null],
    ['5/s/s', null],
  ]);
});

t.test('the patterns for schemas accept all that the parsers accept', async (t) => {
  const text = fc.stringMatching(/^[0-9.]{0,4}(?:ms|s|m|h|d|B|KiB|MB|%|\/s|\/30s)?$/);
  fc.assert(
    fc.property(text, (written) => {
      const parsers = { duration: parseDurationMs, size: parseSizeBytes, share: parseShare } as const;
      return (Object.keys(parsers) as (keyof typeof parsers)[]).every(
        (unit) => parsers[unit](written) === null || new RegExp(UNIT_PATTERNS[unit]).test(written),
      );
    }),
    { seed: 7, numRuns: 2_000 },
  );
  t.match('10s', new RegExp(UNIT_PATTERNS.duration));
  t.notMatch('10x', new RegExp(UNIT_PATTERNS.duration));
});
