// What lists of plugins must make sense of together: what is switched off is there, what is locked is left alone.
import type { CompleteConfig, CompletePlugin, CompleteRoute } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { Config, Gateway, Listener, PluginOff, PluginUse } from './model.ts';
import { partsOf } from './plugin-uses.ts';
import { formatPlace } from './problem.ts';
import { didYouMean } from './suggest.ts';

/** A list whose plugins others inherit. */
interface Outer {
  /** `gateway "public"`. */
  readonly of: string;
  readonly plugins: readonly (PluginUse | PluginOff)[];
}

/** Every gateway begins with them, whether it lists them or not. */
const DEFAULTS: ReadonlySet<string> = new Set([
  'request-id',
  'tracing',
  'mtls',
  'metrics',
  'access-log',
  'load-shedding',
]);

export function checkPlugins(written: Cursor<CompleteConfig>, config: Config): void {
  for (const [index, [, gateway]] of written.at('gateways').filled().entries().entries()) {
    const resolved = config.gateways[index];
    for (const [position, listener] of gateway.at('listeners').items().entries()) {
      const outer = [gatewayList(resolved)];
      const { plugins } = resolved.listeners[position];
      checkList(
        listener.at('plugins').items() as Cursor<CompletePlugin>[],
        plugins,
        outer,
        'this gateway does not have',
      );
    }
  }
  for (const [index, route] of written.at('routes').filled().items().entries()) {
    const { gateways, listeners, internal, plugins } = config.routes[index];
    // Hops have no lists of their own before that of a route.
    if (internal.length > 0) continue;
    const serving = config.gateways.filter(({ name }) => gateways.includes(name));
    const outer = serving.flatMap((gateway) => [
      gatewayList(gateway),
      ...gateway.listeners
        .filter(({ name }) => listeners === null || listeners.includes(name))
        .map((listener) => listenerList(gateway, listener)),
    ]);
    checkList(
      route.at('plugins').items() as Cursor<CompletePlugin>[],
      plugins,
      outer,
      'no gateway or listener of this route has',
    );
    checkKeys(route, outer);
  }
}

function gatewayList({ name, plugins }: Gateway): Outer {
  return { of: `gateway "${name}"`, plugins };
}

function listenerList(gateway: Gateway, { name, plugins }: Listener): Outer {
  return { of: `listener "${name}" of gateway "${gateway.name}"`, plugins };
}

/** `resolved` may lack what is reported already; the same place is the same item. */
function checkList(
  written: readonly Cursor<CompletePlugin>[],
  resolved: readonly (PluginUse | PluginOff)[],
  outer: readonly Outer[],
  nobodyHas: string,
): void {
  const inherited = outer.flatMap(({ plugins }) => plugins.flatMap((plugin) => ('name' in plugin ? plugin.name : [])));
  for (const item of written) {
    const plugin = resolved.find(({ at }) => at === item.place);
    if (plugin === undefined) continue;
    const isOff = 'off' in plugin;
    const name = isOff ? plugin.off : plugin.name;
    if (isOff && !inherited.includes(name) && !DEFAULTS.has(name))
      item.warn(`switches off a plugin that ${nobodyHas}${didYouMean(name, inherited)}`);
    refuseLocked(item, name, partsOf(item).used, isOff ? 'switched off' : 'replaced', outer);
  }
}

/** Keys of a route that stand for plugins: they replace them, `false` switches them off. */
function checkKeys(route: Cursor<CompleteRoute>, outer: readonly Outer[]): void {
  for (const key of ['retry', 'fault', 'mirror'] as const) {
    const given = route.at(key).given();
    if (given === null) continue;
    refuseLocked(given, key, key, (given.value as unknown) === false ? 'switched off' : 'replaced', outer);
  }
}

function refuseLocked(
  item: Cursor<unknown>,
  name: string,
  written: string,
  what: 'switched off' | 'replaced',
  outer: readonly Outer[],
): void {
  for (const { of, plugins } of outer) {
    const locked = plugins.find((plugin) => 'name' in plugin && plugin.name === name && plugin.locked === true);
    if (locked === undefined) continue;
    const where = locked.at.line > 0 ? `${of}, ${formatPlace(locked.at)},` : of;
    item.error(`${where} locks "${written}": it can be neither replaced nor switched off here, and is ${what}`);
    return;
  }
}
