// Certificates of the mesh for all workers: the supervisor gets and renews them, so that a join token is shown once and a CA is asked once.
import type { Mesh } from '../../config/model.ts';
import type { IdentityLog } from '../../identity/deps.ts';
import type { IdentitySource, Svid, TrustBundles } from '../../identity/source.ts';
import type { OpenIdentity } from '../mesh-identity.ts';
import type { Channel } from './channel.ts';

/** All that a worker knows of a source. */
export interface IdentitySupply {
  readonly key: string;
  readonly svids: readonly Svid[];
  readonly bundles: TrustBundles;
  readonly warnings: readonly string[];
}

export interface IdentityNeed {
  readonly key: string;
  readonly mesh: Mesh;
  readonly ids: readonly string[];
}

/** A source that nobody uses stays for so long: its worker may be about to be started again. */
const LINGER_MS = 60_000;

/** In a worker. */
export class SuppliedIdentity implements IdentitySource {
  readonly #key: string;
  readonly #mesh: Mesh;
  readonly #channel: Pick<Channel, 'ask' | 'tell'>;
  readonly #onClose: () => void;
  readonly #listeners = new Set<() => void>();
  #supply: Omit<IdentitySupply, 'key'> = { svids: [], bundles: new Map(), warnings: [] };

  constructor(key: string, mesh: Mesh, channel: Pick<Channel, 'ask' | 'tell'>, onClose: () => void) {
    this.#key = key;
    this.#mesh = mesh;
    this.#channel = channel;
    this.#onClose = onClose;
  }

  async need(ids: readonly string[]): Promise<void> {
    this.take(await this.#channel.ask<IdentitySupply>('identity', { key: this.#key, mesh: this.#mesh, ids }));
  }

  /** Something has changed. */
  take(supply: IdentitySupply): void {
    this.#supply = supply;
    for (const listener of this.#listeners) listener();
  }

  svid(id: string): Svid | null {
    return this.#supply.svids.find((svid) => svid.id === id) ?? null;
  }

  bundles(): TrustBundles {
    return this.#supply.bundles;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  warnings(): readonly string[] {
    return this.#supply.warnings;
  }

  close(): void {
    this.#channel.tell('identityUnused', this.#key);
    this.#onClose();
  }
}

/** In a worker: those that are open, by what the config says of the mesh. */
export class IdentityClient {
  readonly #channel: Pick<Channel, 'ask' | 'tell'>;
  readonly #open = new Map<string, SuppliedIdentity>();

  constructor(channel: Pick<Channel, 'ask' | 'tell'>) {
    this.#channel = channel;
  }

  readonly open: OpenIdentity = async (mesh) => {
    const key = JSON.stringify([mesh.trustDomain, mesh.aliases, mesh.identity]);
    const source = new SuppliedIdentity(key, mesh, this.#channel, () => {
      if (this.#open.get(key) === source) this.#open.delete(key);
    });
    this.#open.set(key, source);
    return source;
  };

  supplied(supply: IdentitySupply): void {
    this.#open.get(supply.key)?.take(supply);
  }
}

interface Held {
  readonly source: Promise<IdentitySource>;
  readonly ids: Set<string>;
  readonly users: Set<number>;
  stop: () => void;
  timer: NodeJS.Timeout | null;
}

/** In the supervisor. */
export class IdentityDesk {
  readonly #open: OpenIdentity;
  readonly #log: IdentityLog;
  readonly #supply: (worker: number, supply: IdentitySupply) => unknown;
  /** As many as configs in force and about to be. */
  readonly #held = new Map<string, Held>();

  constructor(open: OpenIdentity, log: IdentityLog, supply: (worker: number, supply: IdentitySupply) => unknown) {
    this.#open = open;
    this.#log = log;
    this.#supply = supply;
  }

  /** Rejects with what the source says. */
  async need(worker: number, { key, mesh, ids }: IdentityNeed): Promise<IdentitySupply> {
    const held = this.#held.get(key) ?? this.#make(key, mesh);
    if (held.timer !== null) clearTimeout(held.timer);
    held.timer = null;
    const knew = held.users.has(worker);
    held.users.add(worker);
    try {
      const source = await held.source;
      await source.need(ids);
      for (const id of ids) held.ids.add(id);
      return supplyOf(key, held, source);
    } catch (error) {
      if (!knew) this.#leave(worker, key, held, 0);
      throw error;
    }
  }

  unused(worker: number, key: string): void {
    const held = this.#held.get(key);
    if (held !== undefined) this.#leave(worker, key, held, 0);
  }

  gone(worker: number): void {
    for (const [key, held] of this.#held) this.#leave(worker, key, held, LINGER_MS);
  }

  close(): void {
    for (const [key, held] of this.#held) this.#end(key, held);
  }

  #make(key: string, mesh: Mesh): Held {
    const source = this.#open(mesh, this.#log);
    const held: Held = { source, ids: new Set(), users: new Set(), stop() {}, timer: null };
    this.#held.set(key, held);
    source.then(
      (opened) => {
        held.stop = opened.onChange(() => {
          const supply = supplyOf(key, held, opened);
          for (const worker of held.users) this.#supply(worker, supply);
        });
      },
      () => this.#held.delete(key),
    );
    return held;
  }

  #leave(worker: number, key: string, held: Held, lingerMs: number): void {
    if (!held.users.delete(worker) || held.users.size > 0) return;
    if (lingerMs === 0) this.#end(key, held);
    else held.timer ??= setTimeout(() => this.#end(key, held), lingerMs).unref();
  }

  #end(key: string, held: Held): void {
    if (held.timer !== null) clearTimeout(held.timer);
    this.#held.delete(key);
    held.stop();
    held.source.then(
      (source) => source.close(),
      () => undefined,
    );
  }
}

function supplyOf(key: string, { ids }: Held, source: IdentitySource): IdentitySupply {
  return {
    key,
    svids: [...ids].flatMap((id) => source.svid(id) ?? []),
    bundles: source.bundles(),
    warnings: source.warnings(),
  };
}
