// Whether JSON has a name twice in one object: we would read the last one, and whoever reads the token after us may read the first.

/** In JSON a string that a colon follows is the name of a member, and nothing else is. */
const NAME = /"(?:[^"\\]|\\.)*"(\s*:)?/g;

/** `value` is what was read from `text`, which is valid JSON. */
export function hasRepeatedNames(text: string, value: object): boolean {
  let written = 0;
  for (const [, colon] of text.matchAll(NAME)) if (colon !== undefined) written++;
  return written !== namesIn(value);
}

/** Without recursion: it may be nested as deep as a token is long. */
function namesIn(value: object): number {
  let names = 0;
  const waiting: object[] = [value];
  for (let one = waiting.pop(); one !== undefined; one = waiting.pop()) {
    if (!Array.isArray(one)) names += Object.keys(one).length;
    for (const inner of Object.values(one)) if (typeof inner === 'object' && inner !== null) waiting.push(inner);
  }
  return names;
}
