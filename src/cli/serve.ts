// From a config to a process that serves until it is told to stop: what `run` and `proxy` share.
import { collectDefaultMetrics, Registry } from 'prom-client';
import { formatProblem } from '../config/problem.ts';
import { ConfigError, createSelvedge, RoleError, type SelvedgeOptions } from '../index.ts';
import { openProcessLog } from '../runtime/process-log.ts';
import { surviveUnhandledErrors, untilStopped } from '../runtime/signals.ts';
import { EXIT, type Io, UsageError } from './command.ts';

/** Resolves with the exit code once everything has ended and every line is written. Throws UsageError for a role that is not there. */
export async function serve(options: Pick<SelvedgeOptions, 'config' | 'roles'>, io: Io): Promise<number> {
  const isTerminal = (io.stdout as { readonly isTTY?: boolean }).isTTY === true;
  const log = openProcessLog({ format: isTerminal ? 'text' : 'json' });
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const errors = surviveUnhandledErrors({ log, registry });
  try {
    const selvedge = await createSelvedge({ ...options, logger: log.logger, registry, env: io.env, cwd: io.cwd });
    const stop = untilStopped(
      {
        close: ({ grace }) => selvedge.close({ graceMs: grace ? 'config' : 0 }),
        reload: (reason) => selvedge.reload(reason),
      },
      { log, registry },
    );
    try {
      await selvedge.start();
      return await stop.code;
    } finally {
      stop.detach();
    }
  } catch (error) {
    if (error instanceof RoleError) throw new UsageError(error.message);
    if (!(error instanceof ConfigError)) throw error;
    for (const problem of error.problems) io.stderr.write(`${formatProblem(problem)}\n`);
    return EXIT.couldNotStart;
  } finally {
    errors.detach();
    await log.end();
  }
}
