// The merged config as plain values for validation and resolving, and beside it where each of them was written.
import type { Place } from './model.ts';
import type { Problem } from './problem.ts';
import type { Source, SourceFile, Tree } from './tree.ts';

/** Where one value of the config comes from. Thousands are made for each that anybody asks for its path. */
export class Origin {
  readonly keyPlace: Place;
  readonly #source: Source;
  #above: Origin | null;
  #key: string | number;

  constructor(source: Source, keyPlace: Place, above: Origin | null, key: string | number) {
    this.#source = source;
    this.keyPlace = keyPlace;
    this.#above = above;
    this.#key = key;
  }

  /** The same value, with all that is in it, under another key. */
  moveTo(above: Origin, key: string | number): this {
    this.#above = above;
    this.#key = key;
    return this;
  }

  /** `routes[3].to[0].service`, as the user's file has it. */
  get path(): string {
    return this.#above === null ? '' : pathBelow(this.#above.path, this.#key);
  }

  /** Of the whole config. */
  get isTop(): boolean {
    return this.#above === null;
  }

  get place(): Place {
    return this.#source.place;
  }

  get file(): SourceFile {
    return this.#source.file;
  }

  get variables(): readonly string[] {
    return this.#source.variables;
  }

  get secret(): boolean {
    return this.#source.secret;
  }
}

export function pathBelow(path: string, key: string | number): string {
  if (typeof key === 'number') return `${path}[${key}]`;
  return path === '' ? key : `${path}.${key}`;
}

/** The origins of a config as far as they matter once it is sound. */
export interface OriginLookup {
  child(container: object, key: string | number): Pick<Origin, 'place' | 'variables' | 'secret'> | undefined;
}

export type Json = Record<string, unknown>;

interface Container {
  readonly origin: Origin;
  /** By key; for lists in step with the items. */
  readonly children: Children;
}

export type Children = Map<string, Origin> | Origin[];

const NO_CHILDREN: Children = [];

/** A map without inherited names. `Object.create(null)` makes one that the engine keeps as a hash table: slower to build, to walk and to send. */
class Bare {
  [key: string]: unknown;
}
Object.setPrototypeOf(Bare.prototype, null);
delete (Bare.prototype as { constructor?: unknown }).constructor;
Object.freeze(Bare.prototype);

class Given {
  constructor(container: object) {
    // biome-ignore lint/correctness/noConstructorReturn: so a subclass puts its private field on an object that is there already.
    return container;
  }
}

/** Marks a container where it lies: a `Map` of hundreds of thousands of objects misses the processor's caches at each look-up. */
class Mark extends Given {
  #marked: Container;

  private constructor(container: object, marked: Container) {
    super(container);
    this.#marked = marked;
  }

  static put(container: object, marked: Container): void {
    if (#marked in container) container.#marked = marked;
    else new Mark(container, marked);
  }

  static of(container: object): Container | undefined {
    return #marked in container ? container.#marked : undefined;
  }
}

/** Knows the origin of every value that a user wrote; what defaults filled in has none. */
export class Origins {
  readonly #faults: Problem[] = [];
  readonly #secrets: unknown[] = [];
  readonly #known: readonly ({ readonly plain: object } | null)[];

  /** `known`: routes that are plain already, by index. */
  constructor(known: readonly ({ readonly plain: object } | null)[] = []) {
    this.#known = known;
  }

  /** References that could not be filled, by now with their paths. */
  get faults(): readonly Problem[] {
    return this.#faults;
  }

  /** Values that hold a file's content, or a variable whose name says that it is secret. */
  get secrets(): readonly unknown[] {
    return this.#secrets;
  }

  /** Of a map or list; undefined for one that a default brought in. */
  of(container: object): Origin | undefined {
    return Mark.of(container)?.origin;
  }

  /** Of one value inside a map or list. */
  child(container: object, key: string | number): Origin | undefined {
    const children = Mark.of(container)?.children;
    return children instanceof Map ? children.get(String(key)) : children?.[Number(key)];
  }

  /** Of all values inside a map or list; none of one that a default brought in. */
  childrenOf(container: object): Children {
    return Mark.of(container)?.children ?? NO_CHILDREN;
  }

  /** The items of a list that are wanted, as a list of its own; each keeps its origin. */
  some(list: unknown[], wanted: (index: number) => boolean): unknown[] {
    const children = Mark.of(list)?.children;
    const items = list.filter((_item, index) => wanted(index));
    const origin = this.of(list);
    if (origin !== undefined && Array.isArray(children))
      Mark.put(items, { origin, children: children.filter((_child, index) => wanted(index)) });
    return items;
  }

  /** Takes one value out, so that the rest can still be checked. */
  remove(container: object, key: string | number): void {
    const children = Mark.of(container)?.children;
    if (Array.isArray(container)) {
      container.splice(Number(key), 1);
      if (Array.isArray(children)) children.splice(Number(key), 1);
    } else {
      delete (container as Json)[String(key)];
      if (children instanceof Map) children.delete(String(key));
    }
  }

  /** Gives one value another key; it keeps the place where it was written. */
  rename(container: Json, from: string, to: string): void {
    const children = Mark.of(container)?.children as Map<string, Origin> | undefined;
    const origin = children?.get(from);
    container[to] = container[from];
    delete container[from];
    children?.delete(from);
    if (origin !== undefined) children?.set(to, origin);
  }

  /** Says that `container` is the long form of what stands at `origin`: `10.0.0.5:3000` → `{ address: 10.0.0.5:3000 }`. */
  expand<T extends object>(container: T, origin: Origin | undefined): T {
    if (origin === undefined) return container;
    const children = Array.isArray(container)
      ? container.map(() => origin)
      : new Map(Object.keys(container).map((key) => [key, origin] as const));
    Mark.put(container, { origin, children });
    return container;
  }

  /** Plain values of a tree. Empty values (`cert: `) mean that the key was not given; inside plugin options null stays null. */
  plain(tree: Tree): unknown {
    return this.#build(tree, new Origin(tree.source, tree.source.place, null, ''), 'config');
  }

  #build(tree: Tree, origin: Origin, part: Part): unknown {
    const { place, faults, secret } = tree.source;
    for (const message of faults) this.#faults.push({ severity: 'error', place, path: origin.path, message });
    if (tree.kind === 'leaf') {
      if (secret) this.#secrets.push(tree.value);
      return tree.value;
    }
    if (tree.kind === 'list') {
      const known = part === 'routes' ? this.#known : [];
      const children = tree.items.map((item, index) => {
        const before = known[index];
        const moved = before == null ? undefined : this.of(before.plain)?.moveTo(origin, index);
        return moved ?? new Origin(item.source, item.source.place, origin, index);
      });
      const value = tree.items.map(
        (item, index) => known[index]?.plain ?? this.#build(item, children[index], part === 'routes' ? 'config' : part),
      );
      Mark.put(value, { origin, children });
      return value;
    }
    const value = new Bare();
    const children = new Map<string, Origin>();
    const isTop = origin.isTop;
    for (const [name, entry] of tree.entries) {
      if (part !== 'options' && part !== 'named' && entry.value.kind === 'leaf' && entry.value.value === null) continue;
      const below = new Origin(entry.value.source, entry.keyPlace, origin, name);
      const inner = this.#build(entry.value, below, partBelow(part, isTop, name));
      // A name alone (`orders:`) is that thing with nothing said about it.
      value[name] = part === 'named' && inner === null ? this.expand(new Bare(), below) : inner;
      children.set(name, below);
    }
    Mark.put(value, { origin, children });
    return value;
  }
}

type Part = 'config' | 'named' | 'routes' | 'options';

function partBelow(part: Part, isTop: boolean, name: string): Part {
  if (part === 'named' || part === 'routes') return 'config';
  if (part === 'options' || (name === 'plugins' && !isTop)) return 'options';
  if (isTop && name === 'routes') return 'routes';
  return isTop && (name === 'gateways' || name === 'services') ? 'named' : 'config';
}
