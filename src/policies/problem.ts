// What is wrong with the options of a policy beyond their shape; the same sentence whether they stand at a config key or at a plugin.

export interface PolicyProblem {
  /** Where in the options: `methods[0]`; empty: all of them. */
  readonly path: string;
  /** What is wrong and what to do; no full stop. */
  readonly message: string;
}
