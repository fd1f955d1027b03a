// The policy of calls that leave the mesh.
import type { PathMatch } from './model-match.ts';
import type { Place } from './place.ts';

/** Deny rules first, then allow rules, then the default. */
export interface Egress {
  readonly default: 'deny' | 'allow';
  /** True: what would be denied is let through, counted and logged. */
  readonly audit: boolean;
  readonly deny: readonly EgressRule[];
  readonly allow: readonly EgressRule[];
}

/** Calls that meet all of it; an empty list is met by any call. */
export interface EgressRule {
  /** As written, else its place: `egress.allow[0]`. */
  readonly name: string;
  readonly at: Place;
  /** Services whose applications call; null: any. */
  readonly from: readonly string[] | null;
  /** Lower-case, without trailing dot; IPv6 without brackets; `*.example.com`: any name below it. */
  readonly hosts: readonly string[];
  readonly ports: readonly number[];
  /** Networks that the host resolves to. */
  readonly cidrs: readonly string[];
  /** Upper-case. */
  readonly methods: readonly string[];
  readonly paths: readonly PathMatch[];
  /** Of allow rules: a tunnel must carry TLS that names its host. */
  readonly tls: boolean;
}
