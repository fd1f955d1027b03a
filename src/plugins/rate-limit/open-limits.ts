// Makes the limits of a chain from its options. What they count is shared: by all chains of an owner that have the same limit, across reloads.
import type { FastifyInstance } from 'fastify';
import { type Central, parseDurationMs } from '../../plugin.ts';
import { CentralCounters, CentralPlaces } from './central.ts';
import { Counters } from './counters.ts';
import {
  type Accounts,
  type AskedLimit,
  inFlightLimit,
  type Limit,
  type Places,
  rateLimit,
  useRateLimit,
} from './limit.ts';
import { type InFlightSettings, type LimitSettings, limitsOf, type Options, type RateSettings } from './options.ts';
import { plannedLimit } from './plans.ts';
import type { Reports } from './reports.ts';
import { UnderWay } from './under-way.ts';

/** Where what is counted is kept. */
interface Store {
  accounts(settings: RateSettings): Accounts;
  places(settings: InFlightSettings): Places;
  /** Resolves when all that was asked for is ready; not given: it is at once. */
  ready?(): Promise<unknown>;
}

export async function openLimits(app: FastifyInstance, options: Options, reports: Reports): Promise<readonly Limit[]> {
  const { role, owner } = app.chain;
  await useRateLimit(app);
  const { central } = app;
  const store =
    options.redis !== undefined ? await inRedis(options.redis) : central !== null ? inSupervisor(central) : inMemory();
  const limits = limitsOf(options).map((settings) => {
    const { plans } = settings;
    if (plans === null) return limitOf(settings);
    const byPlan = [...plans.settings].map(([plan, size]) => [plan, limitOf(size)] as const);
    return plannedLimit(plans, limitOf(settings), new Map(byPlan));
  });
  await store.ready?.();
  return limits;

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

  function inSupervisor(central: Central): Store {
    const { maxKeys } = options;
    const opened: Promise<void>[] = [];
    const use = <T extends { readonly opened: Promise<void>; close(): void }>(key: string, make: () => T): T => {
      const limit = app.shared(key, make, (unused) => unused.close());
      opened.push(limit.opened);
      return limit;
    };
    return {
      accounts: (settings) => {
        const identity = identityOf(settings);
        return use(
          `rate-limit ${maxKeys} ${identity}`,
          () => new CentralCounters(central, settings.quota, maxKeys, identity, reports.forgotten(settings)),
        );
      },
      places: (settings) => {
        const identity = placesOf(settings);
        return use(`rate-limit under way ${identity}`, () => new CentralPlaces(central, identity));
      },
      ready: () => Promise.all(opened),
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
