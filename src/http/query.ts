// One parameter of a query string: read and taken out by plugins. What is left is, byte for byte, what was sent.

/** The values of every parameter of that name, decoded as forms are; one with a broken escape is taken as it stands. */
export function queryValues(query: string, name: string): string[] {
  if (query === '') return [];
  return query.split('&').flatMap((pair) => {
    const equals = pair.indexOf('=');
    if (nameOf(pair, equals) !== name) return [];
    return [equals < 0 ? '' : decoded(pair.slice(equals + 1))];
  });
}

/** Every pair in order: the name decoded, the value as it came; empty without `=`. */
export function queryPairs(query: string): [name: string, value: string][] {
  if (query === '') return [];
  return query.split('&').flatMap((pair) => {
    const equals = pair.indexOf('=');
    return pair === '' ? [] : [[nameOf(pair, equals), equals < 0 ? '' : pair.slice(equals + 1)]];
  });
}

/** The query without any parameter of that name, however the name is escaped. */
export function withoutQuery(query: string, name: string): string {
  return query
    .split('&')
    .filter((pair) => nameOf(pair, pair.indexOf('=')) !== name)
    .join('&');
}

function nameOf(pair: string, equals: number): string {
  return decoded(equals < 0 ? pair : pair.slice(0, equals));
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return text;
  }
}
