// Cache-Control as a list of directives: RFC 9111 section 5.2.
import type { ResponseHeaders } from '../../plugin.ts';

/** Lower-case directive → its argument; `true`: it has none. */
export type Directives = ReadonlyMap<string, string | true>;

/** RFC 9111 section 1.2.2: larger numbers mean this one. */
const MOST_SECONDS = 2_147_483_648;

const DIRECTIVE =
  /\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?\s*(?:,|$)|[^,]*(?:,|$)/gy;

export function parseDirectives(value: string | undefined): Directives {
  const found = new Map<string, string | true>();
  if (value === undefined) return found;
  for (const [, name, quoted, plain] of value.matchAll(DIRECTIVE)) {
    if (name === undefined) continue;
    const key = name.toLowerCase();
    const argument = (quoted as string | undefined) ?? (plain as string | undefined) ?? true;
    const before = found.get(key);
    // Of two that disagree the stricter holds: `no-cache` beats `no-cache="x"`, a shorter time a longer one.
    if (before === undefined || (before !== true && (argument === true || Number(argument) < Number(before))))
      found.set(key, argument);
  }
  return found;
}

/** Seconds of a directive. Undefined: it is not there. Null: it is no number of seconds. */
export function secondsOf(directives: Directives, name: string): number | null | undefined {
  const argument = directives.get(name);
  if (argument === undefined) return undefined;
  return seconds(argument === true ? '' : argument);
}

export function seconds(text: string): number | null {
  return /^\d+$/.test(text) ? Math.min(Number(text), MOST_SECONDS) : null;
}

/** Of a response: repeated lines are one list. */
export function fieldOf(headers: ResponseHeaders, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}

/** Of a request as it is sent: names and values in turn. */
export function sentField(headers: readonly string[], name: string): string | undefined {
  let found: string | undefined;
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i].length !== name.length || headers[i].toLowerCase() !== name) continue;
    found = found === undefined ? headers[i + 1] : `${found}, ${headers[i + 1]}`;
  }
  return found;
}
