// Where lines of any log leave the process, off the request's path: one buffer for each destination, whoever has something to say there.
import { isStdout } from './descriptor.ts';
import { Destination, type LineWriterOptions } from './destination.ts';

export type { LineWriterOptions } from './destination.ts';

/** What one part of the process has of a destination. */
export interface LineWriter {
  /** `line` ends with a line feed. After the end it is dropped. */
  write(line: string): void;
  /** Writes what waits before it returns; on a destination that takes nothing for a second it gives up. */
  flushSync(): void;
  /** Flushes and ends; a file is let go with its last writer. */
  close(): void;
  /** The same, once what is on its way has arrived. */
  end(): Promise<void>;
}

/** By descriptor or path; bounded by what the config names. */
const open = new Map<number | string, Destination>();

/**
 * A writer to a file descriptor, or to the path of a file that is appended to and opened anew when it is rotated away. Throws when
 * it cannot be opened. Writers to one destination share its buffer, so that no line ends up inside another. What waits when the
 * process exits, by whatever way short of a signal that kills, is written synchronously.
 *
 * pino's own destination is not used: at exit it tries again for ever when a pipe is closed or a disk is full.
 */
export function openLines(to: number | string, options: LineWriterOptions): LineWriter {
  const key = typeof to === 'string' && isStdout(to) ? 1 : to;
  let destination = open.get(key);
  if (destination === undefined) {
    destination = new Destination(key);
    open.set(key, destination);
  }
  return writerTo(destination, options, () => open.delete(key));
}

function writerTo(destination: Destination, options: LineWriterOptions, onClose: () => void): LineWriter {
  destination.join(options);
  let over = false;
  const leave = (): void => {
    destination.flushSync();
    if (destination.leave(options)) onClose();
  };
  return {
    write(line) {
      if (over) options.onDrop?.(1);
      else destination.take(line, options);
    },
    flushSync() {
      if (!over) destination.flushSync();
    },
    close() {
      if (over) return;
      over = true;
      leave();
    },
    async end() {
      if (over) return;
      over = true;
      await destination.settled();
      leave();
    },
  };
}
