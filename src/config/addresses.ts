// Two listeners on one address: found before a socket says so, across gateways, hops and the admin API.
import { formatHostPort, parseHostPort } from '../http/address.ts';
import type { CompleteConfig } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { Config, ServiceConfig } from './model.ts';

/** The part of a config that one process runs; null where all of it. */
export interface RoleSelection {
  readonly gateways: readonly string[];
  readonly internal: readonly string[];
}

interface Bound {
  readonly what: string;
  readonly host: string;
  readonly port: number;
  readonly at: Cursor<unknown>;
  /** Hosts that this hop runs on, as its endpoints tell; null: anywhere. */
  readonly machines: ReadonlySet<string> | null;
}

export function checkAddresses(written: Cursor<CompleteConfig>, config: Config, roles: RoleSelection | null): void {
  const byPort = new Map<number, Bound[]>();
  for (const bound of boundAddresses(written, config, roles)) {
    if (bound.port === 0) continue;
    const others = byPort.get(bound.port) ?? [];
    const other = others.find((candidate) => collide(candidate, bound));
    if (other !== undefined) {
      bound.at.error(`${bound.what} and ${other.what} ${overlap(bound, other)}`);
    }
    byPort.set(bound.port, [...others, bound]);
  }
}

function* boundAddresses(
  written: Cursor<CompleteConfig>,
  config: Config,
  roles: RoleSelection | null,
): Generator<Bound> {
  if (config.admin !== null) yield { what: 'the admin API', ...config.admin, at: written.at('admin'), machines: null };
  const gateways = new Map(written.at('gateways').filled().entries());
  for (const gateway of config.gateways) {
    if (roles !== null && !roles.gateways.includes(gateway.name)) continue;
    const listeners = gateways.get(gateway.name)?.at('listeners').items() ?? [];
    for (const [index, { name, host, port }] of gateway.listeners.entries()) {
      yield {
        what: `listener "${name}" of gateway "${gateway.name}"`,
        host,
        port,
        at: listeners[index].at('port'),
        machines: null,
      };
    }
  }
  const services = new Map(written.at('services').filled().entries());
  for (const service of config.services) {
    const hop = services.get(service.name)?.at('internal').given() ?? null;
    if (service.internal === null || hop === null || (roles !== null && !roles.internal.includes(service.name)))
      continue;
    const { inbound, outbound } = service.internal;
    const machines = machinesOf(service);
    const hopName = `hop of "${service.name}"`;
    yield { what: `the inbound side of the ${hopName}`, ...inbound, at: hop.at('inbound').at('port'), machines };
    const out = hop.at('outbound').given();
    if (outbound === null || out === null) continue;
    yield {
      what: `the outbound side of the ${hopName}`,
      host: outbound.host,
      port: outbound.port,
      at: out.at('port'),
      machines,
    };
    const ports = new Map(out.at('ports').filled().entries());
    for (const local of outbound.ports) {
      yield {
        what: `the local port for "${local.service}" of the ${hopName}`,
        host: local.host,
        port: local.port,
        at: ports.get(local.service) ?? out,
        machines,
      };
    }
  }
}

function overlap(bound: Bound, other: Bound): string {
  const address = formatHostPort(bound.host, bound.port);
  const others = formatHostPort(other.host, other.port);
  return address === others
    ? `both listen on ${address}`
    : `listen on addresses that overlap, ${address} and ${others}`;
}

/** A mesh puts the same ports on many machines; two hops share one only where their addresses do. */
function machinesOf(service: ServiceConfig): ReadonlySet<string> | null {
  const hosts = service.endpoints.flatMap(({ hop }) => (hop === null ? [] : (parseHostPort(hop)?.host ?? [])));
  return hosts.length === 0 ? null : new Set(hosts);
}

function collide(a: Bound, b: Bound): boolean {
  const apart =
    a.machines !== null &&
    b.machines !== null &&
    a.machines !== b.machines &&
    ![...a.machines].some((host) => b.machines?.has(host));
  return (
    !apart &&
    (a.host === b.host ||
      isEverywhere(a.host) ||
      isEverywhere(b.host) ||
      isLocalhost(a.host, b.host) ||
      isLocalhost(b.host, a.host))
  );
}

function isEverywhere(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

/** A name that stands for either loopback address. */
function isLocalhost(name: string, address: string): boolean {
  return name === 'localhost' && (address === '127.0.0.1' || address === '::1');
}
