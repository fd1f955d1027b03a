// Fills in what the user left out, from the `default` of each key in the schema.
import type { TSchema } from 'typebox';
import type { Json } from './origins.ts';

interface SchemaNode {
  readonly type?: string | readonly string[];
  readonly default?: unknown;
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly patternProperties?: Readonly<Record<string, SchemaNode>>;
  readonly items?: SchemaNode;
  readonly anyOf?: readonly SchemaNode[];
  /** Keys that mean something only beside others. */
  readonly dependencies?: Readonly<Record<string, readonly string[]>>;
}

/** Mutates `value`, which fits the schema with its shorthand written out. What is added has no origin: it is a default. */
export function fillDefaults(schema: TSchema, value: unknown): void {
  fill(schema as SchemaNode, value);
}

function fill(schema: SchemaNode, value: unknown): void {
  if (typeof value !== 'object' || value === null) return;
  const shape = branchFor(schema, value);
  if (Array.isArray(value)) {
    for (const item of value) fill(shape.items ?? {}, item);
    return;
  }
  for (const [key, inner] of propertiesOf(shape)) {
    const container = value as Json;
    const applies = (shape.dependencies?.[key] ?? []).every((other) => other in container);
    if (!(key in container) && inner.default !== undefined && applies) container[key] = copyOf(inner.default);
    fill(inner, container[key]);
  }
  for (const inner of Object.values(shape.patternProperties ?? {})) {
    for (const item of Object.values(value)) fill(inner, item);
  }
}

/** Thousands of values share one schema. */
const properties = new WeakMap<SchemaNode, readonly [string, SchemaNode][]>();

function propertiesOf(schema: SchemaNode): readonly [string, SchemaNode][] {
  let entries = properties.get(schema);
  if (entries === undefined) {
    entries = Object.entries(schema.properties ?? {});
    properties.set(schema, entries);
  }
  return entries;
}

/** Plain data, as schemas hold; `structuredClone` takes ten times as long for the small values that these are. */
function copyOf(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(copyOf);
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, copyOf(inner)]));
}

/** Of a union the alternative that is a list or a map, as the value is; written-out shorthand is always one of those. */
function branchFor(schema: SchemaNode, value: object): SchemaNode {
  if (schema.anyOf === undefined) return schema;
  const type = Array.isArray(value) ? 'array' : 'object';
  const fitting = schema.anyOf.find((branch) => branch.type === type);
  return fitting ?? {};
}
