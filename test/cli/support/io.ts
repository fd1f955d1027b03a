// A command line in memory: what it wrote and how it ended.
import { Writable } from 'node:stream';
import type { Command } from '../../../src/cli/command.ts';
import { type CommandTable, runCommandLine } from '../../../src/cli/command-line.ts';

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

class Collected extends Writable {
  text = '';

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += String(chunk);
    done();
  }
}

/** Runs one command as `selvedge ARGS…` would. */
export async function runCommand(
  command: Command,
  args: readonly string[],
  cwd: string,
  env: Record<string, string> = {},
): Promise<Ran> {
  return runTable({ [command.name]: async () => ({ command }) }, [command.name, ...args], cwd, env);
}

export async function runTable(
  table: CommandTable,
  args: readonly string[],
  cwd: string,
  env: Record<string, string> = {},
): Promise<Ran> {
  const stdout = new Collected();
  const stderr = new Collected();
  const code = await runCommandLine(table, args, { stdout, stderr, env, cwd });
  return { code, stdout: stdout.text, stderr: stderr.text };
}
