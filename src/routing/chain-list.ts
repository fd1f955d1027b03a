// At compile time: which plugins a request passes, from what its gateway, its listener and its route say.
import type { PluginOff, PluginUse, RouteConfig } from '../config/model.ts';

/** `from` of plugins that nobody wrote. */
export const DEFAULT = 'default';

/** One list of plugins as somebody wrote it; outer ones come first. */
export interface ChainLayer {
  /** `default`, `gateway public`, `listener https`, `service orders`, `route shop`. */
  readonly from: string;
  readonly plugins: readonly (PluginUse | PluginOff)[];
}

/** A plugin and which list it stands in. */
export interface LayeredUse {
  readonly use: PluginUse;
  readonly from: string;
}

export interface ChainLink extends LayeredUse {
  /** What it took the place of, the outermost first. */
  readonly replaced: readonly LayeredUse[];
}

export interface ComposedChain {
  readonly links: readonly ChainLink[];
  /** Inherited, and not met. */
  readonly off: readonly (ChainLink & { readonly by: string; readonly offAt: PluginOff['at'] })[];
}

/**
 * The plugins of the outermost list in order, then what each further one adds. A list that names an inherited plugin again gives it
 * other options in its inherited place (its second use takes the second inherited one, and so on); `off` removes every inherited use of
 * the name, so `off` together with a use moves the plugin to the list's own place. What is locked is a matter of checking the config.
 */
export function composeChain(layers: readonly ChainLayer[]): ComposedChain {
  const off: ComposedChain['off'][number][] = [];
  let links: readonly ChainLink[] = [];
  for (const { from, plugins } of layers) {
    const switches = new Map(plugins.flatMap((plugin) => ('off' in plugin ? [[plugin.off, plugin.at]] : [])));
    for (const link of links) {
      const offAt = switches.get(link.use.name);
      if (offAt !== undefined) off.push({ ...link, by: from, offAt });
    }
    const chain = links.filter(({ use }) => !switches.has(use.name));
    const inherited = chain.length;
    const taken = new Set<number>();
    for (const use of plugins) {
      if ('off' in use) continue;
      const place = chain.findIndex((link, i) => i < inherited && !taken.has(i) && link.use.name === use.name);
      if (place < 0) {
        chain.push({ use, from, replaced: [] });
        continue;
      }
      const { use: before, from: of, replaced } = chain[place];
      chain[place] = { use, from, replaced: [...replaced, { use: before, from: of }] };
      taken.add(place);
    }
    links = chain;
  }
  return { links, off };
}

/** Whether it stands in a place that nobody wrote, whoever took it since. */
export function isDefault({ from, replaced }: ChainLink): boolean {
  return (replaced[0]?.from ?? from) === DEFAULT;
}

/** The lists of a request that takes `route`. */
export function routeLayers(
  inherited: readonly ChainLayer[],
  { name, plugins }: Pick<RouteConfig, 'name' | 'plugins'>,
): readonly ChainLayer[] {
  return [...inherited, { from: `route ${name}`, plugins }];
}
