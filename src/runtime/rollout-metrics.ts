// What rollouts say in Prometheus' terms, read from their store when it is scraped.
import { Counter, Gauge, type Registry } from 'prom-client';
import type { RolloutState } from '../proxy/rollout.ts';
import type { RolloutStore } from './rollouts.ts';

const STATES: readonly RolloutState[] = ['progressing', 'paused', 'complete', 'aborted'];

/** Registers them once per registry. Series: six for each route with a rollout. */
export function registerRolloutMetrics(registry: Registry, store: RolloutStore): void {
  const registers = [registry];
  new Gauge({
    name: 'selvedge_rollout_share',
    help: 'Share of the requests of a route that goes to the new version, 0 to 1.',
    labelNames: ['route'],
    registers,
    collect() {
      this.reset();
      for (const rollout of store.all()) this.set({ route: rollout.route }, rollout.share());
    },
  });
  new Gauge({
    name: 'selvedge_rollout_state',
    help: '1 for the state that the rollout of a route is in, else 0.',
    labelNames: ['route', 'state'],
    registers,
    collect() {
      this.reset();
      for (const { route, state: current } of store.all()) {
        for (const state of STATES) this.set({ route, state }, state === current ? 1 : 0);
      }
    },
  });
  new Counter({
    name: 'selvedge_rollout_aborted_total',
    help: 'Times that the rollout of a route went back to the old version.',
    labelNames: ['route'],
    registers,
    collect() {
      this.reset();
      for (const { route } of store.all()) this.inc({ route }, store.aborts(route));
    },
  });
}
