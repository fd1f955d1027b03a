// One match of one route, compiled: whether a request meets all its conditions, which it fails first, and which match goes before which.
import type { Match, PathMatch, ValueMatch } from '../config/model.ts';
import { compileRegex, type ValueRegex } from './regex.ts';
import type { RequestFacts } from './request-view.ts';

/** Where a condition takes its value from. */
export type ConditionSource = 'header' | 'query' | 'cookie';

export interface Condition {
  readonly source: ConditionSource;
  readonly name: string;
  readonly kind: ValueMatch['kind'];
  readonly value: string;
  readonly regex: ValueRegex | null;
}

export interface CompiledMatch {
  readonly match: Match;
  readonly pathKind: PathMatch['kind'];
  /** A prefix is without its trailing slash, except `/` itself. */
  readonly pathValue: string;
  readonly pathRegex: ValueRegex | null;
  readonly methods: readonly string[];
  readonly conditions: readonly Condition[];
}

/** Compiles regexes once per source. */
export type RegexOf = (source: string) => ValueRegex;

/** A memory of compiled regexes for one table. Throws an Error for a source that `check` would have refused. */
export function regexMemory(): RegexOf {
  const known = new Map<string, ValueRegex>();
  return (source) => {
    const found = known.get(source);
    if (found !== undefined) return found;
    const compiled = compileRegex(source);
    if ('problem' in compiled) throw new Error(`${JSON.stringify(source)}: ${compiled.problem}`);
    known.set(source, compiled);
    return compiled;
  };
}

export function compileMatch(match: Match, regexOf: RegexOf): CompiledMatch {
  const { kind, value } = match.path;
  const conditions = (source: ConditionSource, list: readonly ValueMatch[]): Condition[] =>
    list.map((one) => ({ ...one, source, regex: one.kind === 'regex' ? regexOf(one.value) : null }));
  return {
    match,
    pathKind: kind,
    pathValue: kind === 'prefix' ? withoutTrailingSlash(value) : value,
    pathRegex: kind === 'regex' ? regexOf(value) : null,
    methods: match.methods,
    conditions: [
      ...conditions('header', match.headers),
      ...conditions('query', match.query),
      ...conditions('cookie', match.cookies),
    ],
  };
}

/** `/orders/` is the prefix `/orders` (Gateway API PathMatchPathPrefix); `/` stays. */
export function withoutTrailingSlash(prefix: string): string {
  return prefix.length > 1 && prefix.endsWith('/') ? prefix.slice(0, -1) : prefix;
}

/**
 * Gateway API HTTPRouteRule precedence after host and path: a method, then more headers, more query parameters, more cookies.
 * Negative: `a` goes first; 0: declaration order decides.
 */
export function comparePrecedence(a: Match, b: Match): number {
  return (
    Math.min(b.methods.length, 1) - Math.min(a.methods.length, 1) ||
    b.headers.length - a.headers.length ||
    b.query.length - a.query.length ||
    b.cookies.length - a.cookies.length
  );
}

const KIND_ORDER = { exact: 0, regex: 1, prefix: 2 } as const;

/** Exact, then regex, then prefixes from the longest. Negative: `a` goes first. */
export function comparePaths(a: CompiledMatch, b: CompiledMatch): number {
  const byKind = KIND_ORDER[a.pathKind] - KIND_ORDER[b.pathKind];
  if (byKind !== 0 || a.pathKind !== 'prefix') return byKind;
  return b.pathValue.length - a.pathValue.length;
}

/** Exact, then wildcards with more labels, then any host (`*`). Negative: `a` goes first. */
export function compareHosts(a: string, b: string): number {
  const [rankA, rankB] = [hostRank(a), hostRank(b)];
  return rankA === rankB ? 0 : rankB - rankA;
}

function hostRank(host: string): number {
  if (host === '*') return 0;
  return host.startsWith('*.') ? host.split('.').length : Number.POSITIVE_INFINITY;
}

/** `*.a.b` stands for one or more labels before `a.b`. */
export function hostHolds(pattern: string, host: string): boolean {
  if (pattern === '*') return true;
  if (!pattern.startsWith('*.')) return pattern === host;
  return host.length >= pattern.length && host.endsWith(pattern.slice(1));
}

export function pathHolds(match: CompiledMatch, path: string): boolean {
  if (match.pathRegex !== null) return match.pathRegex.test(path);
  if (match.pathKind === 'exact') return path === match.pathValue;
  return prefixHolds(match.pathValue, path);
}

function prefixHolds(prefix: string, path: string): boolean {
  if (!path.startsWith(prefix)) return false;
  return prefix === '/' || path.length === prefix.length || path.charCodeAt(prefix.length) === 0x2f;
}

/** Everything but host and path. */
export function conditionsHold(match: CompiledMatch, facts: RequestFacts): boolean {
  if (match.methods.length > 0 && !match.methods.includes(facts.view.method)) return false;
  for (const condition of match.conditions) {
    if (!conditionHolds(condition, facts)) return false;
  }
  return true;
}

function conditionHolds(condition: Condition, facts: RequestFacts): boolean {
  const value = givenValue(condition, facts);
  if (value === undefined) return condition.kind === 'absent';
  switch (condition.kind) {
    case 'exact':
      return value === condition.value;
    case 'prefix':
      return value.startsWith(condition.value);
    case 'regex':
      return (condition.regex as ValueRegex).test(value);
    case 'present':
      return true;
    case 'absent':
      return false;
  }
}

function givenValue(condition: Condition, facts: RequestFacts): string | undefined {
  if (condition.source === 'header') return facts.header(condition.name);
  return condition.source === 'query' ? facts.query.get(condition.name) : facts.cookies.get(condition.name);
}

/** The first condition that the request fails, for people: `header x-group: wanted exact "beta", got "alpha"`; null when all hold. */
export function firstFailure(match: CompiledMatch, facts: RequestFacts): string | null {
  const { path, method } = facts.view;
  if (!pathHolds(match, path)) {
    return `path: wanted ${match.pathKind} ${JSON.stringify(match.match.path.value)}, got ${JSON.stringify(path)}`;
  }
  if (match.methods.length > 0 && !match.methods.includes(method)) {
    return `method: wanted ${match.methods.join(' or ')}, got ${method}`;
  }
  const failed = match.conditions.find((condition) => !conditionHolds(condition, facts));
  if (failed === undefined) return null;
  const got = givenValue(failed, facts);
  return `${failed.source} ${failed.name}: wanted ${describeWanted(failed)}, got ${got === undefined ? 'none' : JSON.stringify(got)}`;
}

function describeWanted(condition: Condition): string {
  const { kind, value } = condition;
  return kind === 'present' || kind === 'absent' ? kind : `${kind} ${JSON.stringify(value)}`;
}
