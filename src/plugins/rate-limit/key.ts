// Whose account a request is charged to: what of the request makes the key, as bounded text.
import { createHash } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import type { Static } from 'typebox';
import { plainAddress } from '../../http/address.ts';
import { cookieValue } from '../../http/cookies.ts';
import { Type } from '../../plugin.ts';

const Part = Type.Union([
  Type.Literal('clientAddress'),
  Type.Literal('peer'),
  Type.Literal('route'),
  Type.Object({ header: Type.String({ minLength: 1 }) }),
  Type.Object({ cookie: Type.String({ minLength: 1 }) }),
  Type.Object({ claim: Type.String({ minLength: 1 }) }),
]);

export type KeyPart = Static<typeof Part>;
export type WrittenKey = KeyPart | readonly KeyPart[];
export type ReadKey = (request: FastifyRequest) => string;

export function keySchema(description: string, fallback?: WrittenKey) {
  return Type.Union([Part, Type.Array(Part, { minItems: 1, maxItems: 8 })], {
    description,
    ...(fallback === undefined ? {} : { default: fallback }),
  });
}

/** Longer keys are kept as their hash, so that a client does not choose how much memory one takes. */
const MAX_KEY = 64;

/** Claims are known only once whatever verifies them has run. */
export function needsClaims(key: WrittenKey): boolean {
  return partsOf(key).some((part) => typeof part === 'object' && 'claim' in part);
}

export function keyReader(key: WrittenKey): ReadKey {
  const parts = partsOf(key).map(partReader);
  // As JSON, so that no value can pose as two.
  const read: ReadKey = parts.length === 1 ? parts[0] : (request) => JSON.stringify(parts.map((part) => part(request)));
  return (request) => {
    const text = read(request);
    return text.length <= MAX_KEY ? text : `#${createHash('sha256').update(text).digest('base64url')}`;
  };
}

export function partsOf(key: WrittenKey): readonly KeyPart[] {
  return (Array.isArray(key) ? key : [key]) as readonly KeyPart[];
}

/** A request without the header, cookie, claim or certificate goes by its address; a mark keeps values and addresses apart. */
function partReader(part: KeyPart): ReadKey {
  if (part === 'clientAddress') return addressKey;
  if (part === 'route') return (request) => `r=${request.selvedge.route?.name ?? ''}`;
  const read = valueReader(part);
  return (request) => {
    const value = read(request);
    return value === null ? addressKey(request) : `v=${value}`;
  };
}

function valueReader(part: Exclude<KeyPart, 'clientAddress' | 'route'>): (request: FastifyRequest) => string | null {
  if (part === 'peer') return (request) => request.selvedge.peer?.id ?? null;
  if ('cookie' in part) return (request) => cookieValue(request.headers.cookie, part.cookie);
  if ('claim' in part) return claimReader(part.claim);
  const name = part.header.toLowerCase();
  return ({ headers }) => {
    const value = headers[name];
    if (typeof value === 'string') return value;
    // A name such as `constructor` finds something inherited that is no header.
    return Array.isArray(value) ? value.join(', ') : null;
  };
}

/** A claim of exactly that name comes first: names may hold dots (`https://example.com/group`). */
function claimReader(claim: string): (request: FastifyRequest) => string | null {
  const path = claim.split('.');
  return (request) => {
    const { user } = request as { readonly user?: unknown };
    const whole = own(user, claim);
    const value = whole === undefined ? path.reduce(own, user) : whole;
    if (typeof value === 'string') return value;
    return value === undefined || value === null ? null : JSON.stringify(value);
  };
}

function own(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Readonly<Record<string, unknown>>)[name]
    : undefined;
}

function addressKey(request: FastifyRequest): string {
  return `a=${clientNetwork(request.selvedge.clientAddress)}`;
}

const GROUPS = 8;
const OF_NETWORK = 4;

/**
 * An IPv4 address as it is, an IPv6 address as its /64: that is what one subscriber is given (RFC 6177), and who has 2^64 addresses
 * would otherwise have as many accounts.
 */
export function clientNetwork(address: string): string {
  const plain = plainAddress(address);
  if (!plain.includes(':')) return plain;
  const [left, right] = plain.split('%')[0].split('::');
  const head = left === '' ? [] : left.split(':');
  const tail = right === undefined || right === '' ? [] : right.split(':');
  // An embedded IPv4 address stands for two groups.
  const tailGroups = tail.length + (tail.at(-1)?.includes('.') === true ? 1 : 0);
  const zeros = right === undefined ? 0 : Math.max(0, GROUPS - head.length - tailGroups);
  const groups = [...head, ...Array<string>(zeros).fill('0'), ...tail].slice(0, OF_NETWORK);
  return `${groups.map((group) => Number.parseInt(group, 16).toString(16)).join(':')}::/64`;
}
