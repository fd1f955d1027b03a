// Where limits that all processes count together are kept: the plugins that say so get it with their options.
import { isDeepStrictEqual } from 'node:util';
import type { CompleteConfig } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { Config, PluginUse } from './model.ts';

type WithPlugins = Pick<Config, 'gateways' | 'services' | 'routes' | 'workers'>;

const PLUGIN = 'rate-limit';

/** `redis` of the config into the options of every `rate-limit` with `shared: true` that names none of its own. */
export function withRedis<T extends WithPlugins>(config: T, written: Cursor<CompleteConfig>): T {
  const redis = written.at('redis').given();
  let used = false;
  const given = mapPlugins(config, redis?.value, (use) => {
    const { options } = use;
    if (options.shared === true && options.redis === undefined && redis !== null) {
      used = true;
      return { ...use, options: { ...options, redis: redis.value } };
    }
    // Counted in this process, where nothing can fail.
    if (options.shared !== true && options.onStoreFailure === 'deny' && config.workers === 1)
      written.errorIn(
        use.at,
        '"onStoreFailure" has a meaning only together with "shared: true", or with several "workers"',
      );
    return use;
  });
  if (!used) redis?.warn('nothing counts there: no "rate-limit" says "shared: true"');
  return given;
}

type Scope = { readonly plugins: readonly unknown[] };

/** By the scope as it was written: what became of it, with which Redis. A route that a load takes over becomes the same object again. */
const changed = new WeakMap<Scope, { readonly redis: unknown; readonly scope: Scope }>();

function mapPlugins<T extends WithPlugins>(config: T, redis: unknown, map: (use: PluginUse) => PluginUse): T {
  const isOne = (plugin: unknown): boolean => (plugin as Partial<PluginUse>).name === PLUGIN;
  const each = <U extends Scope>(scopes: readonly U[]): U[] =>
    scopes.map((scope) => {
      const plugins = scope.plugins.map((plugin) => (isOne(plugin) ? map(plugin as PluginUse) : plugin));
      if (plugins.every((plugin, index) => plugin === scope.plugins[index])) return scope;
      const before = changed.get(scope);
      if (before !== undefined && isDeepStrictEqual(before.redis, redis)) return before.scope as U;
      const now = { ...scope, plugins };
      changed.set(scope, { redis, scope: now });
      return now;
    });
  const { services, routes } = config;
  const gateways = config.gateways.map((gateway) => ({ ...gateway, listeners: each(gateway.listeners) }));
  return { ...config, gateways: each(gateways), services: each(services), routes: each(routes) };
}
