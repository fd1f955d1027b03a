// The east-west role: what the hop of a service listens on, and the chain that every request through it begins with.
import { isIP } from 'node:net';
import { authorizationUse } from '../config/authorization-use.ts';
import type { Config, Limits, PluginUse, ServiceConfig } from '../config/model.ts';
import { parseHostPort } from '../http/address.ts';
import { serviceId } from '../identity/spiffe-id.ts';
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
  connectionsPerClient: Number.POSITIVE_INFINITY,
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
  return { trustedProxies, header: 'x-forwarded-for', hops, proxyProtocol: false, anyPeer: true };
}

/** Inbound first, then outbound and its local ports. Empty when the service has no hop. */
export function hopListeners(config: Config, service: string): readonly ListenerSpec[] {
  const owner = config.services.find((candidate) => candidate.name === service);
  if (owner === undefined || owner.internal === null) return [];
  const { internal: hop, mtls } = owner;
  const common = {
    owner: service,
    tls: null,
    mesh: null,
    meshDomain: config.mesh.trustDomain,
    limits: HOP_LIMITS,
    clientAddress: hopTrust(config),
    at: hop.at,
  };
  const specs: ListenerSpec[] = [
    {
      ...common,
      ...hop.inbound,
      mesh: { id: serviceId(config.mesh.trustDomain, service), mode: mtls },
      key: `inbound/${service}`,
      role: 'inbound',
      name: 'inbound',
      fixedService: null,
      ...protocolOf(owner),
    },
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
      ...protocolOf(config.services.find(({ name }) => name === local.service)),
    });
  }
  return specs;
}

function protocolOf(service: ServiceConfig | undefined): Pick<ListenerSpec, 'protocol'> {
  return service?.protocol === 'tcp' ? { protocol: 'tcp' } : {};
}

/**
 * Who the peer is comes right behind the request's id, so that whatever follows can go by it.
 * Who may call is asked where the calls arrive.
 */
export function defaultHopPlugins(
  config: Config,
  side: 'inbound' | 'outbound',
  owner: string,
): readonly Pick<PluginUse, 'name' | 'options'>[] {
  const { accessLog, metrics, tracing, services } = config;
  const chain: Pick<PluginUse, 'name' | 'options'>[] = [{ name: 'request-id', options: { trust: true } }];
  // Callers are the mesh and its applications: what the edge decided holds.
  if (tracing !== null) chain.push({ name: 'tracing', options: { ...tracing, trustParent: true } });
  if (side === 'inbound') chain.push(mtlsUse(services, owner));
  chain.push({ name: 'metrics', options: { ...metrics } });
  if (accessLog !== null) chain.push({ name: 'access-log', options: { ...accessLog } });
  return side === 'outbound' ? chain : [...chain, ...authorizationUse(config, 'service', owner)];
}

function mtlsUse(services: Config['services'], owner: string): Pick<PluginUse, 'name' | 'options'> {
  const countPlain = services.find(({ name }) => name === owner)?.mtls === 'permissive';
  if (!countPlain) return { name: 'mtls', options: {} };
  return { name: 'mtls', options: { countPlain, callers: plainCallers(services) } };
}

/** Plain requests are told apart by the addresses that the config knows, as far as they are addresses: address → service. */
export function plainCallers(services: Config['services']): Readonly<Record<string, string>> {
  const callers: Record<string, string> = {};
  for (const { name, endpoints } of services) {
    for (const { address, hop } of endpoints) {
      for (const known of [address, hop]) {
        const host = known === null ? null : (parseHostPort(known)?.host ?? null);
        if (host !== null && isIP(host) !== 0) callers[host] ??= name;
      }
    }
  }
  return callers;
}
