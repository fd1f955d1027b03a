// From a config to a process that serves until it is told to stop: what `run` and `proxy` share.
import { Registry } from 'prom-client';
import { assemble, type SelvedgeOptions } from '../assemble.ts';
import { formatProblem } from '../config/problem.ts';
import { ConfigError, RoleError, type Selvedge } from '../index.ts';
import { openProcessLog } from '../runtime/process-log.ts';
import { surviveUnhandledErrors, untilStopped } from '../runtime/signals.ts';
import { type RunningApp, startApp } from './app.ts';
import { EXIT, type Io, UsageError } from './command.ts';
import { collectProcessMetrics } from './process-metrics.ts';
import { fleetOf } from './worker.ts';

/** What stands behind `--`. */
export interface AppCommand {
  /** The program and its arguments. */
  readonly words: readonly string[];
  /** The service whose hop it calls through. */
  readonly hop: string;
}

/**
 * Resolves with the exit code once everything has ended and every line is written: that of the application where there is one.
 * Throws UsageError for a role that is not there.
 */
export async function serve(
  options: Pick<SelvedgeOptions, 'config' | 'roles'>,
  io: Io,
  command: AppCommand | null = null,
): Promise<number> {
  const isTerminal = (io.stdout as { readonly isTTY?: boolean }).isTTY === true;
  const format = isTerminal ? 'text' : 'json';
  const log = openProcessLog({ format });
  const registry = new Registry();
  collectProcessMetrics(registry);
  const errors = surviveUnhandledErrors({ log, registry });
  try {
    const openFleet = fleetOf(format, io.cwd);
    const selvedge = assemble({ ...options, logger: log.logger, registry, env: io.env, cwd: io.cwd }, openFleet);
    let app: RunningApp | null = null;
    const stop = untilStopped(
      {
        close: ({ grace }) =>
          selvedge.close({
            graceMs: grace ? 'config' : 0,
            beforeClosing: async (timeoutMs) => app?.stop(grace ? 'SIGTERM' : 'SIGINT', timeoutMs),
          }),
        reload: (reason) => selvedge.reload(reason),
      },
      { log, registry },
    );
    try {
      await selvedge.start();
      // Stopped while it was starting: there is nothing to start any more.
      if (command === null || stop.stopping) return await stop.code;
      app = await startBehind(selvedge, command, io);
      await Promise.race([app.ended, stop.code]);
      if (!stop.stopping) {
        log.logger.info('the application has ended: draining');
        await selvedge.close();
        return await app.ended;
      }
      // An application that ended within the grace waits for the rest of it no more.
      selvedge.close().catch(() => undefined);
      const drained = await stop.code;
      return drained === EXIT.good ? await app.ended : drained;
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

async function startBehind(selvedge: Selvedge, { words, hop }: AppCommand, io: Io): Promise<RunningApp> {
  const outbound = selvedge.addresses()[`outbound/${hop}`];
  if (outbound !== undefined) return startApp(words, outbound, io);
  await selvedge.close({ timeoutMs: 0 });
  throw new UsageError(`the hop of "${hop}" has no outbound side for an application: give it "internal.outbound"`);
}
