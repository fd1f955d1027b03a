// Resolves what hops let their applications call beyond the mesh: callers that exist, hosts in one form, networks that are networks.
import { isIP, isIPv6 } from 'node:net';
import { isCidr } from '../http/address.ts';
import type { CompleteConfig } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { KnownNames } from './known-names.ts';
import type { Config, Egress, EgressRule } from './model.ts';
import { resolveHost, resolveMethod, resolvePath } from './resolve-match.ts';
import { didYouMean } from './suggest.ts';

type EgressInput = NonNullable<CompleteConfig['egress']>;
type AllowInput = NonNullable<EgressInput['allow']>[number];
/** A deny rule has the same keys but `tls`. */
type RuleInput = Omit<AllowInput, 'tls'> & { tls?: boolean };

const ANYONE = 'service/*';
const CALLER = /^service\/./;
/** Of log lines and metrics: what no rule may be called. */
const OWN_NAMES = ['egress.default', 'egress.addresses'];

export function resolveEgress(written: Cursor<CompleteConfig['egress']>): Egress | null {
  const egress = written.given();
  if (egress === null) return null;
  const rules = (kind: 'deny' | 'allow'): EgressRule[] =>
    egress
      .at(kind)
      .filled()
      .items()
      .map((rule, index) => resolveRule(rule as unknown as Cursor<RuleInput>, `egress.${kind}[${index}]`, kind));
  return {
    default: egress.at('default').filled().value,
    audit: egress.at('audit').filled().value,
    deny: rules('deny'),
    allow: rules('allow'),
  };
}

function resolveRule(rule: Cursor<RuleInput>, fallbackName: string, kind: 'deny' | 'allow'): EgressRule {
  const from = rule.at('from').items();
  for (const caller of from) {
    if (!CALLER.test(caller.value))
      caller.error(`"${caller.value}" is no caller: write service/NAME, or ${ANYONE} for every hop`);
  }
  const methods = rule.at('methods').items().map(resolveMethod);
  const paths = rule
    .at('paths')
    .items()
    .map((path) => resolvePath(path as never, false));
  const cidrs = rule.at('cidrs').items();
  for (const cidr of cidrs) checkCidr(cidr, kind);
  const tls = rule.value.tls ?? true;
  if (!tls && (methods.length > 0 || paths.length > 0))
    rule.at('tls').error('is about tunnels, and a rule with "methods" or "paths" lets no tunnel through');
  return {
    name: rule.at('name').given()?.value ?? fallbackName,
    at: rule.place,
    from: from.some(({ value }) => value === ANYONE) ? null : from.map(({ value }) => value.slice('service/'.length)),
    hosts: rule
      .at('hosts')
      .items()
      .map((host) => resolveHost(host, 'ports')),
    ports: rule
      .at('ports')
      .items()
      .map(({ value }) => value),
    cidrs: cidrs.map(({ value }) => value),
    methods,
    paths,
    tls,
  };
}

/** Broader than this, a network says "anywhere" and opens no address that is not public; see src/egress/policy.ts. */
export const NARROW = { ipv4: 8, ipv6: 7 } as const;

function checkCidr(cidr: Cursor<string>, kind: 'deny' | 'allow'): void {
  const { value } = cidr;
  if (!isCidr(value)) {
    cidr.error(`"${value}" is not a network: write an address or a CIDR such as 10.0.0.0/8`);
    return;
  }
  const [address, bits] = value.split('/');
  if (kind === 'allow' && isIP(address) !== 0 && bits !== undefined) {
    const narrow = isIPv6(address) ? NARROW.ipv6 : NARROW.ipv4;
    if (Number(bits) < narrow)
      cidr.warn(`opens public addresses only: a network that opens private ones is /${narrow} or narrower`);
  }
}

/** Names of callers, names of rules, and whether anything ever asks. */
export function checkEgress(
  written: Cursor<CompleteConfig>,
  config: Config,
  names: KnownNames,
  incomplete: boolean,
): void {
  const egress = written.at('egress').given();
  if (egress === null) return;
  const seen = new Map<string, string>();
  for (const rule of [...egress.at('deny').filled().items(), ...egress.at('allow').filled().items()]) {
    checkName(rule as Cursor<RuleInput>, seen);
    for (const caller of rule.at('from').items()) checkCaller(caller, names, incomplete);
    for (const host of rule.at('hosts').items()) {
      if (names.services.has(host.value))
        host.warn('is a service of the mesh: calls of it do not leave the mesh, so this says nothing');
    }
    if (rule.path.startsWith('egress.allow')) checkTunnels(rule as Cursor<RuleInput>);
  }
  if (names.services.has('egress'))
    egress.error('no service can be called "egress" then: in logs and metrics it stands for calls beyond the mesh');
  if (!incomplete && !config.services.some(({ internal }) => internal?.outbound))
    egress.warn('no hop has an "outbound", so no call ever asks');
}

function checkName(rule: Cursor<RuleInput>, seen: Map<string, string>): void {
  const name = rule.at('name').given();
  if (name === null) return;
  if (OWN_NAMES.includes(name.value)) name.error(`"${name.value}" stands for what no rule decides`);
  const other = seen.get(name.value);
  if (other !== undefined) name.error(`${other} has the name "${name.value}" as well`);
  seen.set(name.value, rule.path);
}

function checkCaller(caller: Cursor<string>, { services }: KnownNames, incomplete: boolean): void {
  const name = caller.value.slice('service/'.length);
  if (incomplete || caller.value === ANYONE || !CALLER.test(caller.value) || services.has(name)) return;
  caller.error(`no service "${name}"${didYouMean(name, services.keys())}`);
}

/** Port 443 is nearly always asked for by CONNECT, and inside it no method and no path is seen. */
function checkTunnels(rule: Cursor<RuleInput>): void {
  const { methods = [], paths = [], ports = [] } = rule.value;
  if ((methods.length === 0 && paths.length === 0) || !ports.includes(443)) return;
  rule.warn('"methods" and "paths" are seen in plain HTTP only: this rule lets no tunnel (CONNECT, https) through');
}
