// What a config says about plugins: which, with which options, from where. Loading them is another's work.
import { isAbsolute, resolve } from 'node:path';
import type { CompletePlugin } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { PluginOff, PluginUse } from './model.ts';

/** Options of built-in plugins that name a file: relative to the config, watched with it. */
const FILE_OPTIONS: ReadonlyMap<string, string> = new Map([['openapi', 'document']]);

/** Whose list it is. */
type Owner = 'gateway' | 'listener' | 'service' | 'route';

/** Nothing is inherited by gateways and services, so that they switch nothing off; nothing inherits from services and routes. */
export function pluginUses(owner: Owner, plugins: readonly Cursor<CompletePlugin>[]): (PluginUse | PluginOff)[] {
  const inherits = owner === 'listener' || owner === 'route';
  const inherited = owner === 'gateway' || owner === 'listener';
  return plugins.flatMap((plugin) => {
    const use = pluginUse(plugin);
    const locked = plugin.value.locked === undefined ? null : plugin.at('locked');
    if (use === null) {
      plugin.error('"locked" stands beside a plugin, such as { jwt: { … }, locked: true }');
      return [];
    }
    if ('off' in use && !inherits) {
      plugin.error('only a listener or a route can switch a plugin off; leave it out here');
      return [];
    }
    if (locked === null) return [use];
    if (!inherited) locked.error(`a ${owner} cannot lock a plugin: no list inherits its plugins; leave it out here`);
    else if ('off' in use) locked.error(`"${use.off}" is switched off here, so there is nothing to lock`);
    else if (locked.value === true) return [{ ...use, locked: true }];
    return [use];
  });
}

export function isUse(plugin: PluginUse | PluginOff): plugin is PluginUse {
  return 'name' in plugin;
}

/** The name that an item has for its plugin and what it says of it. An item that names none: no name. */
export function partsOf(plugin: Cursor<CompletePlugin>): { readonly used: string; readonly options: unknown } {
  const [used = '', options] = Object.entries(plugin.value).find(([key]) => key !== 'locked') ?? [];
  return { used, options };
}

/** `cors`, `{ rate-limit: { max: 5 } }`, `{ cors: false }`. Null: no plugin is named. */
function pluginUse(plugin: Cursor<CompletePlugin>): PluginUse | PluginOff | null {
  const { used: written, options } = partsOf(plugin);
  if (written === '') return null;
  const { place: at, dir } = plugin;
  const isPath = /^\.\.?\//.test(written) || isAbsolute(written);
  const name = isPath ? resolve(dir, written) : written;
  if (options === false) return { off: name, at };
  if (isPath) plugin.watch(name);
  const given = typeof options === 'object' && options !== null ? (options as Record<string, unknown>) : {};
  const use = { name, written, options: given, at, baseDir: dir };
  const key = FILE_OPTIONS.get(name);
  const file = key === undefined ? undefined : given[key];
  if (key === undefined || typeof file !== 'string') return use;
  const path = resolve(dir, file);
  plugin.watch(path);
  return { ...use, options: { ...given, [key]: path }, files: [path] };
}
