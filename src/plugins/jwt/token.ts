// Finds the token in a request: at the one place where the config looks for it, and only if it stands there once.
import type { FastifyRequest } from 'fastify';
import { cookieCount, cookieValue } from '../../http/cookies.ts';
import { Refusal } from './refusal.ts';

/** Characters; what identity providers issue stays below, and hashing more is work for a stranger. */
const MAX_TOKEN = 8 * 1_024;

export interface TokenPlace {
  readonly kind: 'header' | 'cookie' | 'query';
  /** Lower-case for a header. */
  readonly name: string;
}

/** Null: there is none. */
export type FindToken = (request: FastifyRequest) => string | Refusal | null;

export function tokenFinder({ kind, name }: TokenPlace): FindToken {
  const find = kind === 'header' ? inHeader(name) : kind === 'cookie' ? inCookie(name) : inQuery(name);
  return (request) => {
    const found = find(request);
    if (typeof found === 'string' && found.length > MAX_TOKEN)
      return new Refusal('too_large', `the token is longer than ${MAX_TOKEN} characters`);
    return found;
  };
}

/** `Authorization` needs the scheme (RFC 6750 section 2.1); any other header may have it. */
function inHeader(name: string): FindToken {
  const schemeNeeded = name === 'authorization';
  return ({ raw, headers }) => {
    const value = Object.hasOwn(headers, name) ? headers[name] : undefined;
    if (value === undefined) return null;
    // Node keeps the first of two: who stands behind us may read the other.
    if (typeof value !== 'string' || repeated(raw.rawHeaders, name))
      return new Refusal('repeated', `there is more than one ${name} header`);
    const scheme = /^bearer(?: +|$)/i.exec(value);
    if (scheme === null && schemeNeeded) return null;
    const token = value.slice(scheme?.[0].length ?? 0);
    if (token === '' || /[\s,]/.test(token))
      return new Refusal('bad_credentials', `the ${name} header does not hold one token`);
    return token;
  };
}

function repeated(lines: readonly string[], name: string): boolean {
  let seen = 0;
  for (let i = 0; i < lines.length; i += 2)
    if (lines[i].length === name.length && lines[i].toLowerCase() === name) seen++;
  return seen > 1;
}

function inCookie(name: string): FindToken {
  return ({ headers: { cookie } }) => {
    // Services differ in which of two they take.
    if (cookieCount(cookie, name) > 1) return new Refusal('repeated', `there is more than one cookie ${name}`);
    return cookieValue(cookie, name) || null;
  };
}

function inQuery(name: string): FindToken {
  return ({ selvedge: { query } }) => {
    if (query === '') return null;
    const values = new URLSearchParams(query).getAll(name);
    if (values.length > 1) return new Refusal('repeated', `the query has "${name}" more than once`);
    return values[0] || null;
  };
}
