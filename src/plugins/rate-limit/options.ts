// The options of rate-limit, what is wrong with them, and the limits that they mean.
import type { Static } from 'typebox';
import { type OptionProblem, parseDurationMs, Type, UNIT_PATTERNS } from '../../plugin.ts';
import { keySchema, partsOf, type WrittenKey } from './key.ts';
import type { Quota } from './quota.ts';

const MAX = 1_000_000_000;
/** A header field name or cookie name, RFC 9110 section 5.6.2. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/;
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
type WrittenLimit = Static<typeof Limit>;

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
function written({
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
function nameOf({ name, max, window, inFlight }: WrittenLimit): string {
  return name ?? (inFlight === undefined ? `${max}-per-${window}` : `${inFlight}-in-flight`);
}

export function rateLimitProblems(options: Options): OptionProblem[] {
  const problems: OptionProblem[] = [];
  problems.push(...sharedProblems(options));
  if (options.limits !== undefined) {
    for (const key of ['name', 'max', 'window', 'burst', 'inFlight'] as const)
      if (options[key] !== undefined)
        problems.push({ path: key, message: 'belongs into each of "limits", not beside' });
  }
  for (const [limit, at] of written(options)) problems.push(...limitProblems(limit, at, options));
  if (problems.length === 0) problems.push(...togetherProblems(options));
  problems.push(...keyProblems(options.key as WrittenKey, 'key'));
  return problems;
}

function sharedProblems({ shared, redis, onStoreFailure, ...options }: Options): OptionProblem[] {
  if (!shared) {
    const needs = 'has a meaning only together with "shared: true"';
    return [
      ...(redis === undefined ? [] : [{ path: 'redis', message: needs }]),
      ...(onStoreFailure === 'allow' ? [] : [{ path: 'onStoreFailure', message: needs }]),
    ];
  }
  const problems: OptionProblem[] = [];
  if (redis === undefined)
    problems.push({
      path: 'shared',
      message: 'needs "redis: { url }" at the top of the config, where the counts are kept',
    });
  else if (!isRedisUrl(redis.url)) problems.push({ path: 'redis.url', message: 'is no redis:// or rediss:// URL' });
  const timeoutMs = redis === undefined ? 1 : parseDurationMs(redis.timeout);
  if (timeoutMs === null || timeoutMs < 1 || timeoutMs > 10_000)
    problems.push({ path: 'redis.timeout', message: 'must be 1ms to 10s' });
  if (written({ shared, onStoreFailure, ...options }).some(([{ inFlight }]) => inFlight !== undefined))
    problems.push({ path: 'shared', message: 'is not for "inFlight", which each process counts for itself' });
  return problems;
}

function isRedisUrl(text: string): boolean {
  return URL.canParse(text) && /^rediss?:$/.test(new URL(text).protocol);
}

function limitProblems(limit: WrittenLimit, at: string, options: Options): OptionProblem[] {
  const { max, window, burst, inFlight } = limit;
  const { algorithm, cost } = { ...options, ...limit };
  const problems: OptionProblem[] = [];
  const say = (path: string, message: string) => problems.push({ path, message });
  const whole = at === '' ? '' : at.slice(0, -1);
  const [windowMs, days30] = [window === undefined ? null : parseDurationMs(window), 30 * 86_400_000];
  if (limit.key !== undefined) problems.push(...keyProblems(limit.key as WrittenKey, `${at}key`));
  if (inFlight !== undefined) {
    for (const key of ['max', 'window', 'burst'] as const)
      if (limit[key] !== undefined) say(`${at}${key}`, 'has no meaning beside "inFlight": make it a limit of its own');
    for (const key of ['algorithm', 'cost'] as const)
      if (at !== '' && limit[key] !== undefined) say(`${at}${key}`, 'has no meaning for "inFlight"');
    return problems;
  }
  if (max === undefined || window === undefined) {
    say(whole, 'needs "max" and "window", or "inFlight"');
    return problems;
  }
  if (windowMs === null || windowMs < 1 || windowMs > days30) say(`${at}window`, 'must be 1ms to 30d');
  if (burst !== undefined && algorithm !== 'token-bucket') say(`${at}burst`, 'needs "algorithm: token-bucket"');
  const capacity = algorithm === 'token-bucket' ? (burst ?? max) : max;
  if (cost > capacity) {
    const path = limit.cost === undefined ? 'cost' : `${at}cost`;
    say(path, `nothing would ever pass: it is more than the ${capacity} that ${nameOf(limit)} grants`);
  }
  return problems;
}

function togetherProblems(options: Options): OptionProblem[] {
  const problems: OptionProblem[] = [];
  const limits = limitsOf(options);
  const names = new Set<string>();
  for (const [index, { name }] of limits.entries()) {
    if (names.has(name))
      problems.push({ path: `limits[${index}]`, message: `is the second one called "${name}": give it a "name"` });
    names.add(name);
  }
  if (limits.every((limit) => 'inFlight' in limit)) {
    if (options.algorithm !== 'fixed-window')
      problems.push({ path: 'algorithm', message: 'has no meaning for "inFlight"' });
    if (options.cost !== 1) problems.push({ path: 'cost', message: 'has no meaning for "inFlight"' });
  }
  return problems;
}

function keyProblems(key: WrittenKey, path: string): OptionProblem[] {
  const seen = new Set<string>();
  return partsOf(key).flatMap((part, index) => {
    const at = Array.isArray(key) ? `${path}[${index}]` : path;
    const text = JSON.stringify(part).toLowerCase();
    if (seen.has(text)) return [{ path: at, message: 'is there twice' }];
    seen.add(text);
    if (typeof part !== 'object' || 'claim' in part) return [];
    const name = 'header' in part ? part.header : part.cookie;
    return TOKEN.test(name) ? [] : [{ path: at, message: `"${name}" is no name of a header or cookie` }];
  });
}
