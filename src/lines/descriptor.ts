// What is known about a file descriptor that lines go to, and how to write to it when there is no time left.
import { fstatSync, type Stats, statSync, writeSync } from 'node:fs';

/** Milliseconds that a last write waits for a reader that takes nothing, and between its tries. */
const PATIENCE_MS = 1_000;
const PAUSE_MS = 10;

/**
 * A write returns at once with what it took. Node switches the pipes that it got as stdout and stderr to that when it first looks
 * at them, but not on Windows.
 */
export function isNonBlocking(fd: number): boolean {
  if (process.platform === 'win32' || (fd !== 1 && fd !== 2)) return false;
  const stream = fd === 1 ? process.stdout : process.stderr;
  const stats = fstatSync(fd);
  return stream.fd === fd && (stats.isFIFO() || stats.isSocket());
}

/** Writes of at most so many bytes are never torn by those of other processes (POSIX, PIPE_BUF of Linux). */
const ATOMIC_BYTES = 4_096;
const LINE_FEED = 0x0a;

let shared = false;

/** Other processes write lines to the descriptors of this one, from now on. */
export function shareDescriptors(): void {
  shared = true;
}

/** Whether what is written there has to be cut, so that no line ends up inside one of another process. Files are written whole. */
export function isTorn(fd: number): boolean {
  if (!shared) return false;
  const stats = fstatSync(fd);
  return stats.isFIFO() || stats.isSocket();
}

/** As many whole lines as are written in one go; one that is longer alone. */
export function wholeLines(bytes: Buffer): Buffer {
  if (bytes.length <= ATOMIC_BYTES) return bytes;
  const last = bytes.lastIndexOf(LINE_FEED, ATOMIC_BYTES - 1);
  const end = last >= 0 ? last : bytes.indexOf(LINE_FEED);
  return end < 0 ? bytes : bytes.subarray(0, end + 1);
}

/** `/dev/stdout` and its kind; a file that stdout was redirected to is left alone, because it may be rotated away. */
export function isStdout(path: string): boolean {
  const stats = statSync(path, { throwIfNoEntry: false });
  return stats !== undefined && !stats.isFile() && isSameFile(stats, fstatSync(1));
}

export function isSameFile(a: Stats, b: Stats): boolean {
  return a.ino === b.ino && a.dev === b.dev;
}

/** Bytes written, at least one; waits for a full pipe. Throws what the last try threw. */
export function writeWaiting(fd: number, bytes: Buffer): number {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      return writeSync(fd, bytes);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || performance.now() > deadline) throw error;
      Atomics.wait(WAIT, 0, 0, PAUSE_MS);
    }
  }
}

/** Never notified: `Atomics.wait` on it is a synchronous sleep. */
const WAIT = new Int32Array(new SharedArrayBuffer(4));
