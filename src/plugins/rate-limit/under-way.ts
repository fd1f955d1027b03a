// What is under way, counted in one process.
import type { Places } from './limit.ts';
import type { Grant } from './quota.ts';

/** Requests under way by key: as many entries as there are requests, at most. */
export class UnderWay implements Places {
  readonly #counts = new Map<string, number>();

  get size(): number {
    return this.#counts.size;
  }

  enter(key: string, max: number): Grant {
    const before = this.#counts.get(key) ?? 0;
    if (before >= max) return { granted: false, remaining: 0, waitMs: 0 };
    this.#counts.set(key, before + 1);
    return { granted: true, remaining: max - before - 1, waitMs: 0 };
  }

  leave(key: string): void {
    const count = this.#counts.get(key) ?? 0;
    if (count > 1) this.#counts.set(key, count - 1);
    else this.#counts.delete(key);
  }
}
