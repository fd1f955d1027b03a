// The trust boundary of the edge: whose word counts about where a request comes from, and where it does come from.
import { isIP } from 'node:net';
import { AddressSet, plainAddress } from '../http/address.ts';
import type { Connection, ListenerSpec } from '../runtime/listener-spec.ts';

/** Whom a listener believes, compiled once a reload. */
export interface Trust {
  readonly proxies: AddressSet;
  readonly header: string;
  readonly hops: number | null;
  /** Which direct peers may state where a request comes from. */
  readonly peers: 'none' | 'proxies' | 'any';
}

export interface ClientSource {
  readonly address: string;
  /** True when the direct peer may state forwarding headers. */
  readonly trusted: boolean;
}

/** Throws a RangeError for what is not a CIDR. */
export function compileTrust({
  trustedProxies,
  header,
  hops,
  anyPeer = false,
}: Omit<ListenerSpec['clientAddress'], 'proxyProtocol'>): Trust {
  const named = trustedProxies.length > 0;
  const peers = anyPeer ? 'any' : hops === 0 ? 'none' : named ? 'proxies' : hops === null ? 'none' : 'any';
  return { proxies: new AddressSet(trustedProxies), header, hops, peers };
}

/**
 * The address of the client. Each proxy appends whom it saw, so the list is read from its right end, the only one that strangers cannot write:
 * past every trusted proxy, to the first address that is not one. An entry that is no address ends the walk at the proxy that sent it.
 *
 * With `hops`, exactly that many proxies are passed whatever their addresses (with `trustedProxies` too, the nearest must be one of them);
 * a list that is shorter names the client first.
 */
export function clientAddressOf(
  trust: Trust,
  remoteAddress: string,
  headers: Readonly<Record<string, string | string[] | undefined>>,
): ClientSource {
  const { peers, proxies, hops } = trust;
  if (peers === 'none' || (peers === 'proxies' && !proxies.has(remoteAddress)))
    return { address: remoteAddress, trusted: false };
  const header = headers[trust.header];
  let address = remoteAddress;
  if (header === undefined) return { address, trusted: true };
  const list = Array.isArray(header) ? header.join(',') : header;
  let end = list.length;
  let passed = 0;
  while (end >= 0 && (hops === null ? passed === 0 || proxies.has(address) : passed < hops)) {
    const comma = list.lastIndexOf(',', end - 1);
    const start = end === 0 ? 0 : comma + 1;
    const entry = list.slice(start, end).trim();
    const stated = addressIn(trust.header === 'forwarded' ? forParameter(entry) : entry);
    if (stated === null) break;
    address = stated;
    passed++;
    end = start - 1;
  }
  return { address, trusted: true };
}

/** Of a connection that is passed on: what its PROXY header says takes the place of the TCP peer, and then everything else goes as above. */
export function clientOf(
  trust: Trust,
  { remoteAddress, unnamed }: Pick<Connection, 'remoteAddress' | 'unnamed'>,
  headers: Parameters<typeof clientAddressOf>[2],
): ClientSource {
  return unnamed === true ? { address: remoteAddress, trusted: false } : clientAddressOf(trust, remoteAddress, headers);
}

const BRACKETED = /^\[([^\]]+)\](?::\d{1,5})?$/;
const WITH_PORT = /^([\d.]+):\d{1,5}$/;

/** `203.0.113.7`, `203.0.113.7:4711`, `2001:db8::1`, `[2001:db8::1]:4711`, with or without zone; null for anything else. */
function addressIn(entry: string): string | null {
  const text = (BRACKETED.exec(entry) ?? WITH_PORT.exec(entry))?.[1] ?? entry;
  const zone = text.indexOf('%');
  const address = (zone === -1 ? text : text.slice(0, zone)).toLowerCase();
  return isIP(address) === 0 ? null : plainAddress(address);
}

const FOR = /(?:^|;)\s*for=(?:"([^"]*)"|([^;\s]*))/i;

/** The node of one element of a Forwarded header (RFC 7239 section 4). */
function forParameter(element: string): string {
  const found = FOR.exec(element);
  return found?.[1] ?? found?.[2] ?? '';
}
