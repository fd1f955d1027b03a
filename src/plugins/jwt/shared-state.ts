// What all chains with this plugin hold together, across reloads: counters, and the keys of issuers.
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { Counter } from '../../plugin.ts';
import { collectInto, type Tally, tally } from '../series.ts';
import { fetchKeys, type KeyLocation } from './fetch-keys.ts';
import type { WrittenIssuer } from './options.ts';
import { type KeySource, REAL_CLOCK, RemoteKeys } from './remote-keys.ts';
import { StoredKeys } from './stored-keys.ts';

const TOTAL = 'selvedge_jwt_total';
const FETCHES = 'selvedge_jwks_fetches_total';

/** The keys of an issuer, the same for all chains and reloads that have them from the same place. `dir`: where they are kept; null: nowhere. */
export async function remoteKeys(
  app: FastifyInstance,
  { issuer, jwks, allowHttp }: WrittenIssuer,
  refreshMs: number,
  dir: string | null = null,
): Promise<KeySource> {
  const { metrics, logger } = app;
  const fetches = app.shared(
    'jwt fetches',
    () =>
      new Counter({
        name: FETCHES,
        help: 'Fetches of the keys of issuers, by how they ended',
        labelNames: ['issuer', 'result'],
        registers: [metrics],
      }),
    () => metrics.removeSingleMetric(FETCHES),
  );
  const location = { issuer, jwks, allowHttp };
  const stored =
    dir === null ? null : app.shared(`jwt stored ${digestOf([location, dir])}`, () => openStored(app, location, dir));
  // From a disk, not a network: that is short enough to wait for.
  const known = (await stored?.read()) ?? null;
  return app.shared(
    `jwt keys ${digestOf([location, refreshMs, dir])}`,
    () =>
      new RemoteKeys({
        known,
        fetch: async (closed) => {
          const keys = await fetchKeys(location, closed);
          stored?.keep(keys);
          return keys;
        },
        refreshMs,
        clock: REAL_CLOCK,
        onFetched: (err, changed) => {
          fetches.inc({ issuer, result: err === null ? 'ok' : 'failed' });
          if (err !== null && changed)
            logger.warn({ err, issuer }, 'keys of the issuer cannot be fetched; those that are known go on being used');
          else if (changed) logger.info({ issuer }, 'keys of the issuer can be fetched again');
        },
      }),
    (keys) => {
      keys.close();
      return stored?.settled();
    },
  );
}

/** Says a problem once, and again when it is another one. */
function openStored({ logger }: FastifyInstance, location: KeyLocation, dir: string): StoredKeys {
  const { issuer } = location;
  let told = '';
  return new StoredKeys({
    dir: resolve(dir),
    location,
    now: Date.now,
    onProblem: (err) => {
      // The name of a file that is being written is another one each time.
      const problem = err.message.replace(/[0-9a-f]{16}\.tmp/g, '');
      if (problem !== told) logger.warn({ err, issuer }, 'keys of the issuer are not kept over a restart');
      told = problem;
    },
  });
}

/** What came of requests whose tokens were looked at. */
export interface RequestCounter {
  readonly counter: Counter;
  /** Those that were verified, apart: nearly all, and prom-client hashes the labels of each. */
  readonly verified: Tally;
}

export function requestCounter({ shared, metrics }: FastifyInstance): RequestCounter {
  return shared(
    'jwt counters',
    () => {
      const labelNames = ['result', 'reason'];
      const verified = tally(labelNames)(['verified', '']);
      const counter = new Counter({
        name: TOTAL,
        help: 'Requests whose tokens were looked at, by what came of it',
        labelNames,
        registers: [metrics],
        collect() {
          collectInto(this, [verified]);
        },
      });
      return { counter, verified };
    },
    () => metrics.removeSingleMetric(TOTAL),
  );
}

/** Keys of shared state may show up in a log, and a secret must not. */
export function digestOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('base64url');
}
