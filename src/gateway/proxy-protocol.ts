// Reads the header by which a load balancer says whose connection it passes on: PROXY protocol 1 and 2, as HAProxy specifies them.
import { isIPv4, isIPv6, SocketAddress } from 'node:net';
import { plainAddress } from '../http/address.ts';

/** Where a passed-on connection comes from, and which address and port it was made to. */
export interface ProxiedConnection {
  /** IPv6 as short as it can be written; IPv4-mapped IPv6 written as IPv4. */
  readonly sourceAddress: string;
  readonly destinationPort: number;
}

export type ProxyHeader =
  /** So far it may become one. */
  | { readonly kind: 'partial' }
  | { readonly kind: 'malformed'; readonly reason: string }
  /** `connection` null: the balancer speaks for itself (health check), or does not know. `length`: bytes before what the client sent. */
  | { readonly kind: 'whole'; readonly length: number; readonly connection: ProxiedConnection | null };

/** Of version 1, line end included (section 2.1 of the specification). */
const MAX_LINE = 107;
/** Of version 2: addresses and what senders in use add to them, certificates' names included. */
export const MAX_PROXY_HEADER = 4_096;

const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
const FIXED = SIGNATURE.length + 4;
const WORD = Buffer.from('PROXY ', 'latin1');
const LF = 10;

const PARTIAL: ProxyHeader = Object.freeze({ kind: 'partial' });

const malformed = (reason: string): ProxyHeader => ({ kind: 'malformed', reason });

/** `bytes` is everything that the connection has sent so far. Bounded: from `MAX_PROXY_HEADER` bytes on it is never partial. */
export function readProxyHeader(bytes: Buffer): ProxyHeader {
  if (begins(bytes, WORD)) return bytes.length < WORD.length ? PARTIAL : readLine(bytes);
  if (begins(bytes, SIGNATURE)) return bytes.length < FIXED ? PARTIAL : readBinary(bytes);
  return malformed('it sends no PROXY header');
}

/** As far as there are bytes. */
function begins(bytes: Buffer, signature: Buffer): boolean {
  const length = Math.min(bytes.length, signature.length);
  return bytes.compare(signature, 0, length, 0, length) === 0;
}

/** Decimal and without leading zeros. */
const PORT = /^(?:0|[1-9]\d{0,4})$/;

function readLine(bytes: Buffer): ProxyHeader {
  const end = bytes.subarray(0, MAX_LINE).indexOf(LF);
  if (end === -1)
    return bytes.length < MAX_LINE ? PARTIAL : malformed(`its PROXY line is longer than ${MAX_LINE} bytes`);
  const line = bytes.toString('latin1', 0, end);
  if (!line.endsWith('\r')) return malformed('its PROXY line does not end in CR LF');
  const length = end + 1;
  const [, family, ...fields] = line.slice(0, -1).split(' ');
  // Whatever follows UNKNOWN is to be ignored.
  if (family === 'UNKNOWN') return { kind: 'whole', length, connection: null };
  const isAddress = family === 'TCP4' ? isIPv4 : family === 'TCP6' ? isPlainIPv6 : null;
  if (isAddress === null) return malformed('its PROXY line is of no known kind');
  const [source, destination, sourcePort, destinationPort] = fields;
  if (fields.length !== 4 || !isAddress(source) || !isAddress(destination))
    return malformed(`its PROXY line does not name two ${family} addresses`);
  if (![sourcePort, destinationPort].every((port) => PORT.test(port) && Number(port) <= 65_535))
    return malformed('its PROXY line does not name two ports');
  const connection = { sourceAddress: shortest(source), destinationPort: Number(destinationPort) };
  return { kind: 'whole', length, connection };
}

const LOCAL = 0x20;
const PROXY = 0x21;
/** Bytes of the addresses of a family over streams; others than these say nothing that could be used. */
const BLOCKS: Readonly<Record<number, { readonly family: 'ipv4' | 'ipv6' | null; readonly bytes: number }>> = {
  0: { family: null, bytes: 0 },
  17: { family: 'ipv4', bytes: 12 },
  33: { family: 'ipv6', bytes: 36 },
  49: { family: null, bytes: 216 },
};

function readBinary(bytes: Buffer): ProxyHeader {
  const command = bytes[SIGNATURE.length];
  if (command !== LOCAL && command !== PROXY) return malformed('its PROXY header is of no known version or command');
  const announced = bytes.readUInt16BE(SIGNATURE.length + 2);
  const length = FIXED + announced;
  if (length > MAX_PROXY_HEADER) return malformed(`its PROXY header is longer than ${MAX_PROXY_HEADER} bytes`);
  const block = BLOCKS[bytes[SIGNATURE.length + 1]];
  if (command === PROXY) {
    if (block === undefined) return malformed('its PROXY header is of no known family, or of datagrams');
    if (announced < block.bytes) return malformed('its PROXY header is too short for its addresses');
  }
  if (bytes.length < length) return PARTIAL;
  if (command === LOCAL || block.family === null) return { kind: 'whole', length, connection: null };
  const { family } = block;
  const width = family === 'ipv4' ? 4 : 16;
  const sourceAddress = addressText(bytes.subarray(FIXED, FIXED + width), family);
  const destinationPort = bytes.readUInt16BE(FIXED + 2 * width + 2);
  return { kind: 'whole', length, connection: { sourceAddress, destinationPort } };
}

function addressText(octets: Buffer, family: 'ipv4' | 'ipv6'): string {
  if (family === 'ipv4') return octets.join('.');
  const groups = Array.from({ length: 8 }, (_, i) => octets.readUInt16BE(2 * i).toString(16));
  return shortest(groups.join(':'));
}

function isPlainIPv6(text: string): boolean {
  return isIPv6(text) && !text.includes('%');
}

/** One address has one text, whoever wrote it: limits and lists go by it. */
function shortest(address: string): string {
  return isIPv4(address) ? address : plainAddress(new SocketAddress({ address, family: 'ipv6' }).address);
}
