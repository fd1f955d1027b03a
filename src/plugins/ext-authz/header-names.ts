// Which headers pass between client, authorization service and service: lists of names and beginnings of names.
import { connectionTokens, HOP_BY_HOP } from '../../http/hop-by-hop.ts';
import type { ResponseHeaders } from '../../plugin.ts';

export type Headers = Record<string, string | string[]>;

export type NameTest = (name: string) => boolean;

/** Every name, whatever it is. */
export const ANY: NameTest = () => true;

/** @param patterns names, or beginnings of names that end in `*` */
export function nameTest(patterns: readonly string[]): NameTest {
  const lower = patterns.map((pattern) => pattern.toLowerCase());
  const exact = new Set(lower.filter((pattern) => !pattern.endsWith('*')));
  const beginnings = lower.filter((pattern) => pattern.endsWith('*')).map((pattern) => pattern.slice(0, -1));
  return (name) => exact.has(name) || beginnings.some((beginning) => name.startsWith(beginning));
}

/** Of an answer: never anybody else's. */
const NEVER = /^(?:content-length|trailer|te|via|proxy-.*|x-selvedge-.*)$/;

/** The headers of an answer that pass a test; without what belongs to its connection, which no list can name. */
export function answerHeaders(headers: ResponseHeaders, passes: NameTest): Headers {
  const named = Object.hasOwn(headers, 'connection') ? connectionTokens(String(headers.connection)) : [];
  const passing = Object.entries(headers).filter(
    ([name]) => passes(name) && !HOP_BY_HOP.has(name) && !NEVER.test(name) && !named.includes(name),
  );
  return Object.fromEntries(passing);
}
