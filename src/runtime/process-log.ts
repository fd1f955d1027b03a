// Where everything that the process says ends: one pino logger on one destination, shared by access log, plugins and runtime.
import { type DestinationStream, type Logger, pino } from 'pino';
import { openLines } from '../lines/line-writer.ts';

export interface ProcessLog {
  readonly logger: Logger;
  /** Resolves when every line so far has been written; later ones are not. */
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

/** Characters held while the reader is slow. */
const MAX_PENDING = 16 * 1_048_576;

/** Lines are written in the background, in the order they come: a slow reader of stdout never stalls the event loop. */
export function openProcessLog({ to = 1, format, level = 'info' }: ProcessLogOptions): ProcessLog {
  const lines = openLines(to, { maxPending: MAX_PENDING, prompt: true });
  const text: DestinationStream = { write: (line) => lines.write(`${textOf(line)}\n`) };
  return {
    logger: pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, format === 'text' ? text : lines),
    end: () => lines.end(),
    flushSync: () => lines.flushSync(),
  };
}

let ownLogger: Logger | null = null;

/** For a library that was given no logger: one for the process, JSON lines to stdout from level info. */
export function stdoutLogger(): Logger {
  ownLogger ??= openProcessLog({ format: 'json' }).logger;
  return ownLogger;
}

/** `13:37:16 WARN route "orders" is shadowed  place=shop.yaml:4:2`. */
export function textOf(line: string): string {
  const { level, time, msg, err, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const name = pino.levels.labels[level as number] ?? String(level);
  const parts = [new Date(time as string).toTimeString().slice(0, 8)];
  if (name !== 'info') parts.push(name.toUpperCase());
  if (msg !== undefined) parts.push(String(msg));
  const told = Object.entries(fields).map(([key, value]) => `${key}=${scalar(value)}`);
  const stack = (err as { readonly stack?: string } | undefined)?.stack;
  return [[parts.join(' '), ...told].join('  '), ...(stack === undefined ? [] : [stack])].join('\n');
}

function scalar(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
