// The rules that share one host and path, in order of precedence; many of them are told apart by an index instead of one after the other.
import type { CompiledMatch, Condition, ConditionSource } from './match.ts';
import { conditionsHold, pathHolds } from './match.ts';
import { literalStart } from './regex.ts';
import type { RequestFacts } from './request-view.ts';

/** A rule as a bucket sees it. */
export interface Candidate {
  readonly compiled: CompiledMatch;
  /** Rank in the whole table: lower goes first. Rules of one bucket are compared by it alone. */
  readonly position: number;
}

/** Below this a plain list is faster than an index. */
const INDEX_FROM = 8;

/** With more names than this, the names of the request (bounded by the listener's limits) are walked instead of those of the rules. */
const NAMES_WALKED = 16;

/** Rules that need the same name: by the exact value they want, or any value. */
interface Named<R> {
  readonly byValue: Map<string, R[]>;
  readonly whenPresent: R[];
}

export interface Bucket<R extends Candidate> {
  /** The first rule in order whose conditions hold. */
  find(facts: RequestFacts): R | null;
}

/** `rules` share host and path (or are the regexes of a host) and are sorted by position. */
export function makeBucket<R extends Candidate>(rules: readonly R[]): Bucket<R> {
  return rules.length < INDEX_FROM ? new ListBucket(rules) : new IndexedBucket(rules);
}

/** The earliest of `rules` that holds, unless `best` comes earlier. */
function scan<R extends Candidate>(rules: readonly R[], facts: RequestFacts, best: R | null): R | null {
  for (const rule of rules) {
    if (best !== null && best.position < rule.position) return best;
    const { compiled } = rule;
    if (compiled.pathRegex !== null && !pathHolds(compiled, facts.view.path)) continue;
    if (conditionsHold(compiled, facts)) return rule;
  }
  return best;
}

class ListBucket<R extends Candidate> implements Bucket<R> {
  readonly #rules: readonly R[];

  constructor(rules: readonly R[]) {
    this.#rules = rules;
  }

  find(facts: RequestFacts): R | null {
    return scan(this.#rules, facts, null);
  }
}

/**
 * Each rule lies under the one condition of its own that the fewest others share, so a request looks only at rules whose rarest
 * condition it already meets: 10,000 rules told apart by one header cost one map lookup.
 */
class IndexedBucket<R extends Candidate> implements Bucket<R> {
  readonly #named: Record<ConditionSource, Map<string, Named<R>>> = {
    header: new Map(),
    query: new Map(),
    cookie: new Map(),
  };
  readonly #byMethod = new Map<string, R[]>();
  /** Regexes by the first path segment they are certain to need. */
  readonly #bySegment = new Map<string, R[]>();
  readonly #rest: R[] = [];

  constructor(rules: readonly R[]) {
    const frequency = new Map<string, number>();
    for (const { compiled } of rules) {
      for (const key of keysOf(compiled)) frequency.set(key.id, (frequency.get(key.id) ?? 0) + 1);
    }
    for (const rule of rules) this.#place(rule, rarest(keysOf(rule.compiled), frequency));
  }

  #place(rule: R, key: Key | null): void {
    if (key === null) {
      this.#rest.push(rule);
    } else if (key.condition !== null) {
      const { source, name, kind, value } = key.condition;
      const names = this.#named[source];
      let named = names.get(name);
      if (named === undefined) {
        named = { byValue: new Map(), whenPresent: [] };
        names.set(name, named);
      }
      if (kind === 'exact') listAt(named.byValue, value).push(rule);
      else named.whenPresent.push(rule);
    } else if (key.segment !== null) {
      listAt(this.#bySegment, key.segment).push(rule);
    } else {
      for (const method of new Set(rule.compiled.methods)) listAt(this.#byMethod, method).push(rule);
    }
  }

  find(facts: RequestFacts): R | null {
    let best = scan(this.#rest, facts, null);
    const { method, path, headers } = facts.view;
    const byMethod = this.#byMethod.get(method);
    if (byMethod !== undefined) best = scan(byMethod, facts, best);
    if (this.#bySegment.size > 0) {
      const bySegment = this.#bySegment.get(firstSegment(path));
      if (bySegment !== undefined) best = scan(bySegment, facts, best);
    }
    const { header, query, cookie } = this.#named;
    if (header.size > NAMES_WALKED) {
      for (const name in headers) best = scanNamed(header.get(name), facts.header(name), facts, best);
    } else {
      for (const [name, named] of header) best = scanNamed(named, facts.header(name), facts, best);
    }
    if (query.size > 0) best = scanParameters(query, facts.query, facts, best);
    return cookie.size > 0 ? scanParameters(cookie, facts.cookies, facts, best) : best;
  }
}

function scanParameters<R extends Candidate>(
  wanted: ReadonlyMap<string, Named<R>>,
  given: ReadonlyMap<string, string>,
  facts: RequestFacts,
  best: R | null,
): R | null {
  if (wanted.size > NAMES_WALKED) {
    for (const [name, value] of given) best = scanNamed(wanted.get(name), value, facts, best);
  } else {
    for (const [name, named] of wanted) best = scanNamed(named, given.get(name), facts, best);
  }
  return best;
}

function scanNamed<R extends Candidate>(
  named: Named<R> | undefined,
  value: string | undefined,
  facts: RequestFacts,
  best: R | null,
): R | null {
  if (named === undefined || value === undefined) return best;
  const sameValue = named.byValue.get(value);
  if (sameValue !== undefined) best = scan(sameValue, facts, best);
  return named.whenPresent.length > 0 ? scan(named.whenPresent, facts, best) : best;
}

/** One way to file a rule: under a condition, under the first segment of its path regex, or (both null) under its methods. */
interface Key {
  readonly id: string;
  readonly condition: Condition | null;
  readonly segment: string | null;
}

function keysOf(compiled: CompiledMatch): Key[] {
  const keys: Key[] = [];
  for (const condition of compiled.conditions) {
    if (condition.kind === 'absent') continue;
    const value = condition.kind === 'exact' ? `=${condition.value}` : '';
    keys.push({ id: `${condition.source} ${condition.name}${value}`, condition, segment: null });
  }
  if (compiled.pathRegex !== null) {
    const start = literalStart(compiled.pathValue);
    if (start.startsWith('/') && start.indexOf('/', 1) > 0) {
      keys.push({ id: `segment ${firstSegment(start)}`, condition: null, segment: firstSegment(start) });
    }
  }
  if (compiled.methods.length > 0) {
    keys.push({ id: `method ${[...compiled.methods].sort().join()}`, condition: null, segment: null });
  }
  return keys;
}

function rarest(keys: readonly Key[], frequency: ReadonlyMap<string, number>): Key | null {
  let best: Key | null = null;
  for (const key of keys) {
    if (best === null || (frequency.get(key.id) as number) < (frequency.get(best.id) as number)) best = key;
  }
  return best;
}

function firstSegment(path: string): string {
  const end = path.indexOf('/', 1);
  return end < 0 ? path.slice(1) : path.slice(1, end);
}

function listAt<R>(lists: Map<string, R[]>, key: string): R[] {
  let list = lists.get(key);
  if (list === undefined) {
    list = [];
    lists.set(key, list);
  }
  return list;
}
