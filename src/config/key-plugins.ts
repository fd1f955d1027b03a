// Keys of a route that are plugins of its chain by another name: `mirror` and `fault`.
import { type FaultOptions, faultProblems } from '../policies/fault.ts';
import { type MirrorOptions, mirrorProblems } from '../policies/mirror.ts';
import type { CompleteConfig, CompleteRoute } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { Action, PluginOff, PluginUse } from './model.ts';
import { partsOf } from './plugin-uses.ts';
import { reportProblems } from './policy-problems.ts';

/** Keys that mean what a plugin of the same name means. */
const SAID_ONCE = ['retry', 'fault', 'mirror'] as const;

/** What the keys add to the route's own plugins. What is wrong with them is reported here, and left out. */
export function keyPlugins(
  route: Cursor<CompleteRoute>,
  config: Cursor<CompleteConfig>,
  action: Action,
): (PluginUse | PluginOff)[] {
  for (const name of SAID_ONCE) {
    if (route.at(name).given() === null) continue;
    for (const plugin of route.at('plugins').items()) {
      const { used, options } = partsOf(plugin);
      if (used === name && options !== false)
        plugin.error(`the route says "${name}" as a key of its own too: say it once`);
    }
  }
  if (action.kind !== 'forward') return [];
  const mirror = route.at('mirror').given();
  const fault = route.at('fault').given();
  return [...(mirror === null ? [] : mirrorUse(mirror, config, action)), ...(fault === null ? [] : faultUse(fault))];
}

type MirrorInput = NonNullable<CompleteRoute['mirror']>;

function mirrorUse(
  mirror: Cursor<MirrorInput>,
  config: Cursor<CompleteConfig>,
  { backends }: Extract<Action, { kind: 'forward' }>,
): PluginUse[] {
  const targets = mirror.items();
  for (const target of targets) {
    const { service, subset = null } = target.value;
    if (backends.some((backend) => backend.service === service && backend.subset === subset))
      target.warn('is where the route itself leads: the service gets the copied requests twice');
  }
  const sound = reportProblems(mirror, mirrorProblems(mirror.value as MirrorOptions['to']));
  // Names that do not exist are reported by semantics.ts; the plugin would report them once more.
  const to = mirror.value.filter(({ service, subset }) => exists(config.value, service, subset ?? null));
  return sound && to.length > 0 ? [{ ...useOf('mirror', mirror), options: { to } }] : [];
}

function exists({ services = {} }: CompleteConfig, service: string, subset: string | null): boolean {
  if (!Object.hasOwn(services, service)) return false;
  return subset === null || Object.hasOwn(services[service].subsets ?? {}, subset);
}

type FaultInput = NonNullable<CompleteRoute['fault']>;

function faultUse(fault: Cursor<FaultInput>): (PluginUse | PluginOff)[] {
  if (fault.value === false) return [{ off: 'fault', at: fault.place }];
  if (!reportProblems(fault, faultProblems(fault.value as FaultOptions))) return [];
  return [{ ...useOf('fault', fault), options: fault.value }];
}

function useOf(name: string, { place, dir }: Cursor<unknown>): Omit<PluginUse, 'options'> {
  return { name, written: name, at: place, baseDir: dir };
}
