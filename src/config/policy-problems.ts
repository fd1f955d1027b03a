// What a policy says about its options, at the places where the options are written.
import type { PolicyProblem } from '../policies/problem.ts';
import type { Cursor } from './cursor.ts';

/** Whether there was none. */
export function reportProblems(options: Cursor<unknown>, problems: readonly PolicyProblem[]): boolean {
  for (const { path, message } of problems) locate(options, path).error(message);
  return problems.length === 0;
}

/** `delay.time`, `methods[0]`. */
function locate(options: Cursor<unknown>, path: string): Cursor<unknown> {
  let found = options;
  for (const [, index, name] of path.matchAll(/\[(\d+)\]|([^.[\]]+)/g)) {
    found = index === undefined ? (found as Cursor<Record<string, unknown>>).at(name) : found.items()[Number(index)];
  }
  return found;
}
