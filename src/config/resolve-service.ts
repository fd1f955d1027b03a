// Resolves one service: its endpoints, how they are dialled, its hop and what stands behind it.
import { isIP } from 'node:net';
import { formatHostPort, parseHostPort } from '../http/address.ts';
import { type Clock, checkAuthorities, checkPair } from './certificates.ts';
import type { CompleteService } from './complete.ts';
import type { Cursor } from './cursor.ts';
import { listenHost } from './listen-host.ts';
import type { EndpointConfig, Hop, MtlsMode, ServiceConfig, UpstreamTls } from './model.ts';
import { isUse, pluginUses } from './plugin-uses.ts';
import {
  resolveConcurrency,
  resolveConnections,
  resolveLoadBalancing,
  resolveLocality,
  resolveRetryBudget,
} from './resolve-balancing.ts';
import { resolveHealthCheck, resolveOutlierDetection } from './resolve-health.ts';
import { milliseconds } from './units.ts';

export function resolveService(
  name: string,
  service: Cursor<CompleteService>,
  meshMtls: MtlsMode,
  clock: Clock,
): ServiceConfig {
  const endpoints = resolveEndpoints(service);
  const tls = service.at('tls').given();
  const hop = service.at('internal').given();
  const protocol = service.at('protocol').filled().value;
  const connections = resolveConnections(service.at('connections').filled(), protocol);
  const slowStart = service.at('slowStart').given();
  const subsets = service.at('subsets').filled();
  for (const [subset, labels] of subsets.entries()) {
    const wanted = Object.entries(labels.value);
    if (!endpoints.some((endpoint) => wanted.every(([label, value]) => endpoint.labels[label] === value))) {
      labels.warn(`subset "${subset}" selects no endpoint of "${name}"`);
    }
  }
  return {
    name,
    at: service.keyPlace,
    protocol,
    endpoints,
    subsets: subsets.value,
    tls: tls === null || tls.value === false ? null : resolveTls(tls as Cursor<TlsInput>, clock),
    mtls: service.value.mtls ?? meshMtls,
    internal: hop === null ? null : resolveHop(name, hop, service.at('endpoints').items(), endpoints),
    plugins: pluginUses('service', service.at('plugins').items()).filter(isUse),
    loadBalancing: resolveLoadBalancing(service.at('loadBalancing').filled()),
    locality: resolveLocality(service, endpoints),
    slowStartMs: slowStart === null ? 0 : milliseconds(slowStart.at('window').filled()),
    connections,
    concurrency: resolveConcurrency(service.at('concurrency').given(), connections),
    healthCheck: resolveHealthCheck(service.at('healthCheck').given()),
    outlierDetection: resolveOutlierDetection(service, endpoints.length),
    retryBudget: resolveRetryBudget(service.at('retryBudget').filled()),
  };
}

function resolveEndpoints(service: Cursor<CompleteService>): EndpointConfig[] {
  const written = service.at('endpoints');
  const seen = new Set<string>();
  const endpoints = written.items().map((endpoint): EndpointConfig => {
    const address = dialled(endpoint.at('address'));
    const hop = endpoint.at('hop').given();
    const resolved = {
      address,
      hop: hop === null ? null : dialled(hop),
      weight: endpoint.at('weight').filled().value,
      zone: endpoint.value.zone ?? null,
      priority: endpoint.at('priority').filled().value,
      labels: endpoint.at('labels').filled().value,
      at: endpoint.place,
    };
    const identity = `${resolved.address} ${resolved.hop}`;
    if (seen.has(identity)) endpoint.warn(`"${address}" is listed twice; "weight" gives an endpoint more requests`);
    seen.add(identity);
    if (hop !== null && service.value.internal === undefined) {
      hop.warn('this service has no "internal", so no hop of this config listens here');
    }
    return resolved;
  });
  if (endpoints.every(({ weight }) => weight === 0))
    written.error('every endpoint has weight 0, so none would get a request');
  return endpoints;
}

/** `host:port` in one form; the text as it is when it is none. */
function dialled(address: Cursor<string>): string {
  const parsed = parseHostPort(address.value);
  if (parsed !== null && parsed.port > 0) return formatHostPort(parsed.host, parsed.port);
  const url = /^(https?):\/\/([^/]+)/.exec(address.value);
  const hint =
    url === null ? '' : `; leave out "${url[1]}://"${url[1] === 'https' ? ' and say "tls: true" in the service' : ''}`;
  address.error(`"${address.value}" is not host:port, such as 10.0.0.5:3000, orders.internal:80 or [::1]:3000${hint}`);
  return address.value;
}

type TlsInput = Exclude<NonNullable<CompleteService['tls']>, boolean>;

function resolveTls(tls: Cursor<TlsInput>, clock: Clock): UpstreamTls {
  const cert = tls.at('cert').given();
  const key = tls.at('key').given();
  const ca = tls.at('ca').given();
  if ((cert === null) !== (key === null)) tls.error('"cert" and "key" belong together; one of them is missing');
  const pair = cert !== null && key !== null ? checkPair(cert, key, clock) : { cert: null, key: null };
  const verify = tls.at('verify').filled();
  if (!verify.value)
    verify.warn('the service is not verified: whoever stands in between can read and change everything');
  return {
    serverName: tls.value.serverName ?? null,
    ca: ca === null ? null : checkAuthorities(ca, clock),
    ...pair,
    verify: verify.value,
  };
}

type HopInput = NonNullable<CompleteService['internal']>;

function resolveHop(
  name: string,
  hop: Cursor<HopInput>,
  written: readonly Cursor<CompleteService['endpoints'][number]>[],
  endpoints: readonly EndpointConfig[],
): Hop {
  const inbound = { host: listenHost(hop.at('inbound').at('host').filled()), port: hop.value.inbound.port };
  const outbound = hop.at('outbound').given();
  const app = hop.at('app').given();
  const mine = endpoints.filter((endpoint, index) => {
    if (endpoint.hop === null) return false;
    const matches = leadsTo(endpoint.hop, inbound);
    if (!matches && inbound.port !== 0) {
      written[index]
        .at('hop')
        .warn(`the hop of "${name}" does not listen here but at ${formatHostPort(inbound.host, inbound.port)}`);
    }
    return matches;
  });
  const apps = app === null ? [...new Set(mine.map(({ address }) => address))] : [dialled(app)];
  if (apps.length === 0) hop.error('nothing stands behind this hop: name it by "app", or by "hop" of an endpoint');
  if (app === null && apps.length > 1 && new Set(mine.map((endpoint) => endpoint.hop)).size > 1) {
    hop.warn(`each hop of "${name}" would send to all of ${apps.join(', ')}; say "app" when it has one of its own`);
  }
  return {
    at: hop.keyPlace,
    inbound,
    outbound:
      outbound === null
        ? null
        : {
            host: listenHost(outbound.at('host').filled()),
            port: outbound.value.port,
            ports: outbound
              .at('ports')
              .filled()
              .entries()
              .flatMap(([service, address]) => {
                const parsed = parseHostPort(address.value);
                if (parsed === null)
                  address.error(`"${address.value}" is not host:port to listen on, such as 127.0.0.1:7001`);
                return parsed === null ? [] : [{ service, ...parsed, at: address.place }];
              }),
          },
    apps,
  };
}

/** Whether who dials `hop` reaches `inbound`, as far as names tell: only two different IP addresses certainly differ. */
function leadsTo(hop: string, inbound: { readonly host: string; readonly port: number }): boolean {
  const parsed = parseHostPort(hop);
  if (parsed === null || parsed.port !== inbound.port) return false;
  const everywhere = inbound.host === '0.0.0.0' || inbound.host === '::';
  return everywhere || parsed.host === inbound.host || isIP(parsed.host) === 0 || isIP(inbound.host) === 0;
}
