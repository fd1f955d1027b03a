// What the operating system and broken code say to the process: stop, stop now, read the config again, something threw.
import type { Logger } from 'pino';
import { Counter, type Registry } from 'prom-client';
import type { ProcessLog } from './process-log.ts';

/** What signals act on. */
export interface Drainable {
  /** Resolves when everything has ended. */
  close(options: { readonly grace: boolean }): Promise<void>;
  reload(reason: string): Promise<unknown>;
}

export interface SignalDeps {
  readonly log: ProcessLog;
  readonly registry: Registry;
  /** Default `process`. */
  readonly process?: Pick<NodeJS.Process, 'on' | 'off' | 'exit'>;
}

export interface Stopping {
  /** The exit code, once a drain has ended. */
  readonly code: Promise<number>;
  /** A signal has asked for the end. */
  readonly stopping: boolean;
  detach(): void;
}

/** Exit code of a process that a signal ended: 128 + its number, as a shell reports it. */
const SIGNAL_EXIT = { SIGINT: 130, SIGTERM: 143 } as const;
type Stop = keyof typeof SIGNAL_EXIT;

/** Nothing sensible runs after these. */
const FATAL: ReadonlySet<unknown> = new Set(['ERR_OUT_OF_MEMORY', 'ERR_MEMORY_ALLOCATION_FAILED']);

/**
 * SIGTERM drains and exits 0; so does SIGINT, without the accept-grace (a person waits, no load balancer). The second of
 * either exits at once with 143 or 130. SIGHUP reloads. Resolves with the exit code once a drain has ended.
 */
export function untilStopped(running: Drainable, deps: SignalDeps): Stopping {
  const on = deps.process ?? process;
  const { logger } = deps.log;
  let stopping = false;
  let resolve: (code: number) => void;
  const code = new Promise<number>((settle) => {
    resolve = settle;
  });
  const stop = (signal: Stop): void => {
    if (stopping) {
      logger.warn({ signal }, 'second signal: exiting at once');
      deps.log.flushSync();
      on.exit(SIGNAL_EXIT[signal]);
      return;
    }
    stopping = true;
    logger.info({ signal }, 'draining');
    running.close({ grace: signal === 'SIGTERM' }).then(
      () => resolve(0),
      (error) => {
        logger.error({ err: error }, 'draining failed');
        resolve(1);
      },
    );
  };
  const onTerm = (): void => stop('SIGTERM');
  const onInt = (): void => stop('SIGINT');
  const onHup = (): void => {
    if (!stopping) running.reload('SIGHUP').catch((error) => logger.error({ err: error }, 'reload failed'));
  };
  on.on('SIGTERM', onTerm);
  on.on('SIGINT', onInt);
  on.on('SIGHUP', onHup);
  return {
    code,
    get stopping() {
      return stopping;
    },
    detach() {
      on.off('SIGTERM', onTerm);
      on.off('SIGINT', onInt);
      on.off('SIGHUP', onHup);
    },
  };
}

/**
 * Keeps the process alive when a plugin's detached work throws or rejects: logged with its stack and counted.
 *
 * Node's own advice is to exit, because state may be torn. Here what a request touches is its own (exchange, streams, one
 * pool connection) and ends by its timeouts, while an exit would break every other request in flight. What was allocated
 * before the failure and could not be is another matter: without memory the process exits 1.
 * The library never does this: the policy for a process belongs to whoever started it.
 */
export function surviveUnhandledErrors(deps: SignalDeps): { detach(): void } {
  const on = deps.process ?? process;
  const counter = new Counter({
    name: 'selvedge_unhandled_errors_total',
    help: 'Errors that nobody caught, by where they surfaced. Each is a bug in a plugin or in Selvedge.',
    labelNames: ['source'],
    registers: [deps.registry],
  });
  const survive = (source: 'exception' | 'rejection', thrown: unknown, logger: Logger): void => {
    const error = thrown instanceof Error ? thrown : new Error(`thrown: ${String(thrown)}`, { cause: thrown });
    counter.inc({ source });
    if (FATAL.has((error as NodeJS.ErrnoException).code)) {
      logger.fatal({ err: error }, 'out of memory');
      deps.log.flushSync();
      on.exit(1);
      return;
    }
    logger.error({ err: error, source }, 'unhandled error: a plugin left it uncaught; the process goes on');
  };
  const onException = (error: Error): void => survive('exception', error, deps.log.logger);
  const onRejection = (reason: unknown): void => survive('rejection', reason, deps.log.logger);
  on.on('uncaughtException', onException);
  on.on('unhandledRejection', onRejection);
  return {
    detach() {
      on.off('uncaughtException', onException);
      on.off('unhandledRejection', onRejection);
    },
  };
}
