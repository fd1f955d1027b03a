// What is wrong with the options of a policy beyond their shape; the same sentence whether they stand at a config key or at a plugin.
import { MAX_TIMER_MS, parseDurationMs, parseShare, parseSizeBytes, UNIT_EXAMPLES } from '../units.ts';

export interface PolicyProblem {
  /** Where in the options: `methods[0]`; empty: all of them. */
  readonly path: string;
  /** What is wrong and what to do; no full stop. */
  readonly message: string;
}

/** Units have the right form by their schema; what they amount to may still be out of range. */
interface WrittenUnits {
  readonly durations?: Readonly<Record<string, string | undefined>>;
  readonly shares?: Readonly<Record<string, string | undefined>>;
  readonly sizes?: Readonly<Record<string, string | number | undefined>>;
}

/** By path; what is undefined was not given. */
export function unitProblems({ durations = {}, shares = {}, sizes = {} }: WrittenUnits): PolicyProblem[] {
  const wrong = <T extends string | number>(
    units: Readonly<Record<string, T | undefined>>,
    fits: (written: T) => boolean,
    what: string,
  ): PolicyProblem[] =>
    Object.entries(units).flatMap(([path, written]) =>
      written === undefined || fits(written) ? [] : [{ path, message: `"${written}" is not ${what}` }],
    );
  return [
    ...wrong(
      durations,
      (written) => (parseDurationMs(written) ?? Number.POSITIVE_INFINITY) <= MAX_TIMER_MS,
      `a duration of whole milliseconds up to 24 days (${UNIT_EXAMPLES.duration})`,
    ),
    ...wrong(shares, (written) => parseShare(written) !== null, `a share from 0% to 100% (${UNIT_EXAMPLES.share})`),
    ...wrong(sizes, (written) => parseSizeBytes(written) !== null, `a size of whole bytes (${UNIT_EXAMPLES.size})`),
  ];
}
