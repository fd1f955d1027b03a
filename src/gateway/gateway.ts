// The north-south role: what a gateway of the config listens on, and the chain that every one of its requests begins with.
import { authorizationUse } from '../config/authorization-use.ts';
import type { Config, Gateway, PluginUse } from '../config/model.ts';
import { ErrorPages } from '../http/error-pages.ts';
import { HostSet } from '../http/host-set.ts';
import type { ListenerSpec } from '../runtime/listener-spec.ts';

/** Empty when the config has no gateway of that name. */
export function gatewayListeners(config: Config, name: string): readonly ListenerSpec[] {
  const gateway = config.gateways.find((candidate) => candidate.name === name);
  if (gateway === undefined) return [];
  const pages = gateway.errorPages.length === 0 ? {} : { errorPages: new ErrorPages(gateway.errorPages) };
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
    ...(listener.redirect === null ? {} : { redirect: { ...listener.redirect, hosts: servedHosts(config, gateway) } }),
    ...pages,
    at: listener.at,
  }));
}

/** The hosts that requests by https are for; null: any. */
function servedHosts({ routes }: Config, { name, listeners }: Gateway): HostSet | null {
  const secure = listeners.filter(({ tls }) => tls !== null).map((listener) => listener.name);
  const served = routes.filter(
    (route) =>
      route.gateways.includes(name) &&
      (secure.length === 0 || route.listeners === null || route.listeners.some((one) => secure.includes(one))),
  );
  const any = served.length === 0 || served.some(({ hosts }) => hosts.length === 0 || hosts.includes('*'));
  return any ? null : new HostSet(served.flatMap(({ hosts }) => hosts));
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
