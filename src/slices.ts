// Long work in the thread that serves: a slice at a time, and requests have their turn between two of them.

/** Milliseconds of one slice. */
const SLICE_MS = 5;

export class Slices {
  #endsAt = performance.now() + SLICE_MS;

  /** Asked between two steps: true when it is time for `rest`. */
  get over(): boolean {
    return performance.now() >= this.#endsAt;
  }

  /** Resolves when the event loop has been round. */
  async rest(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.#endsAt = performance.now() + SLICE_MS;
  }
}

/** Does work that says by `yield` where it may be interrupted. */
export async function inSlices<T>(work: Generator<void, T>, slices: Slices): Promise<T> {
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
    if (slices.over) await slices.rest();
  }
}

/** The same without any interruption. */
export function atOnce<T>(work: Generator<void, T>): T {
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
  }
}
