// What a load of a config leaves for the next one: a route that nobody touched need not be made sense of again.
import type { ItemsRead } from './items-read.ts';
import type { RouteConfig } from './model.ts';
import type { Json } from './origins.ts';
import { ConfigSchema } from './schema.ts';
import { secretsOf } from './secrets.ts';
import { type Dict, isOfText, type List, sameTree, type Tree } from './tree.ts';

/** A route that means the same where the gateways have the same names and, with `mirror`, the services and their subsets too. */
export interface KnownRoute {
  /** Its places are those of what follows, too. */
  readonly tree: Tree;
  /** Its shorthand written out, its defaults filled in, each value with its place. */
  readonly plain: Json;
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

/** What the full parser reads holds on to the whole text of its file: after so many loads that took over such routes everything is read anew. */
const LOADS = 16;

/** For loads of one path. As large as a config several times over: for a thread that ends soon after its last load. */
export class LoadMemory {
  #tree: Dict | null = null;
  #routes: KnownRoutes = [];
  #byTree = new Map<Tree, KnownRoute>();
  #texts = new Map<string, ItemsRead>();
  #loads = 0;

  /** Before each load: what the files of the config were read as before, by name. */
  begin(): Map<string, ItemsRead> {
    if (this.#loads === LOADS) {
      this.#loads = 0;
      this.#tree = null;
      this.#routes = [];
      this.#byTree = new Map();
      this.#texts = new Map();
    }
    return this.#texts;
  }

  /** Routes that say what they said and mean what they meant. Null: none. */
  recall(tree: Dict): KnownRoutes | null {
    const routes = routesOf(tree);
    if (this.#tree === null || routes === null || !sameGateways(this.#tree, tree)) return null;
    const areServicesSame = sameServices(this.#tree, tree);
    let areOthers = false;
    const find = (item: Tree, index: number): KnownRoute | null => {
      // Its tree was taken over as it is, and knows where it stands now.
      const taken = this.#byTree.get(item);
      if (taken !== undefined) return taken;
      const before = this.#routes[index] ?? null;
      if (before === null || !sameTree(before.tree, item, true)) return null;
      areOthers = true;
      return before;
    };
    const known = routes.items.map((item, index) => {
      const route = find(item, index);
      return route !== null && (areServicesSame || !('mirror' in route.plain)) ? route : null;
    });
    if (areOthers) this.#loads++;
    return known.some((route) => route !== null) ? known : null;
  }

  /** Of a config without errors. */
  keep({ tree, routes, resolved, known, secret }: Understood): void {
    const items = routesOf(tree)?.items ?? [];
    this.#tree = tree;
    this.#routes = items.map((item, index) => {
      const before = known[index] ?? null;
      if (before !== null) return before;
      const plain = routes[index] as Json;
      const route = resolved.get(plain);
      return route === undefined || secret.has(index) || !isOfText(item)
        ? null
        : { tree: item, plain, resolved: route };
    });
    this.#byTree = new Map(this.#routes.flatMap((route) => (route === null ? [] : [[route.tree, route] as const])));
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

/** By their names, in the same order: a route that names none is for all of them. */
function sameGateways(before: Dict, now: Dict): boolean {
  const [a, b] = [before, now].map((tree) => [...namesIn(tree, 'gateways').keys()]);
  return a.length === b.length && a.every((name, index) => name === b[index]);
}

/** By their names and those of their subsets. */
function sameServices(before: Dict, now: Dict): boolean {
  const [a, b] = [before, now].map((tree) => namesIn(tree, 'services'));
  if (a.size !== b.size) return false;
  for (const [name, service] of a) {
    const other = b.get(name);
    if (other === undefined) return false;
    const [subsets, others] = [service.value, other.value].map(subsetsOf);
    if (subsets === others) continue;
    if (subsets === undefined || others === undefined || !sameTree(subsets, others, false)) return false;
  }
  return true;
}

function namesIn({ entries }: Dict, key: string): Dict['entries'] {
  const part = entries.get(key)?.value;
  return part?.kind === 'dict' ? part.entries : new Map();
}

function subsetsOf(service: Tree): Tree | undefined {
  return service.kind === 'dict' ? service.entries.get('subsets')?.value : undefined;
}

/** Indexes of the routes that no message may quote in full. Asked before shorthand is written out: it hides what a name says of a text. */
export function secretRoutes(routes: readonly unknown[], known: KnownRoutes): ReadonlySet<number> {
  const holds = (route: unknown): boolean =>
    secretsOf({ routes: [route] } satisfies Json, ConfigSchema, []).texts.length > 0;
  return new Set(routes.flatMap((route, index) => (known[index] == null && holds(route) ? [index] : [])));
}
