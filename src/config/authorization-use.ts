// The plugin that applies the policies of one service or gateway, as its chain lists it.
import type { AuthorizationRules } from '../policies/authorization.ts';
import { rulesForTcp } from '../policies/authorization-tcp.ts';
import type { AuthorizationPolicy, Config, PluginUse } from './model.ts';

type Policies = Pick<Config, 'authorization' | 'services'>;

/**
 * Policies for one target, without what an edit elsewhere in the file would change: equal policies mean an equal chain. Those of a
 * service that speaks TCP as they are for connections.
 */
export function policiesFor(
  { authorization, services }: Policies,
  kind: AuthorizationPolicy['target']['kind'],
  name: string,
): AuthorizationRules[] {
  const policies = authorization
    .filter(({ target }) => target.kind === kind && (target.name === '*' || target.name === name))
    .map(({ name, effect, audit, rules }) => ({ name, effect, audit, rules: rules.map(({ at, ...rule }) => rule) }));
  const tcp = kind === 'service' && services.some((service) => service.name === name && service.protocol === 'tcp');
  return tcp ? rulesForTcp(policies) : policies;
}

/** Empty where no policy has anything to say. */
export function authorizationUse(
  config: Policies,
  kind: AuthorizationPolicy['target']['kind'],
  name: string,
): Pick<PluginUse, 'name' | 'options'>[] {
  const policies = policiesFor(config, kind, name);
  return policies.length === 0 ? [] : [{ name: 'authorization', options: { target: `${kind} ${name}`, policies } }];
}
