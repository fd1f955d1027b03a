// Whose account a request is charged to: what of the request makes the key, as bounded text.
import { createHash } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Static } from 'typebox';
import { clientNetwork } from '../../http/client-network.ts';
import { cookieValue } from '../../http/cookies.ts';
import { Type } from '../../plugin.ts';

const Part = Type.Union([
  Type.Literal('clientAddress'),
  Type.Literal('peer'),
  Type.Literal('apiKey'),
  Type.Literal('route'),
  Type.Object({ header: Type.String({ minLength: 1 }) }),
  Type.Object({ cookie: Type.String({ minLength: 1 }) }),
  Type.Object({ claim: Type.String({ minLength: 1 }) }),
  Type.Object({ plugin: Type.String({ minLength: 1 }) }),
]);

export type KeyPart = Static<typeof Part>;
export type WrittenKey = KeyPart | readonly KeyPart[];
export type ReadKey = (request: FastifyRequest) => string;
/** Null: the request has none. */
type ReadValue = (request: FastifyRequest) => string | null;

export function keySchema(description: string, fallback?: WrittenKey) {
  return Type.Union([Part, Type.Array(Part, { minItems: 1, maxItems: 8 })], {
    description,
    ...(fallback === undefined ? {} : { default: fallback }),
  });
}

/** Longer keys are kept as their hash, so that a client does not choose how much memory one takes. */
const MAX_KEY = 64;

/** Known only once the other plugins have had their turn. */
export function isLate(key: WrittenKey): boolean {
  return partsOf(key).some(
    (part) => part === 'apiKey' || (typeof part === 'object' && ('claim' in part || 'plugin' in part)),
  );
}

/** Names of keys that other plugins of the chain have to make. */
export function pluginKeys(key: WrittenKey): readonly string[] {
  return partsOf(key).flatMap((part) => (typeof part === 'object' && 'plugin' in part ? [part.plugin] : []));
}

export function keyReader(app: FastifyInstance, key: WrittenKey): ReadKey {
  const parts = partsOf(key).map((part) => partReader(app, part));
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

/** A request without the header, cookie, claim, certificate or the like goes by its address; a mark keeps values and addresses apart. */
function partReader(app: FastifyInstance, part: KeyPart): ReadKey {
  if (part === 'clientAddress') return addressKey;
  if (part === 'route') return (request) => `r=${request.selvedge.route?.name ?? ''}`;
  const read = valueReader(app, part);
  return (request) => {
    const value = read(request);
    return value === null ? addressKey(request) : `v=${value}`;
  };
}

function valueReader(app: FastifyInstance, part: Exclude<KeyPart, 'clientAddress' | 'route'>): ReadValue {
  if (part === 'peer') return (request) => request.selvedge.peer?.id ?? null;
  if (part === 'apiKey') return (request) => request.apiKey ?? null;
  if ('plugin' in part) return pluginReader(app, part.plugin);
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

/** Looked up with each request: the plugin that makes it may stand behind. */
function pluginReader(app: FastifyInstance, name: string): ReadValue {
  return (request) => {
    const value: unknown = app.rateLimitKeys.get(name)?.(request) ?? null;
    if (value === null || typeof value === 'string') return value;
    throw new TypeError(`the key "${name}" of a plugin is neither text nor null`);
  };
}

/** A claim of exactly that name comes first: names may hold dots (`https://example.com/group`). */
export function claimReader(claim: string): ReadValue {
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
