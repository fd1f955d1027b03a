// The options of rate-limit, and the limits that they mean.
import type { Static } from 'typebox';
import { parseDurationMs, Type, UNIT_PATTERNS } from '../../plugin.ts';
import { keySchema, type WrittenKey } from './key.ts';
import type { Quota } from './quota.ts';

const MAX = 1_000_000_000;
const ALGORITHM = ['fixed-window', 'token-bucket'] as const;
const MODE = ['enforce', 'shadow'] as const;
const STORE_FAILURE = ['allow', 'deny'] as const;
const HEADERS = ['draft', 'classic', 'both', 'none'] as const;

const choice = <const T extends readonly string[]>(values: T, description: string, fallback?: T[number]) =>
  Type.Unsafe<T[number]>({
    type: 'string',
    enum: values,
    description,
    ...(fallback === undefined ? {} : { default: fallback }),
  });

/** What a limit is. With `limits` these stand in the list. */
const own = {
  name: Type.Optional(
    Type.String({
      pattern: '^[a-z0-9](?:[a-z0-9_-]{0,62})$',
      patternErrorMessage: 'must be 1 to 63 lower-case letters, digits, "-" and "_"',
      description:
        'Name in response headers, metrics and logs. Limits of one gateway or hop with the same name and size share their counts. Default: made from the size, such as `100-per-1m`.',
    }),
  ),
  max: Type.Optional(
    Type.Integer({ minimum: 1, maximum: MAX, description: 'Requests in `window` that each key is granted.' }),
  ),
  window: Type.Optional(
    Type.String({
      pattern: UNIT_PATTERNS.duration,
      patternErrorMessage: 'must be a duration such as 1s, 1m or 1h',
      description: 'The time that `max` is for: 1ms to 30d.',
    }),
  ),
  burst: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: MAX,
      description: 'With `token-bucket`: requests that may come at once. Default: `max`.',
    }),
  ),
  inFlight: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: MAX,
      description: 'Requests of each key that may be under way at a time; instead of `max` and `window`.',
    }),
  ),
};

const Limit = Type.Object({
  ...own,
  key: Type.Optional(keySchema('Like `key` below, for this limit.')),
  algorithm: Type.Optional(choice(ALGORITHM, 'Like `algorithm` below, for this limit.')),
  cost: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX, description: 'Like `cost` below, for this limit.' })),
  mode: Type.Optional(choice(MODE, 'Like `mode` below, for this limit.')),
});

export const RateLimitOptions = Type.Object({
  ...own,
  limits: Type.Optional(
    Type.Array(Limit, {
      minItems: 1,
      maxItems: 16,
      description: 'Several limits instead of one: a request has to be within all of them.',
    }),
  ),
  key: keySchema(
    'Who has an account: `clientAddress` (IPv6 by /64), `peer` (id of the certificate), `route`, { header }, { cookie }, { claim }, or a list of them for each combination.',
    'clientAddress',
  ),
  algorithm: choice(
    ALGORITHM,
    '`fixed-window`: `max` in each window, which begins with the first request of a key. `token-bucket`: `max` evenly over `window`, up to `burst` at once.',
    'fixed-window',
  ),
  cost: Type.Integer({
    minimum: 1,
    maximum: MAX,
    default: 1,
    description:
      'What a request here takes. Where the same limit stands at several routes, dear ones can take more of it.',
  }),
  mode: choice(MODE, '`shadow`: count and log what would be refused, and refuse nothing.', 'enforce'),
  headers: choice(
    HEADERS,
    'What responses say: `draft` is `RateLimit` and `RateLimit-Policy`, `classic` is `X-RateLimit-Limit`, `-Remaining` and `-Reset`. `Retry-After` comes with every 429.',
    'draft',
  ),
  shared: Type.Boolean({
    default: false,
    description:
      'Whether all processes count together, in the Redis of `redis` at the top of the config. Otherwise each counts for itself.',
  }),
  onStoreFailure: choice(
    STORE_FAILURE,
    'What becomes of a request when Redis does not answer: `allow` lets it through uncounted, `deny` answers 503.',
    'allow',
  ),
  redis: Type.Optional(
    Type.Object(
      {
        url: Type.String({ description: '`redis://` or, with TLS, `rediss://`.' }),
        timeout: Type.String({
          pattern: UNIT_PATTERNS.duration,
          patternErrorMessage: 'must be a duration such as 100ms',
          default: '80ms',
          description: 'How long a request waits for it.',
        }),
      },
      { description: 'Another Redis than that of the config, for `shared`.' },
    ),
  ),
  maxKeys: Type.Integer({
    minimum: 1_000,
    maximum: 10_000_000,
    default: 50_000,
    description: 'Keys that each limit remembers in memory; about 200 bytes each.',
  }),
});

export type Options = Static<typeof RateLimitOptions>;
export type WrittenLimit = Static<typeof Limit>;

interface LimitBase {
  readonly name: string;
  readonly key: WrittenKey;
  readonly shadow: boolean;
}

/** So much in a time. */
export interface RateSettings extends LimitBase {
  readonly quota: Quota;
  readonly cost: number;
}

/** So many at a time. */
export interface InFlightSettings extends LimitBase {
  readonly inFlight: number;
}

export type LimitSettings = RateSettings | InFlightSettings;

/** What was written, each with its place in the options. */
export function written({
  limits,
  name,
  max,
  window,
  burst,
  inFlight,
}: Options): readonly (readonly [WrittenLimit, string])[] {
  if (limits === undefined) return [[{ name, max, window, burst, inFlight }, '']];
  return limits.map((limit, index) => [limit, `limits[${index}].`] as const);
}

export function limitsOf(options: Options): readonly LimitSettings[] {
  return written(options).map(([limit]) => settingsOf(limit, options));
}

function settingsOf(limit: WrittenLimit, options: Options): LimitSettings {
  const { key, algorithm, cost, mode } = { ...options, ...limit };
  const base = { name: nameOf(limit), key: key as WrittenKey, shadow: mode === 'shadow' };
  if (limit.inFlight !== undefined) return { ...base, inFlight: limit.inFlight };
  const max = limit.max as number;
  const windowMs = parseDurationMs(limit.window as string) as number;
  const capacity = algorithm === 'token-bucket' ? (limit.burst ?? max) : max;
  const periodMs = capacity === max ? windowMs : (windowMs / max) * capacity;
  return { ...base, cost, quota: { algorithm, capacity, periodMs } };
}

/** Not by its place in the list, so that counts stay where they are when another limit is put before it. */
export function nameOf({ name, max, window, inFlight }: WrittenLimit): string {
  return name ?? (inFlight === undefined ? `${max}-per-${window}` : `${inFlight}-in-flight`);
}
