// The header in which a service is told who was let in: which names it may have, and whose word it is.
import { headerChangeProblems } from '../http/header-changes.ts';
import type { OptionProblem } from '../plugin.ts';

/** What Selvedge or the credentials themselves need: an identity there would be overwritten, or overwrite them. */
const TAKEN = /^(?:authorization|cookie|expect|forwarded|proxy-.*|via|x-forwarded-.*|x-selvedge-.*)$/i;

/** `taken`: further names, lower-case. */
export function headerNameProblems(path: string, name: string | undefined, taken: readonly string[]): OptionProblem[] {
  if (name === undefined) return [];
  const [malformed] = headerChangeProblems({ remove: [name] }, 'request');
  if (malformed !== undefined) return [{ path, message: malformed.message }];
  return TAKEN.test(name) || taken.includes(name.toLowerCase())
    ? [{ path, message: `"${name}" is needed for something else` }]
    : [];
}
