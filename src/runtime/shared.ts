// What several chains hold together: counters and caches that live from the first chain that uses them to the last, across reloads.

interface Entry {
  readonly value: unknown;
  readonly dispose: ((value: unknown) => void) | null;
  readonly owners: Set<object>;
}

/**
 * Reference-counted state behind `app.shared`. An owner is a chain: it holds a key from its first `use` until `release`.
 * The size is bounded by the keys that plugins ask for while they load, never by traffic.
 */
export class SharedStore {
  readonly #entries = new Map<string, Entry>();
  readonly #keys = new Map<object, Set<string>>();
  readonly #onDisposeError: (error: unknown, key: string) => void;
  #disposing = 0;
  #waiting: (() => void)[] = [];

  /** `onDisposeError` hears of a `dispose` that threw or rejected; the others still run. */
  constructor(onDisposeError: (error: unknown, key: string) => void = () => {}) {
    this.#onDisposeError = onDisposeError;
  }

  /** The value of `key`, made on first use. Only the `dispose` that came with the made value is ever called. */
  use<T>(owner: object, key: string, make: () => T, dispose?: (value: T) => void): T {
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      const value = make();
      entry = { value, dispose: (dispose as Entry['dispose']) ?? null, owners: new Set() };
      this.#entries.set(key, entry);
    }
    entry.owners.add(owner);
    let keys = this.#keys.get(owner);
    if (keys === undefined) {
      keys = new Set();
      this.#keys.set(owner, keys);
    }
    keys.add(key);
    return entry.value as T;
  }

  /** Ends everything that `owner` holds; values that nobody else holds are disposed. */
  release(owner: object): void {
    const keys = this.#keys.get(owner);
    if (keys === undefined) return;
    this.#keys.delete(owner);
    for (const key of keys) {
      const entry = this.#entries.get(key) as Entry;
      entry.owners.delete(owner);
      if (entry.owners.size > 0) continue;
      this.#entries.delete(key);
      this.#dispose(key, entry);
    }
    this.#tellWhenEmpty();
  }

  /** Resolves when nobody holds anything and every `dispose` has ended. */
  whenEmpty(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#tellWhenEmpty();
    });
  }

  #tellWhenEmpty(): void {
    if (this.#entries.size > 0 || this.#disposing > 0) return;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** The value of a key that somebody uses, without holding it; undefined: nobody does. */
  peek(key: string): unknown {
    return this.#entries.get(key)?.value;
  }

  /** Keys in use. */
  get size(): number {
    return this.#entries.size;
  }

  #dispose(key: string, entry: Entry): void {
    try {
      // A plugin may well pass an async function: its rejection must not become the process's.
      const result: unknown = entry.dispose?.(entry.value);
      if (!(result instanceof Promise)) return;
      this.#disposing++;
      result
        .catch((error) => this.#onDisposeError(error, key))
        .finally(() => {
          this.#disposing--;
          this.#tellWhenEmpty();
        });
    } catch (error) {
      this.#onDisposeError(error, key);
    }
  }
}
