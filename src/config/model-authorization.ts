// One policy of `authorization`, written at the top of the config or in a service.
import type { AuthorizationRule, AuthorizationRules } from '../policies/authorization.ts';
import type { Place } from './place.ts';

/** Who may call what: applied by the hop of a service, or by a gateway. */
export interface AuthorizationPolicy extends AuthorizationRules {
  /** `name` is `*` for every one of its kind. */
  readonly target: { readonly kind: 'service' | 'gateway'; readonly name: string };
  readonly rules: readonly (AuthorizationRule & { readonly at: Place })[];
  readonly at: Place;
}
