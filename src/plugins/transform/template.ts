// Templates of `transform`: text with `{{placeholders}}` for facts of a request, looked up and never run.
import type { FastifyRequest } from 'fastify';
import { cookieValue } from '../../http/cookies.ts';
import { queryValues } from '../../http/query.ts';

export interface Context {
  readonly request: FastifyRequest;
  /** Of the answer; null while there is none. */
  readonly status: number | null;
}

/** Undefined: there is no such fact. */
type Fact = (context: Context) => unknown;

export type Template = (context: Context) => unknown;

const PLACEHOLDER = /\{\{([^{}]*)\}\}/g;

const PLAIN: Readonly<Record<string, Fact>> = {
  method: ({ request }) => request.method,
  host: ({ request }) => request.selvedge.host,
  path: ({ request }) => request.selvedge.path,
  scheme: ({ request }) => request.selvedge.scheme,
  route: ({ request }) => request.selvedge.route?.name,
  service: ({ request }) => request.selvedge.service ?? undefined,
  clientAddress: ({ request }) => request.selvedge.clientAddress,
  requestId: ({ request }) => request.selvedge.id,
  peer: ({ request }) => request.selvedge.peer?.id,
};

const NAMED: Readonly<Record<string, (name: string) => Fact>> = {
  header: (name) => {
    const lower = name.toLowerCase();
    return ({ request: { headers } }) =>
      Object.hasOwn(headers, lower) ? [headers[lower]].flat().join(', ') : undefined;
  },
  query:
    (name) =>
    ({ request }) =>
      queryValues(request.selvedge.query, name)[0],
  cookie:
    (name) =>
    ({ request }) =>
      cookieValue(request.headers.cookie, name) ?? undefined,
  claims:
    (name) =>
    ({ request }) =>
      claimOf((request as { user?: unknown }).user, name),
};

/** A claim by its whole name, which may have dots, else by a path of names. */
function claimOf(claims: unknown, name: string): unknown {
  const own = (value: unknown, key: string): unknown =>
    typeof value === 'object' && value !== null && Object.hasOwn(value, key)
      ? (value as Record<string, unknown>)[key]
      : undefined;
  return own(claims, name) ?? name.split('.').reduce(own, claims);
}

function factOf(written: string, side: 'request' | 'response'): Fact | null {
  const name = written.trim();
  if (name === 'status' && side === 'response') return ({ status }) => status ?? undefined;
  if (Object.hasOwn(PLAIN, name)) return PLAIN[name];
  const dot = name.indexOf('.');
  const kind = name.slice(0, Math.max(dot, 0));
  return Object.hasOwn(NAMED, kind) && dot < name.length - 1 ? NAMED[kind](name.slice(dot + 1)) : null;
}

/** Why a template cannot be used; null: it can. */
export function templateProblem(template: string, side: 'request' | 'response'): string | null {
  for (const [whole, inner] of template.matchAll(PLACEHOLDER)) {
    if (factOf(inner, side) !== null) continue;
    const known = [...Object.keys(PLAIN), ...(side === 'response' ? ['status'] : [])];
    return `${whole} is not known: there are ${known.join(', ')}, header.NAME, query.NAME, cookie.NAME and claims.NAME`;
  }
  return null;
}

/** Whether a template says who calls. */
export function tellsIdentity(template: string): boolean {
  return /\{\{\s*(?:claims\.|peer\b)/.test(template);
}

/**
 * A template that is one placeholder is the fact itself, a list of claims included, and undefined where there is none. In longer text what is
 * missing is left out.
 */
export function compileTemplate(template: string, side: 'request' | 'response'): Template {
  const parts = template.split(PLACEHOLDER);
  const facts = parts.map((part, index) => (index % 2 === 0 ? null : factOf(part, side)));
  if (parts.length === 3 && parts[0] === '' && parts[2] === '') return facts[1] as Fact;
  if (parts.length === 1) return () => template;
  return (context) =>
    parts.map((part, index) => textOf(facts[index] === null ? part : facts[index]?.(context))).join('');
}

/** For any JSON value: the strings in it are templates. */
export function compileValue(value: unknown, side: 'request' | 'response'): Template {
  if (typeof value === 'string') return compileTemplate(value, side);
  if (Array.isArray(value)) {
    const items = value.map((item) => compileValue(item, side));
    return (context) => items.map((item) => item(context) ?? null);
  }
  if (typeof value !== 'object' || value === null) return () => value;
  const entries = Object.entries(value).map(([key, inner]) => [key, compileValue(inner, side)] as const);
  return (context) => Object.fromEntries(entries.map(([key, inner]) => [key, inner(context)]));
}

/** Every template in a JSON value, with its path. */
export function templatesIn(value: unknown, path: string): [path: string, template: string][] {
  if (typeof value === 'string') return [[path, value]];
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    templatesIn(inner, Array.isArray(value) ? `${path}[${key}]` : `${path}.${key}`),
  );
}

export function textOf(fact: unknown): string {
  if (fact === undefined || fact === null) return '';
  return typeof fact === 'object' ? JSON.stringify(fact) : String(fact);
}

/** What no header may carry, line breaks above all, as UTF-8 escapes; no space around it. */
export function headerValue(fact: unknown): string {
  return textOf(fact)
    .replace(/[^\t\x20-\x7e]+/g, (run) => escapeBytes(run))
    .trim();
}

function escapeBytes(run: string): string {
  return [...Buffer.from(run)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join('');
}
