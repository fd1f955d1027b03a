// Answers from a stored response, as the transport would: the same calls, all at once, because the body is in memory.
import type { DispatchController, DispatchHandler, DispatchOptions, ResponseHeaders } from '../../plugin.ts';
import { sentField } from './directives.ts';
import { ageMs, dateOf } from './freshness.ts';
import type { Entry } from './store.ts';

/** Controls nothing: what it stands for is in memory, or waits for another. */
export class IdleController implements DispatchController {
  paused = false;
  aborted = false;
  reason: Error | null = null;
  rawHeaders: string[] | null = null;
  rawTrailers: string[] | null = null;
  readonly #onAbort: ((reason: Error) => void) | null;

  constructor(onAbort: ((reason: Error) => void) | null = null) {
    this.#onAbort = onAbort;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }

  abort(reason: Error): void {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    this.#onAbort?.(reason);
  }
}

/** @param status what `Cache-Status` says; null: nothing */
export function serve(
  entry: Entry,
  { method, headers }: DispatchOptions,
  handler: DispatchHandler,
  status: string | null,
  now: number,
): void {
  const controller = new IdleController();
  handler.onRequestStart?.(controller, null);
  if (controller.aborted) {
    handler.onResponseError?.(controller, controller.reason as Error);
    return;
  }
  const unchanged = entry.status === 200 && isUnchanged(entry.headers, headers);
  const answer: ResponseHeaders = unchanged ? ofUnchanged(entry.headers) : { ...entry.headers };
  answer.age = String(Math.floor(ageMs(entry.freshness, now) / 1_000));
  if (status !== null) answer['cache-status'] = status;
  const bodiless = unchanged || entry.body.length === 0;
  if (!unchanged && entry.status !== 204) answer['content-length'] = String(entry.body.length);
  handler.onResponseStart?.(controller, unchanged ? 304 : entry.status, answer);
  if (!bodiless && method !== 'HEAD') handler.onResponseData?.(controller, entry.body);
  handler.onResponseEnd?.(controller, {});
}

/** The conditions of the request, RFC 9110 section 13.2.2: If-None-Match comes first and compares weakly. */
function isUnchanged(stored: ResponseHeaders, asked: readonly string[]): boolean {
  const tags = sentField(asked, 'if-none-match');
  if (tags !== undefined) {
    const { etag } = stored;
    if (tags.trim() === '*') return true;
    return typeof etag === 'string' && (tags.match(/(?:W\/)?"[^"]*"/g) ?? []).some((tag) => sameTag(tag, etag));
  }
  const since = sentField(asked, 'if-modified-since');
  const modified = dateOf(stored, 'last-modified');
  if (since === undefined || modified === null) return false;
  const time = dateOf({ since }, 'since');
  return time !== null && modified <= time;
}

/** Weak comparison, RFC 9110 section 8.8.3.2. */
export function sameTag(one: string, other: string): boolean {
  return one.replace(/^W\//, '') === other.replace(/^W\//, '');
}

/** RFC 9110 section 15.4.5. */
const OF_UNCHANGED = ['cache-control', 'content-location', 'date', 'etag', 'expires', 'last-modified', 'vary'];

function ofUnchanged(headers: ResponseHeaders): ResponseHeaders {
  return Object.fromEntries(
    OF_UNCHANGED.flatMap((name) => (headers[name] === undefined ? [] : [[name, headers[name]]])),
  );
}
