// Walks the complete plain config while remembering paths and places, so that every problem can say where it is.
import { resolve } from 'node:path';
import type { Place } from './model.ts';
import type { Origin, Origins } from './origins.ts';
import type { Problem } from './problem.ts';

/** What all cursors of one config share. */
export interface Findings {
  readonly origins: Origins;
  readonly problems: Problem[];
  /** Absolute paths of files that the config names. */
  readonly files: Set<string>;
}

type Whereabouts = Pick<Origin, 'place' | 'keyPlace'> & { readonly file: { readonly dir: string } };

/** One value of the config with its whereabouts. */
export class Cursor<T> {
  readonly value: T;
  /** `routes[3].to[0].service`. */
  readonly path: string;
  /** Where the value stands; for a default, where the thing that lacks it stands. */
  readonly place: Place;
  /** Where its key stands; for the item of a list, the item. */
  readonly keyPlace: Place;
  /** Folder that relative paths in this value start from. */
  readonly dir: string;
  readonly #findings: Findings;

  constructor(value: T, path: string, origin: Whereabouts, findings: Findings) {
    this.value = value;
    this.path = path;
    this.place = origin.place;
    this.keyPlace = origin.keyPlace;
    this.dir = origin.file.dir;
    this.#findings = findings;
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

  #child<U>(value: U, key: string | number): Cursor<U> {
    // What is not there was written nowhere; most keys are not, and looking for them is most of the work otherwise.
    const origin = value === undefined ? undefined : this.#findings.origins.child(this.value as object, key);
    if (origin !== undefined) return new Cursor(value, origin.path, origin, this.#findings);
    const path = typeof key === 'number' ? `${this.path}[${key}]` : this.path === '' ? key : `${this.path}.${key}`;
    return new Cursor(
      value,
      path,
      { place: this.place, keyPlace: this.keyPlace, file: { dir: this.dir } },
      this.#findings,
    );
  }
}

type Items<T> = T extends readonly (infer U)[] ? U : never;
type Values<T> = T extends Readonly<Record<string, infer U>> ? U : never;
