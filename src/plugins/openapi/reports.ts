// What came of checks: counted, and told in the process log often enough to find the mistake and no more.
import type { FastifyInstance } from 'fastify';
import { Counter, type Exchange } from '../../plugin.ts';
import type { FoundMistake } from './parameters.ts';

const TOTAL = 'selvedge_openapi_total';
/** Between two log lines of one chain. */
const TELL_MS = 1_000;

export interface Finding {
  /** A word for metrics and log: `parameter`, `body`, `unknown_path`. */
  readonly result: string;
  readonly mistakes: readonly FoundMistake[];
}

export interface Reports {
  valid(side: 'request' | 'response'): void;
  /** `mode`: what became of it. */
  found(
    side: 'request' | 'response',
    mode: 'enforce' | 'shadow',
    finding: Finding,
    exchange: Exchange,
    operation: string | null,
  ): void;
}

export function openReports(app: FastifyInstance): Reports {
  const { owner } = app.chain;
  const total = app.shared(
    'openapi metrics',
    () =>
      new Counter({
        name: TOTAL,
        help: 'Requests and answers that were held against an OpenAPI document, by what came of it',
        labelNames: ['owner', 'side', 'mode', 'result'],
        registers: [app.metrics],
      }),
    () => app.metrics.removeSingleMetric(TOTAL),
  );
  let quietUntil = 0;
  let untold = 0;
  return {
    valid: (side) => total.inc({ owner, side, mode: 'enforce', result: 'valid' }),
    found(side, mode, { result, mistakes }, exchange, operation) {
      total.inc({ owner, side, mode, result });
      const now = performance.now();
      if (now < quietUntil) {
        untold += 1;
        return;
      }
      quietUntil = now + TELL_MS;
      const { id, route, service } = exchange;
      app.logger.info(
        { requestId: id, route: route?.name, service, operation, side, mode, result, mistakes, untold },
        `openapi: the ${side} is not as the document describes it`,
      );
      untold = 0;
    },
  };
}
