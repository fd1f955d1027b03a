// Who counts as one client where clients are told apart by their address.
import { plainAddress } from './address.ts';

const GROUPS = 8;
const OF_NETWORK = 4;

/**
 * An IPv4 address as it is, an IPv6 address as its /64: that is what one subscriber is given (RFC 6177), and who has 2^64 addresses
 * would otherwise have as many accounts.
 */
export function clientNetwork(address: string): string {
  const plain = plainAddress(address);
  if (!plain.includes(':')) return plain;
  const [left, right] = plain.split('%')[0].split('::');
  const head = left === '' ? [] : left.split(':');
  const tail = right === undefined || right === '' ? [] : right.split(':');
  // An embedded IPv4 address stands for two groups.
  const tailGroups = tail.length + (tail.at(-1)?.includes('.') === true ? 1 : 0);
  const zeros = right === undefined ? 0 : Math.max(0, GROUPS - head.length - tailGroups);
  const groups = [...head, ...Array<string>(zeros).fill('0'), ...tail].slice(0, OF_NETWORK);
  return `${groups.map((group) => Number.parseInt(group, 16).toString(16)).join(':')}::/64`;
}
