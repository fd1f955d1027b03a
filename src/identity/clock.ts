// The time that certificates are judged by, and how a source waits: real in a process, made by hand in tests.

export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Never keeps a process alive. Returns how to take it back. */
  after(ms: number, act: () => void): () => void;
}

export const systemClock: Clock = {
  now: Date.now,
  after(ms, act) {
    const timer = setTimeout(act, ms).unref();
    return () => clearTimeout(timer);
  },
};

/** `baseMs`, doubled for every failure before this one, at most `longestMs`; between half of it and all of it, so that many do not come at once. */
export function backoffMs(failures: number, baseMs: number, longestMs: number, random: () => number): number {
  const full = Math.min(longestMs, baseMs * 2 ** Math.min(failures - 1, 30));
  return full * (0.5 + random() / 2);
}
