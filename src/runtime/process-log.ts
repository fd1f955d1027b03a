// Where everything that the process says ends: one pino logger on one destination, shared by access log, plugins and runtime.
import { type DestinationStream, destination, type Logger, pino } from 'pino';

export interface ProcessLog {
  readonly logger: Logger;
  /** Resolves when every line so far has been written; the log ends with it. */
  end(): Promise<void>;
  /** Writes what waits, at once, for an exit that waits for nothing. */
  flushSync(): void;
}

export interface ProcessLogOptions {
  /** File descriptor; default 1 (stdout). */
  readonly to?: number;
  /** `json`: one object a line. `text`: one short line for a person at a terminal. */
  readonly format: 'json' | 'text';
  /** pino level; default `info`. */
  readonly level?: string;
}

/** A reader that stopped reading must not let the process grow: past this, lines are dropped. */
const MAX_WAITING_BYTES = 16 * 1024 * 1024;

/** Lines are written as they come, in the background: a slow reader of stdout never stalls the event loop. */
export function openProcessLog(options: ProcessLogOptions): ProcessLog {
  const sink = destination({ dest: options.to ?? 1, sync: false, minLength: 0, maxLength: MAX_WAITING_BYTES });
  let broken = false;
  // The reader of a pipe went away (EPIPE): nobody can be told, and traffic matters more than its log.
  sink.on('error', () => {
    broken = true;
  });
  const stream: DestinationStream =
    options.format === 'json' ? sink : { write: (line) => void sink.write(`${textOf(line)}\n`) };
  const logger = pino({ level: options.level ?? 'info', base: null }, stream);
  return {
    logger,
    end() {
      if (broken) return Promise.resolve();
      return new Promise((resolve) => {
        sink.once('close', resolve);
        sink.once('error', resolve);
        sink.end();
      });
    },
    flushSync() {
      try {
        if (!broken) sink.flushSync();
      } catch {
        // Already ended, or its reader is gone.
      }
    },
  };
}

/** `13:37:16 WARN route "orders" is shadowed  place=shop.yaml:4:2`. */
export function textOf(line: string): string {
  const { level, time, msg, err, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const name = pino.levels.labels[level as number] ?? String(level);
  const parts = [new Date(time as number).toTimeString().slice(0, 8)];
  if (name !== 'info') parts.push(name.toUpperCase());
  if (msg !== undefined) parts.push(String(msg));
  const told = Object.entries(fields).map(([key, value]) => `${key}=${scalar(value)}`);
  const stack = (err as { readonly stack?: string } | undefined)?.stack;
  return [[parts.join(' '), ...told].join('  '), ...(stack === undefined ? [] : [stack])].join('\n');
}

function scalar(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
