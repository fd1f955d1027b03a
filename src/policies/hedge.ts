// When a second try sets out beside a first that is slow: the `hedge` key of a route.
import type { Static } from 'typebox';
import * as Type from 'typebox/type';
import { object, text } from '../schema-parts.ts';
import { parseDurationMs, UNIT_PATTERNS } from '../units.ts';
import { type PolicyProblem, unitProblems } from './problem.ts';

export interface HedgePolicy {
  /** Milliseconds; null: by `quantile`. */
  readonly afterMs: number | null;
  /** 0.95: after the time in which 95 % of the service's recent responses began; null: by `afterMs`. */
  readonly quantile: number | null;
}

export const HedgeOptions = object(
  {
    after: Type.Optional(
      text('How long the first try may take: a duration, or `p50` to `p99.9` of the recent response times.', {
        pattern: `${UNIT_PATTERNS.duration}|^p\\d{2}(?:\\.\\d)?$`,
        expected: 'a duration such as 200ms, or a percentile such as p95',
        default: 'p95',
        example: 'p95',
      }),
    ),
  },
  'A second try beside a first that is slow; the first answer wins, the other try is aborted. For requests with a safe or idempotent method and without a body, within the retry budget.',
  { example: { after: 'p95' } },
);

export type HedgeOptions = Static<typeof HedgeOptions>;

export function hedgeProblems({ after = 'p95' }: HedgeOptions): readonly PolicyProblem[] {
  if (after.startsWith('p')) {
    const percent = Number(after.slice(1));
    return percent < 50 || percent > 99.9 ? [{ path: 'after', message: 'a percentile is from p50 to p99.9' }] : [];
  }
  return parseDurationMs(after) === 0
    ? [{ path: 'after', message: 'would send every request twice; say a duration above 0, or a percentile' }]
    : unitProblems({ durations: { after } });
}

export function hedgePolicy({ after = 'p95' }: HedgeOptions): HedgePolicy {
  return after.startsWith('p')
    ? { afterMs: null, quantile: Math.round(Number(after.slice(1)) * 10) / 1_000 }
    : { afterMs: parseDurationMs(after), quantile: null };
}
