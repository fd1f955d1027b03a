// Notices that a file of the running config, or a certificate, has other content than before, whichever way it came there.
import { createHash } from 'node:crypto';
import { type BigIntStats, type FSWatcher, watch as fsWatch } from 'node:fs';
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';

export interface WatchDeps {
  /** As `fs.watch` on a directory. */
  readonly watch?: (directory: string, listener: DirectoryListener) => FSWatcher;
  /** Quiet time after the last event before a change is reported, instead of those of `QUIET_MS`. A file that is empty has its own. */
  readonly debounceMs?: number;
  /**
   * Called soon after an event with what differs by then, which may be half-written: to read ahead, not to act on. It is called anew
   * when there were further events.
   */
  readonly onUnrest?: (changed: readonly string[]) => void;
  /** Comparison without any event, for file systems that send none. Default 5 s. */
  readonly pollMs?: number;
  /** A directory cannot be watched (EMFILE, ENOSPC …): said once per directory; polling covers it meanwhile. */
  readonly onError?: (error: Error, directory: string) => void;
}

/** As `fs.watch` calls it; no name where the system gives none. */
export type DirectoryListener = (event?: 'rename' | 'change', name?: string | null) => void;

export interface FileWatch {
  /**
   * Watches these files (and directories: their listing) from now on; those known before keep what was seen of them.
   * A newly named file that changed after `since` (milliseconds since the epoch, when its reader began) is reported.
   */
  update(files: readonly string[], since?: number): Promise<void>;
  /** Compares now. Resolves when changes, if any, have been reported. */
  check(): Promise<void>;
  close(): void;
}

/** What was last seen at a path: `stamp` says cheaply that nothing happened, `content` what was there. */
interface Sighting {
  readonly stamp: string;
  readonly content: string;
  readonly end: End;
}

/** What the end of a file says of whoever writes it; `unfinished`: it breaks off within a line. */
type End = 'whole' | 'unfinished' | 'empty' | 'gone';

/** `isForetold`: nothing has happened since the last call of `onUnrest`, so what was read after it is what is reported now. */
export type OnChange = (changed: readonly string[], isForetold?: boolean) => void;

/** A save is over within it, nearly always: a truncated file has its text again. */
const UNREST_MS = 4;

/** An endless stream of events in a directory (a log beside the config) delays the comparison no longer than this. */
const LONGEST_DEBOUNCE_MS = 1000;

/** Quiet time by what is known of the write. */
const QUIET_MS = {
  /** Nothing but renames happened, as when an editor or Kubernetes puts a file in its place: it is whole at once, others may follow. */
  renamed: 20,
  /** Written in place: two looks agree. */
  written: 40,
  /** Programs flush their buffers in the middle of a line. A file that is gone may be about to be replaced. */
  unfinished: 75,
  /** A shell empties the file before it starts the program that fills it. */
  empty: LONGEST_DEBOUNCE_MS,
} as const;

/** Elsewhere "rename" is said of writes too. */
const TELLS_RENAMES = process.platform === 'linux';

const LINE_END = 0x0a;
const NEVER_SEEN: Sighting = { stamp: '', content: '', end: 'whole' };

/** File times advance with the kernel's tick (at most 10 ms): a file this young may change again under the same stamp. */
const TRUSTED_AGE_MS = 50;

const CONFIG_FILE = /^[^.].*\.(ya?ml|json|m?[jt]s)$/;

/**
 * Calls `onChange` with the paths whose content changed.
 *
 * `fs.watch` on a file follows the inode and goes deaf when an editor renames a new file into place or Kubernetes swaps its
 * `..data` link. So the directories are watched, an event only means "compare", and contents decide.
 */
export function watchFiles(onChange: OnChange, deps: WatchDeps = {}): FileWatch {
  return new DirectoryWatch(onChange, deps);
}

class DirectoryWatch implements FileWatch {
  readonly #onChange: OnChange;
  readonly #deps: WatchDeps;
  /** Bounded by the files that the config names. */
  readonly #sightings = new Map<string, Sighting>();
  /** The content that was reported last, of files that have had another since. */
  readonly #reported = new Map<string, string>();
  readonly #watchers = new Map<string, { readonly watcher: FSWatcher; readonly inode: bigint }>();
  /** What the files are called in each directory. */
  #names: ReadonlyMap<string, ReadonlySet<string>> = new Map();
  readonly #unwatchable = new Set<string>();
  readonly #poll: NodeJS.Timeout;
  #debounce: NodeJS.Timeout | undefined;
  #unrest: NodeJS.Timeout | undefined;
  /** There were events, and what they come to is not reported yet. */
  #isUnderWay = false;
  #firstEventAt = 0;
  #lastEventAt = 0;
  /** One of them is more than a rename. */
  #isWritten = false;
  /** `onUnrest` was called, and there was no event since. */
  #isForetold = false;
  /** Comparisons and updates run one after the other. */
  #last: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(onChange: OnChange, deps: WatchDeps) {
    this.#onChange = onChange;
    this.#deps = deps;
    this.#poll = setInterval(() => {
      if (!this.#isUnderWay) void this.check();
    }, deps.pollMs ?? 5000).unref();
  }

  update(files: readonly string[], since = Number.POSITIVE_INFINITY): Promise<void> {
    return this.#enqueue(async () => {
      const wanted = new Set(files);
      for (const known of this.#sightings.keys()) {
        if (wanted.has(known)) continue;
        this.#sightings.delete(known);
        this.#reported.delete(known);
      }
      await this.#watchDirectories(wanted);
      for (const file of wanted) {
        if (this.#sightings.has(file)) continue;
        const changedAt = await changeTime(file);
        this.#sightings.set(file, changedAt > since ? NEVER_SEEN : await sight(file));
        if (changedAt > since) this.#schedule(true);
      }
    });
  }

  check(): Promise<void> {
    return this.#enqueue(async () => {
      await this.#compare();
      await this.#report();
    });
  }

  async #report(): Promise<void> {
    this.#isUnderWay = false;
    this.#firstEventAt = performance.now();
    await this.#watchDirectories(new Set(this.#sightings.keys()));
    const changed = [...this.#reported.keys()];
    const isForetold = this.#isForetold;
    this.#reported.clear();
    this.#isForetold = false;
    if (changed.length > 0 && !this.#closed) this.#onChange(changed, isForetold);
  }

  /** The first look. */
  #foretell(): Promise<void> {
    return this.#enqueue(async () => {
      await this.#compare();
      const { onUnrest } = this.#deps;
      if (onUnrest === undefined || this.#reported.size === 0 || this.#closed) return;
      this.#isForetold = true;
      onUnrest([...this.#reported.keys()]);
    });
  }

  /** The last look, unless something says that somebody is still writing. */
  #rest(): Promise<void> {
    return this.#enqueue(async () => {
      const lookedAt = performance.now();
      if (await this.#compare()) this.#lastEventAt = Math.max(this.#lastEventAt, lookedAt);
      const leftMs = this.#leftMs(this.#quietMs());
      // A timer counts whole milliseconds.
      if (leftMs > 1) this.#restAfter(leftMs);
      else await this.#report();
    });
  }

  /** After the last event, whatever the files say. */
  get #leastQuietMs(): number {
    return this.#deps.debounceMs ?? (this.#isWritten ? QUIET_MS.written : QUIET_MS.renamed);
  }

  /** After the last event, for what is to be reported. */
  #quietMs(): number {
    const { debounceMs = QUIET_MS.unfinished } = this.#deps;
    const each = [...this.#reported.keys()].map((file) => {
      const end = this.#sightings.get(file)?.end;
      if (end === 'empty') return QUIET_MS.empty;
      return end === 'gone' || (end === 'unfinished' && this.#isWritten) ? debounceMs : 0;
    });
    return Math.max(this.#leastQuietMs, ...each);
  }

  /** Whether the content of any file is another than at the last look. */
  async #compare(): Promise<boolean> {
    let isOther = false;
    for (const [file, before] of this.#sightings) {
      const now = await sight(file, before);
      this.#sightings.set(file, now);
      if (now.content === before.content) continue;
      isOther = true;
      this.#isForetold = false;
      const reported = this.#reported.get(file) ?? before.content;
      if (now.content === reported) this.#reported.delete(file);
      else this.#reported.set(file, reported);
    }
    return isOther;
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#poll);
    clearTimeout(this.#debounce);
    clearTimeout(this.#unrest);
    for (const { watcher } of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  #enqueue(work: () => Promise<void>): Promise<void> {
    this.#last = this.#last.then(() => (this.#closed ? undefined : work()));
    return this.#last;
  }

  #schedule(isWrite: boolean): void {
    if (this.#closed) return;
    this.#isForetold = false;
    this.#lastEventAt = performance.now();
    if (!this.#isUnderWay) this.#firstEventAt = this.#lastEventAt;
    this.#isWritten = isWrite || (this.#isUnderWay && this.#isWritten);
    this.#isUnderWay = true;
    clearTimeout(this.#unrest);
    this.#unrest = setTimeout(() => void this.#foretell(), UNREST_MS).unref();
    this.#restAfter(this.#leftMs(this.#leastQuietMs));
  }

  /** Until it has been quiet for so long, or must not take any longer. */
  #leftMs(quietMs: number): number {
    const restAt = Math.min(this.#lastEventAt + quietMs, this.#firstEventAt + LONGEST_DEBOUNCE_MS);
    return Math.max(0, restAt - performance.now());
  }

  #restAfter(ms: number): void {
    clearTimeout(this.#debounce);
    this.#debounce = setTimeout(() => void this.#rest(), Math.ceil(ms)).unref();
  }

  /** Follows the files to where they lie now: a directory that was replaced gets a new watcher. */
  async #watchDirectories(files: ReadonlySet<string>): Promise<void> {
    const wanted = new Map<string, bigint>();
    const names = new Map<string, Set<string>>();
    for (const file of files) {
      for (const { directory, name } of await placesOf(file)) {
        const found = await stats(directory);
        if (found?.isDirectory()) wanted.set(directory, found.ino);
        names.set(directory, (names.get(directory) ?? new Set()).add(name));
      }
    }
    if (this.#closed) return;
    this.#names = names;
    for (const [directory, { watcher, inode }] of this.#watchers) {
      if (wanted.get(directory) === inode) continue;
      this.#watchers.delete(directory);
      watcher.close();
    }
    for (const [directory, inode] of wanted) if (!this.#watchers.has(directory)) this.#watchDirectory(directory, inode);
  }

  #watchDirectory(directory: string, inode: bigint): void {
    try {
      const open = this.#deps.watch ?? ((path, listener) => fsWatch(path, { persistent: false }, listener));
      const watcher = open(directory, (event, name) => {
        // A file that nobody asked about grows: a log beside the config does so all the time.
        const stranger =
          event === 'change' && typeof name === 'string' && this.#names.get(directory)?.has(name) === false;
        if (!stranger) this.#schedule(event !== 'rename' || !TELLS_RENAMES);
      });
      this.#watchers.set(directory, { watcher, inode });
      this.#unwatchable.delete(directory);
      watcher.on('error', (error) => {
        if (this.#watchers.get(directory)?.watcher === watcher) this.#watchers.delete(directory);
        watcher.close();
        this.#complain(error, directory);
      });
    } catch (error) {
      this.#complain(error as Error, directory);
    }
  }

  #complain(error: Error, directory: string): void {
    if (this.#closed || this.#unwatchable.has(directory)) return;
    this.#unwatchable.add(directory);
    this.#deps.onError?.(error, directory);
  }
}

async function stats(path: string): Promise<BigIntStats | null> {
  return stat(path, { bigint: true }).catch(() => null);
}

/** Milliseconds since the epoch; 0 for a file that is not there. */
async function changeTime(path: string): Promise<number> {
  const found = await stats(path);
  return found === null ? 0 : Number(found.ctimeNs / 1_000n) / 1000;
}

interface Place {
  readonly directory: string;
  readonly name: string;
}

/** Where the path names it, where a link leads to, and the inside of it if it is a directory. */
async function placesOf(path: string): Promise<readonly Place[]> {
  const target = await realpath(path).catch(() => path);
  const inside = (await stats(path))?.isDirectory() === true ? [{ directory: path, name: '' }] : [];
  return [path, target].map((at) => ({ directory: dirname(at), name: basename(at) })).concat(inside);
}

async function sight(path: string, before?: Sighting): Promise<Sighting> {
  const found = await stats(path);
  if (found === null) return { stamp: '', content: 'missing', end: 'gone' };
  const stamp = `${found.dev}:${found.ino}:${found.size}:${found.mtimeNs}:${found.ctimeNs}`;
  if (before !== undefined && before.stamp === stamp) return before;
  const settled = Date.now() - Number(found.ctimeNs / 1_000_000n) > TRUSTED_AGE_MS;
  return { stamp: settled ? stamp : '', ...(await contentOf(path, found.isDirectory())) };
}

/** A directory is its listing of config files: what an editor leaves beside them is not a change. */
async function contentOf(path: string, isDirectory: boolean): Promise<Pick<Sighting, 'content' | 'end'>> {
  try {
    if (isDirectory) {
      const names = (await readdir(path)).filter((name) => CONFIG_FILE.test(name));
      return { content: names.sort().join('/'), end: 'whole' };
    }
    const bytes = await readFile(path);
    const end = bytes.length === 0 ? 'empty' : bytes.at(-1) === LINE_END ? 'whole' : 'unfinished';
    return { content: createHash('sha256').update(bytes).digest('hex'), end };
  } catch (error) {
    return { content: `unreadable ${(error as NodeJS.ErrnoException).code}`, end: 'whole' };
  }
}
