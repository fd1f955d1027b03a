// The last stop of every line: one file descriptor, its buffer, and one write at a time.
import { closeSync, fstatSync, openSync, stat, write, writeSync } from 'node:fs';
import { isNonBlocking, isSameFile, isTorn, wholeLines, writeWaiting } from './descriptor.ts';

/** Characters that make a chunk worth writing at once: handing one to another thread costs 50 µs, whatever its size. */
const CHUNK = 65_536;
/** Milliseconds that a line waits for company. */
const LINGER_MS = 100;
/** Milliseconds between tries on a full pipe, on a destination that fails, and between looks at whether a file was rotated away. */
const FULL_MS = 10;
const RETRY_MS = 1_000;
const ROTATION_MS = 5_000;

export interface LineWriterOptions {
  /**
   * Characters that may wait while the destination is slow, the chunk under way left out. Beyond, the newest lines are dropped: the
   * oldest say how it began.
   */
  readonly maxPending: number;
  /** Lines leave with the end of this turn of the event loop; default: they wait for company, 100 ms at most. */
  readonly prompt?: boolean;
  /** The destination began to fail; lines wait (up to the bound) until it recovers. */
  readonly onTrouble?: (error: Error) => void;
  /** The destination lost lines, whoever wrote them. */
  readonly onDrop?: (lines: number) => void;
}

export class Destination {
  readonly #path: string | null;
  #fd: number;
  /** No write is ever under way when the process exits. */
  readonly #nonBlocking: boolean;
  readonly #writers = new Set<LineWriterOptions>();
  /** Bounded by `maxPending` of whoever adds to it. */
  #pending = '';
  /** Somebody who wrote it does not wait for company. */
  #urgent = false;
  /** What comes before `#pending`: under way, or waiting for its next try. */
  #chunk: Buffer | null = null;
  #writing = false;
  #troubled = false;
  /** The reader went away and cannot come back. */
  #gone = false;
  #closed = false;
  #timer: NodeJS.Timeout | null = null;
  #soon: NodeJS.Immediate | null = null;
  readonly #rotation: NodeJS.Timeout | null;
  #onSettled: (() => void)[] = [];
  readonly #onExit = (): void => this.flushSync();

  constructor(to: number | string) {
    this.#path = typeof to === 'string' ? to : null;
    this.#fd = typeof to === 'string' ? openSync(to, 'a', 0o640) : to;
    this.#nonBlocking = isNonBlocking(this.#fd);
    this.#rotation = this.#path === null ? null : setInterval(() => this.#followRotation(), ROTATION_MS).unref();
    process.on('exit', this.#onExit);
  }

  join(writer: LineWriterOptions): void {
    this.#writers.add(writer);
  }

  /** True when it was the last one: the destination is closed then, and what could not be flushed is lost. */
  leave(writer: LineWriterOptions): boolean {
    if (this.#writers.size === 1) this.#close();
    else this.#writers.delete(writer);
    return this.#closed;
  }

  take(line: string, { maxPending, prompt = false }: LineWriterOptions): void {
    if (this.#gone || this.#pending.length + line.length > maxPending) {
      this.#dropped(1);
      return;
    }
    this.#pending += line;
    if (prompt) this.#urgent = true;
    if (this.#chunk !== null) return;
    if (this.#pending.length >= CHUNK) this.#start();
    else if (prompt) this.#continueSoon();
    else this.#continueIn(LINGER_MS);
  }

  /** Resolves when no write is under way. */
  settled(): Promise<void> {
    return this.#writing ? new Promise((resolve) => this.#onSettled.push(resolve)) : Promise.resolve();
  }

  /** What it cannot write stays. */
  flushSync(): void {
    // A write under way is completed by libuv before the process ends; writing it again would double its lines.
    const before = this.#writing || this.#chunk === null ? NOTHING : this.#chunk;
    let rest = Buffer.concat([before, Buffer.from(this.#pending)]);
    if (!this.#writing) this.#chunk = null;
    this.#pending = '';
    try {
      while (rest.length > 0) rest = rest.subarray(writeWaiting(this.#fd, this.#piece(rest)));
    } catch (error) {
      if (this.#writing) this.#pending = rest.toString();
      else {
        this.#chunk = rest;
        this.#failed(error as NodeJS.ErrnoException);
      }
    }
  }

  #continueIn(ms: number): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#continue();
    }, ms).unref();
  }

  #continueSoon(): void {
    this.#soon ??= setImmediate(() => {
      this.#soon = null;
      this.#continue();
    });
  }

  #continue(): void {
    if (this.#writing) return;
    if (this.#chunk !== null) this.#writeChunk(this.#chunk);
    else if (this.#pending !== '') this.#start();
  }

  #start(): void {
    this.#chunk = Buffer.from(this.#pending);
    this.#pending = '';
    this.#urgent = false;
    this.#writeChunk(this.#chunk);
  }

  #writeChunk(chunk: Buffer): void {
    if (this.#nonBlocking) {
      try {
        this.#wrote(chunk, this.#writeSync(chunk));
      } catch (error) {
        this.#failed(error as NodeJS.ErrnoException);
      }
      return;
    }
    this.#writing = true;
    write(this.#fd, chunk, 0, this.#piece(chunk).length, null, (error, written) => {
      this.#writing = false;
      if (error === null) this.#wrote(chunk, written);
      else this.#failed(error);
      if (this.#writing) return;
      for (const resolve of this.#onSettled.splice(0)) resolve();
      if (this.#closed) this.#closeFile();
    });
  }

  /** Bytes written; throws only when there are none. */
  #writeSync(chunk: Buffer): number {
    let written = 0;
    try {
      for (;;) {
        const piece = this.#piece(chunk.subarray(written));
        const bytes = writeSync(this.#fd, piece);
        written += bytes;
        if (bytes < piece.length || written === chunk.length) return written;
      }
    } catch (error) {
      if (written === 0) throw error;
      return written;
    }
  }

  /** What of it goes out in one write. */
  #piece(bytes: Buffer): Buffer {
    return isTorn(this.#fd) ? wholeLines(bytes) : bytes;
  }

  #wrote(chunk: Buffer, bytes: number): void {
    this.#troubled = false;
    if (bytes < chunk.length) {
      this.#chunk = chunk.subarray(bytes);
      // The pipe is full: its reader gets a turn.
      if (this.#nonBlocking) this.#continueSoon();
      else this.#writeChunk(this.#chunk);
      return;
    }
    this.#chunk = null;
    if (this.#pending === '' || this.#closed) return;
    if (this.#pending.length >= CHUNK || this.#urgent) this.#start();
    else this.#continueIn(LINGER_MS);
  }

  #failed(error: NodeJS.ErrnoException): void {
    const full = error.code === 'EAGAIN';
    // A pipe with a name may find another reader, a descriptor never does.
    this.#gone ||= error.code === 'EPIPE' && this.#path === null;
    if (!full) this.#trouble(error);
    if (this.#gone) this.#loseAll();
    else if (!this.#closed) {
      if (this.#timer !== null) clearTimeout(this.#timer);
      this.#timer = null;
      this.#continueIn(full ? FULL_MS : RETRY_MS);
    }
  }

  #loseAll(): void {
    const lost = linesIn(this.#chunk ?? NOTHING) + linesIn(Buffer.from(this.#pending));
    this.#chunk = null;
    this.#pending = '';
    if (lost > 0) this.#dropped(lost);
  }

  #trouble(error: Error): void {
    if (this.#troubled) return;
    this.#troubled = true;
    for (const { onTrouble } of this.#writers) onTrouble?.(error);
  }

  #dropped(lines: number): void {
    for (const { onDrop } of this.#writers) onDrop?.(lines);
  }

  /** logrotate and its kind rename the file: lines go to whatever bears the name now. */
  #followRotation(): void {
    const path = this.#path as string;
    stat(path, (error, now) => {
      if (this.#closed || this.#writing || (error === null && isSameFile(now, fstatSync(this.#fd)))) return;
      try {
        const fd = openSync(path, 'a', 0o640);
        closeSync(this.#fd);
        this.#fd = fd;
      } catch (problem) {
        this.#trouble(problem as Error);
      }
    });
  }

  /** A write under way is left to end; the file is closed behind it. */
  #close(): void {
    this.#closed = true;
    process.off('exit', this.#onExit);
    if (this.#timer !== null) clearTimeout(this.#timer);
    if (this.#soon !== null) clearImmediate(this.#soon);
    if (this.#rotation !== null) clearInterval(this.#rotation);
    if (!this.#writing) this.#closeFile();
  }

  #closeFile(): void {
    this.#loseAll();
    if (this.#path !== null) closeSync(this.#fd);
  }
}

function linesIn(bytes: Buffer): number {
  let lines = 0;
  for (let at = bytes.indexOf(LINE_FEED); at >= 0; at = bytes.indexOf(LINE_FEED, at + 1)) lines++;
  return lines;
}

const LINE_FEED = 0x0a;
const NOTHING = Buffer.alloc(0);
