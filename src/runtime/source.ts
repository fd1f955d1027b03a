// Where the config comes from, and all that is wrong with it that can be known before it is compiled.
import type { Config } from '../config/model.ts';
import type { Problem } from '../config/problem.ts';

export interface Loaded {
  readonly config: Config | null;
  readonly problems: readonly Problem[];
  readonly files: readonly string[];
}
export interface ConfigSource {
  load(): Promise<Loaded>;
}
