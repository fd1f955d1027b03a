// What policies must make sense of: names that exist, callers that can have an identity, rules that can ever hold.
import type { AuthorizationConditions } from '../policies/authorization.ts';
import { covers, pathsMeet } from './authorization-cover.ts';
import { checkTcpConditions } from './check-tcp.ts';
import type { CompleteConfig, CompletePlugin } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { KnownNames } from './known-names.ts';
import type { AuthorizationPolicy, Config } from './model.ts';
import { partsOf } from './plugin-uses.ts';
import { formatPlace } from './problem.ts';
import { CALLER_ID, type ConditionsInput, rulesOf, writtenPolicies } from './resolve-authorization.ts';
import { didYouMean } from './suggest.ts';

interface Options {
  readonly names: KnownNames;
  readonly incomplete: boolean;
}

export function checkAuthorization(written: Cursor<CompleteConfig>, config: Config, options: Options): void {
  checkListed(written);
  const policies = writtenPolicies(written);
  const places = new Map<string, string>();
  for (const [index, { policy, owner }] of policies.entries()) {
    const resolved = config.authorization[index];
    const other = places.get(resolved.name);
    if (other !== undefined) policy.at('name').error(`another policy has the name "${resolved.name}", at ${other}`);
    else places.set(resolved.name, resolved.at.line > 0 ? formatPlace(resolved.at) : policy.path);
    const target = owner === null ? policy.at(resolved.target.kind) : null;
    if (!options.incomplete) checkTarget(policy, target, resolved, config, options.names);
    if (policy.value.allow === undefined && policy.value.deny?.length === 0)
      policy.at('deny').warn('an empty list denies nothing');
    for (const [position, rule] of rulesOf(policy).entries()) {
      const known = resolved.rules[position];
      checkConditions(rule as Cursor<ConditionsInput>, known, resolved, config, options);
      const not = rule.at('not').given();
      if (not !== null && known.not !== null) checkConditions(not, known.not, resolved, config, options);
      const dead = resolved.effect === 'allow' ? deadBy(known, resolved, config) : null;
      if (dead !== null) rule.warn(`policy "${dead}" denies whatever this would allow`);
    }
  }
}

/** A plugin of that name among others would take the place of the one that applies the policies, or switch it off. */
function checkListed(written: Cursor<CompleteConfig>): void {
  const gateways = written.at('gateways').filled().entries();
  const owners = [
    ...[...gateways, ...written.at('services').filled().entries()].map(
      ([, owner]) => owner as Cursor<{ plugins?: CompletePlugin[] }>,
    ),
    ...(gateways.flatMap(([, gateway]) => gateway.at('listeners').items()) as Cursor<{ plugins?: CompletePlugin[] }>[]),
    ...(written.at('routes').filled().items() as Cursor<{ plugins?: CompletePlugin[] }>[]),
  ];
  for (const owner of owners) {
    for (const plugin of owner.at('plugins').items() as Cursor<CompletePlugin>[]) {
      if (partsOf(plugin).used === 'authorization')
        plugin.error('is not for lists of plugins: policies stand under "authorization" at the top or at a service');
    }
  }
}

function checkTarget(
  policy: Cursor<unknown>,
  target: Cursor<unknown> | null,
  { target: { kind, name } }: AuthorizationPolicy,
  config: Config,
  names: KnownNames,
): void {
  const known: ReadonlyMap<string, unknown> = kind === 'service' ? names.services : names.gateways;
  if (target !== null && name !== '*' && !known.has(name)) {
    if (name !== '') target.error(`no ${kind} "${name}"${didYouMean(name, known.keys())}`);
    return;
  }
  const at = target ?? policy;
  if (kind === 'gateway') {
    if (config.gateways.length === 0) at.warn('there is no gateway, so nothing applies this policy');
    return;
  }
  const meant = config.services.filter((service) => name === '*' || service.name === name);
  if (meant.every(({ internal }) => internal === null)) {
    const what = name === '*' ? 'no service has a hop' : `service "${name}" has no hop`;
    at.warn(`${what} ("internal"), so nothing applies this policy`);
    return;
  }
  for (const { name: service, internal, endpoints } of meant) {
    const direct = endpoints.find(({ hop }) => hop === null);
    if (internal !== null && direct !== undefined)
      at.warn(
        `requests to ${direct.address} of service "${service}" go past its hop, where nothing applies this policy`,
      );
  }
}

function checkConditions(
  written: Cursor<ConditionsInput>,
  known: AuthorizationConditions,
  policy: AuthorizationPolicy,
  config: Config,
  { names, incomplete }: Options,
): void {
  for (const key of ['from', 'methods', 'paths', 'hosts', 'clientAddress'] as const) {
    if (known[key]?.length === 0)
      written.at(key).warn('an empty list holds for nothing; leave the key out where anything may be');
  }
  if (known.from !== null && known.from.length > 0) {
    const from = written.at('from') as Cursor<string[]>;
    if (!incomplete) for (const caller of from.items()) checkCaller(caller, policy, config, names);
    const why = noIdentity(policy, config);
    if (why !== null) from.warn(`no caller has an identity: ${why}`);
    else if (policy.target.kind === 'gateway') warnOfMeshCallers(from, known.from, config);
  }
  checkTcpConditions(written, known, policy, config);
  if (incomplete || policy.target.kind !== 'gateway') return;
  const routes = config.routes.filter(({ gateways }) =>
    gateways.some((gateway) => policy.target.name === '*' || gateway === policy.target.name),
  );
  for (const [index, pattern] of (known.paths ?? []).entries()) {
    if (routes.some(({ matches }) => matches.some(({ path }) => pathsMeet(path, pattern)))) continue;
    written.at('paths').items()[index].warn('no route of the gateway has such a path, so it never holds');
  }
}

/** Clients of a gateway are certified by the CA of its listener, whose ids of the mesh nobody believes. */
function warnOfMeshCallers(written: Cursor<string[]>, ids: readonly string[], { mesh }: Config): void {
  for (const [index, id] of ids.entries()) {
    if (id.startsWith(`spiffe://${mesh.trustDomain}/`))
      written.items()[index].warn('the clients of a gateway cannot prove ids of the mesh, so this never holds');
  }
}

function checkCaller(caller: Cursor<string>, { target }: AuthorizationPolicy, config: Config, names: KnownNames): void {
  const { trustDomain, aliases } = config.mesh;
  const own = `spiffe://${trustDomain}/`;
  const path = caller.value.startsWith(own) ? caller.value.slice(own.length) : caller.value;
  if (path.startsWith('spiffe://')) {
    const domain = path.split('/')[2];
    const known = [trustDomain, ...aliases.map((alias) => alias.trustDomain)];
    if (target.kind === 'service' && CALLER_ID.test(path) && !known.includes(domain))
      caller.warn(
        `trust domain "${domain}" is not among those of the mesh, so no such caller gets in${didYouMean(domain, known)}`,
      );
    return;
  }
  const [, kind, name] = /^(service|gateway)\/(.+)$/.exec(path) ?? [];
  if (kind === undefined || name === '*') return;
  const known: ReadonlyMap<string, unknown> = kind === 'service' ? names.services : names.gateways;
  if (known.has(name)) return;
  const near = didYouMean(name, known.keys()).replace('"', `"${kind}/`);
  caller.error(`no ${kind} "${name}"${near}`);
}

/** Why nobody who comes to the target of a policy can show a certificate; null: somebody can. */
function noIdentity({ target: { kind, name } }: AuthorizationPolicy, config: Config): string | null {
  if (kind === 'gateway') {
    const meant = config.gateways.filter((gateway) => name === '*' || gateway.name === name);
    const asks = meant.some(({ listeners }) =>
      listeners.some(({ tls }) => tls !== null && tls.clientCertificate !== null),
    );
    return asks || meant.length === 0 ? null : 'no listener of the gateway asks for a client certificate';
  }
  const meant = config.services.filter((service) => name === '*' || service.name === name);
  const off = meant.length > 0 && meant.every(({ mtls }) => mtls === 'off');
  return off ? '"mesh.mtls" is off' : null;
}

/** Name of a deny policy for the same target that holds wherever this rule of an allow policy does. */
function deadBy(rule: AuthorizationConditions, { target }: AuthorizationPolicy, config: Config): string | null {
  const found = config.authorization.find(
    (policy) =>
      policy.effect === 'deny' &&
      !policy.audit &&
      policy.target.kind === target.kind &&
      (policy.target.name === '*' || policy.target.name === target.name) &&
      policy.rules.some((outer) => covers(outer, rule)),
  );
  return found?.name ?? null;
}
