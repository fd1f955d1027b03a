// The stored responses: bounded in bytes, in number, and in variants of one URI; the least recently used goes first.
import type { ResponseHeaders } from '../../plugin.ts';
import { sentField } from './directives.ts';
import type { Freshness } from './freshness.ts';

export interface Entry {
  /** URI that it answers. */
  readonly resource: string;
  /** Where the request went: responses of another route or version are not its variants. */
  readonly lane: string;
  /** Lower-case names and values of the request headers by which it varies, as they were sent. */
  readonly vary: readonly (readonly [name: string, value: string | undefined])[];
  readonly status: number;
  readonly headers: ResponseHeaders;
  readonly body: Buffer;
  readonly freshness: Freshness;
  readonly bytes: number;
}

/** Of one URI; the least recently used of them goes. */
const MOST_VARIANTS = 32;
/** What an entry costs beside its bytes. */
const OVERHEAD_BYTES = 1_024;
/** Lanes that lately answered what may not be stored. */
const MOST_PASSES = 10_000;
const PASS_MS = 10_000;

export class Store {
  bytes = 0;
  readonly #entries = new Set<Entry>();
  readonly #resources = new Map<string, Set<Entry>>();
  readonly #passes = new Map<string, number>();
  readonly #maxBytes: number;
  readonly #maxEntries: number;

  constructor(maxBytes: number, maxEntries: number) {
    this.#maxBytes = maxBytes;
    this.#maxEntries = maxEntries;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The latest that answers a request with these headers, and is `fit`. */
  find(resource: string, lane: string, headers: readonly string[], fit: (entry: Entry) => boolean): Entry | null {
    let found: Entry | null = null;
    for (const entry of this.#resources.get(resource) ?? []) {
      if (entry.lane !== lane || !fit(entry) || !matches(entry, headers)) continue;
      if (found === null || entry.freshness.respondedAt >= found.freshness.respondedAt) found = entry;
    }
    return found;
  }

  used(entry: Entry): void {
    if (this.#entries.delete(entry)) this.#entries.add(entry);
  }

  /** In place of whatever answers the same requests. */
  put(made: Omit<Entry, 'bytes'>): void {
    const entry: Entry = { ...made, bytes: sizeOf(made) };
    if (entry.bytes > this.#maxBytes) return;
    const variants = this.#resources.get(entry.resource) ?? new Set();
    for (const other of variants) if (other.lane === entry.lane && sameVary(other, entry)) this.remove(other);
    if (variants.size >= MOST_VARIANTS)
      this.remove([...variants].reduce((a, b) => (a.freshness.respondedAt <= b.freshness.respondedAt ? a : b)));
    this.#resources.set(entry.resource, variants.add(entry));
    this.#entries.add(entry);
    this.bytes += entry.bytes;
    for (const oldest of this.#entries) {
      if (this.bytes <= this.#maxBytes && this.#entries.size <= this.#maxEntries) break;
      this.remove(oldest);
    }
  }

  remove(entry: Entry): void {
    if (!this.#entries.delete(entry)) return;
    this.bytes -= entry.bytes;
    const variants = this.#resources.get(entry.resource);
    variants?.delete(entry);
    if (variants?.size === 0) this.#resources.delete(entry.resource);
  }

  /** Every variant of it, wherever the requests went. */
  invalidate(resource: string): void {
    for (const entry of [...(this.#resources.get(resource) ?? [])]) this.remove(entry);
  }

  /** Requests of this kind need not wait for one another for a while. */
  pass(flight: string, now: number): void {
    this.#passes.delete(flight);
    this.#passes.set(flight, now + PASS_MS);
    if (this.#passes.size > MOST_PASSES) this.#passes.delete(this.#passes.keys().next().value as string);
  }

  passes(flight: string, now: number): boolean {
    return (this.#passes.get(flight) ?? 0) > now;
  }
}

function matches({ vary }: Entry, headers: readonly string[]): boolean {
  return vary.every(([name, value]) => sentField(headers, name) === value);
}

function sameVary(one: Entry, other: Entry): boolean {
  return JSON.stringify(one.vary) === JSON.stringify(other.vary);
}

function sizeOf({ resource, lane, vary, headers, body }: Omit<Entry, 'bytes'>): number {
  return body.length + 2 * (resource.length + lane.length + JSON.stringify([vary, headers]).length) + OVERHEAD_BYTES;
}
