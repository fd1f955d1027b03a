// Who may speak to the admin server: a browser that a foreign page steers (DNS rebinding) names a host that is not ours.
import { isIP } from 'node:net';

/**
 * Whether a Host header names this machine: `localhost` (and names under it, RFC 6761 section 6.3), a loopback address, the
 * address that the connection came in on, or the name that `admin.host` gives. A rebound name is none of these, and a page
 * cannot choose the Host that its browser sends.
 */
export function namesThisHost(
  header: string | undefined,
  configuredHost: string,
  localAddress: string | undefined,
): boolean {
  const host = hostOf(header);
  if (host === null) return false;
  if (host === 'localhost' || host.endsWith('.localhost') || host === configuredHost.toLowerCase()) return true;
  if (isIP(host) === 0) return false;
  return host === '::1' || host.startsWith('127.') || host === withoutMapping(localAddress ?? '');
}

/** Lower-case, without port, brackets and one trailing dot; null when malformed. */
function hostOf(header: string | undefined): string | null {
  const found = /^(?:\[([0-9a-f:.]+)\]|([^\s:/@[\]]+?)\.?)(?::\d{1,5})?$/i.exec(header ?? '');
  return found === null ? null : (found[1] ?? found[2]).toLowerCase();
}

/** An IPv4 client of a dual-stack socket: `::ffff:10.0.0.1`. */
function withoutMapping(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice('::ffff:'.length) : address;
}
