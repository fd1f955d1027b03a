// Random tables and requests from a seed: few names and values, so that conditions meet, overlap and fall through all the time.
import type { Match, PathMatch, RouteConfig, ValueMatch } from '../../../src/config/model.ts';
import type { RequestView } from '../../../src/routing/table.ts';
import { match, route, view } from './fixtures.ts';

export type Draw = () => number;

/** Mulberry32: the same numbers for the same seed on every machine. */
export function seeded(seed: number): Draw {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export function below(draw: Draw, limit: number): number {
  return Math.floor(draw() * limit);
}

export function pick<T>(draw: Draw, list: readonly T[]): T {
  return list[below(draw, list.length)];
}

const SEGMENTS = ['a', 'b', 'ab', 'orders', 'orders2'];
const METHODS = ['GET', 'POST', 'PUT', 'HEAD'];
const NAMES = ['x-group', 'x-env', 'constructor', '__proto__'];
const VALUES = ['a', 'b', 'ab', 'beta', ''];
const VALUE_REGEXES = ['a.*', '(a|b)', '[a-c]+', 'be(ta)?', '.*'];
const PATH_REGEXES = ['/a/.*', '/orders/[a-z]+', '/(a|b)', '/.*', '/a/b/[^/]+/?', '/orders2?', '/ab/a?b+', '^/b/.*$'];

/** `hostCount` distinct names beside wildcards; many exact values let an index matter. */
export interface Scale {
  readonly routes: number;
  readonly hostCount: number;
  readonly pathCount: number;
  readonly valueCount: number;
}

export function randomTable(draw: Draw, scale: Scale): RouteConfig[] {
  return Array.from({ length: scale.routes }, (_, i) =>
    route(`r${i}`, {
      hosts: Array.from({ length: pick(draw, [0, 0, 1, 1, 2, 3]) }, () => randomHostPattern(draw, scale)),
      matches: Array.from({ length: pick(draw, [1, 1, 1, 2, 3]) }, () => randomMatch(draw, scale)),
    }),
  );
}

function randomHost(draw: Draw, { hostCount }: Scale): string {
  return pick(draw, [
    `h${below(draw, hostCount)}.b`,
    `x.h${below(draw, hostCount)}.b`,
    'a.b',
    'b',
    'x.a.b',
    'y.x.a.b',
    'other',
  ]);
}

function randomHostPattern(draw: Draw, scale: Scale): string {
  return draw() < 0.4
    ? pick(draw, ['*.b', '*.a.b', '*.x.a.b', `*.h${below(draw, scale.hostCount)}.b`])
    : randomHost(draw, scale);
}

function randomPath(draw: Draw, { pathCount }: Scale): string {
  const depth = pick(draw, [0, 1, 1, 2, 2, 3, 4]);
  const segments = Array.from({ length: depth }, () =>
    draw() < 0.7 ? pick(draw, SEGMENTS) : `p${below(draw, pathCount)}`,
  );
  return `/${segments.join('/')}${depth > 0 && draw() < 0.2 ? '/' : ''}`;
}

function randomPathMatch(draw: Draw, scale: Scale): PathMatch {
  const kind = pick(draw, ['exact', 'prefix', 'prefix', 'prefix', 'regex'] as const);
  return { kind, value: kind === 'regex' ? pick(draw, PATH_REGEXES) : randomPath(draw, scale) };
}

function randomValue(draw: Draw, { valueCount }: Scale): string {
  return draw() < 0.5 ? pick(draw, VALUES) : `v${below(draw, valueCount)}`;
}

function randomConditions(draw: Draw, scale: Scale): ValueMatch[] {
  const names = NAMES.filter(() => draw() < 0.2);
  if (scale.valueCount > 100 && draw() < 0.05) names.push(`x-${below(draw, 60)}`);
  return names.map((name) => {
    const kind = pick(draw, ['exact', 'exact', 'exact', 'prefix', 'regex', 'present', 'absent'] as const);
    if (kind === 'present' || kind === 'absent') return { name, kind, value: '' };
    return { name, kind, value: kind === 'regex' ? pick(draw, VALUE_REGEXES) : randomValue(draw, scale) };
  });
}

function randomMatch(draw: Draw, scale: Scale): Match {
  return match({
    path: randomPathMatch(draw, scale),
    methods: draw() < 0.7 ? [] : METHODS.filter(() => draw() < 0.4),
    headers: randomConditions(draw, scale),
    query: draw() < 0.7 ? [] : randomConditions(draw, scale),
    cookies: draw() < 0.7 ? [] : randomConditions(draw, scale),
  });
}

/** Mostly near some match of the table, so that it is met or missed by little; else anything. */
export function randomRequest(draw: Draw, routes: readonly RouteConfig[], scale: Scale): RequestView {
  const model = pick(draw, routes);
  const near = pick(draw, model.matches);
  const follow = (share: number): boolean => draw() < share;
  const wanted = (list: readonly ValueMatch[]): [string, string][] => {
    const pairs = list
      .filter(({ kind }) => kind !== 'absent' && follow(0.95))
      .map(({ name, kind, value }): [string, string] => {
        if (kind === 'exact') return [name, value];
        return [name, kind === 'prefix' ? `${value}${pick(draw, VALUES)}` : randomValue(draw, scale)];
      });
    if (follow(0.2)) pairs.push([pick(draw, NAMES), randomValue(draw, scale)]);
    return pairs;
  };
  const headers: Record<string, string | string[]> = {};
  for (const [name, value] of wanted(near.headers)) {
    if (name !== '__proto__') headers[name] = follow(0.1) ? [value, 'again'] : value;
  }
  const cookies = wanted(near.cookies);
  if (cookies.length > 0) headers.cookie = cookies.map(([name, value]) => `${name}=${value}`).join('; ');
  const query = wanted(near.query).map(([name, value]) => `${name}=${value}`);
  return view({
    host:
      follow(0.8) && model.hosts.length > 0
        ? pick(draw, model.hosts).replace('*', pick(draw, ['q', 'x', 'x.y']))
        : randomHost(draw, scale),
    path:
      follow(0.7) && near.path.kind !== 'regex'
        ? `${near.path.value}${follow(0.3) ? '/a' : ''}`.replace('//', '/')
        : randomPath(draw, scale),
    method: near.methods.length > 0 && follow(0.9) ? pick(draw, near.methods) : pick(draw, METHODS),
    query: query.join('&'),
    headers,
  });
}
