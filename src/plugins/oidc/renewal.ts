// Renews sessions whose access token runs out: each refresh token is used once, whoever else comes with the same cookie meanwhile.
import { createHash } from 'node:crypto';
import { Refused } from './refusal.ts';
import type { Session } from './session.ts';

/** How long requests that were sent with the old cookie find what became of it. */
const KEEP_MS = 60_000;
/** After a failure that may pass: until when no further request tries. */
const COOLDOWN_MS = 5_000;
/** Sessions that are remembered at once; the oldest goes first. */
const MAX_REMEMBERED = 5_000;

/** `failed`: nothing is known, the provider did not answer. */
export type Renewed =
  | { readonly kind: 'renewed'; readonly session: Session }
  | { readonly kind: 'refused'; readonly error: Refused }
  | { readonly kind: 'failed'; readonly error: Refused };

interface Entry {
  readonly result: Promise<Renewed>;
  /** Infinity while it is under way. */
  goneAt: number;
}

export class Renewals {
  readonly #entries = new Map<string, Entry>();
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** `ask` rejects with Refused. `whose`: client and provider, so that nobody else's token is taken for this one. */
  renew(whose: string, refreshToken: string, ask: () => Promise<Session>): Promise<Renewed> {
    const id = createHash('sha256').update(`${whose}\n${refreshToken}`).digest('base64');
    const known = this.#entries.get(id);
    if (known !== undefined && this.#now() < known.goneAt) return known.result;
    this.#entries.delete(id);
    const entry: Entry = { result: ask().then(renewed, refused), goneAt: Number.POSITIVE_INFINITY };
    this.#entries.set(id, entry);
    entry.result.then(
      ({ kind }) => {
        entry.goneAt = this.#now() + (kind === 'failed' ? COOLDOWN_MS : KEEP_MS);
      },
      () => {
        entry.goneAt = this.#now();
      },
    );
    this.#forget();
    return entry.result;
  }

  #forget(): void {
    for (const [id, { goneAt }] of this.#entries) {
      if (this.#entries.size <= MAX_REMEMBERED && this.#now() < goneAt) break;
      this.#entries.delete(id);
    }
  }
}

function renewed(session: Session): Renewed {
  return { kind: 'renewed', session };
}

function refused(error: unknown): Renewed {
  if (!(error instanceof Refused)) throw error;
  return { kind: error.unavailable ? 'failed' : 'refused', error };
}
