// What a config says about plugins: which, with which options, from where. Loading them is another's work.
import { isAbsolute, resolve } from 'node:path';
import type { CompletePlugin } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { PluginOff, PluginUse } from './model.ts';

/** The chain of a gateway or service; nothing is inherited there. */
export function pluginUses(plugins: readonly Cursor<CompletePlugin>[]): PluginUse[] {
  return plugins.flatMap((plugin) => {
    const use = pluginUse(plugin);
    if ('name' in use) return [use];
    plugin.error('only a route can switch a plugin off; leave it out here');
    return [];
  });
}

/** One item: `cors`, `{ rate-limit: { max: 5 } }`, `{ cors: false }`. */
export function pluginUse(plugin: Cursor<CompletePlugin>): PluginUse | PluginOff {
  const [[written, options]] = plugin.entries();
  const { place: at, dir } = plugin;
  const isPath = /^\.\.?\//.test(written) || isAbsolute(written);
  const name = isPath ? resolve(dir, written) : written;
  if (options.value === false) return { off: name, at };
  if (isPath) plugin.watch(name);
  const given =
    typeof options.value === 'object' && options.value !== null ? (options.value as Record<string, unknown>) : {};
  return { name, written, options: given, at, baseDir: dir };
}
