// Resolves the conditions of a route: hosts, paths, methods and the values that a request must carry.
import { METHODS } from 'node:http';
import { domainToASCII } from 'node:url';
import { parseHost } from '../http/address.ts';
import { normalizePath } from '../http/path.ts';
import type { CompleteRoute } from './complete.ts';
import type { Cursor } from './cursor.ts';
import { HEADER_NAME } from './header-names.ts';
import type { Match, PathMatch, ValueMatch } from './model.ts';
import { regexProblem } from './regex.ts';
import { didYouMean } from './suggest.ts';

type MatchInput = NonNullable<CompleteRoute['match']>[number];

export function resolveMatch(match: Cursor<MatchInput>, keepEncodedSlashes: boolean): Match {
  return {
    path: resolvePath(match.at('path').filled(), keepEncodedSlashes),
    methods: match.at('methods').items().map(resolveMethod),
    headers: resolveValues(match.at('headers'), 'header'),
    query: resolveValues(match.at('query'), 'query'),
    cookies: resolveValues(match.at('cookies'), 'cookie'),
    at: match.place,
  };
}

export function resolvePath(path: Cursor<NonNullable<MatchInput['path']>>, keepEncodedSlashes: boolean): PathMatch {
  const [[kind, value]] = path.entries() as [[PathMatch['kind'], Cursor<string>]];
  if (kind === 'regex') {
    const problem = regexProblem(value.value);
    if (problem !== null) value.error(`"${value.value}" ${problem}`);
    return { kind, value: value.value };
  }
  const normal = normalizePath(asciiPath(value.value));
  if (normal === null) {
    value.error(`"${value.value}" is not a path: it begins with "/" and has no "?", "#", space or broken escape`);
    return { kind, value: '/' };
  }
  if (normal.encodedSlash && !keepEncodedSlashes) {
    value.error(`"${value.value}" has an encoded slash, which only a route with "encodedSlashes: keep" lets through`);
  }
  const trimmed = kind === 'prefix' ? normal.path.replace(/\/$/, '') : normal.path;
  return { kind, value: trimmed === '' ? '/' : trimmed };
}

/** As a browser sends it: everything beyond ASCII percent-encoded as UTF-8. */
function asciiPath(text: string): string {
  return text.replace(/\P{ASCII}+/gu, (part) =>
    [...Buffer.from(part)].map((byte) => `%${byte.toString(16).toUpperCase()}`).join(''),
  );
}

export function resolveMethod(method: Cursor<string>): string {
  const upper = method.value.toUpperCase();
  if (upper === 'CONNECT') method.error('CONNECT asks for a tunnel and never reaches a route');
  else if (!METHODS.includes(method.value)) {
    method.error(
      `"${method.value}" is not a method that HTTP servers of Node read${METHODS.includes(upper) ? `; write "${upper}"` : didYouMean(upper, METHODS)}`,
    );
  }
  return upper;
}

export function resolveValues(
  values: Cursor<MatchInput['headers']>,
  what: 'header' | 'query' | 'cookie' | 'claim',
): ValueMatch[] {
  const seen = new Set<string>();
  return values.entries().map(([written, condition]) => {
    const name = what === 'header' ? written.toLowerCase() : written;
    const free = what === 'query' || what === 'claim';
    if (free ? name === '' : !HEADER_NAME.test(name))
      condition.error(`"${written}" is not the name of a ${what === 'query' ? 'query parameter' : what}`);
    if (seen.has(name)) condition.error(`"${name}" stands here twice: header names have no case`);
    seen.add(name);
    const [[kind, value]] = condition.entries() as [[ValueMatch['kind'], Cursor<unknown>]];
    if (kind === 'regex') {
      const problem = regexProblem(String(value.value));
      if (problem !== null) value.error(`"${String(value.value)}" ${problem}`);
    }
    return { name, kind, value: kind === 'present' || kind === 'absent' ? '' : String(value.value) };
  });
}

/** Lower-case, ASCII, without the trailing dot. */
export function resolveHost(host: Cursor<string>, portsBy: 'listeners' | 'ports' = 'listeners'): string {
  const wildcard = host.value.startsWith('*.');
  const name = wildcard ? host.value.slice(2) : host.value;
  const parsed = parseHost(domainToASCIIOf(name))?.replace(/\.$/, '') ?? null;
  if (parsed === null) host.error(`"${host.value}" ${hostFault(host.value, portsBy)}`);
  return `${wildcard ? '*.' : ''}${parsed ?? name}`;
}

function domainToASCIIOf(name: string): string {
  return /\P{ASCII}/u.test(name) ? domainToASCII(name) : name;
}

function hostFault(host: string, portsBy: string): string {
  if (host === '*') return 'stands for any host: leave "hosts" out instead';
  if (host.includes('*')) return 'is not a host: "*." is possible only as the first label';
  if (/:\d+$/.test(host)) return `is not a host: leave out the port, "${portsBy}" chooses by port`;
  return 'is not a host name';
}
