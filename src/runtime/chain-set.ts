// At compile time: a chain for each distinct plugin list of a listener; a reload builds only those that it did not find in force.
import type { PluginUse } from '../config/model.ts';
import type { Role } from '../plugin.ts';
import { buildChain, type Chain, type ChainDeps } from '../proxy/chain.ts';
import type { LoadedPlugin } from '../proxy/load-plugin.ts';
import type { Caller } from '../upstream/caller.ts';
import type { ListenerSpec } from './listener-spec.ts';
import type { SharedStore } from './shared.ts';
import { version } from './version.ts';

const VERSION = version();

type ChainSetDeps = Omit<ChainDeps, 'shared' | 'caller'> & { readonly shared: SharedStore };

/** The chains of one compile: carried over where the list is the same, built where it is new. */
export class ChainSet {
  readonly used = new Map<string, Chain>();
  readonly #loaded: ReadonlyMap<PluginUse, LoadedPlugin>;
  readonly #previous: ReadonlyMap<string, Chain> | null;
  readonly #deps: ChainSetDeps;
  readonly #built: Chain[] = [];

  /** `loaded` has every plugin that is going to be asked for; `previous`: the chains in force, by key. */
  constructor(
    loaded: ReadonlyMap<PluginUse, LoadedPlugin>,
    previous: ReadonlyMap<string, Chain> | null,
    deps: ChainSetDeps,
  ) {
    this.#loaded = loaded;
    this.#previous = previous;
    this.#deps = deps;
  }

  /** `unrouted`: for what no route takes, see `ChainInfo`. */
  async get(spec: ListenerSpec, uses: readonly PluginUse[], caller: Caller | null, unrouted = false): Promise<Chain> {
    const plugins = uses.map((use) => this.#loaded.get(use) as LoadedPlugin);
    const key = chainKey(spec.role, spec.owner, caller, unrouted, plugins);
    const known = this.used.get(key);
    if (known !== undefined) return known;
    let chain = this.#previous?.get(key);
    if (chain === undefined) {
      const owner = {};
      const { logger, registry, shared, central, services } = this.#deps;
      const info = { role: spec.role, owner: spec.owner, version: VERSION, unrouted };
      chain = await buildChain(
        { key, info, plugins },
        {
          logger,
          registry,
          services,
          caller,
          central,
          shared: (name, make, dispose) => shared.use(owner, name, make, dispose),
        },
        () => shared.release(owner),
      );
      this.#built.push(chain);
    }
    this.used.set(key, chain);
    return chain;
  }

  /** Nothing came of the compile. */
  discard(): void {
    for (const chain of this.#built) chain.retire();
  }
}

function chainKey(
  role: Role,
  owner: string,
  caller: Caller | null,
  unrouted: boolean,
  plugins: readonly LoadedPlugin[],
): string {
  return [JSON.stringify([role, owner, caller?.id, unrouted]), ...plugins.map(linkKey)].join();
}

/** Thousands of routes have the same plugins. */
const linkKeys = new WeakMap<LoadedPlugin, string>();

function linkKey(plugin: LoadedPlugin): string {
  let key = linkKeys.get(plugin);
  if (key === undefined) {
    key = JSON.stringify([plugin.identity, plugin.options]);
    linkKeys.set(plugin, key);
  }
  return key;
}
