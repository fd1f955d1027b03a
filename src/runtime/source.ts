// Where the config comes from, and all that is wrong with it that can be known before it is compiled.
import type { ConfigInput } from '../config/define.ts';
import { type LoadOptions, type LoadResult, loadConfig, resolveConfig } from '../config/load.ts';
import type { Config } from '../config/model.ts';
import type { Problem } from '../config/problem.ts';
import type { Provenance } from '../config/provenance.ts';
import { findRouteConflicts } from '../routing/conflicts.ts';

export interface Loaded {
  /** Null when there is any error. */
  readonly config: Config | null;
  readonly problems: readonly Problem[];
  /** What to watch. */
  readonly files: readonly string[];
  readonly provenance: Provenance | null;
}

export interface ConfigSource {
  load(): Promise<Loaded>;
}

/** A file or directory, read anew with every load. */
export function fileSource(path: string, options: LoadOptions): ConfigSource {
  return { load: async () => withConflicts(await loadConfig(path, options)) };
}

/** A config in memory; files that it names are read anew with every load. */
export function inputSource(input: ConfigInput, options: LoadOptions): ConfigSource {
  return { load: async () => withConflicts(await resolveConfig(input, options)) };
}

function withConflicts({ config, problems, files, provenance }: LoadResult): Loaded {
  const all = config === null ? problems : [...problems, ...findRouteConflicts(config)];
  const usable = config !== null && !all.some(({ severity }) => severity === 'error');
  return { config: usable ? config : null, problems: all, files, provenance };
}
