// Arithmetic of the benchmarks.
import { median } from './measure.ts';

export function rounded(value: number, digits = 2): number {
  return Math.round(value * 10 ** digits) / 10 ** digits;
}

/** The median of what each round's `own` is to its `base`: what disturbs one of a round most likely disturbs the other. Null: nothing to compare. */
export function timesOf(own: readonly number[], base: readonly number[] | undefined): number | null {
  if (base === undefined || own.length === 0 || base.length !== own.length) return null;
  return rounded(median(own.map((value, round) => value / base[round])));
}

/** A point of a line in time: seconds, and what was seen then. */
export type Point = readonly [seconds: number, value: number];

/** Rise a minute of the straight line nearest to the points (least squares); 0 where they do not make a line. */
export function slopePerMinute(points: readonly Point[]): number {
  const mean = (of: (point: Point) => number): number => points.reduce((sum, one) => sum + of(one), 0) / points.length;
  const meanAt = mean(([at]) => at);
  const meanValue = mean(([, value]) => value);
  let shared = 0;
  let spread = 0;
  for (const [at, value] of points) {
    shared += (at - meanAt) * (value - meanValue);
    spread += (at - meanAt) ** 2;
  }
  return spread === 0 ? 0 : (shared / spread) * 60;
}

/** The later half in time: a process that has just started still grows into its work. */
export function laterHalf(points: readonly Point[]): readonly Point[] {
  const ends = points.map(([at]) => at);
  const middle = (Math.min(...ends) + Math.max(...ends)) / 2;
  return points.filter(([at]) => at >= middle);
}

/** A table in Markdown; null is a dash. */
export function table(head: readonly string[], rows: readonly (readonly (string | number | null)[])[]): string {
  const line = (cells: readonly (string | number | null)[]): string =>
    `| ${cells.map((cell) => cell ?? '-').join(' | ')} |\n`;
  return `${line(head)}|${'---|'.repeat(head.length)}\n${rows.map(line).join('')}`;
}
