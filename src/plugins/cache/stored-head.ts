// Which header fields of a response are kept, and what a 304 changes of them: RFC 9111 sections 3.1 and 3.2.
import { connectionTokens, HOP_BY_HOP } from '../../http/hop-by-hop.ts';
import type { ResponseHeaders } from '../../plugin.ts';
import { fieldOf, sentField } from './directives.ts';
import type { Entry } from './store.ts';

/** Said anew each time. */
const NOT_KEPT = new Set(['age', 'cache-status', 'trailer']);
/** Of the body that is stored, whatever a 304 says. */
const OF_THE_BODY = new Set(['content-length', 'content-encoding', 'content-type', 'content-range']);

export function keptHeaders(headers: ResponseHeaders, respondedAt: number): ResponseHeaders {
  const named = connectionTokens(fieldOf(headers, 'connection') ?? '');
  const kept: ResponseHeaders = { date: new Date(respondedAt).toUTCString() };
  for (const name in headers)
    if (!HOP_BY_HOP.has(name) && !NOT_KEPT.has(name) && !named.includes(name)) kept[name] = headers[name];
  delete kept['content-length'];
  return kept;
}

/** `age` of the 304 counts, that of the stored one does not. */
export function validatedHeaders(stored: ResponseHeaders, told: ResponseHeaders): ResponseHeaders {
  const headers: ResponseHeaders = { ...stored };
  for (const name in told) if (!OF_THE_BODY.has(name)) headers[name] = told[name];
  return headers;
}

/** The request headers that `Vary` names, as they were sent. */
export function variedBy(headers: ResponseHeaders, sent: readonly string[]): Entry['vary'] {
  const names = (fieldOf(headers, 'vary') ?? '').split(',').map((name) => name.trim().toLowerCase());
  return [...new Set(names)]
    .filter((name) => name !== '')
    .sort()
    .map((name) => [name, sentField(sent, name)] as const);
}

const CONDITIONS = ['if-none-match', 'if-modified-since'];

export function isConditional(sent: readonly string[]): boolean {
  return CONDITIONS.some((name) => sentField(sent, name) !== undefined);
}

/** The request with the validators of what is stored in place of the client's; null: there are none. */
export function withValidators(sent: readonly string[], stored: ResponseHeaders): string[] | null {
  const { etag, 'last-modified': modified } = stored;
  if (typeof etag !== 'string' && typeof modified !== 'string') return null;
  const headers: string[] = [];
  for (let i = 0; i < sent.length; i += 2)
    if (!CONDITIONS.includes(sent[i].toLowerCase())) headers.push(sent[i], sent[i + 1]);
  if (typeof etag === 'string') headers.push('if-none-match', etag);
  if (typeof modified === 'string') headers.push('if-modified-since', modified);
  return headers;
}
