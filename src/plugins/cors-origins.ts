// Which origins the cors plugin lets in, and what is wrong with those that a config lists.
import { RE2JS } from 're2js';
import type { Static } from 'typebox';
import { type OptionProblem, Type } from '../plugin.ts';

export const Origin = Type.Union([Type.String(), Type.Object({ regex: Type.String() })]);
type Origins = readonly Static<typeof Origin>[];

/** As browsers serialise an origin; one `*.` may stand before the host. Longer ones are looked at no further. */
const ORIGIN = /^[a-z][a-z0-9+.-]*:\/\/(?:\*\.)?(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::\d{1,5})?$/;
const MAX_ORIGIN = 512;
const DEFAULT_PORT = /^http:.*:80$|^https:.*:443$/;
/** No page comes from there; who lets it in lets everybody in. */
const STRANGERS = ['https://selvedge-check.invalid', 'http://selvedge-check.invalid', 'https://1-2.invalid:4711'];
/** A whole top-level domain, but for the machine's own names. */
const ANYBODY_BELOW = /^[a-z0-9+.-]+:\/\/\*\.(?!localhost)[a-z0-9_-]+(?::\d+)?$/;

export function originTest(origins: Origins): (origin: string) => boolean {
  if (origins.includes('*')) return () => true;
  const exact = new Set<string>();
  const below: { readonly scheme: string; readonly end: string }[] = [];
  const regexes: RE2JS[] = [];
  for (const origin of origins) {
    if (typeof origin !== 'string') regexes.push(RE2JS.compile(origin.regex));
    else if (origin.includes('*')) {
      const [scheme, end] = origin.split('*');
      below.push({ scheme, end });
    } else exact.add(origin);
  }
  return (origin) => {
    if (exact.has(origin)) return true;
    // `null` is every sandboxed frame and every local file.
    if (origin.length > MAX_ORIGIN || !ORIGIN.test(origin) || origin.includes('*')) return false;
    // Between scheme and end there is at least one character, which the grammar makes a label.
    const isBelow = below.some(
      ({ scheme, end }) =>
        origin.length > scheme.length + end.length && origin.startsWith(scheme) && origin.endsWith(end),
    );
    return isBelow || regexes.some((regex) => regex.matches(origin));
  };
}

export function originProblems(origins: Origins, credentials: boolean): OptionProblem[] {
  return origins.flatMap((origin, index) => {
    const isText = typeof origin === 'string';
    const message = isText
      ? originProblem(origin, credentials, origins.length)
      : regexProblem(origin.regex, credentials);
    return message === null ? [] : [{ path: `origins[${index}]${isText ? '' : '.regex'}`, message }];
  });
}

function originProblem(origin: string, credentials: boolean, count: number): string | null {
  if (origin === '*') {
    if (credentials) return '"*" with "credentials" would let every page act as its visitor: list the origins';
    return count > 1 ? '"*" lets every origin in: leave the others out' : null;
  }
  if (origin === 'null')
    return '"null" is the origin of every sandboxed frame and local file: it cannot be told from a stranger';
  if (!ORIGIN.test(origin) || origin.length > MAX_ORIGIN)
    return `"${origin}" is not an origin: scheme, host and port as browsers send them, in lower case and without a path, such as https://app.example.com or https://*.example.com`;
  if (credentials && ANYBODY_BELOW.test(origin))
    return `"${origin}" lets anybody in who has a domain there, which with "credentials" would let his pages act as their visitors`;
  return DEFAULT_PORT.test(origin) ? 'browsers leave the default port out: it would never match' : null;
}

function regexProblem(source: string, credentials: boolean): string | null {
  try {
    const regex = RE2JS.compile(source);
    if (credentials && STRANGERS.some((stranger) => regex.matches(stranger)))
      return 'lets every origin in, which with "credentials" would let every page act as its visitor';
    return null;
  } catch (error) {
    return `is not a regular expression of RE2: ${(error as Error).message}`;
  }
}
