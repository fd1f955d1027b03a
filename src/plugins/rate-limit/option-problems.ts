// What is wrong with options of rate-limit that their schema cannot say: nothing of them may be without effect.
import { type OptionProblem, parseDurationMs } from '../../plugin.ts';
import { headerNameProblems } from '../identity-header.ts';
import { partsOf, type WrittenKey } from './key.ts';
import { limitsOf, nameOf, type Options, planSizes, type WrittenLimit, written } from './options.ts';

/** A header field name or cookie name, RFC 9110 section 5.6.2. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/;
const MAX_WINDOW_MS = 30 * 86_400_000;
const MAX_PLANS = 64;

export function rateLimitProblems(options: Options): OptionProblem[] {
  const problems: OptionProblem[] = [];
  problems.push(...sharedProblems(options));
  if (options.limits !== undefined) {
    for (const key of ['name', 'max', 'window', 'burst', 'inFlight', 'plans'] as const)
      if (options[key] !== undefined)
        problems.push({ path: key, message: 'belongs into each of "limits", not beside' });
  }
  for (const [limit, at] of written(options)) {
    problems.push(...limitProblems(limit, at, options), ...costProblems(limit, at, options));
    problems.push(...planProblems(limit, at, options));
  }
  if (problems.length === 0) problems.push(...togetherProblems(options));
  problems.push(...keyProblems(options.key as WrittenKey, 'key'));
  return problems;
}

function sharedProblems({ shared, redis }: Options): OptionProblem[] {
  if (!shared)
    return redis === undefined ? [] : [{ path: 'redis', message: 'has a meaning only together with "shared: true"' }];
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
  return problems;
}

function isRedisUrl(text: string): boolean {
  return URL.canParse(text) && /^rediss?:$/.test(new URL(text).protocol);
}

function limitProblems(limit: WrittenLimit, at: string, options: Options): OptionProblem[] {
  const { max, window, burst, inFlight } = limit;
  const { algorithm } = { ...options, ...limit };
  const problems: OptionProblem[] = [];
  const say = (path: string, message: string) => problems.push({ path, message });
  const whole = at === '' ? '' : at.slice(0, -1);
  const windowMs = window === undefined ? null : parseDurationMs(window);
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
  if (windowMs === null || windowMs < 1 || windowMs > MAX_WINDOW_MS) say(`${at}window`, 'must be 1ms to 30d');
  if (burst !== undefined && algorithm !== 'token-bucket') say(`${at}burst`, 'needs "algorithm: token-bucket"');
  return problems;
}

function costProblems(limit: WrittenLimit, at: string, options: Options): OptionProblem[] {
  if (limit.inFlight !== undefined || limit.max === undefined) return [];
  const { cost } = { ...options, ...limit };
  const path = limit.cost === undefined ? 'cost' : `${at}cost`;
  const problems = capacityProblems(limit, path, nameOf(limit), options);
  for (const [plan, size] of planSizes(limit))
    problems.push(...capacityProblems(size, path, `plan "${plan}" of ${nameOf(limit)}`, options));
  if (typeof cost === 'object' && 'responseHeader' in cost && !TOKEN.test(cost.responseHeader))
    problems.push({ path: `${path}.responseHeader`, message: `"${cost.responseHeader}" is no name of a header` });
  if (typeof cost === 'object' && 'header' in cost)
    problems.push(...headerNameProblems(`${path}.header`, cost.header, []));
  return problems;
}

function capacityProblems(limit: WrittenLimit, path: string, who: string, options: Options): OptionProblem[] {
  const { max = 0, burst } = limit;
  const { algorithm, cost } = { ...options, ...limit };
  const capacity = algorithm === 'token-bucket' ? (burst ?? max) : max;
  if (typeof cost === 'number')
    return cost <= capacity
      ? []
      : [{ path, message: `nothing would ever pass: it is more than the ${capacity} that ${who} grants` }];
  return (cost.max ?? 1) <= capacity
    ? []
    : [{ path: `${path}.max`, message: `is more than the ${capacity} that ${who} grants at once` }];
}

function planProblems(limit: WrittenLimit, at: string, options: Options): OptionProblem[] {
  if (limit.plans === undefined) return [];
  const path = `${at}plans`;
  const { by, sizes } = limit.plans;
  const names = Object.keys(sizes);
  const problems = 'header' in by ? headerNameProblems(`${path}.by.header`, by.header, []) : [];
  if (names.length === 0) problems.push({ path: `${path}.sizes`, message: 'has no plan' });
  if (names.length > MAX_PLANS) problems.push({ path: `${path}.sizes`, message: `has more than ${MAX_PLANS} plans` });
  const kind = limit.inFlight === undefined ? (['max', 'burst'] as const) : (['inFlight'] as const);
  const other = limit.inFlight === undefined ? (['inFlight'] as const) : (['max', 'burst'] as const);
  for (const [plan, size] of Object.entries(sizes)) {
    const here = `${path}.sizes.${plan}`;
    if (kind.every((key) => size[key] === undefined))
      problems.push({ path: here, message: `says nothing: give it ${kind.map((key) => `"${key}"`).join(' or ')}` });
    for (const key of other)
      if (size[key] !== undefined)
        problems.push({ path: `${here}.${key}`, message: 'is of another kind than the limit beside "plans"' });
  }
  if (problems.length > 0 || limitProblems(limit, at, options).length > 0) return problems;
  return planSizes(limit).flatMap(([plan, size]) =>
    limitProblems({ ...size, key: undefined }, `${path}.sizes.${plan}.`, options),
  );
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
    if (typeof part !== 'object' || 'claim' in part || 'plugin' in part) return [];
    const name = 'header' in part ? part.header : part.cookie;
    return TOKEN.test(name) ? [] : [{ path: at, message: `"${name}" is no name of a header or cookie` }];
  });
}
