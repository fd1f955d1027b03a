// The shape of one CLI command; each lives in a file of its own that main.ts imports only when it is asked for.
import type { Writable } from 'node:stream';
import type { ParseArgsConfig } from 'node:util';

/** Exit codes of the CLI: an interface. */
export const EXIT = { good: 0, checkFailed: 1, usage: 2, couldNotStart: 3 } as const;

export interface Io {
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
}

export interface CommandInput {
  readonly values: Readonly<Record<string, string | boolean | readonly (string | boolean)[] | undefined>>;
  readonly positionals: readonly string[];
  /** What stood behind `--`. */
  readonly rest: readonly string[];
}

export interface Command {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** The whole help text of this command. */
  readonly help: string;
  readonly options: NonNullable<ParseArgsConfig['options']>;
  /** Resolves with the exit code. Throws `UsageError` for wrong usage. */
  run(input: CommandInput, io: Io): Promise<number>;
}

/** Wrong usage of the CLI: exit code 2, message and a pointer to `--help`. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
