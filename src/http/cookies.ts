// One cookie out of a request's Cookie header: read and taken out by matches and plugins, never decoded, so that what is compared is what was sent.

/** The first value of that name (RFC 6265 section 5.4 sends the most specific one first), without surrounding quotes; null when there is none. */
export function cookieValue(header: string | undefined, name: string): string | null {
  if (header === undefined) return null;
  for (let start = 0; start < header.length; ) {
    const semicolon = header.indexOf(';', start);
    const end = semicolon < 0 ? header.length : semicolon;
    const equals = header.indexOf('=', start);
    if (equals >= start && equals < end && header.slice(start, equals).trim() === name) {
      const value = header.slice(equals + 1, end).trim();
      const quoted = value.length >= 2 && value.startsWith('"') && value.endsWith('"');
      return quoted ? value.slice(1, -1) : value;
    }
    start = end + 1;
  }
  return null;
}

/** How many there are of that name. */
export function cookieCount(header: string | undefined, name: string): number {
  const named = header?.split(';').filter((pair) => {
    const equals = pair.indexOf('=');
    return equals >= 0 && pair.slice(0, equals).trim() === name;
  });
  return named?.length ?? 0;
}

/** The header without any cookie of that name; undefined when nothing is left of it. */
export function withoutCookie(header: string | undefined, name: string): string | undefined {
  const left = header?.split(';').filter((pair) => {
    const equals = pair.indexOf('=');
    return equals < 0 || pair.slice(0, equals).trim() !== name;
  });
  return left === undefined || left.every((pair) => pair.trim() === '') ? undefined : left.join(';').trim();
}
