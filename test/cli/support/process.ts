// `selvedge` as a process of its own, with what it said so far; killed with its test if it is still there.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Owner } from '../../e2e/support/process.ts';

const BIN = join(import.meta.dirname, '../../../bin/selvedge.js');

export interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export class SelvedgeProcess {
  readonly child: ChildProcess;
  stdout = '';
  stderr = '';
  /** The exit code, or the name of the signal that ended it. */
  readonly ended: Promise<number | string>;
  #waiting: (() => void)[] = [];

  constructor(
    t: Owner,
    args: readonly string[],
    options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {},
  ) {
    const env = { ...process.env, ...options.env };
    this.child = spawn(process.execPath, [BIN, ...args], { cwd: options.cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    t.teardown(() => {
      if (this.child.exitCode === null) this.child.kill('SIGKILL');
    });
    this.child.stdout?.on('data', (chunk) => {
      this.stdout += chunk;
      this.#wake();
    });
    this.child.stderr?.on('data', (chunk) => {
      this.stderr += chunk;
    });
    this.ended = new Promise((resolve) => {
      this.child.once('close', (code, signal) => {
        resolve(code ?? String(signal));
        this.#wake();
      });
    });
  }

  get lines(): readonly LogLine[] {
    return this.stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as LogLine);
  }

  /** The first line of the log that has this message. Rejects when the process ends without it. */
  async says(message: string | RegExp): Promise<LogLine> {
    for (;;) {
      const found = this.lines.find(({ msg }) => (typeof message === 'string' ? msg === message : message.test(msg)));
      if (found !== undefined) return found;
      if (this.child.exitCode !== null)
        throw new Error(`ended without saying ${message}: ${this.stdout}${this.stderr}`);
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Port of the listener, once it is bound. */
  async port(listener: string): Promise<number> {
    await this.says('config in force');
    const line = this.lines.find((line) => line.listener === listener) as LogLine;
    return Number(/:(\d+)$/.exec(line.msg)?.[1]);
  }

  signal(name: NodeJS.Signals): void {
    this.child.kill(name);
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
