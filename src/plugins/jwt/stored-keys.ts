// The last good keys of an issuer on disk: what a process that starts during an outage of the issuer has instead of none.
import { createHash } from 'node:crypto';
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { privateDirectory, readPrivate, writePrivate } from '../../private-files.ts';
import type { KeyLocation } from './fetch-keys.ts';
import { type KeySet, publishedKeys } from './keys.ts';

/** Older ones are not used: a key that was taken back that long ago must not come to life again. */
export const MAX_AGE_MS = 7 * 86_400_000;
/** Clocks that were wrong when it was written, or are now. */
const MAX_AHEAD_MS = 3_600_000;
const VERSION = 1;
/** Ours, and what is left of one whose writer died. */
const OURS = /^(?:[\w-]{43}\.json|\.[\w-]{43}\.json\.[0-9a-f]{16}\.tmp)$/;

interface Stored {
  readonly version: typeof VERSION;
  readonly issuer: string;
  readonly jwks: string | null;
  /** ISO 8601. */
  readonly fetchedAt: string;
  readonly set: unknown;
}

export interface StoredKeysOptions {
  readonly dir: string;
  readonly location: KeyLocation;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Nothing can be read or kept; whatever needs keys goes on without. */
  readonly onProblem: (error: Error) => void;
}

export class StoredKeys {
  readonly #options: StoredKeysOptions;
  readonly #path: string;
  #next: KeySet | null = null;
  #writing: Promise<void> | null = null;

  constructor(options: StoredKeysOptions) {
    this.#options = options;
    const { issuer, jwks } = options.location;
    const name = createHash('sha256')
      .update(JSON.stringify([issuer, jwks]))
      .digest('base64url');
    this.#path = join(options.dir, `${name}.json`);
  }

  /** Null: none, or none that may be used. Looked at as closely as an answer of the issuer. */
  async read(): Promise<KeySet | null> {
    try {
      const text = await readPrivate(this.#path);
      return text === null ? null : this.#parse(text);
    } catch (error) {
      this.#options.onProblem(error as Error);
      return null;
    }
  }

  /** Writes in the background; of several at once, the last. */
  keep(keys: KeySet): void {
    this.#next = keys;
    this.#writing ??= this.#write();
  }

  /** Resolves when nothing is being written any more. */
  async settled(): Promise<void> {
    await this.#writing;
  }

  #parse(text: string): KeySet {
    const { issuer, jwks } = this.#options.location;
    const what = `the keys in ${this.#path} are not used: `;
    let stored: Partial<Stored> | null;
    try {
      stored = JSON.parse(text);
    } catch (cause) {
      throw new Error(`${what}they are not JSON`, { cause });
    }
    if (stored?.version !== VERSION || stored.issuer !== issuer || stored.jwks !== jwks)
      throw new Error(`${what}they are of another issuer or version`);
    const ageMs = this.#options.now() - Date.parse(String(stored.fetchedAt));
    if (!(ageMs >= -MAX_AHEAD_MS)) throw new Error(`${what}nobody knows how old they are`);
    if (ageMs > MAX_AGE_MS) throw new Error(`${what}they were fetched at ${stored.fetchedAt}, more than 7 days ago`);
    try {
      return publishedKeys(JSON.stringify(stored.set));
    } catch (cause) {
      throw new Error(`${what}${(cause as Error).message}`, { cause });
    }
  }

  async #write(): Promise<void> {
    const { dir, location, now, onProblem } = this.#options;
    try {
      for (let keys = this.#next; keys !== null; keys = this.#next) {
        this.#next = null;
        if (keys.published === null) continue;
        await privateDirectory(dir, true);
        const stored: Stored = {
          version: VERSION,
          issuer: location.issuer,
          jwks: location.jwks,
          fetchedAt: new Date(now()).toISOString(),
          set: JSON.parse(keys.published),
        };
        await writePrivate(this.#path, `${JSON.stringify(stored)}\n`);
        await this.#tidy();
      }
    } catch (error) {
      onProblem(error as Error);
    } finally {
      this.#writing = null;
    }
  }

  /** Of issuers that no config has had for long, so that there are not ever more. */
  async #tidy(): Promise<void> {
    const { dir, now } = this.#options;
    for (const name of (await readdir(dir)).filter((one) => OURS.test(one))) {
      const path = join(dir, name);
      const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Number.POSITIVE_INFINITY }));
      if (now() - mtimeMs > MAX_AGE_MS) await rm(path, { force: true });
    }
  }
}
