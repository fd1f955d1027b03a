// One process at a time changes a directory that several share: a lock file, told stale when its holder is gone.
import { randomBytes } from 'node:crypto';
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

/** A holder works for milliseconds; one that has not finished by then never will. */
const STALE_AFTER_MS = 30_000;

const LONGEST_WAIT_MS = 60_000;
const RETRY_MS = 20;

/** @throws Error that names the lock when it cannot be had */
export async function withLock<T>(path: string, act: () => Promise<T>): Promise<T> {
  const token = `${process.pid} ${hostname()} ${randomBytes(8).toString('hex')}\n`;
  await take(path, token);
  try {
    return await act();
  } finally {
    // Another process may have thought it stale and have its own there now.
    if ((await contentOf(path)) === token) await rm(path, { force: true });
  }
}

async function take(path: string, token: string): Promise<void> {
  const giveUpAt = performance.now() + LONGEST_WAIT_MS;
  for (;;) {
    if (await create(path, token)) return;
    const holder = await contentOf(path);
    if (holder !== null && (await isStale(path, holder))) await removeStale(path, holder);
    else if (performance.now() > giveUpAt)
      throw new Error(`${path} is held by another process (${holder?.trim()}): remove it if that process is gone`);
    else await sleep(RETRY_MS * (0.5 + Math.random()));
  }
}

async function create(path: string, token: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx', 0o600);
    try {
      await file.writeFile(token);
    } finally {
      await file.close();
    }
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw new Error(`cannot write ${path}: ${(error as Error).message}`, { cause: error });
  }
}

async function isStale(path: string, holder: string): Promise<boolean> {
  const [pid, host] = holder.trim().split(' ');
  if (host === hostname() && !isAlive(Number(pid))) return true;
  const found = await stat(path).catch(() => null);
  return found !== null && Date.now() - found.mtimeMs > STALE_AFTER_MS;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** Two may see the same stale lock: the slower one must not take away what the faster one has put there since. */
async function removeStale(path: string, holder: string): Promise<void> {
  const aside = `${path}.${randomBytes(8).toString('hex')}`;
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  if ((await contentOf(aside)) === holder) await rm(aside, { force: true });
  else await rename(aside, path);
}

/** Null: there is none. Empty while its holder is about to write it. */
async function contentOf(path: string): Promise<string | null> {
  return readFile(path, 'utf8').catch(() => null);
}
