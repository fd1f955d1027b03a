// The address that a listener, a hop or the admin API binds, read at its place.
import { parseHost } from '../http/address.ts';
import type { Cursor } from './cursor.ts';

/** In lower case, IPv6 without brackets. */
export function listenHost(host: Cursor<string>): string {
  const bare = host.value.includes(':') && !host.value.startsWith('[') ? `[${host.value}]` : host.value;
  const parsed = parseHost(bare);
  if (parsed === null)
    host.error(`"${host.value}" is not an IP address or host name to listen on; the port goes into "port"`);
  return parsed ?? host.value;
}
