// Names and addresses of servers as certificates carry them: GeneralName of RFC 5280, section 4.2.1.6.
import { isIP } from 'node:net';
import { element, implicitTag } from './der.ts';

/** DER of a dNSName, or of an iPAddress (without brackets). */
export function hostName(host: string): Buffer {
  const family = isIP(host);
  if (family === 0) return element(implicitTag(2), Buffer.from(host, 'latin1'));
  return element(implicitTag(7), family === 4 ? Buffer.from(host.split('.').map(Number)) : ipv6Octets(host));
}

/** 16 of them; without zone. */
export function ipv6Octets(address: string): Buffer {
  // A URL writes it in groups of hexadecimal digits, whatever it looked like before.
  const [head, tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::');
  const groups = (text: string | undefined): string[] => (text ? text.split(':') : []);
  const [left, right] = [groups(head), groups(tail)];
  const all = [...left, ...Array<string>(8 - left.length - right.length).fill('0'), ...right];
  return Buffer.from(all.map((group) => group.padStart(4, '0')).join(''), 'hex');
}
