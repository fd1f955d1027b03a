// Holds back an endpoint that is new or has returned, while its caches are cold and its code is not compiled.

const FIRST = 0.1;

/**
 * The part of its weight that counts: from 10 % at once to all of it when the window is over, in a straight line.
 *
 * @param sinceMs since it came or returned
 * @param windowMs 0: no slow start
 */
export function rampOf(sinceMs: number, windowMs: number): number {
  if (sinceMs >= windowMs) return 1;
  return FIRST + (1 - FIRST) * (Math.max(0, sinceMs) / windowMs);
}
