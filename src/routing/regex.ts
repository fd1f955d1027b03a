// Compiles the regexes of routes, once a config: RE2 syntax, matched against a whole value in time linear in its length.
import { RE2JS } from 're2js';
import { regexProblem } from '../config/regex.ts';

export interface ValueRegex {
  test(value: string): boolean;
}

/**
 * Compiles an anchored regex. JavaScript's own engine backtracks, so one careless pattern would let a client stop the process;
 * RE2 has no lookaround and no backreferences, which is what makes linear time possible. `problem` says why a source is refused
 * (`selvedge check` says the same).
 */
export function compileRegex(source: string): ValueRegex | { readonly problem: string } {
  const problem = regexProblem(source);
  if (problem !== null) return { problem: `the regex ${problem}` };
  const compiled = RE2JS.compile(source);
  const start = literalStart(source);
  if (start === '') return { test: (value) => compiled.testExact(value) };
  return { test: (value) => value.startsWith(start) && compiled.testExact(value) };
}

/** Text that every value matched by the regex begins with; empty when none is certain. */
export function literalStart(source: string): string {
  if (source.includes('\\Q') || hasTopLevelAlternative(source)) return '';
  let start = '';
  let i = source.startsWith('^') ? 1 : 0;
  while (i < source.length) {
    let char = source[i];
    let next = i + 1;
    if (char === '\\') {
      char = source[next] ?? '';
      if (!/[!-/:-@[-`{-~]/.test(char)) break;
      next += 1;
    } else if (!/[A-Za-z0-9/_~%!@&=,:;' -]/.test(char)) {
      break;
    }
    if ('*+?{'.includes(source[next] ?? ' ')) break;
    start += char;
    i = next;
  }
  return start;
}

function hasTopLevelAlternative(source: string): boolean {
  let depth = 0;
  for (let i = 0; i < source.length; i += 1) {
    const char = source[i];
    if (char === '\\') i += 1;
    else if (char === '[') i = endOfClass(source, i);
    else if (char === '(') depth += 1;
    else if (char === ')') depth -= 1;
    else if (char === '|' && depth <= 0) return true;
  }
  return false;
}

/** Index of the `]` that closes the class opened at `open`; a `]` right after the opening is a member. */
function endOfClass(source: string, open: number): number {
  let i = open + 1;
  if (source[i] === '^') i += 1;
  if (source[i] === ']') i += 1;
  for (; i < source.length && source[i] !== ']'; i += 1) {
    if (source[i] === '\\') i += 1;
    else if (source.startsWith('[:', i)) i = Math.max(i, source.indexOf(':]', i + 2) + 1);
  }
  return i;
}
