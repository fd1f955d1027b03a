// The north-south role: what a gateway of the config listens on, and the chain that every one of its requests begins with.
import { authorizationUse } from '../config/authorization-use.ts';
import type { Config, PluginUse } from '../config/model.ts';
import type { ListenerSpec } from '../runtime/listener-spec.ts';

/** Empty when the config has no gateway of that name. */
export function gatewayListeners(config: Config, name: string): readonly ListenerSpec[] {
  const gateway = config.gateways.find((candidate) => candidate.name === name);
  if (gateway === undefined) return [];
  return gateway.listeners.map((listener) => ({
    key: `gateway/${name}/${listener.name}`,
    role: 'gateway',
    owner: name,
    name: listener.name,
    host: listener.host,
    port: listener.port,
    tls: listener.tls,
    mesh: null,
    meshDomain: config.mesh.trustDomain,
    limits: listener.limits,
    clientAddress: gateway.clientAddress,
    fixedService: null,
    at: listener.at,
  }));
}

/** Before the gateway's own list. What is shed is counted and logged, and costs nothing beyond that. */
export function defaultEdgePlugins(config: Config, owner: string): readonly Pick<PluginUse, 'name' | 'options'>[] {
  const { accessLog, metrics, tracing, gateways } = config;
  const chain: Pick<PluginUse, 'name' | 'options'>[] = [{ name: 'request-id', options: { trust: false } }];
  if (tracing !== null) chain.push({ name: 'tracing', options: { ...tracing } });
  if (asksForCertificates(gateways, owner)) chain.push({ name: 'mtls', options: {} });
  chain.push({ name: 'metrics', options: { ...metrics } });
  if (accessLog !== null) chain.push({ name: 'access-log', options: { ...accessLog } });
  chain.push({ name: 'load-shedding', options: {} });
  return [...chain, ...authorizationUse(config, 'gateway', owner)];
}

function asksForCertificates(gateways: Config['gateways'], owner: string): boolean {
  const listeners = gateways.find(({ name }) => name === owner)?.listeners ?? [];
  return listeners.some(({ tls }) => tls?.clientCertificate != null);
}
