// Where a value stands in a schema, and what the schema says of the values below it: worked out once for the thousands that share the place.

/** The part of a JSON Schema that says what lies where. */
export interface SchemaNode {
  readonly writeOnly?: boolean;
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly patternProperties?: Readonly<Record<string, SchemaNode>>;
  readonly additionalProperties?: boolean | SchemaNode;
  readonly items?: SchemaNode;
  readonly anyOf?: readonly SchemaNode[];
  readonly allOf?: readonly SchemaNode[];
  readonly oneOf?: readonly SchemaNode[];
  readonly [keyword: string]: unknown;
}

/** Everything that a value may be held against: alternatives stand beside what they are alternatives of. */
export class Position {
  /** Some of it is `writeOnly`. */
  readonly secret: boolean;
  readonly #nodes: readonly SchemaNode[];
  #items: Position | null = null;
  /** By the keys that the schema names, and beyond those by the patterns that a key meets: bounded by the schema, not by what people write. */
  readonly #named = new Map<string, Position>();
  readonly #others = new Map<string, Position>();
  readonly #patterns: readonly RegExp[];

  constructor(nodes: readonly SchemaNode[]) {
    this.#nodes = nodes.flatMap(withAlternatives);
    this.secret = this.#nodes.some(({ writeOnly }) => writeOnly === true);
    const patterns = this.#nodes.flatMap(({ patternProperties = {} }) => Object.keys(patternProperties));
    this.#patterns = [...new Set(patterns)].map((pattern) => new RegExp(pattern));
  }

  /** Of the items of a list. */
  items(): Position {
    this.#items ??= position(this.#nodes.flatMap(({ items }) => (items === undefined ? [] : [items])));
    return this.#items;
  }

  /** Of the value that a map has at a key. */
  at(key: string): Position {
    if (this.#nodes.length === 0) return NOWHERE;
    const named = this.#named.get(key);
    if (named !== undefined) return named;
    const isNamed = this.#nodes.some(({ properties = {} }) => Object.hasOwn(properties, key));
    const [known, under] = isNamed ? [this.#named, key] : [this.#others, this.#met(key)];
    let below = known.get(under);
    if (below === undefined) {
      below = position(this.#nodes.flatMap((node) => nodesAt(node, key)));
      known.set(under, below);
    }
    return below;
  }

  #met(key: string): string {
    return this.#patterns.map((pattern) => (pattern.test(key) ? '1' : '0')).join('');
  }
}

/** Of what no schema describes. */
export const NOWHERE = new Position([]);

const roots = new WeakMap<SchemaNode, Position>();

/** Of a value that is held against the whole schema. */
export function positionOf(schema: SchemaNode): Position {
  let root = roots.get(schema);
  if (root === undefined) {
    root = new Position([schema]);
    roots.set(schema, root);
  }
  return root;
}

function position(nodes: readonly SchemaNode[]): Position {
  return nodes.length === 0 ? NOWHERE : new Position(nodes);
}

function withAlternatives(node: SchemaNode): SchemaNode[] {
  const { anyOf = [], allOf = [], oneOf = [] } = node;
  return [node, ...[...anyOf, ...allOf, ...oneOf].flatMap(withAlternatives)];
}

function nodesAt(
  { properties = {}, patternProperties = {}, additionalProperties }: SchemaNode,
  key: string,
): SchemaNode[] {
  if (Object.hasOwn(properties, key)) return [properties[key]];
  const matching = Object.entries(patternProperties).filter(([pattern]) => new RegExp(pattern).test(key));
  const rest = typeof additionalProperties === 'object' ? [additionalProperties] : [];
  return [...matching.map(([, schema]) => schema), ...rest];
}
