// The east-west role: what the hop of a service listens on, and the chain that every request through it begins with.
import { authorizationUse } from '../config/authorization-use.ts';
import type { Config, Limits, PluginUse } from '../config/model.ts';
import type { ListenerSpec } from '../runtime/listener-spec.ts';

/**
 * The bounds of a hop. Wider than the edge's, because what the edge let in arrives here with the headers that it added and, rewritten,
 * with a longer path. Slow clients are the edge's concern: a request stream between services may rest as long as any stream.
 */
export const HOP_LIMITS: Limits = Object.freeze({
  headerBytes: 65_536,
  headerCount: 200,
  urlBytes: 32_768,
  bodyBytes: Number.POSITIVE_INFINITY,
  headerTimeoutMs: 10_000,
  bodyIdleTimeoutMs: 300_000,
  bodyMinRate: 0,
  keepAliveTimeoutMs: 72_000,
  tlsHandshakeTimeoutMs: 10_000,
  connections: 10_000,
});

/**
 * The peers of a hop are the mesh, so their forwarding headers are believed; but what the edge passed on may still begin with what a stranger
 * wrote. So the hop reads the list as its gateways do: past their trusted proxies, or past as many as they count and the gateway's own entry.
 * Gateways that differ in `hops` leave the walk to `trustedProxies`: it then stops early, never at a stranger's word.
 */
function hopTrust({ gateways }: Config): ListenerSpec['clientAddress'] {
  const trustedProxies = [...new Set(gateways.flatMap(({ clientAddress }) => clientAddress.trustedProxies))];
  const counts = new Set(gateways.map(({ clientAddress }) => clientAddress.hops));
  const [count] = counts;
  const hops = counts.size === 1 && count !== null ? count + 1 : null;
  return { trustedProxies, header: 'x-forwarded-for', hops, anyPeer: true };
}

/** Inbound first, then outbound and its local ports. Empty when the service has no hop. */
export function hopListeners(config: Config, service: string): readonly ListenerSpec[] {
  const hop = config.services.find((candidate) => candidate.name === service)?.internal ?? null;
  if (hop === null) return [];
  const common = { owner: service, tls: null, limits: HOP_LIMITS, clientAddress: hopTrust(config), at: hop.at };
  const specs: ListenerSpec[] = [
    { ...common, ...hop.inbound, key: `inbound/${service}`, role: 'inbound', name: 'inbound', fixedService: null },
  ];
  if (hop.outbound === null) return specs;
  const { host, port, ports } = hop.outbound;
  specs.push({
    ...common,
    host,
    port,
    key: `outbound/${service}`,
    role: 'outbound',
    name: 'outbound',
    fixedService: null,
  });
  for (const local of ports) {
    specs.push({
      ...common,
      host: local.host,
      port: local.port,
      at: local.at,
      key: `outbound/${service}/${local.service}`,
      role: 'outbound',
      name: local.service,
      fixedService: local.service,
    });
  }
  return specs;
}

/** Who may call is asked where the calls arrive. */
export function defaultHopPlugins(
  config: Config,
  side: 'inbound' | 'outbound',
  service: string,
): readonly Pick<PluginUse, 'name' | 'options'>[] {
  const { accessLog, metrics } = config;
  const chain: Pick<PluginUse, 'name' | 'options'>[] = [
    { name: 'request-id', options: { trust: true } },
    { name: 'metrics', options: { ...metrics } },
  ];
  if (accessLog !== null) chain.push({ name: 'access-log', options: { ...accessLog } });
  return side === 'outbound' ? chain : [...chain, ...authorizationUse(config, 'service', service)];
}
