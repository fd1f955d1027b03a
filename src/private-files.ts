// Files that hold keys: nobody else may read them, and they are whole or not there.
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** Bytes of a file at most. */
const MAX_FILE_BYTES = 1024 * 1024;

const TEMPORARY = /^\..*\.[0-9a-f]{16}\.tmp$/;

/** Made where it is missing, if `create` allows it. @throws Error when others may change what is in it */
export async function privateDirectory(dir: string, create: boolean): Promise<void> {
  try {
    if (create) await mkdir(dir, { recursive: true, mode: 0o700 });
    const { mode } = await stat(dir);
    if (process.platform !== 'win32' && (mode & 0o022) !== 0)
      throw new Error(`others can change it (mode ${octal(mode)}): chmod 700 it`);
  } catch (error) {
    throw new Error(`the directory ${dir} cannot be used: ${(error as Error).message}`, { cause: error });
  }
}

/** Null: there is none. @throws Error that names the file: unreadable, too large, or readable by others */
export async function readPrivate(path: string): Promise<string | null> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new Error(`cannot read ${path}: ${(error as Error).message}`, { cause: error });
  }
  try {
    const { mode, size } = await file.stat();
    if (process.platform !== 'win32' && (mode & 0o077) !== 0)
      throw new Error(`${path} can be read or changed by others (mode ${octal(mode)}): chmod 600 it`);
    if (size > MAX_FILE_BYTES) throw new Error(`${path} has more than ${MAX_FILE_BYTES} bytes`);
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

/** Others see the old content or the new one, also after a crash. */
export async function writePrivate(path: string, content: string): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(8).toString('hex')}.tmp`);
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      // The umask takes bits away; it never adds any.
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await chmod(temporary, 0o600);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw new Error(`cannot write ${path}: ${(error as Error).message}`, { cause: error });
  }
  await syncDirectory(dirname(path));
}

/** What a process left that died while it wrote. Only for the holder of the directory's lock. */
export async function removeLeftovers(dir: string): Promise<void> {
  const names = await readdir(dir);
  await Promise.all(names.filter((name) => TEMPORARY.test(name)).map((name) => rm(join(dir, name), { force: true })));
}

/** Some systems cannot; the rename is then as durable as they make it. */
export async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, 'r').catch(() => null);
  await handle?.sync().catch(() => {});
  await handle?.close();
}

function octal(mode: number): string {
  return `0${(mode & 0o777).toString(8)}`;
}
