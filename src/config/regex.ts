// Whether a regex of a config may be used: RE2 syntax only, because a pattern that backtracks lets a client stop the process.
import { RE2JS } from 're2js';

/** Characters of one expression. */
const MAX_SOURCE = 4_096;
/** Instructions of the compiled program: the cost per character of a value. */
const MAX_PROGRAM = 1_000;

/** Why the expression is refused; null when it is fine. */
export function regexProblem(source: string): string | null {
  if (source.length > MAX_SOURCE) return `is longer than ${MAX_SOURCE} characters`;
  try {
    if (RE2JS.compile(source).programSize() <= MAX_PROGRAM) return null;
    return `compiles to more than ${MAX_PROGRAM} steps: shorten its repetitions or alternatives`;
  } catch (error) {
    const reason = (error as Error).message.replace(/^error parsing regexp: /, '');
    const why = /\(\?<?[=!]|\\[1-9]|\\k</.test(source)
      ? '; lookaround and backreferences cannot run in linear time, use several matches instead'
      : '';
    return `is not an RE2 expression: ${reason}${why}`;
  }
}
