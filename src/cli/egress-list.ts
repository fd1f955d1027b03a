// From access-log lines to the shortest list of rules that lets the same calls out of the mesh, each with the count that justifies it.
import { addressClass, canonicalAddress } from '../egress/address-class.ts';
import { parseHost, parseHostPort } from '../http/address.ts';

/** Pairs of caller and host remembered; a log with more was not written by calls that anyone meant. */
export const MAX_DESTINATIONS = 10_000;

interface Destination {
  readonly owner: string;
  readonly host: string;
  readonly ports: Set<number>;
  /** Those that are not public. */
  readonly addresses: Set<string>;
  calls: number;
}

export interface Rule {
  readonly owners: readonly string[];
  readonly host: string;
  readonly ports: readonly number[];
  /** What opens addresses that are not public. */
  readonly cidrs: readonly string[];
  readonly calls: number;
}

/** What one log says of calls beyond the mesh. */
export class Observed {
  readonly #destinations = new Map<string, Destination>();
  /** Tunnels that were no TLS to their host. */
  readonly #mismatched = new Map<string, number>();
  /** Lines that are no JSON. */
  unreadable = 0;
  /** Lines about something else. */
  other = 0;
  /** Calls that were denied: they are not in the list. */
  denied = 0;
  /** Lines beyond MAX_DESTINATIONS. */
  beyond = 0;

  get mismatched(): readonly (readonly [what: string, calls: number])[] {
    return [...this.#mismatched].sort();
  }

  add(text: string): void {
    const line = parse(text);
    if (line === null) {
      this.unreadable += 1;
      return;
    }
    const call = callOf(line);
    if (call === null) this.other += 1;
    else if (line.verdict === 'denied') this.denied += 1;
    else if (line.reason === 'egress_sni_mismatch') {
      const what = `${call.owner} to ${call.host}:${call.port}`;
      if (this.#mismatched.has(what) || this.#mismatched.size < MAX_DESTINATIONS)
        this.#mismatched.set(what, (this.#mismatched.get(what) ?? 0) + 1);
    } else this.#count(call, line.endpoint);
  }

  #count({ owner, host, port }: Call, endpoint: unknown): void {
    const key = `${owner} ${host}`;
    let known = this.#destinations.get(key);
    if (known === undefined) {
      if (this.#destinations.size >= MAX_DESTINATIONS) {
        this.beyond += 1;
        return;
      }
      known = { owner, host, ports: new Set(), addresses: new Set(), calls: 0 };
      this.#destinations.set(key, known);
    }
    known.calls += 1;
    known.ports.add(port);
    const reached = canonicalAddress((typeof endpoint === 'string' ? parseHostPort(endpoint)?.host : null) ?? host);
    if (reached !== null && addressClass(reached) !== 'public') known.addresses.add(reached);
  }

  /** By host. Callers share a rule where they need the very same, so that it allows nothing that was not seen. */
  rules(): readonly Rule[] {
    const grouped = new Map<string, { owners: Set<string>; rule: Omit<Rule, 'owners' | 'calls'>; calls: number }>();
    for (const { owner, host, ports, addresses, calls } of this.#destinations.values()) {
      const rule = { host, ports: [...ports].sort((a, b) => a - b), cidrs: [...addresses].sort() };
      const key = JSON.stringify(rule);
      const group = grouped.get(key) ?? { owners: new Set(), rule, calls: 0 };
      group.owners.add(owner);
      group.calls += calls;
      grouped.set(key, group);
    }
    return [...grouped.values()]
      .map(({ owners, rule, calls }) => ({ ...rule, owners: [...owners].sort(), calls }))
      .sort((a, b) => compare(a.host, b.host) || compare(a.owners.join(), b.owners.join()));
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

type Line = Readonly<Record<string, unknown>>;

function parse(text: string): Line | null {
  try {
    const line: unknown = JSON.parse(text);
    return typeof line === 'object' && line !== null && !Array.isArray(line) ? (line as Line) : null;
  } catch {
    return null;
  }
}

interface Call {
  readonly owner: string;
  readonly host: string;
  readonly port: number;
}

const VERDICTS: readonly unknown[] = ['allowed', 'audit_denied', 'denied'];
const SERVICE = /^[a-z0-9](?:[a-z0-9_.-]{0,61}[a-z0-9])?$/;

/** Null: no call beyond the mesh. Other policies have verdicts as well, but only egress calls have this service. */
function callOf({ verdict, role, service, owner, host, port, method }: Line): Call | null {
  if (!VERDICTS.includes(verdict) || role !== 'outbound' || service !== 'egress') return null;
  if (typeof owner !== 'string' || !SERVICE.test(owner) || typeof host !== 'string') return null;
  const name = parseHost(host);
  const number = port ?? (method === 'CONNECT' ? 443 : 80);
  if (name === null || typeof number !== 'number' || !Number.isInteger(number) || number < 1 || number > 65_535)
    return null;
  return { owner, host: canonicalAddress(name) ?? name, port: number };
}

/** The `egress` key of a config, as YAML. */
export function egressYaml(rules: readonly Rule[]): string {
  if (rules.length === 0) return 'egress:\n  default: deny\n  allow: []\n';
  const lines = rules.map(({ owners, host, ports, cidrs, calls }) => {
    const from = owners.map((owner) => `service/${owner}`).join(', ');
    const written = host.includes(':')
      ? `"[${host}]"`
      : /^[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)+$/.test(host)
        ? host
        : JSON.stringify(host);
    const networks = cidrs.length === 0 ? '' : `, cidrs: [${cidrs.map((cidr) => JSON.stringify(cidr)).join(', ')}]`;
    const counted = calls === 1 ? '1 call' : `${calls} calls`;
    return `    - { from: [${from}], hosts: [${written}], ports: [${ports.join(', ')}]${networks} } # ${counted}`;
  });
  return `egress:\n  default: deny\n  allow:\n${lines.join('\n')}\n`;
}
