// Judges one call beyond the mesh, first by what it asks for, then by the addresses that this leads to. Compiled once a config.
import { isIPv6 } from 'node:net';
import type { Egress, EgressRule, PathMatch } from '../config/model.ts';
import { NARROW } from '../config/resolve-egress.ts';
import { AddressSet } from '../http/address.ts';
import { compileRegex } from '../routing/regex.ts';
import { addressClass, canonicalAddress, embeddedIpv4 } from './address-class.ts';

/** What an application asks its hop for. */
export interface EgressCall {
  /** The service whose hop it is. */
  readonly from: string;
  /** Lower-case, without trailing dot; an address in canonical form, without brackets. */
  readonly host: string;
  readonly port: number;
  /** Null: a tunnel, inside which nobody sees methods and paths. */
  readonly http: {
    readonly method: string;
    /** Normalised. */
    readonly path: string;
    /** It has encoded slashes, which the other side may read as slashes or not. */
    readonly ambiguous: boolean;
  } | null;
}

export type Judgement =
  /** `addresses`: those that may be dialled. `tls`: a tunnel must carry TLS that names the host. */
  | {
      readonly allowed: true;
      readonly policy: string;
      readonly addresses: readonly string[];
      readonly tls: boolean;
    }
  | { readonly allowed: false; readonly policy: string };

/** Policy names where no rule decided. */
export const BY_DEFAULT = 'egress.default';
/** A rule or the default would have let the name through, but not to where it leads. */
export const BY_ADDRESS = 'egress.addresses';

/** Metadata addresses are opened by a network that is meant for them: this narrow, or narrower. */
const METADATA_NARROW = { ipv4: 24, ipv6: 64 } as const;

export interface EgressPolicy {
  readonly audit: boolean;
  /**
   * With `addresses` null the name alone is judged: null then says that it depends on them, so that a name which is denied anyway is never
   * looked up (a lookup carries data out too).
   */
  judge(call: EgressCall, addresses: null): Judgement | null;
  /** `addresses`: all that the host resolves to, in canonical form. */
  judge(call: EgressCall, addresses: readonly string[]): Judgement;
}

export function compileEgress(config: Egress): EgressPolicy {
  const denyRules = config.deny.map(compileRule);
  const allowRules = config.allow.map(compileRule);
  const open = config.default === 'allow';

  function judge(call: EgressCall, addresses: null): Judgement | null;
  function judge(call: EgressCall, addresses: readonly string[]): Judgement;
  function judge(call: EgressCall, addresses: readonly string[] | null): Judgement | null {
    // What cannot be seen is taken for what a deny rule is about, and for what an allow rule is not.
    const deny = denyRules.filter((rule) => asksFor(rule, call, true));
    const named = deny.find((rule) => rule.networks === null);
    if (named !== undefined) return { allowed: false, policy: named.name };
    const allow = allowRules.filter((rule) => asksFor(rule, call, false));
    if (allow.length === 0 && !open) return { allowed: false, policy: BY_DEFAULT };
    if (addresses === null) return null;
    let winner: CompiledRule | 'default' | null = null;
    let denier: CompiledRule | null = null;
    const reachable: string[] = [];
    for (const address of addresses) {
      const forbids = deny.find(({ networks }) => networks?.all.has(address) || has(networks, embeddedIpv4(address)));
      if (forbids !== undefined) {
        denier ??= forbids;
        continue;
      }
      const by = allow.find((rule) => opens(rule, address)) ?? (open && isPublic(address) ? 'default' : null);
      if (by === null) continue;
      winner ??= by;
      if (by === winner) reachable.push(address);
    }
    if (winner === null) return { allowed: false, policy: denier?.name ?? BY_ADDRESS };
    return winner === 'default'
      ? { allowed: true, policy: BY_DEFAULT, addresses: reachable, tls: true }
      : { allowed: true, policy: winner.name, addresses: reachable, tls: winner.tls };
  }
  return { audit: config.audit, judge };
}

interface CompiledRule {
  readonly name: string;
  readonly tls: boolean;
  readonly from: ReadonlySet<string> | null;
  /** Null: any host. Wildcards are kept as `.example.com`. */
  readonly hosts: ReadonlySet<string> | null;
  readonly ports: ReadonlySet<number> | null;
  readonly methods: ReadonlySet<string> | null;
  readonly paths: readonly ((path: string) => boolean)[] | null;
  /** Null: any address that is public. */
  readonly networks: Networks | null;
}

/** Of one list of networks: all of them, and those narrow enough to open what is not public. */
interface Networks {
  readonly all: AddressSet;
  readonly narrow: AddressSet;
  readonly forMetadata: AddressSet;
}

function compileRule({ name, tls, from, hosts, ports, cidrs, methods, paths }: EgressRule): CompiledRule {
  return {
    name,
    tls,
    from: from === null ? null : new Set(from),
    hosts: orAny(hosts.map((host) => (host.startsWith('*.') ? host.slice(1) : (canonicalAddress(host) ?? host)))),
    ports: orAny(ports),
    methods: orAny(methods),
    paths: paths.length === 0 ? null : paths.map(compilePath),
    networks: cidrs.length === 0 ? null : compileNetworks(cidrs),
  };
}

function orAny<T>(items: readonly T[]): ReadonlySet<T> | null {
  return items.length === 0 ? null : new Set(items);
}

function compileNetworks(cidrs: readonly string[]): Networks {
  const narrower = (than: { readonly ipv4: number; readonly ipv6: number }): AddressSet =>
    new AddressSet(cidrs.filter((cidr) => bitsOf(cidr) >= (isIPv6(cidr.split('/')[0]) ? than.ipv6 : than.ipv4)));
  return { all: new AddressSet(cidrs), narrow: narrower(NARROW), forMetadata: narrower(METADATA_NARROW) };
}

function bitsOf(cidr: string): number {
  const [address, bits] = cidr.split('/');
  return bits === undefined ? (isIPv6(address) ? 128 : 32) : Number(bits);
}

function compilePath({ kind, value }: PathMatch): (path: string) => boolean {
  if (kind === 'exact') return (path) => path === value;
  if (kind === 'prefix') {
    if (value === '/') return () => true;
    return (path) => path.startsWith(value) && (path.length === value.length || path[value.length] === '/');
  }
  const regex = compileRegex(value);
  if ('problem' in regex) throw new Error(`${JSON.stringify(value)}: ${regex.problem}`);
  return (path) => regex.test(path);
}

/** @param unseen - the answer for methods and paths that cannot be seen */
function asksFor(rule: CompiledRule, { from, host, port, http }: EgressCall, unseen: boolean): boolean {
  if (rule.from !== null && !rule.from.has(from)) return false;
  if (rule.ports !== null && !rule.ports.has(port)) return false;
  if (rule.hosts !== null && !hasHost(rule.hosts, host)) return false;
  if (rule.methods === null && rule.paths === null) return true;
  if (http === null) return unseen;
  if (rule.methods !== null && !rule.methods.has(http.method)) return false;
  if (rule.paths === null) return true;
  return http.ambiguous ? unseen : rule.paths.some((matches) => matches(http.path));
}

function hasHost(hosts: ReadonlySet<string>, host: string): boolean {
  if (hosts.has(host)) return true;
  for (let dot = host.indexOf('.'); dot !== -1; dot = host.indexOf('.', dot + 1)) {
    if (dot > 0 && hosts.has(host.slice(dot))) return true;
  }
  return false;
}

function opens({ networks }: CompiledRule, address: string): boolean {
  const kind = addressClass(address);
  if (networks === null) return kind === 'public';
  if (kind === 'public') return networks.all.has(address);
  // Behind a translator it is the inner address that is reached, so that is what must be listed.
  return (kind === 'metadata' ? networks.forMetadata : networks.narrow).has(embeddedIpv4(address) ?? address);
}

function isPublic(address: string): boolean {
  return addressClass(address) === 'public';
}

function has(networks: Networks | null, address: string | null): boolean {
  return networks !== null && address !== null && networks.all.has(address);
}
