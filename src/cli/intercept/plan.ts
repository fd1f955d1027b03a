// From a config to what is to be intercepted on this machine; the backends write it in their own language.
import { isIP, isIPv4, isIPv6 } from 'node:net';
import type { Config, Hop, ServiceConfig } from '../../config/model.ts';
import { didYouMean } from '../../config/suggest.ts';
import { formatHostPort, parseHostPort } from '../../http/address.ts';
import { isLoopback, type ServiceAddress, serviceAddresses } from '../../routing/address-book.ts';
import { UsageError } from '../command.ts';
import type { System } from './system.ts';

/** An address that the application calls. */
export interface Called {
  /** An IP address. */
  readonly ip: string;
  readonly port: number;
  /** For people: the service, and the name that the address comes from. */
  readonly says: string;
}

/** Where intercepted connections go, for one IP version; null: the hop does not listen there. */
export type Destination = { readonly host: string | null; readonly port: number } | null;

export interface Plan {
  readonly service: string;
  /** Null: the hop has no outbound side. */
  readonly outbound: {
    readonly uid: number;
    readonly to4: Destination;
    readonly to6: Destination;
    readonly calls4: readonly Called[];
    readonly calls6: readonly Called[];
  } | null;
  /** `host` null: the address that the connection came to. Null: connections from elsewhere are left alone. */
  readonly inbound: {
    readonly ports: readonly number[];
    readonly to4: Destination;
    readonly to6: Destination;
  } | null;
  readonly warnings: readonly string[];
}

/** What stands in the way of interception; a sentence that says what to do. */
export class PlanError extends Error {
  override readonly name = 'PlanError';
}

export interface PlanOptions {
  readonly service: string;
  /** User id or name of the application; null: whoever listens at its address. */
  readonly user: string | null;
  /** Also for root. */
  readonly force: boolean;
}

/** Throws UsageError for what was asked wrongly, PlanError for what cannot be done. */
export async function planInterception(config: Config, options: PlanOptions, system: System): Promise<Plan> {
  const { name, internal: hop } = hopOf(config, options.service);
  const warnings: string[] = [];
  if (hop.outbound === null) warnings.push('the hop has no outbound side: calls of the application pass by');
  const outbound = hop.outbound === null ? null : await planOutbound(config, name, hop, options, system, warnings);
  const inbound = await planInbound(hop, system, warnings);
  if (outbound === null && inbound === null)
    throw new PlanError(`there is nothing to intercept for "${name}"${warnings.map((one) => `; ${one}`).join('')}`);
  return { service: name, outbound, inbound, warnings };
}

function hopOf(config: Config, asked: string): ServiceConfig & { readonly internal: Hop } {
  const found = config.services.find(({ name }) => name === asked);
  const hops = config.services.filter(({ internal }) => internal !== null).map(({ name }) => name);
  if (found === undefined) throw new UsageError(`no service "${asked}"${didYouMean(asked, hops)}`);
  const { internal } = found;
  if (internal === null) throw new UsageError(`service "${asked}" has no hop: give it an "internal" block`);
  return { ...found, internal };
}

async function planOutbound(
  config: Config,
  service: string,
  hop: Hop,
  options: PlanOptions,
  system: System,
  warnings: string[],
): Promise<Plan['outbound']> {
  const { host, port } = hop.outbound as NonNullable<Hop['outbound']>;
  if (port === 0)
    throw new PlanError(`services.${service}.internal.outbound.port is 0, any port: rules need one that stays`);
  const uid = await userOf(hop, options, system);
  if (system.listeners(port).includes(uid)) {
    throw new PlanError(
      `user ${uid} also listens on the hop's outbound port ${port}: the hop's own calls would come back to it; run it as another user`,
    );
  }
  const [at] = await addressesOf(host, system);
  if (at === undefined) throw new PlanError(`the outbound side listens on "${host}", which has no address here`);
  const to4 = isIPv4(at) || at === '::' ? { host: at === '0.0.0.0' || at === '::' ? '127.0.0.1' : at, port } : null;
  const to6 = isIPv6(at) ? { host: at === '::' ? '::1' : at, port } : null;

  const calls: Called[] = [];
  for (const address of serviceAddresses(config)) {
    if (address.service === service && isLoopback(address.host)) continue;
    const written = formatHostPort(address.host, address.port);
    if (config.services.find(({ name }) => name === address.service)?.tls !== null && address.what === 'endpoint') {
      warnings.push(`${written} of "${address.service}" is left alone: it speaks TLS, which a hop cannot read`);
      continue;
    }
    calls.push(...(await callsTo(address, written, system, warnings)));
  }
  const unique = [...new Map(calls.map((call) => [formatHostPort(call.ip, call.port), call])).values()];
  const calls4 = unique.filter(({ ip }) => isIPv4(ip));
  const calls6 = unique.filter(({ ip }) => isIPv6(ip));
  for (const [family, list, to] of [
    ['IPv4', calls4, to4],
    ['IPv6', calls6, to6],
  ] as const) {
    if (list.length > 0 && to === null)
      warnings.push(`calls to ${list.length} ${family} address(es) pass by: the outbound side listens on ${at} alone`);
  }
  const counted = { calls4: to4 === null ? [] : calls4, calls6: to6 === null ? [] : calls6 };
  if (counted.calls4.length + counted.calls6.length === 0)
    warnings.push('no address of any service can be intercepted, so no call of the application is');
  return { uid, to4, to6, ...counted };
}

async function callsTo(
  { service, host, port, what }: ServiceAddress,
  written: string,
  system: System,
  warnings: string[],
): Promise<Called[]> {
  const label = what === 'hop' ? `${service}, its hop` : service;
  if (isIP(host) !== 0) return [{ ip: host, port, says: label }];
  const found = await addressesOf(host, system);
  if (found.length === 0) warnings.push(`${written} of "${service}" has no address now, so calls to it pass by`);
  else warnings.push(`${written} of "${service}" is ${found.join(', ')} now; apply again when that changes`);
  return found.map((ip) => ({ ip, port, says: `${label}, as ${written}` }));
}

async function planInbound(hop: Hop, system: System, warnings: string[]): Promise<Plan['inbound']> {
  const { host, port } = hop.inbound;
  if (port === 0) throw new PlanError('the inbound port of the hop is 0, any port: rules need one that stays');
  const ports = appPorts(hop);
  if (ports.includes(port)) {
    throw new PlanError(
      `the application and the inbound side of its hop share port ${port}, and interception goes by port: give the hop another`,
    );
  }
  const [at] = await addressesOf(host, system);
  if (at === undefined) throw new PlanError(`the inbound side listens on "${host}", which has no address here`);
  if (isLoopback(at)) {
    warnings.push(
      `the inbound side listens on ${at}, where nobody from elsewhere can be sent: connections to the application are left alone`,
    );
    return null;
  }
  const to4 = isIPv4(at) || at === '::' ? { host: isEverywhere(at) ? null : at, port } : null;
  const to6 = isIPv6(at) ? { host: isEverywhere(at) ? null : at, port } : null;
  const missing = to4 === null ? 'IPv4' : to6 === null ? 'IPv6' : null;
  if (missing !== null && (missing === 'IPv4' || system.hasIpv6))
    warnings.push(
      `the inbound side does not listen on ${missing}: connections to the application from elsewhere by ${missing} are refused`,
    );
  return { ports, to4, to6 };
}

function appPorts(hop: Hop): number[] {
  const ports = hop.apps.flatMap((app) => parseHostPort(app)?.port ?? []);
  return [...new Set(ports)].sort((a, b) => a - b);
}

function isEverywhere(ip: string): boolean {
  return ip === '0.0.0.0' || ip === '::';
}

async function addressesOf(host: string, system: System): Promise<readonly string[]> {
  return isIP(host) === 0 ? system.resolve(host) : [host];
}

/** User names as useradd(8) takes them. */
const USER_NAME = /^[a-z_][a-z0-9_.-]{0,31}\$?$/i;

/** (uid_t) -1 means nobody at all. */
const MAX_UID = 0xffff_fffe;

async function userOf(hop: Hop, { user, force }: PlanOptions, system: System): Promise<number> {
  const uid = user === null ? ownerOf(hop, system) : /^\d+$/.test(user) ? Number(user) : await uidOf(user, system);
  if (uid > MAX_UID) throw new UsageError(`"${user}" is no user id`);
  if (uid === 0 && !force) {
    throw new UsageError(
      "the user is root: calls of everything else that root runs on this machine would go through the hop too, the hop's own if root runs it; run the application as a user of its own, or say --force",
    );
  }
  return uid;
}

async function uidOf(name: string, system: System): Promise<number> {
  if (!USER_NAME.test(name)) throw new UsageError(`"${name}" is no user name or id`);
  const { code, stdout } = await system.tool('id', ['-u', name]);
  if (code !== 0 || !/^\d+\s*$/.test(stdout)) throw new UsageError(`this machine has no user "${name}"`);
  return Number(stdout);
}

function ownerOf(hop: Hop, system: System): number {
  const owners = [...new Set(appPorts(hop).flatMap((port) => system.listeners(port)))];
  if (owners.length === 1) return owners[0];
  const apps = hop.apps.join(', ');
  throw new UsageError(
    owners.length === 0
      ? `whose calls? nobody listens at ${apps} now, so say it by --user`
      : `whose calls? users ${owners.join(' and ')} listen at ${apps}: say one by --user`,
  );
}
