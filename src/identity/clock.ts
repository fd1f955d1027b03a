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

/** Rejects with `reason` unless `work` is done within `ms`. */
export function within<T>(work: Promise<T>, ms: number, clock: Clock, reason: () => Error): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const cancel = clock.after(ms, () => reject(reason()));
    work.then(resolve, reject).finally(cancel);
  });
}

/** `base` × 2 for every failure before, at most `longest`; between half of it and all of it, so that many do not come at once. */
export function backoffMs(failures: number, baseMs: number, longestMs: number, random: () => number): number {
  const full = Math.min(longestMs, baseMs * 2 ** Math.min(failures - 1, 30));
  return full * (0.5 + random() / 2);
}
