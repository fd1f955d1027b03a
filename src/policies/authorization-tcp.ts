// What policies mean for a connection that is no HTTP: it has a peer and an address, and nothing else that a condition could be about.
import type {
  AuthorizationConditions,
  AuthorizationRule,
  AuthorizationRules,
  AuthorizedRequest,
} from './authorization-rules.ts';

const HTTP_CONDITIONS = ['methods', 'paths', 'hosts', 'headers', 'claims'] as const;

/** Of a rule, or its `not`, those that a connection can never show. */
export function httpConditions(written: AuthorizationConditions): (typeof HTTP_CONDITIONS)[number][] {
  return HTTP_CONDITIONS.filter((key) => {
    const condition = written[key];
    return condition !== null && (key === 'headers' || key === 'claims' ? condition.length > 0 : true);
  });
}

/**
 * What a connection lacks counts against it, as for requests: a rule that needs it does not hold; `not` that needs it lets no allow
 * rule hold, and makes no exception from a deny rule. A policy left without rules stays: an allow policy still denies all others.
 */
export function rulesForTcp(policies: readonly AuthorizationRules[]): AuthorizationRules[] {
  return policies.map((policy) => ({
    ...policy,
    rules: policy.rules.flatMap((rule) => ruleForTcp(rule, policy.effect) ?? []),
  }));
}

function ruleForTcp(rule: AuthorizationRule, effect: AuthorizationRules['effect']): AuthorizationRule | null {
  if (httpConditions(rule).length > 0) return null;
  if (rule.not === null || httpConditions(rule.not).length === 0) return rule;
  return effect === 'allow' ? null : { ...rule, not: null };
}

/** Of the words of a request only those that a connection has; the rest is read by no rule that `rulesForTcp` leaves. */
export function connectionToAuthorize(peer: AuthorizedRequest['peer'], clientAddress: string): AuthorizedRequest {
  return { peer, clientAddress, method: '', path: '', host: '', headers: {}, claims: undefined };
}
