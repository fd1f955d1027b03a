// When a failed try is followed by another: the `retry` key of a route and the options of the `retry` plugin.
import type { Static } from 'typebox';
import * as Type from 'typebox/type';
import { choice, duration, integer, list, object, size } from '../schema-parts.ts';
import { parseDurationMs, parseSizeBytes } from '../units.ts';
import { type PolicyProblem, unitProblems } from './problem.ts';

export const RETRY_CONDITIONS = [
  'connect-failure',
  'refused-stream',
  'reset',
  'per-try-timeout',
  'gateway-error',
  '5xx',
] as const;

export type RetryCondition = (typeof RETRY_CONDITIONS)[number];

/** gRPC status codes by the name that the config uses (grpc/doc/statuscodes.md). */
export const GRPC_STATUS = {
  cancelled: 1,
  unknown: 2,
  'deadline-exceeded': 4,
  'resource-exhausted': 8,
  aborted: 10,
  internal: 13,
  unavailable: 14,
  'data-loss': 15,
} as const;

/** Methods that may be sent again though they may have been acted on (RFC 9110 section 9.2.2). */
export const IDEMPOTENT_METHODS = ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'] as const;

/** In force for one request. */
export interface RetryPolicy {
  /** Tries beyond the first; 0: none. */
  readonly attempts: number;
  readonly conditions: ReadonlySet<RetryCondition>;
  readonly statuses: ReadonlySet<number>;
  /** gRPC status numbers. */
  readonly grpc: ReadonlySet<number>;
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
  /** Methods that are tried again though the service may have acted on the first try. */
  readonly methods: ReadonlySet<string>;
  /** Bytes of a request body that are kept for another try. */
  readonly bufferBytes: number;
}

export const RetryOptions = object(
  {
    attempts: Type.Optional(
      integer('Tries beyond the first. `0`: none.', { minimum: 0, maximum: 10, default: 1, example: 2 }),
    ),
    on: Type.Optional(
      list(
        Type.Union([
          choice(
            RETRY_CONDITIONS,
            '`connect-failure` and `refused-stream`: the request never reached the service. `reset`: the connection broke before a response. `per-try-timeout`: `timeout.perTry` passed. `gateway-error`: 502, 503, 504. `5xx`: any status from 500, and `reset`.',
          ),
          object(
            {
              status: Type.Optional(
                list(
                  integer('A response status.', { minimum: 400, maximum: 599, example: 503 }),
                  'Response statuses.',
                  {
                    minItems: 1,
                    example: [429, 503],
                  },
                ),
              ),
              grpc: Type.Optional(
                list(
                  choice(Object.keys(GRPC_STATUS) as (keyof typeof GRPC_STATUS)[], 'A gRPC status.'),
                  'gRPC statuses, where they come in the response headers.',
                  { minItems: 1, example: ['unavailable'] },
                ),
              ),
            },
            'These statuses.',
            { minProperties: 1, maxProperties: 1 },
          ),
        ]),
        'What is tried again. Conditions under which the service may have acted on the request count for `methods` only, and for requests with an `Idempotency-Key`.',
        { default: ['connect-failure', 'refused-stream'], example: ['connect-failure', 'reset', { status: [503] }] },
      ),
    ),
    backoff: Type.Optional(
      duration('Before the nth retry, a random time up to (2^n - 1) times this.', { default: '25ms', example: '25ms' }),
    ),
    maxBackoff: Type.Optional(
      duration('Longest backoff; a `Retry-After` of the service may be longer.', { default: '250ms', example: '1s' }),
    ),
    methods: Type.Optional(
      list(Type.String(), 'Methods that may be tried again though the service may have acted on the first try.', {
        default: [...IDEMPOTENT_METHODS],
        example: ['GET', 'HEAD'],
      }),
    ),
    bufferBytes: Type.Optional(
      size('Bytes of a request body kept for another try; a larger body is sent once.', { default: '64KiB' }),
    ),
  },
  'When a failed try is followed by another.',
  { example: { attempts: 2, on: ['connect-failure', 'reset', 'gateway-error'] } },
);

export type RetryOptions = Static<typeof RetryOptions>;

/** What the schema cannot say. Options have their defaults filled in. */
export function retryProblems(options: RetryOptions): readonly PolicyProblem[] {
  const { backoff = '25ms', maxBackoff = '250ms', methods = [], bufferBytes } = options;
  const problems = unitProblems({ durations: { backoff, maxBackoff }, sizes: { bufferBytes } });
  if ((parseDurationMs(backoff) ?? 0) > (parseDurationMs(maxBackoff) ?? 0))
    problems.push({ path: 'backoff', message: `is longer than "maxBackoff" (${maxBackoff})` });
  for (const [index, method] of methods.entries()) {
    if (!/^[A-Z][A-Z-]*$/.test(method))
      problems.push({ path: `methods[${index}]`, message: `"${method}" is not a method in capitals, such as GET` });
  }
  return problems;
}

/** Options with their defaults filled in and without problems. */
export function retryPolicy(options: RetryOptions): RetryPolicy {
  const { attempts = 1, on = [], backoff = '25ms', maxBackoff = '250ms', methods = [], bufferBytes = 0 } = options;
  const statuses = on.filter((item) => typeof item === 'object');
  return {
    attempts,
    conditions: new Set(on.filter((item): item is RetryCondition => typeof item === 'string')),
    statuses: new Set(statuses.flatMap(({ status = [] }) => status)),
    grpc: new Set(statuses.flatMap(({ grpc = [] }) => grpc.map((name) => GRPC_STATUS[name]))),
    backoffMs: parseDurationMs(backoff) as number,
    maxBackoffMs: parseDurationMs(maxBackoff) as number,
    methods: new Set(methods),
    bufferBytes: parseSizeBytes(bufferBytes) as number,
  };
}

/** One more try where the first cannot have reached the service: safe for every request. */
export const DEFAULT_RETRY: RetryPolicy = Object.freeze(
  retryPolicy({
    attempts: 1,
    on: ['connect-failure', 'refused-stream'],
    backoff: '25ms',
    maxBackoff: '250ms',
    methods: [...IDEMPOTENT_METHODS],
    bufferBytes: '64KiB',
  }),
);

export const NO_RETRY: RetryPolicy = Object.freeze({ ...DEFAULT_RETRY, attempts: 0 });
