// What the process says about its own certificates: how long they are good for.
import { Gauge, type Registry } from 'prom-client';
import type { MeshIdentity } from './mesh-identity.ts';

/** Registers it once per registry. One series for each role of this process. */
export function registerIdentityMetrics(registry: Registry, identity: MeshIdentity): void {
  new Gauge({
    name: 'selvedge_certificate_expiry_seconds',
    help: 'Seconds until a certificate of this process expires; renewed at two thirds of its life.',
    labelNames: ['id'],
    registers: [registry],
    aggregator: 'min',
    collect() {
      this.reset();
      for (const { id, expiresAt } of identity.svids()) this.set({ id }, Math.round((expiresAt - Date.now()) / 1_000));
    },
  });
}
