// Makes the limits of a chain from its options. What they count is shared: by all chains of an owner that have the same limit, across reloads.
import type { FastifyInstance } from 'fastify';
import { parseDurationMs } from '../../plugin.ts';
import { Counters } from './counters.ts';
import { type Accounts, inFlightLimit, type Limit, rateLimit, UnderWay, useRateLimit } from './limit.ts';
import { limitsOf, type Options, type RateSettings } from './options.ts';
import type { Reports } from './reports.ts';

export async function openLimits(app: FastifyInstance, options: Options, reports: Reports): Promise<readonly Limit[]> {
  const { role, owner } = app.chain;
  await useRateLimit(app);
  const accountsOf = options.redis === undefined ? inMemory() : await inRedis(options.redis);
  return limitsOf(options).map((settings) => {
    const { name, key } = settings;
    if (!('inFlight' in settings)) return rateLimit(app, settings, accountsOf(settings));
    const identity = JSON.stringify([role, owner, name, key, settings.inFlight]);
    return inFlightLimit(
      settings,
      app.shared(`rate-limit under way ${identity}`, () => new UnderWay()),
    );
  });

  /** Without what a request costs: routes that ask different amounts of one limit charge the same accounts. */
  function identityOf({ name, key, quota }: RateSettings): string {
    return JSON.stringify([role, owner, name, key, quota]);
  }

  function inMemory(): (settings: RateSettings) => Accounts {
    const { maxKeys } = options;
    return (settings) =>
      app.shared(
        `rate-limit ${maxKeys} ${identityOf(settings)}`,
        () => new Counters(settings.quota, maxKeys, () => performance.now(), reports.forgotten(settings)),
      );
  }

  async function inRedis({ url, timeout }: NonNullable<Options['redis']>) {
    // Loaded only by who counts there.
    const { RedisCounters, RedisStore } = await import('./redis.ts');
    const timeoutMs = parseDurationMs(timeout) as number;
    const { logger } = app;
    const store = app.shared(
      `rate-limit redis ${timeoutMs} ${url}`,
      () =>
        new RedisStore(url, timeoutMs, (reachable, err) => {
          if (reachable) logger.info('rate limit: Redis is there again');
          else logger.warn({ err }, 'rate limit: Redis is out of reach');
        }),
      (opened) => opened.close(),
    );
    await store.open();
    return (settings: RateSettings): Accounts => new RedisCounters(settings.quota, store, identityOf(settings));
  }
}
