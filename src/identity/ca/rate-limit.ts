// How often one address, and one identity, may ask a CA service: a bucket of tries for each, filled again as time passes.

export interface RateLimit {
  /** Tries at once. */
  readonly burst: number;
  /** That come back. */
  readonly perMinute: number;
}

/** `first`: the one that was not allowed after others that were; it is worth a line of the log. */
export type RateVerdict =
  | { readonly ok: true }
  | { readonly ok: false; readonly first: boolean; readonly retryAfterMs: number };

interface Bucket {
  left: number;
  at: number;
  refused: boolean;
}

/** Keys remembered at most. Strangers fill it: who was seen longest ago is forgotten, and begins with a full bucket again. */
export const MAX_KEYS = 10_000;

export function makeRateLimiter({ burst, perMinute }: RateLimit): (key: string, now: number) => RateVerdict {
  const buckets = new Map<string, Bucket>();
  const perMs = perMinute / 60_000;
  return (key, now) => {
    const bucket = buckets.get(key) ?? { left: burst, at: now, refused: false };
    bucket.left = Math.min(burst, bucket.left + Math.max(0, now - bucket.at) * perMs);
    bucket.at = now;
    buckets.delete(key);
    buckets.set(key, bucket);
    if (buckets.size > MAX_KEYS) buckets.delete(buckets.keys().next().value as string);
    if (bucket.left >= 1) {
      bucket.left -= 1;
      bucket.refused = false;
      return { ok: true };
    }
    const first = !bucket.refused;
    bucket.refused = true;
    return { ok: false, first, retryAfterMs: Math.ceil((1 - bucket.left) / perMs) };
  };
}
