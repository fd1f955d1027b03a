// Bounds how many label sets the metrics plugin keeps, and finds the one of a request in a single look-up.
import type { Counter } from 'prom-client';

/** One bound over several metrics. `max` may be changed by a later config; series that exist stay. */
export class SeriesBudget {
  max: number;
  used = 0;

  constructor(max: number) {
    this.max = max;
  }
}

type Level<Series> = Map<string, Series | Level<Series>>;

/** Label values (in the order of the metric's names) → whatever counts them. Past the budget everything shares one series, all of its labels `other`. */
export class SeriesTable<Series> {
  /** One level a label: the values are strings of the config, whose hashes are known, so that no key has to be built for a request. */
  readonly #tree: Level<Series> = new Map();
  readonly #all: Series[] = [];
  readonly #budget: SeriesBudget;
  readonly #make: (values: readonly string[]) => Series;
  readonly #onFold: () => void;
  #other: Series | null = null;

  constructor(budget: SeriesBudget, make: (values: readonly string[]) => Series, onFold: () => void) {
    this.#budget = budget;
    this.#make = make;
    this.#onFold = onFold;
  }

  get(values: readonly string[]): Series {
    let level: Level<Series> = this.#tree;
    const last = values.length - 1;
    for (let i = 0; i < last; i++) {
      const next = level.get(values[i]) as Level<Series> | undefined;
      if (next === undefined) return this.#add(values);
      level = next;
    }
    return (level.get(values[last]) as Series | undefined) ?? this.#add(values);
  }

  #add(values: readonly string[]): Series {
    if (this.#budget.used >= this.#budget.max) {
      this.#onFold();
      this.#other ??= this.#make(values.map(() => 'other'));
      return this.#other;
    }
    const made = this.#make(values);
    this.#budget.used++;
    this.#all.push(made);
    let level = this.#tree;
    for (const value of values.slice(0, -1)) {
      let next = level.get(value) as Level<Series> | undefined;
      if (next === undefined) {
        next = new Map();
        level.set(value, next);
      }
      level = next;
    }
    level.set(values[values.length - 1], made);
    return made;
  }

  *[Symbol.iterator](): IterableIterator<Series> {
    yield* this.#all;
    if (this.#other !== null) yield this.#other;
  }

  /** Gives the budget back. */
  clear(): void {
    this.#budget.used -= this.#all.length;
    this.#all.length = 0;
    this.#tree.clear();
    this.#other = null;
  }
}

/** What a request adds to: a plain number, handed to prom-client when somebody scrapes. */
export interface Tally {
  readonly labels: Readonly<Record<string, string>>;
  pending: number;
}

/** @param shown - the names in the order in which they are written; default: that of the values */
export function tally(names: readonly string[], shown = names): (values: readonly string[]) => Tally {
  return (values) => ({
    labels: Object.fromEntries(shown.map((name) => [name, values[names.indexOf(name)]])),
    pending: 0,
  });
}

export function collectInto(counter: Counter, tallies: Iterable<Tally>): void {
  for (const entry of tallies) {
    if (entry.pending === 0) continue;
    counter.inc(entry.labels, entry.pending);
    entry.pending = 0;
  }
}
