// What a running Selvedge has seen of this config's services, held against what the config says: connections kept for longer than upstreams do.
import type { Config, ServiceConfig } from '../config/model.ts';
import type { Problem } from '../config/problem.ts';
import type { Provenance } from '../config/provenance.ts';
import { retireAfterMs } from '../upstream/http1/idle-allowance.ts';
import type { AskAdmin } from './ask-admin.ts';

/** One warning for each service with an endpoint that closes idle connections sooner than its pool would by its own account. */
export async function adviseOnIdle(config: Config, provenance: Provenance, ask: AskAdmin): Promise<Problem[]> {
  if (config.admin === null) return [];
  const seen = endpointsOf(await ask(config.admin, '/endpoints'));
  if (seen.length === 0) return [];
  return config.services.flatMap((service) => {
    const shortest = shortestOf(service, seen);
    if (shortest === null) return [];
    const ourMs = retireAfterMs(shortest.upstreamIdleMs);
    const { idleTimeoutMs } = service.connections;
    if (idleTimeoutMs !== 0 && idleTimeoutMs <= ourMs) return [];
    const steps = ['services', service.name, 'connections', 'idleTimeout'];
    const message = sentence(idleTimeoutMs, shortest, ourMs);
    return [{ severity: 'warning', place: provenance.locate(steps), path: steps.join('.'), message }];
  });
}

interface SeenEndpoint {
  readonly service: string;
  readonly address: string;
  readonly dial: string;
  readonly upstreamIdleMs: number;
}

/** Whoever listens there may be no Selvedge, or an older one: what is not as expected is left out. */
function endpointsOf(page: unknown): SeenEndpoint[] {
  const endpoints = (page as { readonly endpoints?: unknown } | null)?.endpoints;
  if (!Array.isArray(endpoints)) return [];
  return endpoints.filter(
    (endpoint) =>
      typeof endpoint?.service === 'string' && Number.isFinite(endpoint.upstreamIdleMs) && endpoint.upstreamIdleMs > 0,
  );
}

/** The Selvedge that answers may run another config, with a service of that name: only what has the same addresses is believed. */
function shortestOf({ name, endpoints }: ServiceConfig, seen: readonly SeenEndpoint[]): SeenEndpoint | null {
  let shortest: SeenEndpoint | null = null;
  for (const one of seen) {
    if (one.service !== name) continue;
    if (!endpoints.some(({ address, hop }) => one.address === address && one.dial === (hop ?? address))) continue;
    if (shortest === null || one.upstreamIdleMs < shortest.upstreamIdleMs) shortest = one;
  }
  return shortest;
}

function sentence(idleTimeoutMs: number, { dial, upstreamIdleMs }: SeenEndpoint, ourMs: number): string {
  const ours = idleTimeoutMs === 0 ? 'no limit' : duration(idleTimeoutMs);
  const is = idleTimeoutMs === 0 || idleTimeoutMs > upstreamIdleMs ? 'longer than' : 'too close to how long';
  return (
    `${ours} is ${is} ${dial} keeps idle connections (${spoken(upstreamIdleMs)}, seen by the running Selvedge); ` +
    `ours are closed after ${spoken(ourMs)}; say "idleTimeout: ${duration(rounded(ourMs))}"`
  );
}

/** Down, to what a person would write. */
function rounded(ms: number): number {
  const step = ms >= 2_000 ? 1_000 : ms >= 100 ? 50 : 1;
  return Math.max(1, Math.floor(ms / step) * step);
}

/** As a config writes it. */
function duration(ms: number): string {
  return ms % 1_000 === 0 ? `${ms / 1_000}s` : `${ms}ms`;
}

function spoken(ms: number): string {
  return ms < 1_000 ? `${Math.round(ms)} ms` : `${Math.round(ms / 100) / 10} s`;
}
