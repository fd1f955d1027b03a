// When an endpoint that fails is left out for a while: `outlierDetection` of a service and the options of the `outlier-detection` plugin.
import type { Static } from 'typebox';
import * as Type from 'typebox/type';
import { duration, integer, object, share } from '../schema-parts.ts';
import { parseDurationMs, parseShare } from '../units.ts';
import { type PolicyProblem, unitProblems } from './problem.ts';

export interface OutlierPolicy {
  /** Failures in a row that eject: 5xx, reset, failed connects, timeouts. */
  readonly consecutive5xx: number;
  readonly intervalMs: number;
  readonly baseEjectionMs: number;
  readonly maxEjectionMs: number;
  /** Share of the endpoints, 0 to 1, that may be out after an ejection. */
  readonly maxEjected: number;
  readonly successRate: SuccessRatePolicy | null;
  /** Below this share of available endpoints, 0 to 1, ejections are not believed. */
  readonly panicThreshold: number;
}

/** Ejects what succeeds less often than `mean - deviations * standard deviation` of its peers. */
export interface SuccessRatePolicy {
  readonly deviations: number;
  readonly minEndpoints: number;
  /** Requests an endpoint must have had in the interval. */
  readonly minRequests: number;
}

export const OutlierOptions = object(
  {
    consecutive5xx: Type.Optional(
      integer('Failures in a row that eject: responses from 500, broken connections, failed connects, timeouts.', {
        minimum: 1,
        maximum: 1_000_000,
        default: 5,
      }),
    ),
    interval: Type.Optional(
      duration('Every interval, `successRate` is judged and one past ejection is forgiven to each healthy endpoint.', {
        default: '10s',
      }),
    ),
    baseEjection: Type.Optional(
      duration('First ejection; the nth in a row lasts n times as long.', { default: '30s', example: '30s' }),
    ),
    maxEjection: Type.Optional(duration('Longest ejection.', { default: '300s', example: '5m' })),
    maxEjected: Type.Optional(
      share('Share of the endpoints that may be out after an ejection; the last one never is.', { default: '50%' }),
    ),
    successRate: Type.Optional(
      Type.Union(
        [
          Type.Boolean({ description: '`true`: with the defaults.' }),
          object(
            {
              deviations: Type.Optional(
                Type.Number({
                  description: 'Standard deviations below the mean of all endpoints.',
                  exclusiveMinimum: 0,
                  maximum: 100,
                  default: 1.9,
                }),
              ),
              minEndpoints: Type.Optional(
                integer('Endpoints with enough requests that are needed for a mean.', { minimum: 2, default: 5 }),
              ),
              minRequests: Type.Optional(
                integer('Requests of an endpoint in the interval that are enough.', { minimum: 1, default: 100 }),
              ),
            },
            'How far below the others is too far.',
          ),
        ],
        {
          description: 'Also eject what succeeds less often than its peers. Not given: off.',
          examples: [true],
        },
      ),
    ),
    panicThreshold: Type.Optional(
      share('With a smaller share of endpoints left, ejections are not believed and all are used.', { default: '50%' }),
    ),
  },
  'When an endpoint that fails is left out for a while.',
  { example: { consecutive5xx: 3 } },
);

export type OutlierOptions = Static<typeof OutlierOptions>;

export function outlierProblems(options: OutlierOptions): readonly PolicyProblem[] {
  const { interval = '10s', baseEjection = '30s', maxEjection = '300s', maxEjected, panicThreshold } = options;
  const problems = unitProblems({
    durations: { interval, baseEjection, maxEjection },
    shares: { maxEjected, panicThreshold },
  });
  for (const [path, written] of Object.entries({ interval, baseEjection, maxEjection })) {
    if (parseDurationMs(written) === 0) problems.push({ path, message: 'must be longer than 0' });
  }
  if ((parseDurationMs(baseEjection) ?? 0) > (parseDurationMs(maxEjection) ?? 0))
    problems.push({ path: 'baseEjection', message: `is longer than "maxEjection" (${maxEjection})` });
  return problems;
}

export function outlierPolicy(options: OutlierOptions): OutlierPolicy {
  const { consecutive5xx = 5, interval = '10s', baseEjection = '30s', maxEjection = '300s' } = options;
  const { maxEjected = '50%', successRate = false, panicThreshold = '50%' } = options;
  const rate = successRate === true ? {} : successRate;
  return {
    consecutive5xx,
    intervalMs: parseDurationMs(interval) as number,
    baseEjectionMs: parseDurationMs(baseEjection) as number,
    maxEjectionMs: parseDurationMs(maxEjection) as number,
    maxEjected: parseShare(maxEjected) as number,
    successRate:
      rate === false
        ? null
        : {
            deviations: rate.deviations ?? 1.9,
            minEndpoints: rate.minEndpoints ?? 5,
            minRequests: rate.minRequests ?? 100,
          },
    panicThreshold: parseShare(panicThreshold) as number,
  };
}

export const DEFAULT_OUTLIER: OutlierPolicy = Object.freeze(outlierPolicy({}));
