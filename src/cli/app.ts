// The application that `run -- APP` starts behind its hop: a child with the hop as its HTTP proxy, and whatever ends it.
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { formatHostPort } from '../http/address.ts';
import type { Io } from './command.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Both of these run here, with the application: nothing of them is a service of the mesh. `[::1]` is how some clients write `::1`. */
const LOOPBACK = ['localhost', '127.0.0.1', '::1', '[::1]'] as const;

/** What a shell answers for a command that it does not find, and for one that it cannot execute. */
const NOT_FOUND = 127;
const NOT_EXECUTABLE = 126;

/** Programs give these a meaning of their own. SIGHUP is ours: it reloads. */
const PASSED_ON = ['SIGUSR1', 'SIGUSR2', 'SIGQUIT'] as const;

export interface RunningApp {
  /** Resolves with its exit code, 128 + the number of the signal that ended it, 127 where it is not found, 126 where it cannot be executed. */
  readonly ended: Promise<number>;
  /** Asks it to end, and kills it where it has not after `timeoutMs`. Resolves when it has ended. */
  stop(signal: 'SIGTERM' | 'SIGINT', timeoutMs: number): Promise<void>;
}

/**
 * Starts it with our own standard streams. It ends with this process at the latest.
 *
 * @param outbound - address that the outbound listener of its hop is bound to
 */
export function startApp(
  [file, ...args]: readonly string[],
  outbound: { readonly host: string; readonly port: number },
  io: Pick<Io, 'env' | 'cwd' | 'stderr'>,
): RunningApp {
  const env = appEnvironment(io.env, outbound);
  let child: ChildProcess;
  try {
    child = spawn(file, args, { stdio: 'inherit', env, cwd: io.cwd });
  } catch (error) {
    // Node throws some failures (a path through a file, too long arguments) and emits others.
    const ended = Promise.resolve(notStarted(file, error as NodeJS.ErrnoException, io));
    return { ended, stop: async () => undefined };
  }
  const kill = (): void => {
    child.kill('SIGKILL');
  };
  const passOn = (signal: NodeJS.Signals): void => {
    if (signal !== 'SIGQUIT' || !onTerminal()) child.kill(signal);
  };
  const ended = endOf(child, file, io).finally(() => {
    process.off('exit', kill);
    for (const signal of PASSED_ON) process.off(signal, passOn);
  });
  // Also for exits that wait for nothing, as after a second signal.
  process.on('exit', kill);
  for (const signal of PASSED_ON) process.on(signal, passOn);
  return {
    ended,
    async stop(signal, timeoutMs) {
      // A terminal's Ctrl-C reaches the application directly; a second one would end many at once.
      if (signal !== 'SIGINT' || !onTerminal()) child.kill(signal);
      const late = setTimeout(kill, timeoutMs);
      await ended;
      clearTimeout(late);
    },
  };
}

function endOf(child: ChildProcess, file: string, io: Pick<Io, 'stderr'>): Promise<number> {
  return new Promise((resolve) => {
    child.once('exit', (code, signal) => resolve(signal === null ? (code as number) : 128 + constants.signals[signal]));
    child.on('error', (error: NodeJS.ErrnoException) => {
      // Later ones tell of a signal that could not be delivered.
      if (child.pid === undefined) resolve(notStarted(file, error, io));
    });
  });
}

/** Says so, and returns the exit code. */
function notStarted(file: string, error: NodeJS.ErrnoException, { stderr }: Pick<Io, 'stderr'>): number {
  const missing = error.code === 'ENOENT' || error.code === 'ENOTDIR';
  stderr.write(`selvedge run: cannot start "${file}": ${missing ? 'there is no such command' : error.message}\n`);
  return missing ? NOT_FOUND : NOT_EXECUTABLE;
}

/**
 * Plain HTTP goes through the hop. `https:` cannot be read there, so HTTPS_PROXY stays as it is. Proxies exclude by NO_PROXY in either
 * case, and clients differ in which one they prefer: both say the same, what they said before and loopback.
 */
export function appEnvironment(
  env: Environment,
  outbound: { readonly host: string; readonly port: number },
): NodeJS.ProcessEnv {
  // What bin/selvedge.js set for this process alone.
  const ours = new Set(['SELVEDGE_MALLOC', ...(env.SELVEDGE_MALLOC ?? '').split(' ')]);
  const kept = Object.entries(env).filter(([name]) => !ours.has(name));
  const proxy = `http://${formatHostPort(reachable(outbound.host), outbound.port)}`;
  const excluded = merged(env.NO_PROXY, env.no_proxy);
  return {
    ...Object.fromEntries(kept),
    HTTP_PROXY: proxy,
    http_proxy: proxy,
    NO_PROXY: excluded,
    no_proxy: excluded,
    NODE_USE_ENV_PROXY: '1',
  };
}

/** A wildcard address is where a listener listens; nobody connects there. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  return host === '::' ? '::1' : host;
}

/** `*` means everything only where it stands alone. */
function merged(...lists: readonly (string | undefined)[]): string {
  const entries = lists.flatMap((list) => (list ?? '').split(',')).map((entry) => entry.trim());
  if (entries.includes('*')) return '*';
  return [...new Set([...entries.filter((entry) => entry !== ''), ...LOOPBACK])].join(',');
}

function onTerminal(): boolean {
  return process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
}
