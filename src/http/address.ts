// Where a connection comes from and goes to, as text: `host:port` pairs and sets of networks, for config and listeners alike.
import { BlockList, isIP, isIPv4, isIPv6 } from 'node:net';

export interface HostPort {
  /** Lower-case; IPv6 without brackets; a trailing dot is kept, it says that the name is absolute. */
  readonly host: string;
  /** 0 to 65535. */
  readonly port: number;
}

const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
const PORT = /^\d{1,5}$/;
/** What only an IPv4 address may look like: a last label of digits is never a name (RFC 1123 section 2.1). */
const ENDS_IN_NUMBER = /(?:^|\.)(?:\d+|0x[0-9a-f]*)\.?$/;

/** RFC 1034 section 3.1. */
const MAX_NAME = 253;

/**
 * Reads `host:port` with a name, an IPv4 address or an IPv6 address in brackets (RFC 3986 section 3.2.2).
 * A missing or empty port means `defaultPort`; without one, and for anything malformed, the result is null.
 */
export function parseHostPort(text: string, defaultPort?: number): HostPort | null {
  const end = text.startsWith('[') ? text.indexOf(']') + 1 : text.indexOf(':');
  if (end === 0) return null;
  const host = parseHost(end === -1 ? text : text.slice(0, end));
  if (host === null) return null;
  const rest = end === -1 ? '' : text.slice(end);
  if (rest === '' || rest === ':') return defaultPort === undefined ? null : { host, port: defaultPort };
  const port = rest.slice(1);
  if (rest[0] !== ':' || !PORT.test(port) || Number(port) > 65_535) return null;
  return { host, port: Number(port) };
}

/** A host as a URL writes it, in lower case and without brackets; null when it is none. */
export function parseHost(text: string): string | null {
  const host = text.toLowerCase();
  if (host.startsWith('[')) {
    const address = host.slice(1, -1);
    return host.endsWith(']') && isIPv6(address) && !address.includes('%') ? address : null;
  }
  if (ENDS_IN_NUMBER.test(host)) return isIPv4(host) ? host : null;
  const name = host.endsWith('.') ? host.slice(0, -1) : host;
  return name.length <= MAX_NAME && name.split('.').every((label) => LABEL.test(label)) ? host : null;
}

/** `127.0.0.1:80`, `[::1]:80`. */
export function formatHostPort(host: string, port: number): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/** True for `10.0.0.0/8`, `2001:db8::/32` and single addresses. */
export function isCidr(text: string): boolean {
  return parseCidr(text) !== null;
}

/** IPv4-mapped IPv6 (`::ffff:10.0.0.1`, as dual-stack sockets report IPv4 peers) written as IPv4; anything else unchanged. */
export function plainAddress(ip: string): string {
  if (!ip.startsWith('::ffff:') && !ip.startsWith('::FFFF:')) return ip;
  const tail = ip.slice('::ffff:'.length);
  return isIPv4(tail) ? tail : ip;
}

/** A set of networks. Built while a config is compiled, asked once per connection or request. */
export class AddressSet {
  /** Null when the set is empty, so that the common case costs nothing. */
  readonly #list: BlockList | null;

  /** Throws a RangeError for what is not a CIDR. */
  constructor(cidrs: readonly string[]) {
    this.#list = cidrs.length === 0 ? null : new BlockList();
    for (const text of cidrs) {
      const cidr = parseCidr(text);
      if (cidr === null) throw new RangeError(`"${text}" is not an address or CIDR`);
      this.#list?.addSubnet(cidr.address, cidr.bits, cidr.family);
    }
  }

  /** False for what is not an IP address. */
  has(ip: string): boolean {
    if (this.#list === null) return false;
    const address = plainAddress(ip);
    const version = isIP(address);
    return version !== 0 && this.#list.check(address, version === 4 ? 'ipv4' : 'ipv6');
  }
}

interface Cidr {
  readonly address: string;
  readonly bits: number;
  readonly family: 'ipv4' | 'ipv6';
}

function parseCidr(text: string): Cidr | null {
  const slash = text.indexOf('/');
  const written = slash === -1 ? text : text.slice(0, slash);
  const version = isIP(written);
  if (version === 0 || written.includes('%')) return null;
  const width = version === 4 ? 32 : 128;
  const suffix = slash === -1 ? String(width) : text.slice(slash + 1);
  if (!/^\d{1,3}$/.test(suffix) || Number(suffix) > width) return null;
  const address = plainAddress(written);
  if (address === written) return { address, bits: Number(suffix), family: version === 4 ? 'ipv4' : 'ipv6' };
  // A mapped network (::ffff:10.0.0.0/104) is the IPv4 network of the last 32 bits.
  return Number(suffix) < 96 ? null : { address, bits: Number(suffix) - 96, family: 'ipv4' };
}
