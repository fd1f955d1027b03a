// How many connections each client has open at one listener.
import { clientNetwork } from '../http/client-network.ts';

/** Holds clients with open connections only, so it is bounded by `limits.connections`. */
export class ClientConnections {
  readonly #open = new Map<string, number>();

  /** Clients that have one open. */
  get size(): number {
    return this.#open.size;
  }

  /** Counts one more of this address; false, and it is not counted, where `limit` are open. To be given back by `release`. */
  take(address: string, limit: number): boolean {
    const client = clientNetwork(address);
    const open = this.#open.get(client) ?? 0;
    if (open >= limit) return false;
    this.#open.set(client, open + 1);
    return true;
  }

  release(address: string): void {
    const client = clientNetwork(address);
    const open = this.#open.get(client) ?? 0;
    if (open > 1) this.#open.set(client, open - 1);
    else this.#open.delete(client);
  }
}
