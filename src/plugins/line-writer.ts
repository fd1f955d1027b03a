// Carries log lines to a file or stdout in chunks, off the request's path: the last stop of an access-log line.
import { closeSync, fstatSync, openSync, stat, write, writeSync } from 'node:fs';

/** Characters that make a chunk worth writing at once. */
const CHUNK = 16_384;
/** Characters held while the destination is slow; lines beyond are dropped and counted. */
const MAX_PENDING = 8 * 1_048_576;
/** Milliseconds that a line waits for company. */
const LINGER_MS = 100;
/** Milliseconds between tries when the destination fails, and between looks at whether a file was rotated away. */
const RETRY_MS = 1_000;
const ROTATION_MS = 5_000;
/** Milliseconds that the last flush waits for a full pipe. */
const FLUSH_PATIENCE_MS = 1_000;

export interface LineWriterEvents {
  /** The destination began to fail; lines wait (up to the bound) until it recovers. */
  readonly onTrouble: (error: Error) => void;
  /** Lines were lost. */
  readonly onDrop: (lines: number) => void;
}

/**
 * Writes are asynchronous, one at a time and in order. What is pending when the process exits, by whatever way short of a
 * signal that kills, is written synchronously. pino's own destination is not used: its last flush never returns once a pipe is closed.
 */
export class LineWriter {
  #fd: number;
  readonly #path: string | null;
  readonly #events: LineWriterEvents;
  #pending = '';
  /** What comes before `#pending`: under way, or waiting for its next try. */
  #chunk: Buffer | null = null;
  #writing = false;
  #reported = false;
  #closed = false;
  #timer: NodeJS.Timeout | null = null;
  #rotation: NodeJS.Timeout | null = null;
  readonly #onExit = (): void => this.flushSync();

  /** `stdout`, or the path of a file that is appended to and opened anew when it is rotated away. Throws when it cannot be opened. */
  constructor(destination: string, events: LineWriterEvents) {
    this.#path = destination === 'stdout' ? null : destination;
    this.#fd = this.#path === null ? 1 : openSync(this.#path, 'a', 0o640);
    this.#events = events;
    if (this.#path !== null) this.#rotation = setInterval(() => this.#followRotation(), ROTATION_MS).unref();
    process.on('exit', this.#onExit);
  }

  /** `line` ends with a line feed. */
  write(line: string): void {
    if (this.#pending.length + line.length > MAX_PENDING || this.#closed) {
      this.#events.onDrop(1);
      return;
    }
    this.#pending += line;
    if (this.#chunk !== null) return;
    if (this.#pending.length >= CHUNK) this.#start();
    else this.#linger();
  }

  /** Writes what is pending before it returns; gives up after a second on a destination that takes nothing. */
  flushSync(): void {
    // A write under way is completed by libuv before the process ends; writing it again would double its lines.
    const parts = this.#chunk === null || this.#writing ? [] : [this.#chunk];
    parts.push(Buffer.from(this.#pending));
    if (!this.#writing) this.#chunk = null;
    this.#pending = '';
    const deadline = performance.now() + FLUSH_PATIENCE_MS;
    for (const part of parts) {
      let written = 0;
      try {
        while (written < part.length) written += writeWaiting(this.#fd, part, written, deadline);
      } catch (error) {
        this.#events.onTrouble(error as Error);
        this.#events.onDrop(linesIn(part, written));
      }
    }
  }

  /** Flushes and lets the file go. */
  close(): void {
    if (this.#closed) return;
    this.flushSync();
    this.#closed = true;
    process.off('exit', this.#onExit);
    if (this.#timer !== null) clearTimeout(this.#timer);
    if (this.#rotation !== null) clearInterval(this.#rotation);
    if (!this.#writing) this.#closeFile();
  }

  #linger(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      if (this.#chunk === null && this.#pending !== '') this.#start();
    }, LINGER_MS).unref();
  }

  /** Only while no write is under way. */
  #start(): void {
    this.#chunk = Buffer.from(this.#pending);
    this.#pending = '';
    this.#writeChunk(this.#chunk);
  }

  #writeChunk(chunk: Buffer): void {
    this.#writing = true;
    write(this.#fd, chunk, 0, chunk.length, null, (error, written) => {
      if (error === null && written < chunk.length) {
        this.#chunk = chunk.subarray(written);
        this.#writeChunk(this.#chunk);
        return;
      }
      this.#writing = false;
      if (error !== null) {
        this.#retryLater(chunk, error);
        return;
      }
      this.#chunk = null;
      this.#reported = false;
      if (this.#closed) this.#closeFile();
      else if (this.#pending.length >= CHUNK) this.#start();
      else if (this.#pending !== '') this.#linger();
    });
  }

  #retryLater(chunk: Buffer, error: NodeJS.ErrnoException): void {
    if (this.#closed) {
      this.#events.onDrop(linesIn(chunk, 0));
      this.#closeFile();
      return;
    }
    const full = error.code === 'EAGAIN';
    if (!full && !this.#reported) {
      this.#reported = true;
      this.#events.onTrouble(error);
    }
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#retry(), full ? LINGER_MS : RETRY_MS).unref();
  }

  #retry(): void {
    this.#timer = null;
    if (this.#chunk !== null) this.#writeChunk(this.#chunk);
  }

  /** logrotate and its kind rename the file: lines go to whatever bears the name now. */
  #followRotation(): void {
    const path = this.#path as string;
    stat(path, (error, now) => {
      if (this.#closed || this.#writing) return;
      const current = fstatSync(this.#fd);
      if (error === null && now.ino === current.ino && now.dev === current.dev) return;
      try {
        const fd = openSync(path, 'a', 0o640);
        closeSync(this.#fd);
        this.#fd = fd;
      } catch (problem) {
        this.#events.onTrouble(problem as Error);
      }
    });
  }

  #closeFile(): void {
    if (this.#path !== null) closeSync(this.#fd);
  }
}

/** Bytes written; waits for a full pipe until `deadline`. */
function writeWaiting(fd: number, bytes: Buffer, offset: number, deadline: number): number {
  for (;;) {
    try {
      return writeSync(fd, bytes, offset);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || performance.now() > deadline) throw error;
      Atomics.wait(WAIT, 0, 0, 10);
    }
  }
}

function linesIn(bytes: Buffer, from: number): number {
  let lines = 0;
  for (let at = bytes.indexOf(LINE_FEED, from); at >= 0; at = bytes.indexOf(LINE_FEED, at + 1)) lines++;
  return lines;
}

const LINE_FEED = 0x0a;
/** Never notified: `Atomics.wait` on it is a synchronous sleep. */
const WAIT = new Int32Array(new SharedArrayBuffer(4));
