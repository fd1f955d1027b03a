// What policies say and what a request shows: the words of authorization, for config, evaluator and plugin alike.

/** Exact and prefix values are normalised like a request path; a regex matches the whole path, RE2 syntax. */
export interface PathPattern {
  readonly kind: 'exact' | 'prefix' | 'regex';
  readonly value: string;
}

/** A header (name in lower case) or a claim. `value` is empty for `present` and `absent`. */
export interface ValuePattern {
  readonly name: string;
  readonly kind: 'exact' | 'prefix' | 'regex' | 'present' | 'absent';
  readonly value: string;
}

/** All must hold. Of a list any; null: no condition; an empty list holds for nothing. */
export interface AuthorizationConditions {
  /** Whole SPIFFE ids, or what they begin with when they end with `/*`. */
  readonly from: readonly string[] | null;
  readonly methods: readonly string[] | null;
  readonly paths: readonly PathPattern[] | null;
  /** Lower-case; `*.` at the front stands for one label or more. */
  readonly hosts: readonly string[] | null;
  readonly headers: readonly ValuePattern[];
  readonly claims: readonly ValuePattern[];
  /** CIDRs. */
  readonly clientAddress: readonly string[] | null;
}

export interface AuthorizationRule extends AuthorizationConditions {
  /** Must not hold. */
  readonly not: AuthorizationConditions | null;
}

export interface AuthorizationRules {
  readonly name: string;
  readonly effect: 'allow' | 'deny';
  /** Says what it would do and does nothing. */
  readonly audit: boolean;
  readonly rules: readonly AuthorizationRule[];
}

/** What a verdict depends on. */
export interface AuthorizedRequest {
  /** Proven by a certificate; null: nobody. */
  readonly peer: { readonly id: string; readonly trustDomain: string | null } | null;
  readonly method: string;
  /** Normalised: the one that is routed and sent. */
  readonly path: string;
  /** Lower-case, without port; empty: none. */
  readonly host: string;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** Verified by a plugin; undefined or null: none. */
  readonly claims: unknown;
  readonly clientAddress: string;
}
