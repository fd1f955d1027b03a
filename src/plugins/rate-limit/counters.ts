// The accounts of one limit in this process: a bounded number of them, so that what clients make up costs memory only up to there.
import { type Account, charge, type Grant, giveBack, type Quota, take } from './quota.ts';

/**
 * What would be forgotten with an account: next to nothing (it was charged once), something, or that nothing is left. Making room
 * begins with the first kind, the least recently seen of it: a flood of new keys pushes out itself, and whoever wants an exhausted
 * account forgotten has to exhaust as many as there is room for.
 */
const KINDS = 3;

interface Entry extends Account {
  readonly key: string;
  kind: number;
  older: Entry | null;
  newer: Entry | null;
}

/** Least recently seen first. Not a Map's own order: its first entry is found by going over all that were deleted before. */
interface Line {
  oldest: Entry | null;
  newest: Entry | null;
}

export class Counters {
  readonly quota: Quota;
  readonly #maxKeys: number;
  readonly #now: () => number;
  readonly #onForget: () => void;
  readonly #entries = new Map<string, Entry>();
  readonly #lines: readonly Line[] = Array.from({ length: KINDS }, () => ({ oldest: null, newest: null }));

  /** `onForget` hears of every account that was dropped while it still mattered. */
  constructor(quota: Quota, maxKeys: number, now: () => number, onForget: () => void = () => {}) {
    this.quota = quota;
    this.#maxKeys = maxKeys;
    this.#now = now;
    this.#onForget = onForget;
  }

  take(key: string, cost: number): Grant {
    return this.#change(take, key, cost);
  }

  /** Takes what is left where that is less than `cost`. */
  charge(key: string, cost: number): void {
    this.#change(charge, key, cost);
  }

  #change(how: typeof take, key: string, cost: number): Grant {
    const now = this.#now();
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      this.#makeRoom(now);
      entry = { key, taken: 0, at: 0, kind: 0, older: null, newer: null };
      this.#entries.set(key, entry);
    } else {
      unlink(this.#lines[entry.kind], entry);
    }
    const grant = how(this.quota, entry, cost, now);
    entry.kind = grant.remaining < cost ? 2 : grant.remaining + cost < this.quota.capacity ? 1 : 0;
    append(this.#lines[entry.kind], entry);
    return grant;
  }

  /** Undoes a `take` that was granted; an account that was forgotten since is none that could be in debt. */
  giveBack(key: string, cost: number): void {
    const entry = this.#entries.get(key);
    if (entry !== undefined) giveBack(this.quota, entry, cost);
  }

  get size(): number {
    return this.#entries.size;
  }

  #makeRoom(now: number): void {
    // Two for one, so that what is over goes by itself.
    for (const line of this.#lines)
      for (let i = 0; i < 2; i++) if (line.oldest !== null && line.oldest.at <= now) this.#drop(line.oldest);
    if (this.size < this.#maxKeys) return;
    const first = this.#lines.find(({ oldest }) => oldest !== null)?.oldest;
    if (first === undefined || first === null) return;
    this.#drop(first);
    this.#onForget();
  }

  #drop(entry: Entry): void {
    unlink(this.#lines[entry.kind], entry);
    this.#entries.delete(entry.key);
  }
}

function append(line: Line, entry: Entry): void {
  entry.older = line.newest;
  if (line.newest === null) line.oldest = entry;
  else line.newest.newer = entry;
  line.newest = entry;
}

function unlink(line: Line, entry: Entry): void {
  if (entry.older === null) line.oldest = entry.newer;
  else entry.older.newer = entry.newer;
  if (entry.newer === null) line.newest = entry.older;
  else entry.newer.older = entry.older;
  entry.older = null;
  entry.newer = null;
}
