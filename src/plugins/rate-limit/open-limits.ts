// Makes the limits of a chain from its options. What they count is shared: by all chains of an owner that have the same limit, across reloads.
import type { FastifyInstance } from 'fastify';
import { parseDurationMs } from '../../plugin.ts';
import { Counters } from './counters.ts';
import {
  type Accounts,
  type AskedLimit,
  inFlightLimit,
  type Limit,
  type Places,
  rateLimit,
  UnderWay,
  useRateLimit,
} from './limit.ts';
import { type InFlightSettings, type LimitSettings, limitsOf, type Options, type RateSettings } from './options.ts';
import { plannedLimit } from './plans.ts';
import type { Reports } from './reports.ts';

/** Where what is counted is kept. */
interface Store {
  accounts(settings: RateSettings): Accounts;
  places(settings: InFlightSettings): Places;
}

export async function openLimits(app: FastifyInstance, options: Options, reports: Reports): Promise<readonly Limit[]> {
  const { role, owner } = app.chain;
  await useRateLimit(app);
  const store = options.redis === undefined ? inMemory() : await inRedis(options.redis);
  return limitsOf(options).map((settings) => {
    const { plans } = settings;
    if (plans === null) return limitOf(settings);
    const byPlan = [...plans.settings].map(([plan, size]) => [plan, limitOf(size)] as const);
    return plannedLimit(plans, limitOf(settings), new Map(byPlan));
  });

  function limitOf(settings: LimitSettings): AskedLimit {
    return 'inFlight' in settings
      ? inFlightLimit(app, settings, store.places(settings))
      : rateLimit(app, settings, store.accounts(settings));
  }

  function placesOf({ name, key, inFlight }: InFlightSettings): string {
    return JSON.stringify([role, owner, name, key, inFlight]);
  }

  /** Without what a request costs: routes that ask different amounts of one limit charge the same accounts. */
  function identityOf({ name, key, quota }: RateSettings): string {
    return JSON.stringify([role, owner, name, key, quota]);
  }

  function inMemory(): Store {
    const { maxKeys } = options;
    return {
      accounts: (settings) =>
        app.shared(
          `rate-limit ${maxKeys} ${identityOf(settings)}`,
          () => new Counters(settings.quota, maxKeys, () => performance.now(), reports.forgotten(settings)),
        ),
      places: (settings) => app.shared(`rate-limit under way ${placesOf(settings)}`, () => new UnderWay()),
    };
  }

  async function inRedis({ url, timeout }: NonNullable<Options['redis']>): Promise<Store> {
    // Loaded only by who counts there.
    const [{ RedisCounters, RedisStore }, { RedisUnderWay }] = await Promise.all([
      import('./redis.ts'),
      import('./redis-under-way.ts'),
    ]);
    const timeoutMs = parseDurationMs(timeout) as number;
    const { logger } = app;
    const connection = `rate-limit redis ${timeoutMs} ${url}`;
    const redis = app.shared(
      connection,
      () =>
        new RedisStore(url, timeoutMs, (reachable, err) => {
          if (reachable) logger.info('rate limit: Redis is there again');
          else logger.warn({ err }, 'rate limit: Redis is out of reach');
        }),
      (opened) => opened.close(),
    );
    await redis.open();
    return {
      accounts: (settings) => new RedisCounters(settings.quota, redis, identityOf(settings)),
      // Whoever renews the leases has to be one for the process.
      places: (settings) =>
        app.shared(
          `${connection} under way ${placesOf(settings)}`,
          () => new RedisUnderWay(redis, placesOf(settings)),
          (places) => places.close(),
        ),
    };
  }
}
