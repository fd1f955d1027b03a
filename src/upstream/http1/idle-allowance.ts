// Learns how long the upstream keeps a connection that lies idle, from what it announces and from when it closes ours.

/** Our connections are left this much sooner than the upstream closes them, so that no request meets the closing. */
const AHEAD_MS = 1000;

/**
 * Servers that close within a second exist (Node's default is 5 s), and a POST that meets the closing is lost. Beyond this it costs a POST a
 * connection of its own to be sure, which is little at a rate that lets connections idle for so long.
 */
export const SURELY_KEPT_MS = 500;

/** Closings remembered. */
const CLOSINGS = 4;

/** Closings within this time have one cause, a restart for instance, and count as one. */
const INSTANT_MS = 100;

/** For so long what was learned is believed without being seen again. */
const BELIEVED_MS = 10 * 60_000;

/** When ours are retired: a second before the upstream would, or half-way where it keeps them for less than two. */
export function retireAfterMs(allowedMs: number): number {
  return allowedMs - Math.min(AHEAD_MS, allowedMs / 2);
}

/** One instant at which the upstream closed idle connections. */
interface Closing {
  at: number;
  /** NaN: they had been idle for different times, or not the longest of all; so idleness was not the cause. */
  idleMs: number;
}

/**
 * A single closing proves nothing: upstreams restart, and some end connections by their total age. A timeout shows in three
 * ways together, and only then it is learned:
 * - no connection that has been idle for longer is left open;
 * - all that are closed at one instant have been idle for the same time (a restart closes them at whatever age they are);
 * - it happens again, at another time, at the same age. The other time is further off than the ages may differ, or connections
 *   that fell idle together would agree however their upstream came to close them.
 *
 * What is learned keeps itself from being seen, since ours go before. So after a while one connection, which carries nothing
 * meanwhile, is left to the upstream: closed at the age that was learned it confirms it, open for longer it refutes it.
 */
export class IdleAllowance {
  /** Null: nothing. */
  #learnedMs: number | null = null;
  #announcedMs: number | null = null;
  #confirmedAt = 0;
  /** A ring. */
  readonly #closings: readonly Closing[] = Array.from({ length: CLOSINGS }, () => ({
    at: -Infinity,
    idleMs: Number.NaN,
  }));
  #latest = 0;
  /** What was believed before the latest instant, should that turn out to be a restart. */
  #before: number | null = null;
  /** When idle connections are retired because of what was learned. */
  limitMs = Number.POSITIVE_INFINITY;

  /** Milliseconds, announced or learned, whichever is less; null: neither. */
  get allowedMs(): number | null {
    if (this.#learnedMs === null || this.#announcedMs === null) return this.#learnedMs ?? this.#announcedMs;
    return Math.min(this.#learnedMs, this.#announcedMs);
  }

  announced(ms: number): void {
    this.#announcedMs = ms;
  }

  /**
   * The upstream closed a connection that was idle, or that a request had just been written to.
   * @param longestMs - how long the oldest that is still open has been idle; 0: there is none
   */
  closed(idleMs: number, longestMs: number, now: number): void {
    const timed = longestMs <= idleMs + tolerance(idleMs);
    const latest = this.#closings[this.#latest];
    if (now - latest.at < INSTANT_MS) {
      if (timed && agree(idleMs, latest.idleMs)) return;
      latest.idleMs = Number.NaN;
      this.#believe(this.#before, this.#confirmedAt);
      return;
    }
    this.#before = this.#learnedMs;
    const repeats = timed ? this.#repeated(idleMs, now) : null;
    this.#latest = (this.#latest + 1) % CLOSINGS;
    const closing = this.#closings[this.#latest];
    closing.at = now;
    closing.idleMs = timed ? idleMs : Number.NaN;
    if (repeats !== null) this.#believe(Math.min(idleMs, repeats), now);
  }

  /** Whether a connection may stay beyond `limitMs`, so that the upstream shows what it does. */
  doubtful(now: number): boolean {
    return this.#learnedMs !== null && now - this.#confirmedAt > BELIEVED_MS;
  }

  /** One that was left to the upstream has been idle for this long and is still open. */
  outlived(idleMs: number): void {
    if (this.#learnedMs === null || idleMs <= this.#learnedMs * 1.25 + AHEAD_MS) return;
    for (const closing of this.#closings) closing.idleMs = Number.NaN;
    this.#before = null;
    this.#believe(null, 0);
  }

  /** The age that this one agrees with; null: none. */
  #repeated(idleMs: number, now: number): number | null {
    if (this.#learnedMs !== null && agree(idleMs, this.#learnedMs)) return this.#learnedMs;
    for (const earlier of this.#closings) {
      if (agree(idleMs, earlier.idleMs) && now - earlier.at > 2 * tolerance(idleMs)) return earlier.idleMs;
    }
    return null;
  }

  #believe(learnedMs: number | null, confirmedAt: number): void {
    this.#learnedMs = learnedMs;
    this.#confirmedAt = confirmedAt;
    this.limitMs = learnedMs === null ? Number.POSITIVE_INFINITY : retireAfterMs(learnedMs);
  }
}

/** How far apart two ages may be that are the same timeout: timers are late by a little, clocks drift by a little. */
function tolerance(idleMs: number): number {
  return 25 + idleMs * 0.02;
}

function agree(a: number, b: number): boolean {
  return Math.abs(a - b) <= tolerance(Math.min(a, b));
}
