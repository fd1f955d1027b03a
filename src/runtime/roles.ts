// Which part of the one shared config this process is: all of it, or the gateways and hops that it was told.
import type { RoleSelection } from '../config/load.ts';
import type { Config } from '../config/model.ts';
import type { Problem } from '../config/problem.ts';
import { didYouMean } from '../config/suggest.ts';
import { gatewayListeners } from '../gateway/gateway.ts';
import { hopListeners } from '../internal/internal.ts';
import type { ListenerSpec } from './listener-spec.ts';

export interface Roles {
  readonly gateways: readonly string[] | 'all';
  readonly internal: readonly string[] | 'all';
}

/** With neither list every role of the config; with one of them only what it names. */
export function rolesOf(gateways: readonly string[] | undefined, internal: readonly string[] | undefined): Roles {
  if (gateways === undefined && internal === undefined) return { gateways: 'all', internal: 'all' };
  return { gateways: gateways ?? [], internal: internal ?? [] };
}

/** As the config's own checks want it; null: all. */
export function selectionOf({ gateways, internal }: Roles): RoleSelection | null {
  return gateways === 'all' || internal === 'all' ? null : { gateways, internal };
}

/** The listeners of these roles, in the order of the config. */
export function specsOf(config: Config, roles: Roles): ListenerSpec[] {
  const specs: ListenerSpec[] = [];
  for (const { name } of config.gateways) {
    if (roles.gateways === 'all' || roles.gateways.includes(name)) specs.push(...gatewayListeners(config, name));
  }
  for (const { name, internal } of config.services) {
    if (internal === null) continue;
    if (roles.internal === 'all' || roles.internal.includes(name)) specs.push(...hopListeners(config, name));
  }
  return specs;
}

/** Roles that were asked for and that this config does not have. */
export function unknownRoles(config: Config, roles: Roles): readonly Problem[] {
  const gateways = config.gateways.map(({ name }) => name);
  const hops = config.services.filter(({ internal }) => internal !== null).map(({ name }) => name);
  const services = new Set(config.services.map(({ name }) => name));
  return [
    ...missing(roles.gateways, gateways).map((name) => problem(`no gateway "${name}"${hint(name, gateways)}`)),
    ...missing(roles.internal, hops).map((name) =>
      problem(
        services.has(name)
          ? `service "${name}" has no hop: give it an "internal" block`
          : `no service "${name}"${hint(name, hops)}`,
      ),
    ),
  ];
}

/** No listener at all: a process that would serve nobody. */
export function nothingToRun(roles: Roles): Problem {
  const all = roles.gateways === 'all' && roles.internal === 'all';
  return problem(
    all
      ? 'nothing to run: no gateway has a listener and no service has an "internal" block'
      : 'nothing to run: the chosen roles have no listeners',
  );
}

function missing(asked: readonly string[] | 'all', known: readonly string[]): readonly string[] {
  return asked === 'all' ? [] : asked.filter((name) => !known.includes(name));
}

function hint(name: string, known: readonly string[]): string {
  const nearest = didYouMean(name, known);
  if (nearest !== '') return nearest;
  return known.length === 0 ? ' (there is none)' : ` (there are: ${known.slice(0, 20).join(', ')})`;
}

function problem(message: string): Problem {
  return { severity: 'error', place: null, path: '', message };
}
