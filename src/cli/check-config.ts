// Everything that can be known about a config without running it: its own mistakes, routes that clash, plugins that do not fit.
import { type LoadOptions, type LoadResult, loadConfig, type Provenance } from '../config/load.ts';
import type { Config, Place } from '../config/model.ts';
import type { Problem } from '../config/problem.ts';
import { builtins } from '../plugins/index.ts';
import { checkPlugins } from '../proxy/load-plugin.ts';
import { findRouteConflicts } from '../routing/conflicts.ts';

/** Plugins are loaded, which runs their modules but not the plugins. Never rejects for what a user wrote. */
export async function checkConfig(path: string, options: LoadOptions = {}): Promise<LoadResult> {
  const result = await loadConfig(path, options);
  const { config, provenance } = result;
  if (config === null || provenance === null) return result;
  const plugins = (await checkPlugins(config, builtins)).map((problem) => located(problem, config, provenance));
  const problems = [...result.problems, ...findRouteConflicts(config), ...plugins];
  return { ...result, problems, config: problems.some(({ severity }) => severity === 'error') ? null : config };
}

/** A plugin's problem says `body-limit.max`; the whole path and the place of that very option help more. */
function located(problem: Problem, config: Config, provenance: Provenance): Problem {
  const found = problem.place === null ? null : findUse(config, problem.place);
  if (found === null) return problem;
  const { steps, written } = found;
  const inside = problem.path.slice(written.length).replace(/^\./, '');
  const option = [...inside.matchAll(/\[(\d+)\]|([^.[\]]+)/g)].map(([, index, name]) =>
    index === undefined ? name : Number(index),
  );
  const path = [...steps, ...option].reduce<string>((text, step) => {
    if (typeof step === 'number') return `${text}[${step}]`;
    return text === '' ? step : `${text}.${step}`;
  }, '');
  return { ...problem, path, place: provenance.locate([...steps, written, ...option]) ?? problem.place };
}

interface FoundUse {
  readonly written: string;
  /** `routes`, 3, `plugins`, 0. */
  readonly steps: readonly (string | number)[];
}

/** The use of a plugin that stands at `place`. */
function findUse({ gateways, services, routes }: Config, place: Place): FoundUse | null {
  const owners = [
    ...gateways.map(({ name, plugins }) => ({ steps: ['gateways', name], plugins })),
    ...services.map(({ name, plugins }) => ({ steps: ['services', name], plugins })),
    ...routes.map(({ plugins }, index) => ({ steps: ['routes', index], plugins })),
  ];
  for (const { steps, plugins } of owners) {
    const index = plugins.findIndex(({ at }) => at === place);
    const use = plugins[index];
    if (use !== undefined && 'written' in use) return { written: use.written, steps: [...steps, 'plugins', index] };
  }
  return null;
}
