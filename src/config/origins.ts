// The merged config as plain values for validation and resolving, and beside it where each of them was written.
import type { Place } from './model.ts';
import type { Problem } from './problem.ts';
import type { Source, Tree } from './tree.ts';

/** Where one value of the config comes from. */
export interface Origin extends Source {
  /** `routes[3].to[0].service`, as the user's file has it. */
  readonly path: string;
  readonly keyPlace: Place;
}

/** The origins of a config as far as they matter once it is sound. */
export interface OriginLookup {
  child(container: object, key: string | number): Pick<Origin, 'place' | 'variables' | 'secret'> | undefined;
}

export type Json = Record<string, unknown>;

interface Container {
  readonly origin: Origin;
  /** By key; for lists in step with the items. */
  readonly children: Map<string, Origin> | Origin[];
}

/** A map without inherited names. `Object.create(null)` makes one that the engine keeps as a hash table: slower to build, to walk and to send. */
const Bare = function () {} as unknown as { new (): Json; prototype: object };
Bare.prototype = Object.freeze(Object.create(null));

/** What lies on a container for whoever holds the key: a `Map` of hundreds of thousands of objects misses the processor's caches at each look-up. */
class Mark extends (function (container: object) {
  return container;
} as unknown as { new (container: object): object }) {
  #marked: Container;

  private constructor(container: object, marked: Container) {
    super(container);
    this.#marked = marked;
  }

  static put(container: object, marked: Container): void {
    if (#marked in container) (container as Mark).#marked = marked;
    else new Mark(container, marked);
  }

  static of(container: object): Container | undefined {
    return #marked in container ? (container as Mark).#marked : undefined;
  }
}

/** Knows the origin of every value that a user wrote; what defaults filled in has none. */
export class Origins {
  readonly #faults: Problem[] = [];
  readonly #secrets: unknown[] = [];

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
    return this.#build(tree, '', tree.source.place, 'config').value;
  }

  #build(tree: Tree, path: string, keyPlace: Place, part: Part): { value: unknown; origin: Origin } {
    const { place, file, variables, secret, faults } = tree.source;
    const origin: Origin = { place, file, variables, secret, faults, path, keyPlace };
    for (const message of faults) this.#faults.push({ severity: 'error', place, path, message });
    if (tree.kind === 'leaf') {
      if (origin.secret) this.#secrets.push(tree.value);
      return { value: tree.value, origin };
    }
    if (tree.kind === 'list') {
      const built = tree.items.map((item, index) => this.#build(item, `${path}[${index}]`, item.source.place, part));
      const value = built.map((item) => item.value);
      Mark.put(value, { origin, children: built.map((item) => item.origin) });
      return { value, origin };
    }
    const value = new Bare();
    const children = new Map<string, Origin>();
    for (const [name, entry] of tree.entries) {
      if (part !== 'options' && part !== 'named' && entry.value.kind === 'leaf' && entry.value.value === null) continue;
      const below = this.#build(
        entry.value,
        path === '' ? name : `${path}.${name}`,
        entry.keyPlace,
        partBelow(part, path, name),
      );
      // A name alone (`orders:`) is that thing with nothing said about it.
      value[name] =
        part === 'named' && below.value === null ? this.expand(new Bare(), below.origin) : below.value;
      children.set(name, below.origin);
    }
    Mark.put(value, { origin, children });
    return { value, origin };
  }
}

type Part = 'config' | 'named' | 'options';

function partBelow(part: Part, path: string, name: string): Part {
  if (part === 'named') return 'config';
  if (part === 'options' || (name === 'plugins' && path !== '')) return 'options';
  return path === '' && (name === 'gateways' || name === 'services') ? 'named' : 'config';
}
