// Policies and requests with everything filled in, so that a test names only what it is about.
import type { AuthorizationRule, AuthorizationRules, AuthorizedRequest } from '../../../src/policies/authorization.ts';

export const ANY: AuthorizationRule = {
  from: null,
  methods: null,
  paths: null,
  hosts: null,
  headers: [],
  claims: [],
  clientAddress: null,
  not: null,
};

export function rule(parts: Partial<AuthorizationRule>): AuthorizationRule {
  return { ...ANY, ...parts };
}

export function allow(name: string, ...rules: Partial<AuthorizationRule>[]): AuthorizationRules {
  return { name, effect: 'allow', audit: false, rules: rules.map(rule) };
}

export function deny(name: string, ...rules: Partial<AuthorizationRule>[]): AuthorizationRules {
  return { ...allow(name, ...rules), effect: 'deny' };
}

export function audit(policy: AuthorizationRules): AuthorizationRules {
  return { ...policy, audit: true };
}

export function peer(path: string, trustDomain: string | null = 'shop.internal'): AuthorizedRequest['peer'] {
  return { id: trustDomain === null ? path : `spiffe://${trustDomain}/${path}`, trustDomain };
}

export function request(parts: Partial<AuthorizedRequest> = {}): AuthorizedRequest {
  return {
    peer: peer('service/cart'),
    method: 'GET',
    path: '/orders',
    host: 'orders',
    headers: {},
    claims: undefined,
    clientAddress: '10.0.0.5',
    ...parts,
  };
}
