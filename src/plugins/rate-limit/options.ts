// The options of rate-limit, and the limits that they mean.
import type { Static } from 'typebox';
import { parseDurationMs, Type, UNIT_PATTERNS } from '../../plugin.ts';
import type { Cost } from './cost.ts';
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

const size = {
  max: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX })),
  burst: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX })),
  inFlight: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX })),
};

const PlanSource = Type.Union([
  Type.Object({ claim: Type.String({ minLength: 1 }) }),
  Type.Object({ header: Type.String({ minLength: 1 }) }),
]);

const plans = Type.Optional(
  Type.Object(
    {
      by: {
        ...PlanSource,
        description:
          'Where the name of the plan is: { claim } of `request.user`, or { header } that a plugin sets; what clients send under that name is removed.',
      } as typeof PlanSource,
      sizes: Type.Record(Type.String(), Type.Object(size), {
        description:
          'Name of the plan → what of `max`, `burst` or `inFlight` it has instead. Who is on none of them has those beside `plans`.',
      }),
    },
    { description: 'Other sizes for clients on a plan.' },
  ),
);

const most = Type.Optional(Type.Integer({ minimum: 1, maximum: MAX }));
const CostOption = Type.Union([
  Type.Integer({ minimum: 1, maximum: MAX }),
  Type.Object({ header: Type.String({ minLength: 1 }), max: most }),
  Type.Object({ responseHeader: Type.String({ minLength: 1 }), max: most }),
]);
type WrittenCost = Static<typeof CostOption>;

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
  plans,
};

const Limit = Type.Object({
  ...own,
  key: Type.Optional(keySchema('Like `key` below, for this limit.')),
  algorithm: Type.Optional(choice(ALGORITHM, 'Like `algorithm` below, for this limit.')),
  cost: Type.Optional({ ...CostOption, description: 'Like `cost` below, for this limit.' } as typeof CostOption),
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
    'Who has an account: `clientAddress` (IPv6 by /64), `peer` (id of the certificate), `apiKey` (label of the key), `route`, { header }, { cookie }, { claim }, { plugin } for a key of your own, or a list of them for each combination.',
    'clientAddress',
  ),
  algorithm: choice(
    ALGORITHM,
    '`fixed-window`: `max` in each window, which begins with the first request of a key. `token-bucket`: `max` evenly over `window`, up to `burst` at once.',
    'fixed-window',
  ),
  cost: {
    ...CostOption,
    default: 1,
    description:
      'What a request here takes: a number, { header } that a plugin sets (what clients send under that name is removed), or { responseHeader } of the service, charged once it has answered; both take 1 to `max` of it. Where the same limit stands at several routes, dear ones can take more of it.',
  } as typeof CostOption & { default: 1 },
  mode: choice(MODE, '`shadow`: count and log what would be refused, and refuse nothing.', 'enforce'),
  headers: choice(
    HEADERS,
    'What responses say: `draft` is `RateLimit` and `RateLimit-Policy`, `classic` is `X-RateLimit-Limit`, `-Remaining` and `-Reset`. `Retry-After` comes with every 429.',
    'draft',
  ),
  shared: Type.Boolean({
    default: false,
    description:
      'Whether all processes count together, in the Redis of `redis` at the top of the config. Otherwise each `selvedge run` counts for itself, with all of its workers.',
  }),
  onStoreFailure: choice(
    STORE_FAILURE,
    'What becomes of a request when Redis, or with several `workers` their supervisor, does not answer: `allow` lets it through uncounted, `deny` answers 503.',
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
  /** Null: one size for all. */
  readonly plans: Plans | null;
  /** One of the sizes of a limit with plans, that beside them included. */
  readonly planned: boolean;
}

export interface Plans {
  readonly by: Static<typeof PlanSource>;
  readonly settings: ReadonlyMap<string, LimitSettings>;
}

/** So much in a time. */
export interface RateSettings extends LimitBase {
  readonly quota: Quota;
  readonly cost: Cost;
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
  plans,
}: Options): readonly (readonly [WrittenLimit, string])[] {
  if (limits === undefined) return [[{ name, max, window, burst, inFlight, plans }, '']];
  return limits.map((limit, index) => [limit, `limits[${index}].`] as const);
}

export function limitsOf(options: Options): readonly LimitSettings[] {
  return written(options).map(([limit]) => settingsOf(limit, options));
}

function settingsOf(limit: WrittenLimit, options: Options): LimitSettings {
  const { plans } = limit;
  const name = nameOf(limit);
  if (plans === undefined) return sizeOf({ ...limit, name }, options, null, false);
  const settings = new Map(
    planSizes(limit).map(([plan, size]) => [plan, sizeOf({ ...size, name }, options, null, true)]),
  );
  return sizeOf({ ...limit, name }, options, { by: plans.by, settings }, true);
}

/** What stands beside `plans` is of who is on none, and of a plan where it does not say otherwise. */
export function planSizes({ plans, ...limit }: WrittenLimit): readonly (readonly [string, WrittenLimit])[] {
  return Object.entries(plans?.sizes ?? {}).map(([plan, size]) => [plan, { ...limit, ...size }] as const);
}

function sizeOf(limit: WrittenLimit, options: Options, plans: Plans | null, planned: boolean): LimitSettings {
  const { key, algorithm, cost, mode } = { ...options, ...limit };
  const base = { name: limit.name as string, key: key as WrittenKey, shadow: mode === 'shadow', plans, planned };
  if (limit.inFlight !== undefined) return { ...base, inFlight: limit.inFlight };
  const max = limit.max as number;
  const windowMs = parseDurationMs(limit.window as string) as number;
  const capacity = algorithm === 'token-bucket' ? (limit.burst ?? max) : max;
  const periodMs = capacity === max ? windowMs : (windowMs / max) * capacity;
  return { ...base, cost: costSettings(cost as WrittenCost, capacity), quota: { algorithm, capacity, periodMs } };
}

/** More than all that there can be would never pass. */
function costSettings(cost: WrittenCost, capacity: number): Cost {
  if (typeof cost === 'number') return { least: cost, most: cost, header: null, responseHeader: null };
  const range = { least: 1, most: Math.min(cost.max ?? capacity, capacity) };
  return 'header' in cost
    ? { ...range, header: cost.header.toLowerCase(), responseHeader: null }
    : { ...range, header: null, responseHeader: cost.responseHeader.toLowerCase() };
}

/** Request headers by which plugins say what a client has or takes: nobody's word for himself. */
export function trustedHeaders(options: Options): readonly string[] {
  const names = limitsOf(options).flatMap((limit) => [
    limit.plans !== null && 'header' in limit.plans.by ? limit.plans.by.header.toLowerCase() : null,
    'cost' in limit ? limit.cost.header : null,
  ]);
  return [...new Set(names.filter((name) => name !== null))];
}

/** Not by its place in the list, so that counts stay where they are when another limit is put before it. */
export function nameOf({ name, max, window, inFlight, plans }: WrittenLimit): string {
  if (name !== undefined) return name;
  if (plans !== undefined) return inFlight === undefined ? `requests-per-${window}` : 'requests-in-flight';
  return inFlight === undefined ? `${max}-per-${window}` : `${inFlight}-in-flight`;
}
