// Where limits that all processes count together are kept: the plugins that say so get it with their options.
import type { CompleteConfig } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { Config, PluginUse } from './model.ts';

type WithPlugins = Pick<Config, 'gateways' | 'services' | 'routes'>;

const PLUGIN = 'rate-limit';

/** `redis` of the config into the options of every `rate-limit` with `shared: true` that names none of its own. */
export function withRedis<T extends WithPlugins>(config: T, written: Cursor<CompleteConfig>): T {
  const redis = written.at('redis').given();
  if (redis === null) return config;
  let used = false;
  const give = <U>(plugin: U): U => {
    const { name, options } = plugin as Partial<PluginUse>;
    if (name !== PLUGIN || options?.shared !== true || options.redis !== undefined) return plugin;
    used = true;
    return { ...plugin, options: { ...options, redis: redis.value } };
  };
  const each = <U extends { readonly plugins: readonly unknown[] }>(scopes: readonly U[]): U[] =>
    scopes.map((scope) => ({ ...scope, plugins: scope.plugins.map(give) }));
  const { services, routes } = config;
  const gateways = config.gateways.map((gateway) => ({ ...gateway, listeners: each(gateway.listeners) }));
  const given = { ...config, gateways: each(gateways), services: each(services), routes: each(routes) };
  if (!used) redis.warn('nothing counts there: no "rate-limit" says "shared: true"');
  return given;
}
