// Where a problem with a plugin's options stands in the config: `check`, `run` and a reload say it alike.
import type { Config, Place } from '../config/model.ts';
import type { Problem } from '../config/problem.ts';
import type { Provenance } from '../config/provenance.ts';

/**
 * A plugin's problem says `body-limit.max`; the whole path and the place of that very option help more. Other problems are returned
 * as they are.
 */
export function locatePluginProblem(problem: Problem, config: Config, provenance: Provenance): Problem {
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
