// What the cache counts.
import type { FastifyInstance } from 'fastify';
import { Counter, Gauge } from '../../plugin.ts';
import type { Store } from './store.ts';

/** `stale`: used past its time, as the service or the config allows. `collapsed`: waited for somebody else's fetch. */
export type CacheResult = 'hit' | 'stale' | 'validated' | 'collapsed' | 'miss' | 'bypass';

const REQUESTS = 'selvedge_cache_total';
const BYTES = 'selvedge_cache_bytes';
const ENTRIES = 'selvedge_cache_entries';

export function openFigures(app: FastifyInstance, store: Store): { count(result: CacheResult): void } {
  const { owner } = app.chain;
  const { requests, stores } = app.shared(
    'cache figures',
    () => {
      const stores = new Map<Store, { readonly owner: string; chains: number }>();
      const registers = [app.metrics];
      const sum = (gauge: Gauge<'owner'>, of: (store: Store) => number): void => {
        gauge.reset();
        for (const [one, { owner }] of stores) gauge.inc({ owner }, of(one));
      };
      new Gauge({
        name: BYTES,
        help: 'Memory of stored answers',
        labelNames: ['owner'],
        registers,
        collect() {
          sum(this, (one) => one.bytes);
        },
      });
      new Gauge({
        name: ENTRIES,
        help: 'Stored answers',
        labelNames: ['owner'],
        registers,
        collect() {
          sum(this, (one) => one.size);
        },
      });
      const help = 'Requests that passed a cache, by what it did';
      return { stores, requests: new Counter({ name: REQUESTS, help, labelNames: ['owner', 'result'], registers }) };
    },
    () => {
      for (const name of [REQUESTS, BYTES, ENTRIES]) app.metrics.removeSingleMetric(name);
    },
  );
  const use = stores.get(store) ?? { owner, chains: 0 };
  use.chains += 1;
  stores.set(store, use);
  app.addHook('onClose', (_app, done) => {
    use.chains -= 1;
    if (use.chains === 0) stores.delete(store);
    done();
  });
  return { count: (result) => requests.inc({ owner, result }) };
}
