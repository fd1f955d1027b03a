// What `selvedge explain` says of a request that no route takes, or that is refused for its host or path: the plugins that it meets all the same.
import type { Config } from '../config/model.ts';
import { builtins } from '../plugins/index.ts';
import { loadPlugins } from '../proxy/load-plugin.ts';
import { composeChain } from '../routing/chain-list.ts';
import { explainChain } from '../routing/explained-chain.ts';
import type { Explanation } from '../routing/explanation.ts';
import { listenerScope } from '../runtime/listener-scope.ts';
import type { ListenerSpec } from '../runtime/listener-spec.ts';
import { seesUnrouted } from '../runtime/unrouted.ts';

/** `explanation` with that chain, where it ends without a route. Runs the modules of plugins: each says itself whether it is for such requests. */
export async function withUnrouted(explanation: Explanation, config: Config, spec: ListenerSpec): Promise<Explanation> {
  if (explanation.refused === null || explanation.route !== null) return explanation;
  const { links } = composeChain(listenerScope(config, spec).layers);
  const { loaded } = await loadPlugins(
    links.map(({ use }) => use),
    builtins,
  );
  const { chain } = explainChain({ links: links.filter((link) => seesUnrouted(spec, link, loaded)), off: [] });
  return { ...explanation, unrouted: chain };
}
