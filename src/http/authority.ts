// What a Host header (or the authority of an absolute-form target) says, taken apart once for as long as a connection repeats it.
import { normalizeHost } from './path.ts';

export interface Authority {
  /** As it came. */
  readonly raw: string;
  /** Lower-case, without port and trailing dot; empty when there is none; null when malformed. */
  readonly host: string | null;
  /** Digits, or null when it names no port. */
  readonly port: string | null;
}

export function parseAuthority(raw: string): Authority {
  const colon = raw.lastIndexOf(':');
  const port = colon > raw.lastIndexOf(']') && colon < raw.length - 1 ? raw.slice(colon + 1) : null;
  return { raw, host: raw === '' ? '' : normalizeHost(raw), port };
}
