// Everything that can be known about a config without running it: its own mistakes, routes that clash, plugins that do not fit.
import { type LoadOptions, type LoadResult, loadConfig } from '../config/load.ts';
import { hasErrors, inOrder } from '../config/problem.ts';
import { builtins } from '../plugins/index.ts';
import { checkPlugins, optionSchemas } from '../proxy/load-plugin.ts';
import { locatePluginProblem } from '../proxy/locate-plugin-problem.ts';
import { findRouteConflicts } from '../routing/conflicts.ts';

/** Plugins are loaded, which runs their modules but not the plugins. Never rejects for what a user wrote. */
export async function checkConfig(path: string, options: LoadOptions = {}): Promise<LoadResult> {
  const result = await loadConfig(path, options);
  const { config, understood, provenance } = result;
  if (understood === null || provenance === null) return result;
  provenance.hide(await optionSchemas(understood, builtins));
  const plugins = (await checkPlugins(understood, builtins)).map((problem) =>
    provenance.scrub(locatePluginProblem(problem, understood, provenance)),
  );
  // Routes that lost a part to a mistake would seem to clash.
  const conflicts = config === null ? [] : findRouteConflicts(config);
  const problems = inOrder([...result.problems, ...conflicts, ...plugins]);
  return { ...result, problems, config: hasErrors(problems) ? null : config };
}
