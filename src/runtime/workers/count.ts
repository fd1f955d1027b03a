// How many processes serve: as `workers` of the config says, once and for all at start.
import { availableParallelism } from 'node:os';
import type { Config } from '../../config/model.ts';
import type { Problem } from '../../config/problem.ts';
import type { Engine } from '../engine.ts';
import type { InstallationOptions } from '../installation.ts';

/** Makes the supervisor's side of `count` workers. */
export type OpenFleet = (count: number, options: InstallationOptions) => Engine | Promise<Engine>;

export function workersOf({ workers }: Pick<Config, 'workers'>): number {
  return workers === 'auto' ? availableParallelism() : workers;
}

/** Why `config` cannot be served as `workers` says; null: it can. `before`: what is in force. */
export function workersProblem(
  config: Pick<Config, 'workers'>,
  before: Pick<Config, 'workers'> | null,
  canFork: boolean,
): Problem | null {
  if (before !== null && workersOf(before) !== workersOf(config))
    return problem(
      `cannot change while it runs (${workersOf(before)} now, ${workersOf(config)} asked for): restart, or put the old number back`,
    );
  if (config.workers === 1 || canFork) return null;
  return problem(
    'is for "selvedge run": the library serves with the process that calls it; leave the key out, or start several processes',
  );
}

function problem(message: string): Problem {
  return { severity: 'error', place: null, path: 'workers', message };
}
