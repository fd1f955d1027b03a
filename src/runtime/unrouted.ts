// At compile time: which inherited plugins a request meets that no route takes, or that is refused for its host or path.
import type { PluginUse } from '../config/model.ts';
import type { LoadedPlugin } from '../proxy/load-plugin.ts';
import { type ChainLink, isDefault } from '../routing/chain-list.ts';
import type { ListenerSpec } from './listener-spec.ts';

/** What every listener begins with, and of a gateway's lists what says so of itself. */
export function seesUnrouted(
  { role }: Pick<ListenerSpec, 'role'>,
  link: ChainLink,
  loaded: ReadonlyMap<PluginUse, LoadedPlugin>,
): boolean {
  return isDefault(link) || (role === 'gateway' && loaded.get(link.use)?.unrouted === true);
}
