// Where a problem with a plugin's options stands in the config: `check`, `run` and a reload say it alike.
import type { Config, Place } from '../config/model.ts';
import type { Problem } from '../config/problem.ts';
import type { LoadedProvenance } from '../config/provenance.ts';

/**
 * A plugin's problem says `body-limit.max`; the whole path and the place of that very option help more. Other problems are returned
 * as they are.
 */
export function locatePluginProblem(problem: Problem, config: Config, provenance: LoadedProvenance): Problem {
  const found = problem.place === null ? null : findUse(config, problem.place, provenance);
  if (found === null) return problem;
  const { steps, written, key } = found;
  const inside = problem.path.slice(written.length).replace(/^\./, '');
  const inOptions = [...inside.matchAll(/\[(\d+)\]|([^.[\]]+)/g)].map(([, index, name]) =>
    index === undefined ? name : Number(index),
  );
  // What stands at `mirror` is the option `to` of the plugin.
  const option = key && written === 'mirror' && inOptions[0] === 'to' ? inOptions.slice(1) : inOptions;
  const path = [...steps, ...option].reduce<string>((text, step) => {
    if (typeof step === 'number') return `${text}[${step}]`;
    return text === '' ? step : `${text}.${step}`;
  }, '');
  return {
    ...problem,
    path,
    place: provenance.locate([...steps, ...(key ? [] : [written]), ...option]) ?? problem.place,
  };
}

interface FoundUse {
  readonly written: string;
  /** `routes`, 3, `plugins`, 0. */
  readonly steps: readonly (string | number)[];
  /** A key of a route brought it (`fault`), not a list of plugins. */
  readonly key: boolean;
}

/** The use of a plugin that stands at `place`. */
function findUse({ gateways, services, routes }: Config, place: Place, provenance: LoadedProvenance): FoundUse | null {
  const owners = [
    ...gateways.flatMap(({ name, plugins, listeners }) => [
      { steps: ['gateways', name], plugins },
      ...listeners.map((listener, index) => ({
        steps: ['gateways', name, 'listeners', index],
        plugins: listener.plugins,
      })),
    ]),
    ...services.map(({ name, plugins }) => ({ steps: ['services', name], plugins })),
    ...routes.map(({ plugins }, index) => ({ steps: ['routes', index], plugins })),
  ];
  for (const { steps, plugins } of owners) {
    const index = plugins.findIndex(({ at }) => at === place);
    const use = plugins[index];
    if (use === undefined || !('written' in use)) continue;
    const { written } = use;
    return index < listed(provenance, steps)
      ? { written, steps: [...steps, 'plugins', index], key: false }
      : { written, steps: [...steps, written], key: true };
  }
  return null;
}

/** How many plugins the list of their owner has; what keys bring comes after them. */
function listed(provenance: LoadedProvenance, steps: readonly (string | number)[]): number {
  const owner = provenance.valueAt(steps) as { readonly plugins?: readonly unknown[] } | undefined;
  return owner?.plugins?.length ?? 0;
}
