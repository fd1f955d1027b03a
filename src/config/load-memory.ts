// What a load of a config leaves for the next one: a route that nobody touched need not be made sense of again.
import type { ItemsRead } from './items-read.ts';
import type { RouteConfig } from './model.ts';
import type { Json } from './origins.ts';
import { ConfigSchema } from './schema.ts';
import { secretsOf } from './secrets.ts';
import { type Dict, isOfText, type List, sameTree, type Tree } from './tree.ts';

/** A route that means the same wherever the rest of the config is the same. */
export interface KnownRoute {
  readonly tree: Tree;
  /** Its shorthand written out, its defaults filled in, each value with its place. */
  readonly plain: object;
  readonly resolved: RouteConfig;
}

/** By index; null: to be read like any other. */
export type KnownRoutes = readonly (KnownRoute | null)[];

/** What a load came to, before and after. */
export interface Understood {
  readonly tree: Dict;
  /** The plain `routes`, one for each item of the tree. */
  readonly routes: readonly unknown[];
  /** By plain route: those that were resolved without a word and without a file. */
  readonly resolved: ReadonlyMap<unknown, RouteConfig>;
  readonly known: KnownRoutes;
  /** Indexes of routes that have a secret text. */
  readonly secret: ReadonlySet<number>;
}

/** Each text of a route holds on to the whole file that it was read from: after so many loads everything is read anew. */
const LOADS = 16;

/** For loads of one path. As large as a config several times over: for a thread that ends soon after its last load. */
export class LoadMemory {
  #tree: Dict | null = null;
  #routes: KnownRoutes = [];
  #texts = new Map<string, ItemsRead>();
  #loads = 0;

  /** Before each load: what the files of the config were read as before, by name. */
  begin(): Map<string, ItemsRead> {
    if (++this.#loads > LOADS) {
      this.#loads = 1;
      this.#tree = null;
      this.#routes = [];
      this.#texts = new Map();
    }
    return this.#texts;
  }

  /** Routes that stand where they stood and say what they said, where everything outside of `routes` is as it was. Null: none. */
  recall(tree: Dict): KnownRoutes | null {
    const routes = routesOf(tree);
    if (this.#tree === null || routes === null || !sameAround(this.#tree, tree)) return null;
    const known = routes.items.map((item, index) => {
      const before = this.#routes[index] ?? null;
      return before !== null && sameTree(before.tree, item) ? before : null;
    });
    return known.some((route) => route !== null) ? known : null;
  }

  /** Of a config without errors. */
  keep({ tree, routes, resolved, known, secret }: Understood): void {
    const items = routesOf(tree)?.items ?? [];
    this.#tree = tree;
    this.#routes = items.map((item, index) => {
      const before = known[index] ?? null;
      if (before !== null) return { ...before, tree: item };
      const plain = routes[index] as object;
      const route = resolved.get(plain);
      return route === undefined || secret.has(index) || !isOfText(item)
        ? null
        : { tree: item, plain, resolved: route };
    });
  }
}

/** What need not be resolved again, by plain route. */
export function resolvedOf(known: KnownRoutes): Map<unknown, RouteConfig> {
  return new Map(known.flatMap((route) => (route === null ? [] : [[route.plain, route.resolved] as const])));
}

function routesOf({ entries }: Dict): List | null {
  const routes = entries.get('routes')?.value;
  return routes?.kind === 'list' ? routes : null;
}

/** Compares all that is not a route, to the column. */
function sameAround(before: Dict, now: Dict): boolean {
  return sameTree(withoutRoutes(before), withoutRoutes(now));
}

function withoutRoutes(tree: Dict): Dict {
  const entries = new Map(tree.entries);
  const { value, keyPlace } = tree.entries.get('routes') ?? {};
  if (value?.kind === 'list' && keyPlace !== undefined)
    entries.set('routes', { keyPlace, value: { ...value, items: [] } });
  return { ...tree, entries };
}

/** Indexes of the routes that no message may quote in full. Asked before shorthand is written out: it hides what a name says of a text. */
export function secretRoutes(routes: readonly unknown[], known: KnownRoutes): ReadonlySet<number> {
  const holds = (route: unknown): boolean =>
    secretsOf({ routes: [route] } satisfies Json, ConfigSchema, []).texts.length > 0;
  return new Set(routes.flatMap((route, index) => (known[index] == null && holds(route) ? [index] : [])));
}
