// Resolves one gateway: its listeners, what it believes about clients, its limits and chain.
import { isCidr } from '../http/address.ts';
import { type Clock, checkAuthorities, checkPair } from './certificates.ts';
import type { CompleteGateway, CompleteListener } from './complete.ts';
import type { Cursor } from './cursor.ts';
import { HEADER_NAME } from './header-names.ts';
import { listenHost } from './listen-host.ts';
import type { ClientAddress, Gateway, Limits, Listener, ListenerTls } from './model.ts';
import { isUse, pluginUses } from './plugin-uses.ts';
import { resolveErrorPages } from './resolve-error-pages.ts';
import { resolveRedirect } from './resolve-redirect.ts';
import { bytes, bytesPerSecond, countOrInfinity, milliseconds } from './units.ts';

export function resolveGateway(name: string, gateway: Cursor<CompleteGateway>, clock: Clock): Gateway {
  const limits = resolveLimits(gateway.at('limits').filled());
  const listeners = gateway.at('listeners').items();
  const seen = new Set<string>();
  for (const listener of listeners) {
    const listenerName = listener.at('name');
    if (seen.has(listenerName.value))
      listenerName.error(`gateway "${name}" has two listeners with the name "${listenerName.value}"`);
    seen.add(listenerName.value);
  }
  return {
    name,
    at: gateway.keyPlace,
    clientAddress: resolveClientAddress(gateway.at('clientAddress').filled()),
    listeners: listeners.map((listener) => ({
      ...resolveListener(listener, limits, clock),
      redirect: resolveRedirect(listener, listeners),
    })),
    errorPages: resolveErrorPages(gateway.at('errorPages')),
    plugins: pluginUses('gateway', gateway.at('plugins').items()).filter(isUse),
  };
}

function resolveClientAddress(written: Cursor<NonNullable<CompleteGateway['clientAddress']>>): ClientAddress {
  const trusted = written.at('trustedProxies').items();
  for (const network of trusted) {
    if (!isCidr(network.value))
      network.error(`"${network.value}" is not a network: write an address or a CIDR such as 10.0.0.0/8`);
  }
  const header = written.at('header').filled();
  if (!HEADER_NAME.test(header.value)) header.error(`"${header.value}" is not a header name`);
  const hops = written.at('hops').given();
  if (hops !== null && trusted.length === 0) hops.warn('has no effect without "trustedProxies": no proxy is believed');
  const proxyProtocol = written.at('proxyProtocol').filled();
  if (proxyProtocol.value && trusted.length === 0)
    proxyProtocol.error('nobody may send a PROXY header: name the addresses of the load balancer in "trustedProxies"');
  return {
    trustedProxies: trusted.map(({ value }) => value),
    header: header.value.toLowerCase(),
    hops: hops?.value ?? null,
    proxyProtocol: proxyProtocol.value,
  };
}

function resolveListener(
  listener: Cursor<CompleteListener>,
  inherited: Limits,
  clock: Clock,
): Omit<Listener, 'redirect'> {
  const tls = listener.at('tls').given();
  const limits = listener.at('limits').given();
  return {
    name: listener.value.name,
    at: listener.place,
    host: listenHost(listener.at('host').filled()),
    port: listener.value.port,
    tls: tls === null ? null : resolveTls(tls, clock),
    limits: limits === null ? inherited : { ...inherited, ...resolveLimits(limits) },
    plugins: pluginUses('listener', listener.at('plugins').items()),
  };
}

function resolveTls(tls: Cursor<NonNullable<CompleteListener['tls']>>, clock: Clock): ListenerTls {
  const client = tls.at('clientCertificate').given();
  return {
    certificates: tls
      .at('certificates')
      .items()
      .map((pair) => ({ ...checkPair(pair.at('cert'), pair.at('key'), clock), at: pair.place })),
    minVersion: tls.at('minVersion').filled().value,
    clientCertificate:
      client === null ? null : { ca: checkAuthorities(client.at('ca'), clock), mode: client.at('mode').filled().value },
  };
}

type LimitsInput = NonNullable<CompleteGateway['limits']>;

/** What is given; of a gateway, whose limits all have defaults, that is everything. */
export function resolveLimits(limits: Cursor<LimitsInput>): Limits {
  const found: Record<string, number> = {};
  for (const key of ['headerBytes', 'urlBytes', 'bodyBytes'] as const) take(found, key, limits.at(key).given(), bytes);
  for (const key of ['headerTimeout', 'bodyIdleTimeout', 'keepAliveTimeout', 'tlsHandshakeTimeout'] as const) {
    take(found, `${key}Ms`, limits.at(key).given(), milliseconds);
  }
  for (const key of ['headerCount', 'connections'] as const)
    take(found, key, limits.at(key).given(), ({ value }) => value);
  take(found, 'connectionsPerClient', limits.at('connectionsPerClient').given(), countOrInfinity);
  take(found, 'bodyMinRate', limits.at('bodyMinRate').given(), bytesPerSecond);
  return found as unknown as Limits;
}

function take<T>(
  found: Record<string, number>,
  key: string,
  cursor: Cursor<T> | null,
  read: (cursor: Cursor<T>) => number,
): void {
  if (cursor !== null) found[key] = read(cursor);
}
