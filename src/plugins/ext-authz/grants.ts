// Remembers for a while who was let through, and asks once for all who ask the same at the same time.
import type { ResponseHeaders } from '../../plugin.ts';
import type { Outcome } from './check.ts';
import type { Headers } from './header-names.ts';

/** What a request that is let through gets from the answer. */
export interface Grant {
  readonly upstream: Headers;
  readonly client: Headers;
}

/** A larger one is not kept: characters of names and values. */
const MAX_GRANT = 8_192;

/** Bound: `maxEntries` of at most `MAX_GRANT` characters each. The oldest is forgotten first. */
export class Grants {
  readonly #ttlMs: number;
  readonly #maxEntries: number;
  readonly #now: () => number;
  readonly #kept = new Map<string, { readonly grant: Grant; readonly until: number }>();

  constructor(ttlMs: number, maxEntries: number, now: () => number) {
    this.#ttlMs = ttlMs;
    this.#maxEntries = maxEntries;
    this.#now = now;
  }

  get(key: string): Grant | null {
    const entry = this.#kept.get(key);
    if (entry === undefined) return null;
    if (this.#now() < entry.until) return entry.grant;
    this.#kept.delete(key);
    return null;
  }

  /** @param headers of the answer, which may say that it is not to be kept, or for how long (RFC 9111 section 5.2.2) */
  keep(key: string, grant: Grant, headers: ResponseHeaders): void {
    const ttlMs = Math.min(this.#ttlMs, allowedMs(headers));
    // A cookie is for the one who asked, once.
    if (ttlMs <= 0 || 'set-cookie' in grant.client || JSON.stringify(grant).length > MAX_GRANT) return;
    this.#kept.delete(key);
    if (this.#kept.size >= this.#maxEntries) {
      const [oldest] = this.#kept.keys();
      this.#kept.delete(oldest);
    }
    this.#kept.set(key, { grant, until: this.#now() + ttlMs });
  }
}

function allowedMs(headers: ResponseHeaders): number {
  const control = Object.hasOwn(headers, 'cache-control') ? String(headers['cache-control']).toLowerCase() : '';
  if (/(?:^|[\s,])no-(?:store|cache)(?:$|[\s,=])/.test(control)) return 0;
  const ages = [...control.matchAll(/(?:^|[\s,])max-age\s*=\s*"?(\d+)/g)].map(([, seconds]) => Number(seconds) * 1_000);
  return Math.min(Number.POSITIVE_INFINITY, ...ages);
}

/** One question under way, and all who wait for the answer to it. */
export class Flight {
  /** Ends the question; set by whoever asks. */
  abandon: () => void = () => {};
  readonly #waiting = new Set<(outcome: Outcome) => void>();
  #outcome: Outcome | null = null;

  /** @returns what ends the waiting; with the last who waits the question ends. */
  wait(told: (outcome: Outcome) => void): () => void {
    if (this.#outcome !== null) {
      told(this.#outcome);
      return () => {};
    }
    this.#waiting.add(told);
    return () => {
      if (this.#waiting.delete(told) && this.#waiting.size === 0) this.abandon();
    };
  }

  land(outcome: Outcome): void {
    this.#outcome = outcome;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const told of waiting) told(outcome);
  }
}
