// Looks into header lines as they were received (name, value, name, value …) without building an object of them.

/** The first value of a header, `name` in lower case; undefined: it is not there. */
export function rawHeader(lines: readonly string[], name: string): string | undefined {
  for (let i = 0; i < lines.length; i += 2) {
    if (lines[i].length === name.length && lines[i].toLowerCase() === name) return lines[i + 1];
  }
  return undefined;
}
