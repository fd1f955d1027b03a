// Headers that speak of a body, and are no longer true once it is another.
import type { ResponseHeaders } from '../plugin.ts';

export const OF_THE_OLD_BODY: readonly string[] = ['content-md5', 'digest', 'content-digest', 'repr-digest'];

/** @param headers flat: name, value, name, value … */
export function without(headers: readonly string[], names: readonly string[]): string[] {
  return headers.filter((_, index) => !names.includes(headers[index - (index % 2)].toLowerCase()));
}

export function forgetOldBody(headers: ResponseHeaders): void {
  for (const name of [...OF_THE_OLD_BODY, 'content-length', 'etag', 'accept-ranges']) delete headers[name];
}
