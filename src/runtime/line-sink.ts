// Takes log lines to a file descriptor in the background, in order, many to one write.
import { write, writeSync } from 'node:fs';

/** A reader that stopped reading must not let the process grow: past this, lines are dropped. */
const MAX_WAITING_CHARS = 16 * 1024 * 1024;

/** Pause before another try on a pipe that is full (EAGAIN). */
const RETRY_MS = 10;

/** Tries of `flushSync` on a full pipe, a pause apart: an exit that is asked for does not wait longer than a second. */
const SYNC_TRIES = 100;

/**
 * Not pino's own destination: at exit that one tries again for ever when writing fails with anything but success, so that a
 * closed pipe or a full disk would keep the process from ending.
 */
export class LineSink {
  readonly #fd: number;
  #waiting: string[] = [];
  #waitingChars = 0;
  #writing = false;
  #over = false;
  #idle: (() => void)[] = [];

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** What comes after the end (a socket that closes late) is not heard. */
  write(line: string): void {
    if (this.#over || this.#waitingChars + line.length > MAX_WAITING_CHARS) return;
    this.#waiting.push(line);
    this.#waitingChars += line.length;
    if (!this.#writing) this.#next();
  }

  /** Resolves when everything has been written, or cannot be. */
  end(): Promise<void> {
    this.#over = true;
    if (!this.#writing) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Writes what waits before it returns. */
  flushSync(): void {
    let rest = this.#take();
    for (let tries = 0; rest.length > 0 && tries < SYNC_TRIES; ) {
      try {
        rest = rest.subarray(writeSync(this.#fd, rest));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return;
        tries++;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
      }
    }
  }

  #take(): Buffer {
    const chunk = Buffer.from(this.#waiting.join(''));
    this.#waiting = [];
    this.#waitingChars = 0;
    return chunk;
  }

  #next(): void {
    this.#writing = this.#waiting.length > 0;
    if (this.#writing) this.#write(this.#take());
    else for (const resolve of this.#idle.splice(0)) resolve();
  }

  #write(chunk: Buffer): void {
    write(this.#fd, chunk, (error, written) => {
      if (error?.code === 'EAGAIN') setTimeout(() => this.#write(chunk), RETRY_MS);
      else if (error !== null) this.#failed(error);
      else if (written < chunk.length) this.#write(chunk.subarray(written));
      else this.#next();
    });
  }

  /** These lines are lost: nobody can be told, and traffic matters more than its log. A full disk may pass, a gone reader does not. */
  #failed(error: NodeJS.ErrnoException): void {
    if (error.code === 'EPIPE') {
      this.#over = true;
      this.#take();
    }
    this.#next();
  }
}
