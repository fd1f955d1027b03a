// Who may call what: the policies of one service or gateway, compiled once a config and asked once a request, after its claims were verified.
import { otherReading } from '../http/path-readings.ts';
import { type Condition, compileConditions } from './authorization-conditions.ts';
import type { AuthorizationRules, AuthorizedRequest } from './authorization-rules.ts';

export type {
  AuthorizationConditions,
  AuthorizationRule,
  AuthorizationRules,
  AuthorizedRequest,
  PathPattern,
  ValuePattern,
} from './authorization-rules.ts';

/** `audit_denied`: allowed, and with the policies under audit in force it would not be. */
export type VerdictName = 'allowed' | 'denied' | 'audit_denied';

export interface Verdict {
  readonly verdict: VerdictName;
  /** Name of the policy that decided, or `default deny of service orders`; null: no policy had anything to say. */
  readonly policy: string | null;
}

interface CompiledRule {
  readonly conditions: readonly Condition[];
  readonly not: readonly Condition[] | null;
}

interface CompiledPolicy {
  readonly source: AuthorizationRules;
  readonly rules: readonly CompiledRule[];
  /** Made once, so that a request allocates none. */
  readonly allowed: Verdict;
  readonly denied: Verdict;
  readonly auditDenied: Verdict;
}

/** The policies of one target. */
export interface Authorization {
  /** Deny policies, then allow policies: the order in which they are asked. */
  readonly policies: readonly CompiledPolicy[];
  /** Some allow policy is in force: who is not named is denied. */
  readonly closed: boolean;
  /** The same, if those under audit were in force too. */
  readonly closedUnderAudit: boolean;
  readonly unnamed: { readonly denied: Verdict; readonly auditDenied: Verdict };
}

/** What names the decision of no policy at all; a policy cannot have a name with spaces. */
export const DEFAULT_DENY = 'default deny of ';

const OPEN: Verdict = Object.freeze({ verdict: 'allowed', policy: null });

/** `target` is for messages: `service orders`. Throws for a regex or network that `check` would have refused. */
export function compileAuthorization(target: string, policies: readonly AuthorizationRules[]): Authorization {
  const compiled = [...policies]
    .sort((a, b) => Number(a.effect === 'allow') - Number(b.effect === 'allow'))
    .map(compilePolicy);
  const allows = policies.filter(({ effect }) => effect === 'allow');
  const policy = `${DEFAULT_DENY}${target}`;
  return {
    policies: compiled,
    closed: allows.some(({ audit }) => !audit),
    closedUnderAudit: allows.length > 0,
    unnamed: { denied: verdict('denied', policy), auditDenied: verdict('audit_denied', policy) },
  };
}

function compilePolicy(source: AuthorizationRules): CompiledPolicy {
  return {
    source,
    rules: source.rules.map((rule) => ({
      conditions: compileConditions(rule),
      not: rule.not === null ? null : compileConditions(rule.not),
    })),
    allowed: verdict('allowed', source.name),
    denied: verdict('denied', source.name),
    auditDenied: verdict('audit_denied', source.name),
  };
}

function verdict(name: VerdictName, policy: string): Verdict {
  return Object.freeze({ verdict: name, policy });
}

const SEVERITY = { allowed: 0, audit_denied: 1, denied: 2 } as const;

/** A path that a service may read in another way (`/shop/..;/admin`) must be allowed in both. */
export function authorize(authorization: Authorization, request: AuthorizedRequest): Verdict {
  const first = decide(authorization, request);
  const path = otherReading(request.path);
  if (path === null || first.verdict === 'denied') return first;
  const second = decide(authorization, { ...request, path });
  return SEVERITY[second.verdict] > SEVERITY[first.verdict] ? second : first;
}

function decide({ policies, closed, closedUnderAudit, unnamed }: Authorization, request: AuthorizedRequest): Verdict {
  let deniedByAudit: Verdict | null = null;
  let allowed: Verdict | null = null;
  let allowedByAudit = false;
  for (const policy of policies) {
    const { effect, audit } = policy.source;
    if (effect === 'deny' ? audit && deniedByAudit !== null : audit && allowedByAudit) continue;
    if (!policyHolds(policy, request)) continue;
    if (effect === 'allow') {
      if (audit) {
        allowedByAudit = true;
        continue;
      }
      allowed = policy.allowed;
      break;
    }
    if (!audit) return policy.denied;
    deniedByAudit = policy.auditDenied;
  }
  if (closed && allowed === null) return unnamed.denied;
  if (deniedByAudit !== null) return deniedByAudit;
  if (closedUnderAudit && allowed === null && !allowedByAudit) return unnamed.auditDenied;
  return allowed ?? OPEN;
}

function policyHolds({ source, rules }: CompiledPolicy, request: AuthorizedRequest): boolean {
  for (const rule of rules) if (ruleHolds(rule, source.effect, request)) return true;
  return false;
}

/**
 * What the request lacks counts against it: it meets no condition of a rule, and in the `not` of an allow rule it counts as met, so that
 * `not: { from: [service/legacy] }` lets nobody in who cannot say who they are.
 */
function ruleHolds({ conditions, not }: CompiledRule, effect: 'allow' | 'deny', request: AuthorizedRequest): boolean {
  if (!all(conditions, request, false)) return false;
  return not === null || !all(not, request, effect === 'allow');
}

function all(conditions: readonly Condition[], request: AuthorizedRequest, lacking: boolean): boolean {
  for (const { test } of conditions) if (!(test(request) ?? lacking)) return false;
  return true;
}

/** One policy that was asked, as `selvedge authz` tells it. */
export interface ConsideredPolicy {
  readonly name: string;
  readonly effect: 'allow' | 'deny';
  readonly audit: boolean;
  readonly matched: boolean;
  /** A rule each: the first condition that failed; null: it matched. */
  readonly rules: readonly (string | null)[];
}

export interface AuthorizationExplanation {
  readonly verdict: Verdict;
  /** What it was decided by: the path of the request, or what a service may take it for. */
  readonly path: string;
  /** Every policy of the target, whether or not it decided. */
  readonly policies: readonly ConsideredPolicy[];
}

export function explainAuthorization(
  authorization: Authorization,
  request: AuthorizedRequest,
): AuthorizationExplanation {
  const verdict = authorize(authorization, request);
  const other = otherReading(request.path);
  const path = other === null || decide(authorization, request) === verdict ? request.path : other;
  const decisive = { ...request, path };
  const policies = authorization.policies.map(({ source, rules }) => {
    const { name, effect, audit } = source;
    const failures = rules.map((rule) => firstFailure(rule, effect, decisive));
    return { name, effect, audit, matched: failures.includes(null), rules: failures };
  });
  return { verdict, path, policies };
}

function firstFailure(rule: CompiledRule, effect: 'allow' | 'deny', request: AuthorizedRequest): string | null {
  const failed = rule.conditions.find(({ test }) => test(request) !== true);
  if (failed !== undefined) return failed.explain(request);
  if (ruleHolds(rule, effect, request)) return null;
  const unclear = rule.not?.find(({ test }) => test(request) === null);
  return unclear === undefined ? 'not: all of it holds' : `not: cannot be told (${unclear.explain(request)})`;
}
