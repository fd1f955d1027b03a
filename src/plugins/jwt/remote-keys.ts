// Keeps the keys of one issuer at hand: fetched in the background, again when a token names one that is not known, and kept through outages.
import { KeySet } from './keys.ts';

/** Requests with unknown keys, or signatures that fit no key, cause at most one fetch in this time. */
const COOLDOWN_MS = 1_000;
const MAX_RETRY_MS = 60_000;
const TICK_MS = 1_000;

export interface Clock {
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  readonly setInterval: (tick: () => void, ms: number) => unknown;
  readonly clearInterval: (interval: unknown) => void;
}

export interface RemoteKeysOptions {
  /** What was good when the process ran last; used until the first fetch is over. */
  readonly known?: KeySet | null;
  readonly fetch: (closed: AbortSignal) => Promise<KeySet>;
  readonly refreshMs: number;
  readonly clock: Clock;
  /** After each fetch; null: it went well. `changed`: it was otherwise before. */
  readonly onFetched: (error: Error | null, changed: boolean) => void;
}

export const REAL_CLOCK: Clock = {
  now: () => performance.now(),
  setInterval: (tick, ms) => setInterval(tick, ms).unref(),
  clearInterval: (interval) => clearInterval(interval as NodeJS.Timeout),
};

/** What verifies tokens of one issuer. */
export interface KeySource {
  readonly keys: KeySet;
  /** Resolves when it makes sense to look again; absent: keys never change. Never rejects. */
  readonly refetch?: () => Promise<void>;
  /** The last fetch failed: what is not among the keys may still be the issuer's. */
  readonly failing: boolean;
}

export class RemoteKeys implements KeySource {
  keys: KeySet;
  failing = false;
  readonly #options: RemoteKeysOptions;
  readonly #closed = new AbortController();
  readonly #ticker: unknown;
  #fetching: Promise<void> | null = null;
  #begunAt = Number.NEGATIVE_INFINITY;
  #dueAt = 0;
  #failures = 0;

  constructor(options: RemoteKeysOptions) {
    this.#options = options;
    const { clock, known } = options;
    this.keys = known ?? new KeySet([]);
    this.#ticker = clock.setInterval(() => {
      if (this.#fetching === null && clock.now() >= this.#dueAt) void this.#fetch();
    }, TICK_MS);
    void this.#fetch();
  }

  readonly refetch = (): Promise<void> => {
    if (this.#fetching !== null) return this.#fetching;
    if (this.#closed.signal.aborted || this.#options.clock.now() - this.#begunAt < COOLDOWN_MS)
      return Promise.resolve();
    return this.#fetch();
  };

  close(): void {
    this.#options.clock.clearInterval(this.#ticker);
    this.#closed.abort();
  }

  #fetch(): Promise<void> {
    this.#begunAt = this.#options.clock.now();
    this.#fetching = this.#options
      .fetch(this.#closed.signal)
      .then(
        (keys) => this.#settle(keys, null),
        (error: Error) => this.#settle(null, error),
      )
      .finally(() => {
        this.#fetching = null;
      });
    return this.#fetching;
  }

  #settle(keys: KeySet | null, error: Error | null): void {
    if (this.#closed.signal.aborted) return;
    const { clock, refreshMs, onFetched } = this.#options;
    const changed = this.failing !== (error !== null);
    this.failing = error !== null;
    if (keys !== null) this.keys = keys;
    this.#failures = error === null ? 0 : this.#failures + 1;
    const retryMs = Math.min(MAX_RETRY_MS, COOLDOWN_MS * 2 ** Math.min(this.#failures - 1, 10));
    this.#dueAt = clock.now() + (error === null ? refreshMs : Math.min(refreshMs, retryMs));
    onFetched(error, changed);
  }
}
