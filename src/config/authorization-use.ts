// The plugin that applies the policies of one service or gateway, as its chain lists it.
import type { AuthorizationRules } from '../policies/authorization.ts';
import type { AuthorizationPolicy, Config, PluginUse } from './model.ts';

/** Policies for one target, without what an edit elsewhere in the file would change: equal policies mean an equal chain. */
export function policiesFor(
  { authorization }: Pick<Config, 'authorization'>,
  kind: AuthorizationPolicy['target']['kind'],
  name: string,
): AuthorizationRules[] {
  return authorization
    .filter(({ target }) => target.kind === kind && (target.name === '*' || target.name === name))
    .map(({ name, effect, audit, rules }) => ({ name, effect, audit, rules: rules.map(({ at, ...rule }) => rule) }));
}

/** Empty where no policy has anything to say. */
export function authorizationUse(
  config: Pick<Config, 'authorization'>,
  kind: AuthorizationPolicy['target']['kind'],
  name: string,
): Pick<PluginUse, 'name' | 'options'>[] {
  const policies = policiesFor(config, kind, name);
  return policies.length === 0 ? [] : [{ name: 'authorization', options: { target: `${kind} ${name}`, policies } }];
}
