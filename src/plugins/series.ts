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

/** Label values (in the order of the metric's names) → whatever counts them. Past the budget everything shares one series, all of its labels `other`. */
export class SeriesTable<Series> {
  readonly #series = new Map<string, Series>();
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
    const key = values.join('\0');
    const known = this.#series.get(key);
    if (known !== undefined) return known;
    if (this.#budget.used >= this.#budget.max) {
      this.#onFold();
      this.#other ??= this.#make(values.map(() => 'other'));
      return this.#other;
    }
    const made = this.#make(values);
    this.#budget.used++;
    this.#series.set(key, made);
    return made;
  }

  *[Symbol.iterator](): IterableIterator<Series> {
    yield* this.#series.values();
    if (this.#other !== null) yield this.#other;
  }

  /** Gives the budget back. */
  clear(): void {
    this.#budget.used -= this.#series.size;
    this.#series.clear();
    this.#other = null;
  }
}

/** What a request adds to: a plain number, handed to prom-client when somebody scrapes. */
export interface Tally {
  readonly labels: Readonly<Record<string, string>>;
  pending: number;
}

export function tally(names: readonly string[]): (values: readonly string[]) => Tally {
  return (values) => ({ labels: Object.fromEntries(names.map((name, index) => [name, values[index]])), pending: 0 });
}

export function collectInto(counter: Counter, tallies: Iterable<Tally>): void {
  for (const entry of tallies) {
    if (entry.pending === 0) continue;
    counter.inc(entry.labels, entry.pending);
    entry.pending = 0;
  }
}
