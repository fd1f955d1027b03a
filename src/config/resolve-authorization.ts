// Resolves who may call what: policies of the top and of services in one list, with callers as whole ids.
import { isCidr } from '../http/address.ts';
import { otherReading } from '../http/path-readings.ts';
import type { AuthorizationConditions, PathPattern } from '../policies/authorization.ts';
import type { CompleteConfig } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { AuthorizationPolicy } from './model.ts';
import { resolveHost, resolveMethod, resolvePath, resolveValues } from './resolve-match.ts';

export type PolicyInput = NonNullable<CompleteConfig['authorization']>[number];
export type RuleInput = NonNullable<PolicyInput['allow']>[number];
/** A rule, or its `not`. */
export type ConditionsInput = NonNullable<RuleInput['not']>;

export interface WrittenPolicy {
  readonly policy: Cursor<PolicyInput>;
  /** The service that it stands at; null: it stands at the top. */
  readonly owner: string | null;
}

/** In the order of `Config.authorization`. */
export function writtenPolicies(config: Cursor<CompleteConfig>): WrittenPolicy[] {
  const top = config.at('authorization').filled().items();
  const services = config.at('services').filled().entries();
  return [
    ...top.map((policy) => ({ policy, owner: null })),
    ...services.flatMap(([owner, service]) =>
      (service.at('authorization').filled().items() as Cursor<PolicyInput>[]).map((policy) => ({ policy, owner })),
    ),
  ];
}

export function resolveAuthorization(config: Cursor<CompleteConfig>, trustDomain: string): AuthorizationPolicy[] {
  const mesh = { trustDomain, services: new Set(Object.keys(config.value.services ?? {})) };
  return writtenPolicies(config).map(({ policy, owner }) => {
    const rules = rulesOf(policy);
    if (rules.length === 0 && policy.value.allow === undefined && policy.value.deny === undefined)
      policy.error('says neither "allow" nor "deny": it needs one of them');
    if (policy.value.allow !== undefined && policy.value.deny !== undefined)
      policy.at('deny').error('a policy has "allow" or "deny", not both: write two');
    return {
      name: policy.value.name,
      target: targetOf(policy, owner),
      effect: policy.value.deny === undefined ? 'allow' : 'deny',
      audit: policy.at('audit').filled().value,
      rules: rules.map((rule) => {
        const not = rule.at('not').given();
        return {
          ...resolveConditions(rule, mesh),
          not: not === null ? null : resolveConditions(not, mesh),
          at: rule.place,
        };
      }),
      at: policy.place,
    };
  });
}

export function rulesOf(policy: Cursor<PolicyInput>): Cursor<RuleInput>[] {
  return policy.at(policy.value.deny === undefined ? 'allow' : 'deny').items() as Cursor<RuleInput>[];
}

function targetOf(policy: Cursor<PolicyInput>, owner: string | null): AuthorizationPolicy['target'] {
  if (owner !== null) return { kind: 'service', name: owner };
  const { service, gateway } = policy.value;
  if (service === undefined && gateway === undefined)
    policy.error('says neither "service" nor "gateway": it needs one of them, or "*" for every one');
  if (service !== undefined && gateway !== undefined)
    policy.at('gateway').error('a policy is for a "service" or a "gateway", not for both: write two');
  return service === undefined ? { kind: 'gateway', name: gateway ?? '' } : { kind: 'service', name: service };
}

interface Names {
  readonly trustDomain: string;
  readonly services: ReadonlySet<string>;
}

function resolveConditions(written: Cursor<ConditionsInput>, mesh: Names): AuthorizationConditions {
  const listOf = <K extends 'from' | 'methods' | 'hosts' | 'clientAddress', T>(
    key: K,
    resolve: (item: Cursor<string>) => T,
  ): T[] | null => {
    const list = written.at(key).given();
    return list === null ? null : (list.items() as Cursor<string>[]).map(resolve);
  };
  const paths = written.at('paths').given();
  return {
    from: listOf('from', (caller) => resolveCaller(caller, mesh)),
    methods: listOf('methods', resolveMethod),
    paths: paths === null ? null : (paths.items() as Cursor<WrittenPath>[]).map(resolvePattern),
    hosts: listOf('hosts', resolveHost),
    headers: resolveValues(written.at('headers').filled(), 'header'),
    claims: resolveValues(written.at('claims').filled(), 'claim'),
    clientAddress: listOf('clientAddress', resolveNetwork),
  };
}

type WrittenPath = Parameters<typeof resolvePath>[0]['value'];

/** Requests with a path that services may take for another are judged by both: a pattern like that would hold for one at most. */
function resolvePattern(path: Cursor<WrittenPath>): PathPattern {
  const pattern = resolvePath(path, true);
  const other = pattern.kind === 'regex' ? null : otherReading(pattern.value);
  if (other !== null)
    path.error(`a service may take "${pattern.value}" for "${other}", so it is judged as both: write "${other}"`);
  return pattern;
}

function resolveNetwork(network: Cursor<string>): string {
  if (!isCidr(network.value))
    network.error(`"${network.value}" is not a network: write an address or a CIDR such as 10.0.0.0/8`);
  return network.value;
}

/** Of a whole id, with a path or `/*`. */
export const CALLER_ID: RegExp =
  /^spiffe:\/\/[a-z0-9._-]{1,255}(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._-]+)*\/(?:\*|(?!\.{1,2}$)[A-Za-z0-9._-]+)$/;

/** `service/cart` → `spiffe://shop.internal/service/cart`. */
function resolveCaller(caller: Cursor<string>, { trustDomain, services }: Names): string {
  const { value } = caller;
  if (value === '*') return `spiffe://${trustDomain}/*`;
  if (/^(?:service|gateway)\/(?:\*|[A-Za-z0-9_.-]+)$/.test(value)) return `spiffe://${trustDomain}/${value}`;
  if (CALLER_ID.test(value)) return value;
  const hint = services.has(value) ? `; did you mean "service/${value}"?` : '';
  caller.error(
    `"${value}" is not a caller: write service/NAME, gateway/NAME, service/*, gateway/*, * or a whole id such as spiffe://partner.internal/service/x${hint}`,
  );
  return value;
}
