// At check: the matches of one path at one host in declaration order, and whether an earlier one leaves anything for a later one.
import type { Match, RouteConfig, ValueMatch } from '../config/model.ts';
import { compileRegex, type ValueRegex } from './regex.ts';

/** One match of one route, as far as conflicts are concerned. */
export interface Rival {
  readonly route: RouteConfig;
  readonly match: Match;
  /** `routes[3].match[0]`. */
  readonly path: string;
}

/** Earlier matches that are compared one by one, per shape; the ones beyond are not looked at, which only costs warnings. */
const MAX_COMPARED = 64;

/** Matches that name the same headers, parameters and cookies, with or without methods: equal in precedence, so the earlier goes first. */
interface Shape {
  /** By conditions alone. */
  readonly same: Map<string, SameConditions>;
  /** The first ones that some other conditions could imply: `present`, a prefix or a regex. */
  readonly general: Rival[];
  /** Declaration order within the shape. */
  readonly order: Map<Rival, number>;
}

interface SameConditions {
  readonly byMethods: Map<string, Rival>;
  /** The first match of each method. */
  readonly firstOf: Map<string, Rival>;
}

/** Regexes by source; null: not a regex. Shared by one whole search. */
export type RegexMemory = Map<string, ValueRegex | null>;

export class Precedents {
  readonly #regexes: RegexMemory;
  /** Nearly every path has one match only: nothing to compare. */
  #only: Rival | null = null;
  #shapes: Map<string, Shape> | null = null;

  constructor(regexes: RegexMemory) {
    this.#regexes = regexes;
  }

  /** Files a match, in declaration order. Returns an earlier one that is the same in every condition, or null. */
  admit(rival: Rival): Rival | null {
    if (this.#shapes !== null) return this.#file(rival, this.#shapes);
    if (this.#only === null) {
      this.#only = rival;
      return null;
    }
    this.#shapes = new Map();
    this.#file(this.#only, this.#shapes);
    return this.#file(rival, this.#shapes);
  }

  #file(rival: Rival, shapes: Map<string, Shape>): Rival | null {
    const { match } = rival;
    const shape = shapeOf(shapes, match);
    const same = sameConditions(shape, match);
    const methods = methodsKey(match);
    const earlier = same.byMethods.get(methods);
    if (earlier !== undefined) return earlier;
    same.byMethods.set(methods, rival);
    shape.order.set(rival, shape.order.size);
    for (const method of match.methods) if (!same.firstOf.has(method)) same.firstOf.set(method, rival);
    if (shape.general.length < MAX_COMPARED && conditionsOf(match).some(isGeneral)) shape.general.push(rival);
    return null;
  }

  /** An earlier match that takes every request of this one (with equal conditions: several together may, by method); null: none known. */
  coveredBy(rival: Rival): Rival | null {
    if (this.#shapes === null) return null;
    const { match } = rival;
    const shape = shapeOf(this.#shapes, match);
    const same = sameConditions(shape, match);
    const twin = same.byMethods.get(methodsKey(match)) as Rival;
    if (twin !== rival) return twin;
    if (match.methods.length > 0 && match.methods.every((method) => same.firstOf.get(method) !== rival)) {
      return same.firstOf.get(match.methods[0]) as Rival;
    }
    const own = shape.order.get(rival) as number;
    for (const other of shape.general) {
      if ((shape.order.get(other) as number) >= own) break;
      if (coversMethods(other.match, match) && isImplied(other.match, match, this.#regexes)) return other;
    }
    return null;
  }
}

function shapeOf(shapes: Map<string, Shape>, match: Match): Shape {
  const key = `${match.methods.length > 0} ${conditionsKey(match, ({ name }) => name)}`;
  let shape = shapes.get(key);
  if (shape === undefined) {
    shape = { same: new Map(), general: [], order: new Map() };
    shapes.set(key, shape);
  }
  return shape;
}

/** Equal where all lists are, in whatever order. Most matches have no conditions. */
function conditionsKey({ headers, query, cookies }: Match, part: (one: ValueMatch) => unknown): string {
  if (headers.length + query.length + cookies.length === 0) return '';
  return JSON.stringify([headers, query, cookies].map((list) => list.map((one) => JSON.stringify(part(one))).sort()));
}

function sameConditions(shape: Shape, match: Match): SameConditions {
  const key = conditionsKey(match, ({ name, kind, value }) => [name, kind, value]);
  let same = shape.same.get(key);
  if (same === undefined) {
    same = { byMethods: new Map(), firstOf: new Map() };
    shape.same.set(key, same);
  }
  return same;
}

function methodsKey(match: Match): string {
  return match.methods.length < 2 ? match.methods.join() : [...new Set(match.methods)].sort().join();
}

function conditionsOf(match: Match): readonly ValueMatch[] {
  return [...match.headers, ...match.query, ...match.cookies];
}

function isGeneral(condition: ValueMatch): boolean {
  return condition.kind !== 'exact' && condition.kind !== 'absent';
}

function coversMethods(wide: Match, narrow: Match): boolean {
  return wide.methods.length === 0 || narrow.methods.every((method) => wide.methods.includes(method));
}

/** Whether a request that meets all value conditions of `narrow` surely meets those of `wide`. */
function isImplied(wide: Match, narrow: Match, regexes: RegexMemory): boolean {
  return (
    wide.headers.every((one) => narrow.headers.some((other) => implies(other, one, regexes))) &&
    wide.query.every((one) => narrow.query.some((other) => implies(other, one, regexes))) &&
    wide.cookies.every((one) => narrow.cookies.some((other) => implies(other, one, regexes)))
  );
}

function implies(narrow: ValueMatch, wide: ValueMatch, regexes: RegexMemory): boolean {
  if (narrow.name !== wide.name) return false;
  if (narrow.kind === wide.kind && narrow.value === wide.value) return true;
  switch (wide.kind) {
    case 'present':
      return narrow.kind !== 'absent';
    case 'prefix':
      return (narrow.kind === 'exact' || narrow.kind === 'prefix') && narrow.value.startsWith(wide.value);
    case 'regex':
      return narrow.kind === 'exact' && regexHolds(wide.value, narrow.value, regexes);
    default:
      return false;
  }
}

function regexHolds(source: string, value: string, regexes: RegexMemory): boolean {
  let regex = regexes.get(source);
  if (regex === undefined) {
    const compiled = compileRegex(source);
    regex = 'problem' in compiled ? null : compiled;
    regexes.set(source, regex);
  }
  return regex?.test(value) ?? false;
}
