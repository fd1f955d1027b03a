// What one limit grants one key: arithmetic on two numbers and the time, the same wherever the numbers are kept.

/** How much is granted. */
export interface Quota {
  readonly algorithm: 'fixed-window' | 'token-bucket';
  /** Most that can be taken at once: `max` of a window, `burst` of a bucket. */
  readonly capacity: number;
  /** Milliseconds: of a window, or until an empty bucket is full again. */
  readonly periodMs: number;
}

/** What is remembered of one key. At `at` and later nothing of it matters any more. */
export interface Account {
  /** Of a window: taken since it began. Not used for a bucket. */
  taken: number;
  /** Milliseconds: when the window ends, or the bucket will be full (the "theoretical arrival time" of GCRA, ITU-T I.371). */
  at: number;
}

export interface Grant {
  readonly granted: boolean;
  /** What can still be taken now. */
  readonly remaining: number;
  /** Milliseconds: when refused, until the same can be taken; when granted, until all of the capacity is there again. */
  readonly waitMs: number;
}

/** Sums of fractions of a millisecond are off by less than this. */
const ROUNDING_MS = 1e-6;

/** Takes `cost` from the account, or leaves it as it is. */
export function take(quota: Quota, account: Account, cost: number, now: number): Grant {
  return quota.algorithm === 'fixed-window'
    ? takeFromWindow(quota, account, cost, now)
    : takeFromBucket(quota, account, cost, now);
}

/** Takes `cost`, or what is left where that is less: for what is known to have been used only afterwards. */
export function charge(quota: Quota, account: Account, cost: number, now: number): Grant {
  const { remaining } = take(quota, account, 0, now);
  return take(quota, account, Math.min(cost, remaining), now);
}

/** Undoes a `take` that was granted. */
export function giveBack(quota: Quota, account: Account, cost: number): void {
  if (quota.algorithm === 'fixed-window') account.taken = Math.max(0, account.taken - cost);
  else account.at -= cost * (quota.periodMs / quota.capacity);
}

/** A window begins with the first request of its key. */
function takeFromWindow({ capacity, periodMs }: Quota, account: Account, cost: number, now: number): Grant {
  if (account.at <= now) {
    account.taken = 0;
    account.at = now + periodMs;
  }
  const granted = account.taken + cost <= capacity;
  if (granted) account.taken += cost;
  return { granted, remaining: capacity - account.taken, waitMs: account.at - now };
}

function takeFromBucket({ capacity, periodMs }: Quota, account: Account, cost: number, now: number): Grant {
  const perUnitMs = periodMs / capacity;
  const from = Math.max(account.at, now);
  const next = from + cost * perUnitMs;
  const tooEarlyMs = next - now - periodMs;
  const granted = tooEarlyMs <= ROUNDING_MS;
  if (granted) account.at = next;
  const missingMs = (granted ? next : from) - now;
  const remaining = Math.max(0, Math.floor((periodMs - missingMs + ROUNDING_MS) / perUnitMs));
  return { granted, remaining, waitMs: granted ? missingMs : tooEarlyMs };
}
