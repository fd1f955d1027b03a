// At compile time: which service an application means that calls an address instead of a name, for the outbound side of hops.
import { isIP } from 'node:net';
import type { Config } from '../config/model.ts';
import { formatHostPort, parseHostPort } from '../http/address.ts';
import { parseAuthority } from '../http/authority.ts';
import { hostHolds } from './match.ts';
import { internalHosts } from './scope.ts';

export interface ServiceAddress {
  readonly service: string;
  /** As `parseHostPort` reads it: a name or an IP address without brackets. */
  readonly host: string;
  readonly port: number;
  readonly what: 'endpoint' | 'hop';
}

/** Host as routes are matched by → port in digits → the host that the service's routes answer to. */
export type AddressBook = ReadonlyMap<string, ReadonlyMap<string, string>>;

/**
 * The addresses that belong to exactly one service, in the order of the config. Left out: what two services have in common, what is
 * the name of another service, the loopback address of an application whose hop is on another machine, and services that speak TCP,
 * which the outbound side of a hop does not read.
 */
export function serviceAddresses(config: Pick<Config, 'services'>): ServiceAddress[] {
  const names = new Map(config.services.map(({ name }) => [name.toLowerCase(), name]));
  const owners = new Map<string, ServiceAddress | null>();
  for (const { name, protocol, endpoints } of config.services) {
    if (protocol === 'tcp') continue;
    for (const { address, hop } of endpoints) {
      const app = parseHostPort(address);
      const front = hop === null ? null : parseHostPort(hop);
      const elsewhere = app !== null && front !== null && isLoopback(app.host) && !isLoopback(front.host);
      const written = [
        ...(app === null || elsewhere ? [] : [{ ...app, what: 'endpoint' as const }]),
        ...(front === null ? [] : [{ ...front, what: 'hop' as const }]),
      ];
      for (const one of written) {
        if ((names.get(one.host) ?? name) !== name) continue;
        const key = formatHostPort(one.host, one.port);
        const other = owners.get(key);
        if (other === undefined) owners.set(key, { service: name, ...one });
        else if (other !== null && other.service !== name) owners.set(key, null);
      }
    }
  }
  return [...owners.values()].filter((address) => address !== null);
}

/** Names go before addresses: a host that a written route answers to is not in it. */
export function addressBook(config: Pick<Config, 'services' | 'routes'>): AddressBook {
  const routed = config.routes.filter(({ internal }) => internal.length > 0).flatMap(internalHosts);
  const book = new Map<string, Map<string, string>>();
  for (const address of serviceAddresses(config)) {
    const { host, port } = parseAuthority(formatHostPort(address.host, address.port));
    if (host === null || port === null || routed.some((pattern) => hostHolds(pattern, host))) continue;
    const ports = book.get(host) ?? new Map<string, string>();
    book.set(host, ports.set(port, address.service.toLowerCase()));
  }
  return book;
}

/** The host to match routes by. `port` null: that of `http:`. */
export function calledHost(book: AddressBook, host: string, port: string | null): string {
  return book.get(host)?.get(port ?? '80') ?? host;
}

/** By its looks, without asking anyone. */
export function isLoopback(host: string): boolean {
  if (isIP(host) === 0) return host === 'localhost' || host.endsWith('.localhost');
  return host === '::1' || host.startsWith('127.');
}
