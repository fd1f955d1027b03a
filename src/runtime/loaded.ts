// What reading a config comes to: the config, or everything wrong with it that can be known before it is compiled.
import type { LoadResult } from '../config/load.ts';
import type { Config } from '../config/model.ts';
import type { Problem } from '../config/problem.ts';
import type { LoadedProvenance } from '../config/provenance.ts';
import { findRouteConflicts } from '../routing/conflicts.ts';

export interface Loaded {
  /** Null when there is any error. */
  readonly config: Config | null;
  readonly problems: readonly Problem[];
  /** What to watch. */
  readonly files: readonly string[];
  /** Of a config that can run: without one it may be null. */
  readonly provenance: LoadedProvenance | null;
  /** Resolves when `provenance` can be asked for values and places; with a problem where it never can. Not given: it can. */
  readonly whole?: Promise<Problem | null>;
}

export function withConflicts<P extends LoadedProvenance>({
  config,
  problems,
  files,
  provenance,
}: Pick<LoadResult, 'config' | 'problems' | 'files'> & { readonly provenance: P | null }) {
  const all = config === null ? problems : [...problems, ...findRouteConflicts(config)];
  const usable = config !== null && !all.some(({ severity }) => severity === 'error');
  return { config: usable ? config : null, problems: all, files, provenance } satisfies Loaded;
}
