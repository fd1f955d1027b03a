// The processes of a benchmark: where each runs, how one knows that it serves, and that none outlives the run.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';

export const ROOT = new URL('..', import.meta.url).pathname;
export const PROXY_CORE = '0';
export const BACKEND_CORE = '1';
/** The first of a hundred ports. */
export const PORTS = Number(process.env.BENCH_PORTS ?? 18_100);

export interface Serve {
  readonly port: number;
  /** Null: wherever the kernel puts it. */
  readonly core: string | null;
  /** Where its output goes; not given: nowhere. */
  readonly log?: string;
  /** Told of the process before it serves, so that it is ended in any case. */
  readonly keep: (child: ChildProcess) => unknown;
}

const alive = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of alive) child.kill('SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

/**
 * Resolves when it accepts connections, with the process itself: no shell or taskset is above it, its pid is the one to measure.
 * Rejects when it does not within thirty seconds, or when another program has the port.
 */
export async function serve(
  command: readonly string[],
  { port, core, log = '/dev/null', keep }: Serve,
): Promise<ChildProcess> {
  if (await accepts(port)) {
    throw new Error(
      `port ${port} is taken: if another benchmark runs, each spoils the figures of the other; BENCH_PORTS names the first of other ports`,
    );
  }
  const words = core === null ? command : ['taskset', '-c', core, ...command];
  const child = spawn('sh', ['-c', `exec "$@" > "${log}"`, 'sh', ...words], {
    cwd: ROOT,
    env: plainEnvironment(),
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  alive.add(child);
  child.once('exit', () => alive.delete(child));
  keep(child);
  for (let attempt = 0; attempt < 600; attempt++) {
    if (child.exitCode !== null) throw new Error(`${command[0]} ended with ${child.exitCode}`);
    if (await accepts(port)) return child;
    await wait(50);
  }
  throw new Error(`nothing listens on port ${port}`);
}

/** Without what the shell has Node do besides: further root certificates alone are half a MiB. */
function plainEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('NODE_')));
}

/** Asks it to end, and ends it when it has not after eight seconds. */
export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGINT');
  const forced = setTimeout(() => child.kill('SIGKILL'), 8_000);
  await exit;
  clearTimeout(forced);
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true));
    socket.on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}

/** Keeps this process on a core while it makes the load, and lets it go again: what is started afterwards would stay there too. */
export async function onCore<T>(core: string, work: () => Promise<T>): Promise<T> {
  const usual = /^Cpus_allowed_list:\s+(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] as string;
  const move = (cores: string) => execFileSync('taskset', ['-acp', cores, String(process.pid)], { stdio: 'ignore' });
  move(core);
  try {
    return await work();
  } finally {
    move(usual);
  }
}

export function has(program: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

export function versionOf(program: string, flag: string, pattern: RegExp): string {
  const text = execFileSync('sh', ['-c', `${program} ${flag} 2>&1`], { encoding: 'utf8' });
  return pattern.exec(text)?.[1] ?? 'unknown';
}

/** Of a dependency; `..`: of Selvedge. */
export function packageVersion(name: string): string {
  const path = name === '..' ? '../package.json' : `../node_modules/${name}/package.json`;
  return JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')).version;
}
