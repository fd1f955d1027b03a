// At compile time: which plugins a request passes, from what its gateway and its route say.
import type { PluginOff, PluginUse } from '../config/model.ts';

/**
 * The gateway's plugins in order, then the route's. A route that names an inherited plugin again gives it other options in its
 * inherited place (its second use takes the second inherited one, and so on); `off` removes every inherited use of the name, so
 * `off` together with a use moves the plugin to the route's own place.
 */
export function effectiveChain(
  gatewayPlugins: readonly PluginUse[],
  routePlugins: readonly (PluginUse | PluginOff)[],
): PluginUse[] {
  const off = new Set<string>();
  for (const plugin of routePlugins) if ('off' in plugin) off.add(plugin.off);
  const chain = gatewayPlugins.filter((plugin) => !off.has(plugin.name) && !off.has(plugin.written));
  const inherited = chain.length;
  const replaced = new Set<number>();
  for (const plugin of routePlugins) {
    if ('off' in plugin) continue;
    const place = chain.findIndex((other, i) => i < inherited && !replaced.has(i) && other.name === plugin.name);
    if (place < 0) {
      chain.push(plugin);
    } else {
      chain[place] = plugin;
      replaced.add(place);
    }
  }
  return chain;
}
