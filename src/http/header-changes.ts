// What a route or plugin changes about headers: applied to the request before it leaves, to the reply before it is sent.
import type { FastifyReply } from 'fastify';

/** Gateway API HTTPHeaderFilter; names lower-case. Order: remove, set, add. */
export interface HeaderChanges {
  readonly set: Readonly<Record<string, string>>;
  readonly add: Readonly<Record<string, string>>;
  readonly remove: readonly string[];
}

/** Framing and connection management belong to the proxy: RFC 9110 section 7.6.1, RFC 9112 section 6. */
const FRAMING: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'http2-settings',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** RFC 9110 section 5.1. */
const FIELD_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/;
/** RFC 9110 section 5.5, what Node lets pass: no controls but tab, nothing above latin1, no space around it. */
const FIELD_VALUE = /^(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$/;

/** Mutates `headers`, the request's own record as Node and Fastify have it. */
export function applyToRequest(changes: HeaderChanges, headers: Record<string, string | string[] | undefined>): void {
  for (const name of changes.remove) delete headers[name];
  for (const name in changes.set) headers[name] = changes.set[name];
  for (const name in changes.add) {
    const before = Object.hasOwn(headers, name) ? headers[name] : undefined;
    const value = changes.add[name];
    if (before === undefined) headers[name] = value;
    // One Cookie line at most: RFC 6265 section 5.4.
    else if (name === 'cookie') headers[name] = `${String(before)}; ${value}`;
    else headers[name] = typeof before === 'string' ? [before, value] : [...before, value];
  }
}

/** Call it once the upstream's headers lie on the reply: in `onSend`, or later. */
export function applyToReply(changes: HeaderChanges, reply: FastifyReply): void {
  for (const name of changes.remove) reply.removeHeader(name);
  for (const name in changes.set) {
    // Fastify appends to set-cookie where it replaces every other header.
    if (name === 'set-cookie') reply.removeHeader(name);
    reply.header(name, changes.set[name]);
  }
  for (const name in changes.add) {
    const before = reply.getHeader(name);
    const value = changes.add[name];
    if (before === undefined || name === 'set-cookie') reply.header(name, value);
    else reply.header(name, [before, value].flat().map(String));
  }
}

export interface WrittenChanges {
  readonly set?: Readonly<Record<string, string>>;
  readonly add?: Readonly<Record<string, string>>;
  readonly remove?: readonly string[];
}

/** As a user wrote them, with whatever case and omissions: names lower-cased, missing parts empty. */
export function headerChanges({ set = {}, add = {}, remove = [] }: WrittenChanges): HeaderChanges {
  return { set: lowerNames(set), add: lowerNames(add), remove: remove.map((name) => name.toLowerCase()) };
}

/** What is wrong with changes as a user wrote them: forbidden or malformed names, malformed values, one name twice. */
export function headerChangeProblems(
  { set = {}, add = {}, remove = [] }: WrittenChanges,
  side: 'request' | 'response',
): { path: string; message: string }[] {
  const problems: { path: string; message: string }[] = [];
  const checkName = (path: string, name: string): void => {
    const lower = name.toLowerCase();
    if (!FIELD_NAME.test(name)) problems.push({ path, message: `"${name}" is not a header name` });
    else if (FRAMING.has(lower))
      problems.push({ path, message: `"${lower}" belongs to the connection and is set by Selvedge` });
    else if (lower === 'host' && side === 'request') {
      problems.push({ path, message: '"host" is set by Selvedge: use rewrite.host in the route' });
    }
  };
  for (const [kind, values] of [
    ['set', set],
    ['add', add],
  ] as const) {
    const seen = new Set<string>();
    for (const [name, value] of Object.entries(values)) {
      const path = `${kind}.${name}`;
      checkName(path, name);
      if (!FIELD_VALUE.test(value)) {
        problems.push({
          path,
          message: 'a header value has no line breaks, control characters, characters above latin1 or space around it',
        });
      }
      if (seen.has(name.toLowerCase())) problems.push({ path, message: `"${name.toLowerCase()}" stands here twice` });
      seen.add(name.toLowerCase());
    }
  }
  for (const [index, name] of remove.entries()) checkName(`remove[${index}]`, name);
  return problems;
}

function lowerNames(record: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name.toLowerCase(), value]));
}
