// Lists of hashed credentials as options have them: one a line, written in the config or brought in whole by `${file:…}`.
import type { OptionProblem } from '../plugin.ts';

export interface ListLine {
  readonly text: string;
  /** Of the item in the options: `keys[0]`. */
  readonly path: string;
  /** `line 3: ` where the item has several, else nothing: what a message about it begins with. */
  readonly where: string;
}

export interface CredentialList<Credential> {
  readonly credentials: readonly Credential[];
  /** Never repeat what was written: it may be the secret itself. */
  readonly problems: readonly OptionProblem[];
}

/** `parse` returns a credential, or a sentence about what is wrong. Blank lines and those that begin with `#` say nothing. */
export function readList<Credential extends object>(
  option: string,
  items: readonly string[],
  max: number,
  parse: (text: string) => Credential | string,
): CredentialList<Credential> {
  const credentials: Credential[] = [];
  const problems: OptionProblem[] = [];
  const lines = items.flatMap((item, index) => linesOf(item, `${option}[${index}]`));
  for (const { text, path, where } of lines.slice(0, max)) {
    const parsed = parse(text);
    if (typeof parsed === 'string') problems.push({ path, message: `${where}${parsed}` });
    else credentials.push(parsed);
  }
  // Whoever empties a file takes everybody out of it: a list that stayed in force instead would let them in.
  if (lines.length === 0) problems.push({ path: option, message: 'is empty: nobody passes', severity: 'warning' });
  if (lines.length > max) problems.push({ path: option, message: `has ${lines.length} lines, more than ${max}` });
  return { credentials, problems };
}

function linesOf(item: string, path: string): ListLine[] {
  const lines = item.split('\n').map((line) => line.trim());
  return lines.flatMap((text, index) =>
    text === '' || text.startsWith('#') ? [] : [{ text, path, where: lines.length === 1 ? '' : `line ${index + 1}: ` }],
  );
}
