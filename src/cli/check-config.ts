// Everything that can be known about a config without running it: its own mistakes, routes that clash, plugins that do not fit.
import { type LoadOptions, type LoadResult, loadConfig } from '../config/load.ts';
import { hasErrors, inOrder } from '../config/problem.ts';
import { builtins } from '../plugins/index.ts';
import { checkPlugins } from '../proxy/load-plugin.ts';
import { locatePluginProblem } from '../proxy/locate-plugin-problem.ts';
import { findRouteConflicts } from '../routing/conflicts.ts';

/** Plugins are loaded, which runs their modules but not the plugins. Never rejects for what a user wrote. */
export async function checkConfig(path: string, options: LoadOptions = {}): Promise<LoadResult> {
  const result = await loadConfig(path, options);
  const { config, provenance } = result;
  if (config === null || provenance === null) return result;
  const plugins = (await checkPlugins(config, builtins)).map((problem) =>
    locatePluginProblem(problem, config, provenance),
  );
  const problems = inOrder([...result.problems, ...findRouteConflicts(config), ...plugins]);
  return { ...result, problems, config: hasErrors(problems) ? null : config };
}
