// What kind of place an IP address is, before anything connects to it: the internet, a private network, or nothing that a name should lead to.
import { isIPv4, isIPv6 } from 'node:net';
import { AddressSet } from '../http/address.ts';

/**
 * `private`: reached only where a rule lists it. `special`: likewise, and not in audit either: loopback, link-local, multicast, reserved.
 * `metadata`: where clouds hand out credentials.
 */
export type AddressClass = 'public' | 'private' | 'special' | 'metadata';

/** AWS, GCP, Azure and most others; AWS ECS tasks and IPv6; GCP IPv6; Azure's wire server; Alibaba; Oracle. */
const METADATA = new AddressSet([
  '169.254.169.254',
  '169.254.170.2',
  '169.254.170.23',
  'fd00:ec2::254',
  'fd00:ec2::23',
  'fd20:ce::254',
  '168.63.129.16',
  '100.100.100.200',
  '192.0.0.192',
]);

/** RFC 1918, RFC 6598 (carrier-grade NAT), RFC 2544 (benchmarks), RFC 4193, RFC 8215, RFC 3879. */
const PRIVATE = new AddressSet([
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '100.64.0.0/10',
  '198.18.0.0/15',
  'fc00::/7',
  '64:ff9b:1::/48',
  'fec0::/10',
]);

/** The rest of the IANA registries of special-purpose addresses (RFC 6890), broadcast and multicast. */
const SPECIAL = new AddressSet([
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
  '::/96',
  '::ffff:0:0:0/96',
  '100::/64',
  '2001::/23',
  '2001:db8::/32',
  '3fff::/20',
  '5f00::/16',
  'fe80::/10',
  'ff00::/8',
]);

/** One spelling an address: IPv6 as RFC 5952 says, IPv4-mapped IPv6 as IPv4. Null: no IP address, or one with a zone. */
export function canonicalAddress(text: string): string | null {
  if (isIPv4(text)) return text;
  if (!isIPv6(text) || text.includes('%')) return null;
  const address = new URL(`http://[${text}]/`).hostname.slice(1, -1);
  const groups = groupsOf(address);
  const mapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
  return mapped ? ipv4Of(groups[6], groups[7]) : address;
}

/** `address` as `canonicalAddress` writes it. */
export function addressClass(address: string): AddressClass {
  const inner = embeddedIpv4(address);
  if (inner !== null) return addressClass(inner);
  if (METADATA.has(address)) return 'metadata';
  if (SPECIAL.has(address)) return 'special';
  return PRIVATE.has(address) ? 'private' : 'public';
}

/** The IPv4 address that a packet to this IPv6 address ends at: by NAT64 (RFC 6052) or 6to4 (RFC 3056). Null: at none. */
export function embeddedIpv4(address: string): string | null {
  if (!address.startsWith('64:ff9b:') && !address.startsWith('2002:')) return null;
  const groups = groupsOf(address);
  if (groups[0] === 0x2002) return ipv4Of(groups[1], groups[2]);
  return groups.slice(2, 6).every((group) => group === 0) ? ipv4Of(groups[6], groups[7]) : null;
}

/** The eight groups of an IPv6 address in canonical form. */
function groupsOf(address: string): number[] {
  const [head, tail] = address.split('::');
  const read = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const first = read(head);
  if (tail === undefined) return first;
  const last = read(tail);
  return [...first, ...new Array<number>(8 - first.length - last.length).fill(0), ...last];
}

function ipv4Of(high: number, low: number): string {
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}
