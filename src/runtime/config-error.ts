// A config that cannot be run, with everything that is wrong with it.
import { formatProblem, type Problem } from '../config/problem.ts';

/** Thrown when starting fails: the config has errors, or what it asks for cannot be had (a taken port). */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  /** All of them, warnings included. */
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super(problems.map(formatProblem).join('\n'));
    this.problems = problems;
  }
}

/** A role was asked for that the config does not have; `message` says which ones it has. */
export class RoleError extends Error {
  override readonly name = 'RoleError';
}
