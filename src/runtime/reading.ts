// Reads of the config, some of which begin before it is known that they are wanted.
import type { ConfigSource, Loaded } from './source.ts';

/** A config that is being read, or was. */
export interface Reading {
  readonly startedAt: number;
  /** What changes on disk from then on was not read: milliseconds since the epoch. */
  readonly readAt: number;
  /** Null: it is still to be read. */
  readonly loaded: Promise<Loaded | null>;
}

export class Reader {
  readonly #source: ConfigSource;
  #ahead: Reading | null = null;
  /** One at a time: files that are written for a long time are read again only when they have come to rest. */
  #isBusy = false;

  constructor(source: ConfigSource) {
    this.#source = source;
  }

  /** `ahead`: what is read for it already, if anything. */
  async read(ahead: Reading | null): Promise<Omit<Reading, 'loaded'> & { readonly loaded: Loaded }> {
    const loaded = await ahead?.loaded;
    if (ahead !== null && loaded != null) return { ...ahead, loaded };
    const reading = begin(() => this.#source.load());
    return { ...reading, loaded: await reading.loaded };
  }

  /** Files changed that may be half-written. Reading takes about as long as the wait for them to be whole, so it begins at once. */
  readAhead(): void {
    this.#ahead = null;
    if (this.#isBusy) return;
    this.#isBusy = true;
    const reading = begin(async () => (await this.#source.loadAhead?.()) ?? null);
    const over = (): void => {
      this.#isBusy = false;
    };
    reading.loaded.then(over, over);
    this.#ahead = reading;
  }

  /** What was begun since the files came to rest, once; null: nothing was. */
  takeAhead(): Reading | null {
    const ahead = this.#ahead;
    this.#ahead = null;
    return ahead;
  }
}

function begin<L>(load: () => Promise<L>): Omit<Reading, 'loaded'> & { readonly loaded: Promise<L> } {
  // What changes in the millisecond of the call may have been read.
  const begun = { startedAt: performance.now(), readAt: Date.now() + 1 };
  return { ...begun, loaded: load() };
}
