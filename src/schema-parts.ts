// The vocabulary of the schema: units, names and the shapes that several parts of a config share.
import type { TProperties, TSchema } from 'typebox';
import * as Type from 'typebox/type';
import { UNIT_PATTERNS } from './units.ts';

/** What a key is: its description, how it may look, and its default when it has one. */
export interface Says {
  readonly example?: unknown;
  readonly default?: unknown;
  /** It is never shown; see SECRET. */
  readonly secret?: boolean;
}

/** For what is secret, and for maps and lists of it: `print`, the admin API, problems and logs never show it. */
export const SECRET = { writeOnly: true } as const;

function said(description: string, { example, default: fallback, secret }: Says): Record<string, unknown> {
  return {
    description,
    ...(fallback === undefined ? {} : { default: fallback }),
    ...(example === undefined ? {} : { examples: [example] }),
    ...(secret === true ? SECRET : {}),
  };
}

export function text(
  description: string,
  says: Says & { readonly pattern?: string; readonly expected?: string; readonly minLength?: number } = {},
) {
  const { pattern, expected, minLength } = says;
  return Type.String({
    ...said(description, says),
    ...(pattern === undefined ? {} : { pattern }),
    ...(expected === undefined ? {} : { patternErrorMessage: `must be ${expected}` }),
    ...(minLength === undefined ? {} : { minLength }),
  });
}

export function integer(description: string, says: Says & { readonly minimum: number; readonly maximum?: number }) {
  const { minimum, maximum } = says;
  return Type.Integer({ ...said(description, says), minimum, ...(maximum === undefined ? {} : { maximum }) });
}

/** A bound that may be off. */
export function countOrNone(description: string, says: Says = {}) {
  return Type.Unsafe<number | string>({
    type: ['string', 'integer'],
    pattern: '^(?:none|[1-9]\\d{0,8})$',
    minimum: 1,
    patternErrorMessage: 'must be a whole number from 1 on, or none',
    ...said(description, says),
  });
}

export function flag(description: string, says: Says = {}) {
  return Type.Boolean(said(description, { example: true, ...says }));
}

export function choice<const T extends readonly string[]>(values: T, description: string, says: Says = {}) {
  return Type.Unsafe<T[number]>({
    type: 'string',
    enum: values,
    ...said(description, { example: values[0], ...says }),
  });
}

export function port(description: string, says: Says & { readonly any?: boolean } = {}) {
  return integer(description, { example: 8080, ...says, minimum: says.any === false ? 1 : 0, maximum: 65_535 });
}

export function list<T extends TSchema>(
  items: T,
  description: string,
  says: Says & { readonly minItems?: number } = {},
) {
  return Type.Array(items, {
    ...said(description, says),
    ...(says.minItems === undefined ? {} : { minItems: says.minItems }),
  });
}

/** An object that knows all its keys. `default: {}` makes the defaults of its parts count when it is left out. */
export function object<T extends TProperties>(
  properties: T,
  description: string,
  says: Says & { readonly minProperties?: number; readonly maxProperties?: number } = {},
) {
  const { minProperties, maxProperties } = says;
  return Type.Object(properties, {
    additionalProperties: false,
    ...said(description, says),
    ...(minProperties === undefined ? {} : { minProperties }),
    ...(maxProperties === undefined ? {} : { maxProperties }),
  });
}

/** A map whose keys are names that the user chooses. */
export function named<T extends TSchema>(
  values: T,
  description: string,
  says: Says & { readonly keys?: TSchema } = {},
) {
  return Type.Record(Type.String(), values, {
    ...said(description, says),
    ...(says.keys === undefined ? {} : { propertyNames: says.keys }),
  });
}

const DURATION_EXPECTED = 'a duration such as 250ms, 10s or 5m';

export function duration(description: string, says: Says & { readonly none?: boolean } = {}) {
  return text(says.none === true ? `${description} \`0s\`: none.` : description, {
    example: '10s',
    ...says,
    pattern: UNIT_PATTERNS.duration,
    expected: says.none === true ? `${DURATION_EXPECTED} (0s: none)` : DURATION_EXPECTED,
  });
}

function unit(pattern: string, expected: string, description: string, says: Says) {
  return Type.Unsafe<string | number>({
    type: ['string', 'integer'],
    pattern,
    minimum: 0,
    patternErrorMessage: `must be ${expected}`,
    ...said(description, says),
  });
}

/** A bare number is bytes. */
export function size(description: string, says: Says & { readonly none?: boolean } = {}) {
  const pattern = says.none === true ? `${UNIT_PATTERNS.size}|^none$` : UNIT_PATTERNS.size;
  return unit(pattern, `a size such as 512B, 64KiB or 1MiB${says.none === true ? ', or none' : ''}`, description, {
    example: '1MiB',
    ...says,
  });
}

export function share(description: string, says: Says = {}) {
  return text(description, { example: '20%', ...says, pattern: UNIT_PATTERNS.share, expected: 'a share such as 20%' });
}

export function rate(description: string, says: Says = {}) {
  return unit(`${UNIT_PATTERNS.rate}|^0$`, 'a rate such as 240B/s, or 0', description, { example: '240B/s', ...says });
}

export const NAME = '^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$';
const NAME_EXPECTED = 'a name of 1 to 63 letters, digits, "-", "_" and "."';

export function name(description: string, example: string) {
  return text(description, { example, pattern: NAME, expected: NAME_EXPECTED });
}

export const NAME_KEY = Type.String({ pattern: NAME, patternErrorMessage: `must be ${NAME_EXPECTED}` });
/** Services are found by host name too, and host names have no case. */
export const SERVICE_KEY = Type.String({
  pattern: '^[a-z0-9](?:[a-z0-9_.-]{0,61}[a-z0-9])?$',
  patternErrorMessage: 'must be a name of 1 to 63 lower-case letters, digits, "-", "_" and "."',
});

export const HOST_PORT_EXPECTED = 'host:port, such as 10.0.0.5:3000, orders.internal:80 or [::1]:3000';

const headerValues = (description: string, example: string) =>
  named(Type.String(), description, { default: {}, example: { [example]: 'on' } });

export const headerChanges = (side: string) =>
  object(
    {
      set: Type.Optional(headerValues('Headers that replace what is there.', 'x-tenant')),
      add: Type.Optional(headerValues('Headers that are added to what is there.', 'x-via')),
      remove: Type.Optional(
        list(Type.String(), 'Headers that are taken out; this happens first.', { default: [], example: ['x-debug'] }),
      ),
    },
    `Changes to the headers of the ${side}: remove, then set, then add.`,
    { example: { set: { 'x-tenant': 'acme' } } },
  );

export const rewrite = object(
  {
    prefix: Type.Optional(text('Replaces the prefix that matched.', { example: '/', minLength: 1 })),
    path: Type.Optional(text('Replaces the whole path.', { example: '/health', minLength: 1 })),
    host: Type.Optional(text('Replaces the Host header.', { example: 'orders.internal', minLength: 1 })),
  },
  'What the service gets to see instead of the path and host of the request; `prefix` or `path`, not both.',
  { example: { prefix: '/' } },
);

/** One item of a list of plugins in its long form: the plugin by its name, and whether it is locked. */
export type PluginItem = {
  [name: string]: { [option: string]: unknown } | boolean | null;
} & { locked?: boolean };

const pluginItem = Type.Unsafe<PluginItem>({
  type: 'object',
  properties: {
    locked: flag(
      'Beside a plugin of a gateway or listener: lists further in can neither replace it nor switch it off.',
    ),
  },
  additionalProperties: Type.Union([Type.Object({}, { additionalProperties: true }), Type.Boolean(), Type.Null()]),
  if: { type: 'object', properties: { locked: {} }, required: ['locked'] },
  // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema.
  then: { minProperties: 2, maxProperties: 2 },
  else: { minProperties: 1, maxProperties: 1 },
  description: 'A plugin with options, or `false` to switch an inherited one off.',
});

/** `- cors`, `- rate-limit: { max: 5 }`, `- cors: false`, `- { jwt: { … }, locked: true }`. */
export const plugins = (description: string) =>
  list(
    Type.Union([Type.String({ minLength: 1, description: 'A plugin with its defaults.' }), pluginItem]),
    `${description} A built-in name, a package, or a path that starts with \`./\`, \`../\` or \`/\`.`,
    { default: [], example: ['request-id', { 'body-limit': { max: '1MiB' } }] },
  );
