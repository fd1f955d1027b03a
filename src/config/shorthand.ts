// Writes out what the format lets people abbreviate, so that everything after validation sees one form.
import type { Json, Origins } from './origins.ts';

/** Mutates `config`, which has been validated. Values that are written out keep the place of the short form. */
export function expandShorthand(config: Json, origins: Origins): void {
  if (config.admin === false) config.admin = origins.expand({ port: false }, origins.child(config, 'admin'));
  expandAliases(config.mesh as Json | undefined, origins);
  for (const gateway of mapsIn(config.gateways)) {
    expandPlugins(gateway, origins);
    for (const listener of mapsIn(gateway.listeners)) {
      expandPlugins(listener, origins);
      if (typeof listener.redirect === 'string')
        listener.redirect = origins.expand({ scheme: listener.redirect }, origins.child(listener, 'redirect'));
    }
  }
  for (const service of mapsIn(config.services)) {
    expandEach(service.endpoints, origins, (address) => ({ address }));
    expandPlugins(service, origins);
    if (service.tls === true) service.tls = origins.expand({}, origins.child(service, 'tls'));
    if (service.tls === false) delete service.tls;
    expandPolicies(service.authorization, origins);
  }
  const egress = (config.egress ?? {}) as Json;
  for (const rule of [...mapsIn(egress.deny), ...mapsIn(egress.allow)])
    expandEach(rule.paths, origins, (prefix) => ({ prefix }));
  expandPolicies(config.authorization, origins);
  for (const route of mapsIn(config.routes)) {
    if ('to' in route && !Array.isArray(route.to)) route.to = origins.expand([route.to], origins.child(route, 'to'));
    expandEach(route.to, origins, (service) => ({ service }));
    expandPlugins(route, origins);
    const rollout = route.rollout as Json | undefined;
    // Both: an error, said when the route is resolved.
    if (rollout !== undefined && 'abort' in rollout && !('abortOn' in rollout))
      origins.rename(rollout, 'abort', 'abortOn');
    for (const match of mapsIn(route.match)) {
      if (typeof match.path === 'string')
        match.path = origins.expand({ prefix: match.path }, origins.child(match, 'path'));
      for (const kind of ['headers', 'query', 'cookies']) expandEach(match[kind], origins, (exact) => ({ exact }));
    }
  }
}

/** A list of maps of one trust domain each is the map of them all. */
function expandAliases(mesh: Json | undefined, origins: Origins): void {
  const list = mesh?.trustDomainAliases;
  if (mesh === undefined || !Array.isArray(list)) return;
  mesh.trustDomainAliases = origins.expand(Object.assign({}, ...list), origins.child(mesh, 'trustDomainAliases'));
}

function expandPolicies(policies: unknown, origins: Origins): void {
  for (const policy of mapsIn(policies)) {
    for (const rule of [...mapsIn(policy.allow), ...mapsIn(policy.deny)]) {
      for (const conditions of [rule, ...mapsIn([rule.not ?? {}])]) {
        expandEach(conditions.paths, origins, (prefix) => ({ prefix }));
        for (const kind of ['headers', 'claims']) expandEach(conditions[kind], origins, (exact) => ({ exact }));
      }
    }
  }
}

function mapsIn(container: unknown): Json[] {
  return typeof container === 'object' && container !== null ? (Object.values(container) as Json[]) : [];
}

function expandPlugins(owner: Json, origins: Origins): void {
  expandEach(owner.plugins, origins, (name) => ({ [name]: true }));
}

/** Writes out the strings of a list or map; the other items have the long form already. */
function expandEach(container: unknown, origins: Origins, longForm: (text: string) => Json): void {
  if (typeof container !== 'object' || container === null) return;
  for (const [key, value] of Object.entries(container)) {
    if (typeof value === 'string')
      (container as Json)[key] = origins.expand(longForm(value), origins.child(container, key));
  }
}
