// Names of header fields and cookies, and what may be done to headers, checked at their places.
import { headerChangeProblems, headerChanges } from '../http/header-changes.ts';
import type { Cursor } from './cursor.ts';
import type { HeaderChanges } from './model.ts';

/** A token, RFC 9110 section 5.6.2; cookies have the same names (RFC 6265 section 4.1.1). */
export const HEADER_NAME: RegExp = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/;

type WrittenChanges = { set?: Record<string, string>; add?: Record<string, string>; remove?: string[] };

export function resolveHeaderChanges(
  written: Cursor<WrittenChanges> | null,
  side: 'request' | 'response',
): HeaderChanges | null {
  if (written === null) return null;
  for (const { path, message } of headerChangeProblems(written.value, side)) locate(written, path).error(message);
  return headerChanges(written.value);
}

/** Response headers that a route answers with; lower-case names. */
export function resolveHeaders(written: Cursor<Record<string, string>>): Readonly<Record<string, string>> {
  for (const { path, message } of headerChangeProblems({ set: written.value }, 'response')) {
    written.at(path.slice('set.'.length)).error(message);
  }
  return headerChanges({ set: written.value }).set;
}

/** `set.x-a`, `remove[0]`: the key first, the rest is one name or index. */
function locate(changes: Cursor<WrittenChanges>, path: string): Cursor<unknown> {
  const index = /^remove\[(\d+)\]$/.exec(path)?.[1];
  if (index !== undefined) return changes.at('remove').items()[Number(index)];
  const kind = path.startsWith('set.') ? 'set' : 'add';
  return changes
    .at(kind)
    .filled()
    .at(path.slice(kind.length + 1));
}
