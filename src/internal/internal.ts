// The east-west role: what the hop of a service listens on, and the chain that every request through it begins with.
import type { ClientAddress, Config, Limits } from '../config/model.ts';
import type { DefaultPlugin } from '../gateway/gateway.ts';
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

/** A hop's peers are the mesh: what they say of the client was established at the edge. */
const PEERS_ARE_TRUSTED: ClientAddress = Object.freeze({
  trustedProxies: ['0.0.0.0/0', '::/0'],
  header: 'x-forwarded-for',
  hops: null,
});

/** Inbound first, then outbound and its local ports. Empty when the service has no hop. */
export function hopListeners(config: Config, service: string): readonly ListenerSpec[] {
  const hop = config.services.find((candidate) => candidate.name === service)?.internal ?? null;
  if (hop === null) return [];
  const common = { owner: service, tls: null, limits: HOP_LIMITS, clientAddress: PEERS_ARE_TRUSTED, at: hop.at };
  const specs: ListenerSpec[] = [
    { ...common, ...hop.inbound, key: `inbound/${service}`, role: 'inbound', name: 'inbound', fixedService: null },
  ];
  if (hop.outbound === null) return specs;
  const { host, port, ports } = hop.outbound;
  specs.push({ ...common, host, port, key: `outbound/${service}`, role: 'outbound', name: 'outbound', fixedService: null });
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

/** The same on both sides for now; inbound, mTLS and authorization come behind request-id when they exist. */
export function defaultHopPlugins({ accessLog, metrics }: Config, _side: 'inbound' | 'outbound'): readonly DefaultPlugin[] {
  const chain: DefaultPlugin[] = [
    { name: 'request-id', options: { trust: true } },
    { name: 'metrics', options: { ...metrics } },
  ];
  if (accessLog !== null) chain.push({ name: 'access-log', options: { ...accessLog } });
  return chain;
}
