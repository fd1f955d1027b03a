// Walks the complete plain config while remembering paths and places, so that every problem can say where it is.
import { resolve } from 'node:path';
import type { Place } from './model.ts';
import { type Children, type Origin, type Origins, pathBelow } from './origins.ts';
import type { Problem } from './problem.ts';

/** What all cursors of one config share. */
export interface Findings {
  readonly origins: Origins;
  readonly problems: Problem[];
  /** Absolute paths of files that the config names. */
  readonly files: Set<string>;
  /** How often a file was named. */
  named: number;
}

type Whereabouts = Pick<Origin, 'path' | 'place' | 'keyPlace' | 'file'>;

/** One value of the config with its whereabouts. */
export class Cursor<T> {
  readonly value: T;
  /** Of the value itself, or of the nearest one above it that somebody wrote. */
  readonly #origin: Whereabouts;
  /** Below `#origin`: the cursor above and the key under it. Null: the value was written. */
  readonly #above: Cursor<unknown> | null;
  readonly #key: string | number;
  readonly #findings: Findings;
  #children: Children | null = null;

  constructor(
    value: T,
    origin: Whereabouts,
    findings: Findings,
    above: Cursor<unknown> | null = null,
    key: string | number = '',
  ) {
    this.value = value;
    this.#origin = origin;
    this.#findings = findings;
    this.#above = above;
    this.#key = key;
  }

  /** `routes[3].to[0].service`. */
  get path(): string {
    if (this.#above === null) return this.#origin.path;
    return pathBelow(this.#above.path, this.#key);
  }

  /** Where the value stands; for a default, where the thing that lacks it stands. */
  get place(): Place {
    return this.#origin.place;
  }

  /** Where its key stands; for the item of a list, the item. */
  get keyPlace(): Place {
    return this.#origin.keyPlace;
  }

  /** Folder that relative paths in this value start from. */
  get dir(): string {
    return this.#origin.file.dir;
  }

  /** One part; its value may be undefined when the schema has it optional and without default. */
  at<K extends keyof T & string>(key: K): Cursor<T[K]> {
    return this.#child(this.value[key], key);
  }

  /** Whether the user gave this key, as opposed to a default. */
  wrote(key: keyof T & string): boolean {
    return this.#findings.origins.child(this.value as object, key) !== undefined;
  }

  /** Null when the user did not give it. */
  given(): Cursor<NonNullable<T>> | null {
    return this.value === undefined || this.value === null ? null : (this as Cursor<NonNullable<T>>);
  }

  /** For keys that the schema gives a default. */
  filled(): Cursor<NonNullable<T>> {
    const cursor = this.given();
    if (cursor === null) throw new Error(`the schema has no default for ${this.path}`);
    return cursor;
  }

  /** The parts of a list; none of a missing one. */
  items(): Cursor<Items<T>>[] {
    return Array.isArray(this.value) ? this.value.map((item: Items<T>, index) => this.#child(item, index)) : [];
  }

  /** The named parts of a map; none of a missing one. */
  entries(): [name: string, value: Cursor<Values<T>>][] {
    if (typeof this.value !== 'object' || this.value === null) return [];
    return Object.entries(this.value).map(([name, value]) => [name, this.#child(value as Values<T>, name)]);
  }

  /** The absolute path of the file that the value names; from here on it is watched. */
  file(this: Cursor<string>): string {
    const path = resolve(this.dir, this.value);
    this.watch(path);
    return path;
  }

  /** `path` is absolute. */
  watch(path: string): void {
    this.#findings.files.add(path);
    this.#findings.named++;
  }

  /** Problems and files so far: as many before as after, and what was done between depends on nothing but values. */
  get traces(): number {
    return this.#findings.problems.length + this.#findings.named;
  }

  error(message: string): void {
    this.#report('error', this.place, this.path, message);
  }

  warn(message: string): void {
    this.#report('warning', this.place, this.path, message);
  }

  /** About the name of this value rather than what stands behind it. */
  warnKey(message: string): void {
    this.#report('warning', this.keyPlace, this.path, message);
  }

  /** About something that is missing: reported where this value stands, with the path of what is missing. */
  errorAt(path: string, message: string): void {
    this.#report('error', this.place, path, message);
  }

  /** About another place. */
  errorIn(place: Place, message: string): void {
    this.#report('error', place, '', message);
  }

  #report(severity: Problem['severity'], place: Place, path: string, message: string): void {
    this.#findings.problems.push({ severity, place, path, message });
  }

  /** Looks for what it is in only once: dozens of keys are asked for. */
  #originOf(key: string | number): Origin | undefined {
    this.#children ??= this.#findings.origins.childrenOf(this.value as object);
    return this.#children instanceof Map ? this.#children.get(String(key)) : this.#children[Number(key)];
  }

  #child<U>(value: U, key: string | number): Cursor<U> {
    // What is not there was written nowhere; most keys are not, and looking for them is most of the work otherwise.
    const origin = value === undefined ? undefined : this.#originOf(key);
    return origin === undefined
      ? new Cursor(value, this.#origin, this.#findings, this, key)
      : new Cursor(value, origin, this.#findings);
  }
}

type Items<T> = T extends readonly (infer U)[] ? U : never;
type Values<T> = T extends Readonly<Record<string, infer U>> ? U : never;
