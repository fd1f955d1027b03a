// Keeps reloads from overlapping, however often files change and signals come meanwhile.

/** Runs `work` one call after the other. Whoever asks while one runs shares the one after it: it sees everything they saw. */
export class OneAtATime<T> {
  readonly #work: (reason: string) => Promise<T>;
  #current: Promise<T> | null = null;
  #next: Promise<T> | null = null;

  constructor(work: (reason: string) => Promise<T>) {
    this.#work = work;
  }

  run(reason: string): Promise<T> {
    if (this.#current === null) return this.#begin(reason);
    this.#next ??= this.settled().then(() => {
      this.#next = null;
      return this.#begin(reason);
    });
    return this.#next;
  }

  /** Resolves when the run under way, if any, has ended. */
  async settled(): Promise<void> {
    await this.#current?.catch(() => undefined);
  }

  #begin(reason: string): Promise<T> {
    const run = this.#work(reason).finally(() => {
      this.#current = null;
    });
    this.#current = run;
    return run;
  }
}
