// Lets `{ port: ${PORT} }` be YAML, where the braces of a reference would otherwise begin a map.

export interface Shielded {
  readonly text: string;
  /** Brings back what was swapped, in any string that came out of the parser. */
  readonly show: (text: string) => string;
}

/**
 * Swaps the characters of references that mean something in flow collections for private-use ones of the same length: positions stay.
 * A file that has such characters of its own is left alone, and must quote its references.
 */
export function shieldReferences(text: string): Shielded {
  if (!text.includes('${') || SWAPPED.test(text)) return { text, show: (shown) => shown };
  // A quote ends a quoted value, so it ends the search for the closing brace too.
  const shielded = text.replace(/\$\{[^}\n"']*\}/g, (reference) =>
    reference.replace(/[{}[\],:#]/g, (char) => String.fromCharCode(char.charCodeAt(0) + BASE)),
  );
  return { text: shielded, show };
}

function show(text: string): string {
  if (!SWAPPED.test(text)) return text;
  return text.replace(EVERY_SWAPPED, (char) => String.fromCharCode(char.charCodeAt(0) - BASE));
}

const BASE = 0xf700;
const SWAPPED = /[\uf723\uf72c\uf73a\uf75b\uf75d\uf77b\uf77d]/;
const EVERY_SWAPPED = new RegExp(SWAPPED, 'g');
