// What a route does beyond leading somewhere: sessions and rollouts.
import type { Place } from './place.ts';

/** What keeps a client at its endpoint. */
export type Session =
  | {
      readonly kind: 'cookie';
      readonly name: string;
      /** Seconds; null: until the browser closes. */
      readonly maxAgeS: number | null;
      readonly sameSite: 'strict' | 'lax' | 'none';
      /** `auto`: when the request came by https. */
      readonly secure: boolean | 'auto';
      readonly httpOnly: boolean;
      /** Signs the cookies; null: a random one of this process. */
      readonly secret: string | null;
    }
  /** The same value (name in lower case) leads to the same endpoint. */
  | { readonly kind: 'header'; readonly name: string };

/** Moves a route from one subset of its service to another by itself, and back when the new one is worse. */
export interface RolloutPolicy {
  readonly service: string;
  readonly from: string;
  readonly to: string;
  /** Shares of the new version, 0 to 1, ascending; the last is 1 where it is to be complete. */
  readonly steps: readonly number[];
  readonly everyMs: number;
  /** Null parts are not looked at. */
  readonly abortOn: { readonly errorRate: number | null; readonly p99Ms: number | null; readonly minRequests: number };
  readonly at: Place;
}
