// Keeps reloads from overlapping, however often files change and signals come meanwhile.

/** Runs `work` one call after the other. Whoever asks while one runs shares the one after it: it sees everything they saw. */
export class OneAtATime<A, T> {
  readonly #work: (order: A) => Promise<T>;
  #current: Promise<T> | null = null;
  #next: Promise<T> | null = null;

  constructor(work: (order: A) => Promise<T>) {
    this.#work = work;
  }

  get isBusy(): boolean {
    return this.#current !== null;
  }

  /** The order of the first who asked while one ran is the one that is carried out after it. */
  run(order: A): Promise<T> {
    if (this.#current === null) return this.#begin(order);
    this.#next ??= this.settled().then(() => {
      this.#next = null;
      return this.#begin(order);
    });
    return this.#next;
  }

  /** Resolves when the run under way, if any, has ended. */
  async settled(): Promise<void> {
    await this.#current?.catch(() => undefined);
  }

  #begin(order: A): Promise<T> {
    const run = this.#work(order).finally(() => {
      this.#current = null;
    });
    this.#current = run;
    return run;
  }
}
