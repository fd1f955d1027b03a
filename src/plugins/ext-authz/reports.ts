// What ext-authz tells whoever runs it: metrics, whose labels come from the config, and a line when a service begins or ceases to fail.
import type { FastifyInstance } from 'fastify';
import { Counter, Histogram } from '../../plugin.ts';

const TOTAL = 'selvedge_ext_authz_total';
const DURATION = 'selvedge_ext_authz_duration_seconds';
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 5];

export type Result = 'allowed' | 'cached' | 'denied' | 'failed_closed' | 'failed_open' | 'aborted';

export interface Reports {
  counted(result: Result): void;
  /** The service was asked. */
  took(ms: number): void;
  /** `error` null: it has an answer again. */
  failing(reason: string | null, error: Error | null): void;
}

export function openReports(app: FastifyInstance, service: string, onFailure: 'allow' | 'deny'): Reports {
  const { metrics, logger } = app;
  const { owner } = app.chain;
  const { total, duration } = app.shared(
    'ext-authz metrics',
    () => ({
      total: new Counter({
        name: TOTAL,
        help: 'Requests about which an authorization service was asked, by what came of it',
        labelNames: ['owner', 'result'],
        registers: [metrics],
      }),
      duration: new Histogram({
        name: DURATION,
        help: 'Time to the answer of the authorization service, in seconds',
        labelNames: ['owner'],
        buckets: BUCKETS,
        registers: [metrics],
      }),
    }),
    () => {
      for (const name of [TOTAL, DURATION]) metrics.removeSingleMetric(name);
    },
  );
  const state = app.shared(`ext-authz state ${service} ${onFailure}`, () => ({ failing: false }));
  return {
    counted: (result) => total.inc({ owner, result }),
    took: (ms) => duration.observe({ owner }, ms / 1_000),
    failing(reason, err) {
      if (state.failing === (err !== null)) return;
      state.failing = err !== null;
      if (err === null) logger.info({ owner, service }, 'ext-authz: the authorization service answers again');
      else
        logger.warn({ owner, service, reason, onFailure, err }, 'ext-authz: the authorization service gives no answer');
    },
  };
}
