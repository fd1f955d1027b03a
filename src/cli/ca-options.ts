// What the actions of `selvedge ca` read in the same way.
import { parseDurationMs, UNIT_EXAMPLES } from '../units.ts';
import { UsageError } from './command.ts';

export interface Span {
  /** Milliseconds. */
  readonly least: number;
  readonly most: number;
  readonly usual: number;
  /** `1m to 24h`. */
  readonly written: string;
}

export const MINUTE_MS = 60_000;
export const DAY_MS = 86_400_000;

/** Milliseconds. */
export function spanOf(option: string, value: unknown, { least, most, usual, written }: Span): number {
  if (value === undefined) return usual;
  const ms = parseDurationMs(String(value));
  if (ms === null) throw new UsageError(`--${option}: "${value}" is not a duration (${UNIT_EXAMPLES.duration})`);
  if (ms < least || ms > most) throw new UsageError(`--${option}: ${value} is not within ${written}`);
  return ms;
}
