// Second step of every request, after listener and normalisation: which rule of which route it belongs to.
import type { Match, RouteConfig } from '../config/model.ts';
import { atOnce, inSlices, type Slices } from '../slices.ts';
import { HostRules } from './host-rules.ts';
import {
  type CompiledMatch,
  compareHosts,
  comparePaths,
  comparePrecedence,
  compileMatch,
  firstFailure,
  hostHolds,
  regexMemory,
} from './match.ts';
import { RequestFacts, type RequestView } from './request-view.ts';

export type { RequestView } from './request-view.ts';

export interface TableEntry<T> {
  readonly route: RouteConfig;
  readonly value: T;
}

export interface Lookup<T> {
  readonly value: T;
  readonly route: RouteConfig;
  readonly match: Match;
  /** What `rewrite.prefix` and `redirect.prefix` replace: the prefix without its trailing slash, the whole path of an exact match, '' for a regex. */
  readonly matchedPrefix: string;
}

/** One match of one route as a lookup sees it, for `explain`. */
export interface Considered {
  readonly route: RouteConfig;
  readonly match: Match;
  /** Position in the route's `match` list. */
  readonly matchIndex: number;
  /** The most specific host of the route that the request's host meets; '*': any; null: none does. */
  readonly host: string | null;
  /** The first condition that failed; null: all hold. */
  readonly failed: string | null;
  /** True for the one that the lookup returns. */
  readonly chosen: boolean;
}

/** One match of one route under one host. The lookup's answer is made here once, not per request. */
interface Rule<T> {
  readonly host: string;
  readonly compiled: CompiledMatch;
  readonly position: number;
  readonly answer: Lookup<T>;
}

/** Any host; also how a route without hosts is filed. */
const ANY_HOST = '*';

/**
 * Finds the route of a request by Gateway API precedence, in a time that does not grow with the number of routes (docs/routing.md
 * says what grows with what). Immutable; made once a reload. Throws an Error when a route has a regex that `check` would refuse.
 */
export class RouteTable<T> {
  #size = 0;
  #rules: readonly Rule<T>[] = [];
  readonly #exactHosts = new Map<string, HostRules<Rule<T>>>();
  /** By the part after `*.`. */
  readonly #wildcardHosts = new Map<string, HostRules<Rule<T>>>();
  #anyHost: HostRules<Rule<T>> | null = null;

  /** `entries` in declaration order. */
  constructor(entries: readonly TableEntry<T>[]) {
    atOnce(this.#fill(entries));
  }

  /** The same in slices, for the thread that serves. */
  static async build<T>(entries: readonly TableEntry<T>[], slices: Slices): Promise<RouteTable<T>> {
    const table = new RouteTable<T>([]);
    await inSlices(table.#fill(entries), slices);
    return table;
  }

  /** Number of routes. */
  get size(): number {
    return this.#size;
  }

  *#fill(entries: readonly TableEntry<T>[]): Generator<void> {
    this.#size = entries.length;
    this.#rules = yield* compileRules(entries);
    const byHost = new Map<string, Rule<T>[]>();
    for (const rule of this.#rules) {
      const rules = byHost.get(rule.host);
      if (rules === undefined) byHost.set(rule.host, [rule]);
      else rules.push(rule);
      yield;
    }
    for (const [host, rules] of byHost) {
      if (host === ANY_HOST) this.#anyHost = new HostRules(rules);
      else if (host.startsWith('*.')) this.#wildcardHosts.set(host.slice(2), new HostRules(rules));
      else this.#exactHosts.set(host, new HostRules(rules));
      yield;
    }
  }

  /** Null: no route matches, answer 404. */
  lookup(view: RequestView): Lookup<T> | null {
    const facts = new RequestFacts(view);
    const found = this.#find(view.host, facts);
    return found === null ? null : found.answer;
  }

  /** Some route names this host, exactly or by a wildcard; routes for any host name none. `host` as normalised. */
  knows(host: string): boolean {
    if (this.#exactHosts.has(host)) return true;
    if (this.#wildcardHosts.size === 0) return false;
    for (let dot = host.indexOf('.'); dot > 0; dot = host.indexOf('.', dot + 1)) {
      if (this.#wildcardHosts.has(host.slice(dot + 1))) return true;
    }
    return false;
  }

  /** From the most specific host to any host; the first that has a rule for the request decides. */
  #find(host: string, facts: RequestFacts): Rule<T> | null {
    const exact = this.#exactHosts.get(host)?.find(facts) ?? null;
    if (exact !== null) return exact;
    if (this.#wildcardHosts.size > 0) {
      for (let dot = host.indexOf('.'); dot > 0; dot = host.indexOf('.', dot + 1)) {
        const found = this.#wildcardHosts.get(host.slice(dot + 1))?.find(facts) ?? null;
        if (found !== null) return found;
      }
    }
    return this.#anyHost === null ? null : this.#anyHost.find(facts);
  }

  /** Every match of every route in the order in which they would win, those of other hosts last. For people: linear in the routes. */
  consider(view: RequestView): Considered[] {
    const facts = new RequestFacts(view);
    const answer = this.lookup(view);
    const bestHost = new Map<CompiledMatch, Rule<T>>();
    for (const rule of this.#rules) {
      if (!hostHolds(rule.host, view.host)) continue;
      const best = bestHost.get(rule.compiled);
      if (best === undefined || compareHosts(rule.host, best.host) < 0) bestHost.set(rule.compiled, rule);
    }
    const met: Rule<T>[] = [];
    const others = new Map<CompiledMatch, Rule<T>>();
    for (const rule of this.#rules) {
      const best = bestHost.get(rule.compiled);
      if (best === rule) met.push(rule);
      else if (best === undefined && !others.has(rule.compiled)) others.set(rule.compiled, rule);
    }
    met.sort((a, b) => compareHosts(a.host, b.host) || a.position - b.position);
    return [
      ...met.map((rule) => considered(rule, rule.host, firstFailure(rule.compiled, facts), answer)),
      ...[...others.values()].map((rule) => considered(rule, null, hostFailure(rule, view.host), answer)),
    ];
  }
}

function considered<T>(
  rule: Rule<T>,
  host: string | null,
  failed: string | null,
  answer: Lookup<T> | null,
): Considered {
  const { route, match } = rule.answer;
  const chosen = failed === null && answer !== null && answer.route === route && answer.match === match;
  return { route, match, matchIndex: route.matches.indexOf(match), host, failed, chosen };
}

function hostFailure<T>(rule: Rule<T>, host: string): string {
  return `host: wanted ${rule.answer.route.hosts.join(' or ')}, got ${host === '' ? 'none' : host}`;
}

function* compileRules<T>(entries: readonly TableEntry<T>[]): Generator<void, readonly Rule<T>[]> {
  const regexOf = regexMemory();
  const rules: Mutable<Rule<T>>[] = [];
  for (const { route, value } of entries) {
    const hosts = new Set(route.hosts.length === 0 ? [ANY_HOST] : route.hosts);
    for (const match of route.matches) {
      const compiled = compileMatch(match, regexOf);
      const matchedPrefix = compiled.pathKind === 'regex' ? '' : compiled.pathValue;
      const answer = Object.freeze({ value, route, match, matchedPrefix });
      for (const host of hosts) rules.push({ host, compiled, answer, position: 0 });
    }
    yield;
  }
  // In one go: it takes a few milliseconds. The sort is stable, so what is equal stays in declaration order.
  rules.sort((a, b) => comparePaths(a.compiled, b.compiled) || comparePrecedence(a.compiled.match, b.compiled.match));
  for (const [position, rule] of rules.entries()) rule.position = position;
  return rules;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
