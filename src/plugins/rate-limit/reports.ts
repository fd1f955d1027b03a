// What rate-limit tells whoever runs it: metrics, whose labels all come from the config, and a line for limits on trial.
import type { FastifyInstance } from 'fastify';
import { Counter } from '../../plugin.ts';
import type { LimitSettings } from './options.ts';

const LIMITED = 'selvedge_rate_limited_total';
const FORGOTTEN = 'selvedge_rate_limit_keys_forgotten_total';
const STORE_FAILURES = 'selvedge_rate_limit_store_failures_total';
/** What is only on trial is told of at most so often, with how many there were. */
const TELL_EVERY_MS = 1_000;
const TELL_FAILURES_EVERY_MS = 10_000;

export interface Reports {
  limited(settings: LimitSettings, route: string): void;
  forgotten(settings: LimitSettings): () => void;
  storeFailed(settings: LimitSettings, result: 'allow' | 'deny', error: unknown): void;
}

/** `store`: who counts, where that is not this process. */
export function openReports(app: FastifyInstance, store: string): Reports {
  const { owner } = app.chain;
  const { limited, forgotten, storeFailures } = app.shared(
    'rate-limit metrics',
    () => makeCounters(app),
    () => {
      for (const name of [LIMITED, FORGOTTEN, STORE_FAILURES]) app.metrics.removeSingleMetric(name);
    },
  );
  const onTrial = new Map<string, (nothing: null) => void>();
  const failed = atMostEvery<unknown>(TELL_FAILURES_EVERY_MS, (requests, err) =>
    app.logger.warn({ owner, err, requests }, `rate limit: ${store} did not count`),
  );

  function tellOf(limit: string): (nothing: null) => void {
    const made = onTrial.get(limit);
    if (made !== undefined) return made;
    const say = (requests: number): void =>
      app.logger.info({ owner, limit, requests }, 'rate limit in mode shadow: requests beyond it went through');
    const teller = atMostEvery<null>(TELL_EVERY_MS, say);
    onTrial.set(limit, teller);
    return teller;
  }

  return {
    limited({ name, shadow }, route) {
      limited.inc({ owner, route, limit: name, mode: shadow ? 'shadow' : 'enforce' });
      if (shadow) tellOf(name)(null);
    },
    forgotten({ name }) {
      return () => forgotten.inc({ owner, limit: name });
    },
    storeFailed({ name }, result, error) {
      storeFailures.inc({ owner, limit: name, result });
      failed(error);
    },
  };
}

function makeCounters({ metrics }: FastifyInstance) {
  const registers = [metrics];
  return {
    limited: new Counter({
      name: LIMITED,
      help: 'Requests beyond a limit: refused, or only counted in mode shadow',
      labelNames: ['owner', 'route', 'limit', 'mode'],
      registers,
    }),
    forgotten: new Counter({
      name: FORGOTTEN,
      help: 'Keys that were forgotten before their time, because there were more than maxKeys',
      labelNames: ['owner', 'limit'],
      registers,
    }),
    storeFailures: new Counter({
      name: STORE_FAILURES,
      help: 'Requests that Redis or the supervisor of the workers did not count, and what became of them',
      labelNames: ['owner', 'limit', 'result'],
      registers,
    }),
  };
}

/** Says the first at once, and then at most every `ms` how many there were since, with what the last one was about. */
function atMostEvery<T>(ms: number, say: (times: number, about: T) => void): (about: T) => void {
  let times = 0;
  let next = 0;
  return (about) => {
    times++;
    const now = performance.now();
    if (now < next) return;
    next = now + ms;
    say(times, about);
    times = 0;
  };
}
