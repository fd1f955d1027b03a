// Units of a config read at their place: the schema knows their form, this what they amount to.
import { MAX_TIMER_MS, parseDurationMs, parseRate, parseShare, parseSizeBytes, UNIT_EXAMPLES } from '../units.ts';
import type { Cursor } from './cursor.ts';

/** Milliseconds. */
export function milliseconds(cursor: Cursor<string>): number {
  const ms = parseDurationMs(cursor.value);
  if (ms !== null && ms <= MAX_TIMER_MS) return ms;
  cursor.error(`"${cursor.value}" is not a duration of whole milliseconds up to 24 days (${UNIT_EXAMPLES.duration})`);
  return 0;
}

/** Bytes; `none` is Infinity. */
export function bytes(cursor: Cursor<string | number>): number {
  if (cursor.value === 'none') return Number.POSITIVE_INFINITY;
  return read(cursor, parseSizeBytes(cursor.value), 'a size of whole bytes', UNIT_EXAMPLES.size);
}

/** `none` is Infinity. */
export function countOrInfinity(cursor: Cursor<string | number>): number {
  return cursor.value === 'none' ? Number.POSITIVE_INFINITY : Number(cursor.value);
}

/** 0 to 1. */
export function fraction(cursor: Cursor<string>): number {
  return read(cursor, parseShare(cursor.value), 'a share from 0% to 100%', UNIT_EXAMPLES.share);
}

/** Bytes a second. */
export function bytesPerSecond(cursor: Cursor<string | number>): number {
  return read(cursor, parseRate(cursor.value), 'a rate', UNIT_EXAMPLES.rate);
}

function read(cursor: Cursor<string | number>, amount: number | null, what: string, examples: string): number {
  if (amount === null) cursor.error(`"${cursor.value}" is not ${what} (${examples})`);
  return amount ?? 0;
}
