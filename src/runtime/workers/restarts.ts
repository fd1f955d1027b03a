// When a worker that ended is started again: at once the first time, later and later while it keeps ending.

const FIRST_MS = 250;
const MAX_MS = 30_000;
/** Whoever ran for so long has nothing to do with the end before it. */
const RAN_WELL_MS = 60_000;

export class Restarts {
  #inARow = 0;
  /** In all. */
  count = 0;

  /** @param ranMs how long it served; 0: it never did. Returns in how many milliseconds to start the next one. */
  next(ranMs: number): number {
    this.count++;
    if (ranMs >= RAN_WELL_MS) this.#inARow = 0;
    const delay = this.#inARow === 0 ? 0 : Math.min(MAX_MS, FIRST_MS * 2 ** (this.#inARow - 1));
    this.#inARow++;
    return delay;
  }
}
