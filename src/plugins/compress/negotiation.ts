// Which coding a client gets, by its Accept-Encoding: RFC 9110 section 12.5.3.

export type Encoding = 'br' | 'zstd' | 'gzip';

/** Weights by lower-case coding; what cannot be read is as if it were not there. */
function weights(header: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const element of header.split(',')) {
    const match = /^[ \t]*([!#$%&'*+.^_`|~0-9a-z-]+)[ \t]*(?:;[ \t]*q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)[ \t]*)?$/i.exec(
      element,
    );
    if (match === null) continue;
    const name = match[1].toLowerCase();
    found.set(name === 'x-gzip' ? 'gzip' : name, match[2] === undefined ? 1 : Number(match[2]));
  }
  return found;
}

/**
 * The coding of `offered` that the client likes best; among equals the one that is offered first. Null: it goes as it is, because the client
 * named none of them, or prefers that, or cannot be satisfied.
 */
export function negotiate(header: string | undefined, offered: readonly Encoding[]): Encoding | null {
  if (header === undefined || header === '') return null;
  const asked = weights(header);
  const others = asked.get('*') ?? 0;
  // Said nothing about, `identity` may be used, and nobody prefers it.
  let best = asked.get('identity') ?? 0;
  let chosen: Encoding | null = null;
  for (const encoding of offered) {
    const weight = asked.get(encoding) ?? others;
    if (weight > best || (weight === best && weight > 0 && chosen === null)) {
      best = weight;
      chosen = encoding;
    }
  }
  return chosen;
}
