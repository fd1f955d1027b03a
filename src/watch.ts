// Notices that a file of the running config, or a certificate, has other content than before, whichever way it came there.
import { createHash } from 'node:crypto';
import { type BigIntStats, type FSWatcher, watch as fsWatch } from 'node:fs';
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';

export interface WatchDeps {
  /** As `fs.watch` on a directory. */
  readonly watch?: (directory: string, listener: DirectoryListener) => FSWatcher;
  /** Quiet time after the last event before a change is reported. Default 75 ms. */
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
}

/** `isForetold`: nothing has happened since the last call of `onUnrest`, so what was read after it is what is reported now. */
export type OnChange = (changed: readonly string[], isForetold?: boolean) => void;

/** A save is over within it, nearly always: a truncated file has its text again. */
const UNREST_MS = 10;

/** An endless stream of events in a directory (a log beside the config) delays the comparison no longer than this. */
const LONGEST_DEBOUNCE_MS = 1000;

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
  readonly #debounceMs: number;
  /** Bounded by the files that the config names. */
  readonly #sightings = new Map<string, Sighting>();
  /** The content that was reported last, of files that have had another since. */
  readonly #reported = new Map<string, string>();
  readonly #watchers = new Map<string, { readonly watcher: FSWatcher; readonly inode: bigint }>();
  /** What the files are called in each directory. */
  #names: ReadonlyMap<string, ReadonlySet<string>> = new Map();
  readonly #unwatchable = new Set<string>();
  readonly #poll: NodeJS.Timeout;
  #debounce: NodeJS.Timeout | null = null;
  #unrest: NodeJS.Timeout | undefined;
  #firstEventAt = 0;
  /** `onUnrest` was called, and there was no event since. */
  #isForetold = false;
  /** Comparisons and updates run one after the other. */
  #last: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(onChange: OnChange, deps: WatchDeps) {
    this.#onChange = onChange;
    this.#deps = deps;
    this.#debounceMs = deps.debounceMs ?? 75;
    this.#poll = setInterval(() => {
      if (this.#debounce === null) void this.check();
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
        this.#sightings.set(file, changedAt > since ? { stamp: '', content: '' } : await sight(file));
        if (changedAt > since) this.#schedule();
      }
    });
  }

  check(): Promise<void> {
    return this.#enqueue(async () => {
      await this.#compare();
      await this.#watchDirectories(new Set(this.#sightings.keys()));
      const changed = [...this.#reported.keys()];
      const isForetold = this.#isForetold;
      this.#reported.clear();
      this.#isForetold = false;
      if (changed.length > 0 && !this.#closed) this.#onChange(changed, isForetold);
    });
  }

  #foretell(): Promise<void> {
    return this.#enqueue(async () => {
      const { onUnrest } = this.#deps;
      if (onUnrest === undefined) return;
      await this.#compare();
      if (this.#reported.size === 0 || this.#closed) return;
      this.#isForetold = true;
      onUnrest([...this.#reported.keys()]);
    });
  }

  async #compare(): Promise<void> {
    for (const [file, before] of this.#sightings) {
      const { content, stamp } = await sight(file, before);
      this.#sightings.set(file, { content, stamp });
      if (content === before.content) continue;
      this.#isForetold = false;
      const reported = this.#reported.get(file) ?? before.content;
      if (content === reported) this.#reported.delete(file);
      else this.#reported.set(file, reported);
    }
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#poll);
    if (this.#debounce !== null) clearTimeout(this.#debounce);
    clearTimeout(this.#unrest);
    for (const { watcher } of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  #enqueue(work: () => Promise<void>): Promise<void> {
    this.#last = this.#last.then(() => (this.#closed ? undefined : work()));
    return this.#last;
  }

  #schedule(): void {
    if (this.#closed) return;
    this.#isForetold = false;
    const now = performance.now();
    clearTimeout(this.#unrest);
    this.#unrest = setTimeout(() => void this.#foretell(), UNREST_MS).unref();
    if (this.#debounce === null) this.#firstEventAt = now;
    else clearTimeout(this.#debounce);
    const left = this.#firstEventAt + LONGEST_DEBOUNCE_MS - now;
    this.#debounce = setTimeout(
      () => {
        this.#debounce = null;
        void this.check();
      },
      Math.max(0, Math.min(this.#debounceMs, left)),
    ).unref();
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
        if (!stranger) this.#schedule();
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
  if (found === null) return { stamp: '', content: 'missing' };
  const stamp = `${found.dev}:${found.ino}:${found.size}:${found.mtimeNs}:${found.ctimeNs}`;
  if (before !== undefined && before.stamp === stamp) return before;
  const settled = Date.now() - Number(found.ctimeNs / 1_000_000n) > TRUSTED_AGE_MS;
  return { stamp: settled ? stamp : '', content: await contentOf(path, found.isDirectory()) };
}

/** A directory is its listing of config files: what an editor leaves beside them is not a change. */
async function contentOf(path: string, isDirectory: boolean): Promise<string> {
  try {
    if (isDirectory)
      return (await readdir(path))
        .filter((name) => CONFIG_FILE.test(name))
        .sort()
        .join('/');
    return createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
  } catch (error) {
    return `unreadable ${(error as NodeJS.ErrnoException).code}`;
  }
}
