// What `selvedge run` starts of itself for `workers`: the process at a worker's end, and the fork that makes it.
import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { Registry } from 'prom-client';
import { shareDescriptors } from '../lines/descriptor.ts';
import { centralServices } from '../plugins/central.ts';
import { builtins } from '../plugins/index.ts';
import { openProcessLog } from '../runtime/process-log.ts';
import { surviveUnhandledErrors } from '../runtime/signals.ts';
import type { OpenFleet } from '../runtime/workers/count.ts';
import { EXIT } from './command.ts';
import { collectProcessMetrics } from './process-metrics.ts';

/** Set for a worker: its number. */
const MARK = 'SELVEDGE_WORKER';
/** How its lines look is decided once, where the terminal is. */
const FORMAT = 'SELVEDGE_WORKER_LOG';

/** These are for the supervisor, whoever else they reach: a terminal and a service manager signal every process of a group. */
const SUPERVISED = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

/** The number of the worker that this process is; null: it is none. */
export function workerNumber(): number | null {
  const number = process.send === undefined ? undefined : process.env[MARK];
  return number === undefined ? null : Number(number);
}

/** Serves until its supervisor ends it. Resolves with the exit code. */
export async function runWorker(number: number): Promise<number> {
  for (const signal of SUPERVISED) process.on(signal, () => {});
  const format = process.env[FORMAT] === 'text' ? 'text' : 'json';
  delete process.env[MARK];
  delete process.env[FORMAT];
  shareDescriptors();
  const log = openProcessLog({ format });
  const logger = log.logger.child({ worker: number });
  const registry = new Registry();
  collectProcessMetrics(registry);
  surviveUnhandledErrors({ log: { ...log, logger }, registry });
  const { serveAsWorker } = await import('../runtime/workers/worker.ts');
  await serveAsWorker({ wire: process as never, builtins, logger, registry });
  await log.end();
  return EXIT.good;
}

/** For `createSelvedge` of the command line: workers are this very program once more. */
export function fleetOf(format: 'json' | 'text', cwd: string): OpenFleet {
  return async (count, options) => {
    shareDescriptors();
    const { Fleet } = await import('../runtime/workers/fleet.ts');
    return new Fleet(count, {
      ...options,
      services: centralServices,
      secret: randomBytes(32),
      fork: (number) => forkWorker(number, format, cwd),
    });
  };
}

function forkWorker(number: number, format: 'json' | 'text', cwd: string): ChildProcess {
  const child = fork(process.argv[1], [], {
    cwd,
    env: { ...process.env, [MARK]: String(number), [FORMAT]: format },
    execArgv: process.execArgv,
  });
  // Also for exits that wait for nothing, as after a second signal.
  const kill = (): void => {
    child.kill('SIGKILL');
  };
  process.on('exit', kill);
  child.once('exit', () => process.off('exit', kill));
  return child;
}
