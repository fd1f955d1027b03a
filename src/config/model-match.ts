// Which requests a route takes.
import type { Place } from './place.ts';

/** All conditions hold. */
export interface Match {
  readonly path: PathMatch;
  /** Upper-case; empty: any. */
  readonly methods: readonly string[];
  readonly headers: readonly ValueMatch[];
  readonly query: readonly ValueMatch[];
  readonly cookies: readonly ValueMatch[];
  readonly at: Place;
}

/** Exact and prefix values are normalised like a request path; a regex matches the whole path, RE2 syntax. */
export interface PathMatch {
  readonly kind: 'exact' | 'prefix' | 'regex';
  readonly value: string;
}

/** A header (name lower-case), query parameter or cookie. `value` is empty for `present` and `absent`. */
export interface ValueMatch {
  readonly name: string;
  readonly kind: 'exact' | 'prefix' | 'regex' | 'present' | 'absent';
  readonly value: string;
}
