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
  const { properties, patterns, items } = shapeOf(branchFor(schema, value));
  if (Array.isArray(value)) {
    if (items !== null) for (const item of value) fill(items, item);
    return;
  }
  const container = value as Json;
  for (const { key, schema, beside } of properties) {
    if (
      schema.default !== undefined &&
      !(key in container) &&
      (beside === null || beside.every((other) => other in container))
    )
      container[key] = copyOf(schema.default);
    const inner = container[key];
    if (typeof inner === 'object') fill(schema, inner);
  }
  for (const inner of patterns) for (const item of Object.values(value)) fill(inner, item);
}

interface Shape {
  readonly properties: readonly {
    readonly key: string;
    readonly schema: SchemaNode;
    /** The keys without which this one means nothing. */
    readonly beside: readonly string[] | null;
  }[];
  readonly patterns: readonly SchemaNode[];
  readonly items: SchemaNode | null;
}

/** Thousands of values share one schema. */
const shapes = new WeakMap<SchemaNode, Shape>();

function shapeOf(schema: SchemaNode): Shape {
  let shape = shapes.get(schema);
  if (shape === undefined) {
    const { properties = {}, patternProperties = {}, dependencies = {}, items = null } = schema;
    shape = {
      properties: Object.entries(properties).map(([key, schema]) => ({
        key,
        schema,
        beside: dependencies[key] ?? null,
      })),
      patterns: Object.values(patternProperties),
      items,
    };
    shapes.set(schema, shape);
  }
  return shape;
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
