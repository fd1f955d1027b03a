// The conditions of one authorization rule, compiled: each says whether a request meets it, and for people what it wanted and what it got.
import { RE2JS } from 're2js';
import { AddressSet, isCidr } from '../http/address.ts';
import type { AuthorizationConditions, AuthorizedRequest, PathPattern, ValuePattern } from './authorization-rules.ts';

export interface Condition {
  /** Null: the request lacks what the condition is about. */
  readonly test: (request: AuthorizedRequest) => boolean | null;
  /** `method: wanted GET or HEAD, got POST`. */
  readonly explain: (request: AuthorizedRequest) => string;
}

/** The cheap ones first. An absent list is no condition; an empty one is met by nothing. */
export function compileConditions(written: AuthorizationConditions): readonly Condition[] {
  const { methods, from, hosts, paths, headers, clientAddress, claims } = written;
  return [
    ...(methods === null ? [] : [methodCondition(methods)]),
    ...(from === null ? [] : [callerCondition(from)]),
    ...(hosts === null ? [] : [hostCondition(hosts)]),
    ...(paths === null ? [] : [pathCondition(paths)]),
    ...headers.map((pattern) => valueCondition('header', pattern, ({ headers }) => headerValue(headers[pattern.name]))),
    ...(clientAddress === null ? [] : [addressCondition(clientAddress)]),
    ...claims.map((pattern) => {
      const read = claimReader(pattern.name);
      return valueCondition('claim', pattern, ({ claims }) => read(claims));
    }),
  ];
}

function methodCondition(methods: readonly string[]): Condition {
  return {
    test: ({ method }) => methods.includes(method),
    explain: ({ method }) => `method: wanted ${anyOf(methods)}, got ${method}`,
  };
}

/** `spiffe://shop.internal/service/cart`, or everything below with `/*`. */
export function callerHolds(pattern: string, id: string): boolean {
  return pattern.endsWith('/*') ? id.startsWith(pattern.slice(0, -1)) : id === pattern;
}

/** A peer without a trust domain has a common name, which anybody's CA may have made look like an id. */
function callerCondition(from: readonly string[]): Condition {
  return {
    test: ({ peer }) =>
      peer === null || peer.trustDomain === null ? null : from.some((pattern) => callerHolds(pattern, peer.id)),
    explain: ({ peer }) => `from: wanted ${anyOf(from)}, got ${peer === null ? 'no identity' : peer.id}`,
  };
}

/** `*.a.b` stands for one or more labels before `a.b`, as in routes. */
export function hostHolds(pattern: string, host: string): boolean {
  if (!pattern.startsWith('*.')) return pattern === host;
  return host.length >= pattern.length && host.endsWith(pattern.slice(1));
}

function hostCondition(hosts: readonly string[]): Condition {
  return {
    test: ({ host }) => (host === '' ? null : hosts.some((pattern) => hostHolds(pattern, host))),
    explain: ({ host }) => `host: wanted ${anyOf(hosts)}, got ${host || 'none'}`,
  };
}

function pathCondition(paths: readonly PathPattern[]): Condition {
  const tests = paths.map(pathTest);
  const wanted = anyOf(paths.map(({ kind, value }) => `${kind} ${JSON.stringify(value)}`));
  return {
    test: ({ path }) => tests.some((holds) => holds(path)),
    explain: ({ path }) => `path: wanted ${wanted}, got ${JSON.stringify(path)}`,
  };
}

function pathTest({ kind, value }: PathPattern): (path: string) => boolean {
  if (kind === 'exact') return (path) => path === value;
  if (kind === 'prefix') return (path) => prefixHolds(value, path);
  const regex = RE2JS.compile(value);
  return (path) => regex.testExact(path);
}

/** By whole segments: `/orders` holds for `/orders/1`, never for `/orders2`. */
export function prefixHolds(prefix: string, path: string): boolean {
  if (prefix === '/' || path === prefix) return path.startsWith('/');
  return path.startsWith(prefix) && path.charCodeAt(prefix.length) === 0x2f;
}

function addressCondition(networks: readonly string[]): Condition {
  const set = new AddressSet(networks);
  return {
    test: ({ clientAddress }) => (isCidr(clientAddress) ? set.has(clientAddress) : null),
    explain: ({ clientAddress }) => `clientAddress: wanted ${anyOf(networks)}, got ${clientAddress || 'none'}`,
  };
}

/** Undefined: there is none. */
type Read = (request: AuthorizedRequest) => string | readonly string[] | undefined;

function valueCondition(what: string, pattern: ValuePattern, read: Read): Condition {
  const { name, kind, value } = pattern;
  const accepts = valueTest(pattern);
  const wanted = kind === 'present' || kind === 'absent' ? kind : `${kind} ${JSON.stringify(value)}`;
  return {
    test: (request) => {
      const given = read(request);
      if (kind === 'absent') return given === undefined;
      if (kind === 'present') return given !== undefined;
      if (given === undefined) return null;
      return typeof given === 'string' ? accepts(given) : given.some(accepts);
    },
    explain: (request) => {
      const given = read(request);
      return `${what} ${name}: wanted ${wanted}, got ${given === undefined ? 'none' : JSON.stringify(given)}`;
    },
  };
}

function valueTest({ kind, value }: ValuePattern): (given: string) => boolean {
  if (kind === 'exact') return (given) => given === value;
  if (kind === 'prefix') return (given) => given.startsWith(value);
  if (kind !== 'regex') return () => true;
  const regex = RE2JS.compile(value);
  return (given) => regex.testExact(given);
}

/** Repeated lines joined, RFC 9110 section 5.3. */
function headerValue(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  // A name such as `constructor` finds something inherited that is no header.
  return Array.isArray(value) ? value.join(', ') : undefined;
}

/** A claim of exactly that name comes first: names may hold dots (`https://example.com/group`). Null and empty lists are no claim. */
export function claimReader(name: string): (claims: unknown) => ReturnType<Read> {
  const path = name.split('.');
  return (claims) => {
    const whole = own(claims, name);
    return texts(whole === undefined ? path.reduce(own, claims) : whole);
  };
}

function own(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Readonly<Record<string, unknown>>)[name]
    : undefined;
}

function texts(value: unknown): string | readonly string[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (Array.isArray(value)) return value.length === 0 ? undefined : value.flatMap((item) => scalar(item) ?? []);
  return scalar(value) ?? [];
}

function scalar(value: unknown): string | null {
  if (typeof value === 'string') return value;
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : null;
}

function anyOf(list: readonly string[]): string {
  return list.length === 0 ? 'nothing' : list.join(' or ');
}
