// `selvedge run` as a process of its own, with its log, its config file and its signals.
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { eventually } from './sockets.ts';

/** Whoever ends what was started: a test, or a benchmark. */
export interface Owner {
  teardown(end: () => unknown): void;
}

interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly reason?: string;
}

export class RunningProcess {
  readonly file: string;
  readonly child: ChildProcess;
  readonly exit: Promise<{ readonly code: number | null; readonly signal: string | null }>;
  readonly lines: LogLine[] = [];
  exited = false;

  private constructor(t: Owner, file: string, args: readonly string[]) {
    this.file = file;
    const bin = new URL('../../../bin/selvedge.js', import.meta.url).pathname;
    this.child = spawn(process.execPath, [bin, 'run', '-c', file, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => this.child.kill('SIGKILL'));
    this.exit = new Promise((resolve) => {
      this.child.once('exit', (code, signal) => {
        this.exited = true;
        resolve({ code, signal });
      });
    });
    let rest = '';
    this.child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      const texts = (rest + chunk).split('\n');
      rest = texts.pop() as string;
      for (const text of texts) this.lines.push(JSON.parse(text) as LogLine);
    });
  }

  /** Writes the config and starts; resolves when it is in force. */
  static async start(t: Owner, file: string, config: unknown, ...args: string[]): Promise<RunningProcess> {
    writeFileSync(file, textOf(config));
    const running = new RunningProcess(t, file, args);
    await eventually(() => running.exited || running.count('config in force') === 1, 'the config is in force', 15_000);
    if (running.exited) throw new Error('selvedge ended before it served');
    return running;
  }

  count(msg: string): number {
    return this.lines.filter((line) => line.msg === msg).length;
  }

  /** Does what brings it about, and waits for one more line with this message. */
  async after(msg: string, act: () => void): Promise<void> {
    const before = this.count(msg);
    act();
    await eventually(() => this.count(msg) > before, msg, 10_000);
  }

  /** Writes another config and waits until it is in force. */
  edit(config: unknown): Promise<void> {
    return this.after('config in force', () => writeFileSync(this.file, textOf(config)));
  }

  /** Writes something that must be refused, and waits until it was. */
  spoil(config: unknown): Promise<void> {
    return this.after('config rejected: the one in force stays', () => writeFileSync(this.file, textOf(config)));
  }
}

function textOf(config: unknown): string {
  return typeof config === 'string' ? config : JSON.stringify(config);
}
