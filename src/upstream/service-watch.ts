// What finds out about an endpoint besides its traffic: active checks, and the look-out for one that does not accept connections.
import type { Connections, HealthCheckPolicy } from '../config/model.ts';
import type { TimerWheel } from '../timer-wheel.ts';
import type { Endpoint } from './endpoint.ts';
import type { UpstreamEvents } from './events.ts';
import { type HealthCheckDeps, startHealthCheck } from './health-check/health-check.ts';

/** The service, as far as it matters here. */
interface Owner {
  readonly name: string;
  readonly wheel: TimerWheel;
  readonly events: UpstreamEvents;
  readonly connections: Connections;
}

/** Kinds of `Endpoint.watch`. */
export const CHECKS = 'checks';
export const CONTACT = 'contact';

/** Milliseconds between two looks whether an endpoint accepts connections again. */
const CONTACT_INTERVAL_MS = 100;
const CONTACT_TIMEOUT_MS = 1_000;

/** Starts active checks, unless the same ones run already: they outlive reloads with the endpoint. */
export function checkHealth(
  { name, wheel, events }: Owner,
  endpoint: Endpoint,
  policy: HealthCheckPolicy,
  deps: HealthCheckDeps,
): void {
  endpoint.watch(CHECKS, JSON.stringify([policy, deps.headers]), () =>
    startHealthCheck(endpoint, policy, deps, (healthy, detail) => {
      const returned = endpoint.health.check(healthy, wheel.now());
      events.checked(name, endpoint.address, healthy, detail);
      if (returned) events.returned(name, endpoint.address, 'health_check');
    }),
  );
}

/** Leaves it out until something accepts a connection there. */
export function awaitContact({ wheel, connections }: Owner, endpoint: Endpoint, deps: HealthCheckDeps): void {
  endpoint.health.setUnreachable(true, wheel.now());
  endpoint.watch(CONTACT, '', () =>
    startHealthCheck(endpoint, contactPolicy(connections), deps, (reachable) => {
      if (!reachable) return;
      endpoint.watch(CONTACT, '', null);
      endpoint.health.setUnreachable(false, wheel.now());
    }),
  );
}

function contactPolicy({ connectTimeoutMs }: Connections): HealthCheckPolicy {
  const timeoutMs = Math.min(connectTimeoutMs || CONTACT_TIMEOUT_MS, CONTACT_TIMEOUT_MS);
  return { probe: { kind: 'tcp' }, intervalMs: CONTACT_INTERVAL_MS, timeoutMs, unhealthyAfter: 1, healthyAfter: 1 };
}
