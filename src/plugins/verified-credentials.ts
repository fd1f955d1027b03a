// Remembers for a while which credentials were verified, so that a browser's every request does not cost what one password may.
import { createHmac, randomBytes } from 'node:crypto';

/** The oldest are forgotten beyond it. */
const MAX_REMEMBERED = 1_000;

export class VerifiedCredentials {
  readonly #forMs: number;
  readonly #now: () => number;
  /** Never leaves the process: what is kept is of no use to whoever reads its memory later. */
  readonly #key = randomBytes(32);
  /** Until when, oldest first. */
  readonly #until = new Map<string, number>();
  /** Bounded by the verifier, which takes only so many. */
  readonly #pending = new Map<string, Promise<boolean>>();

  constructor(forMs: number, now: () => number) {
    this.#forMs = forMs;
    this.#now = now;
  }

  digest(credentials: Buffer | string): Buffer {
    return createHmac('sha256', this.#key).update(credentials).digest();
  }

  has(id: string): boolean {
    const until = this.#until.get(id);
    if (until === undefined) return false;
    if (this.#now() < until) return true;
    this.#until.delete(id);
    return false;
  }

  /** Asks once for all who show the same credentials meanwhile; only a yes is remembered. */
  verify(id: string, ask: () => Promise<boolean>): Promise<boolean> {
    let asked = this.#pending.get(id);
    if (asked === undefined) {
      asked = this.#ask(id, ask);
      this.#pending.set(id, asked);
    }
    return asked;
  }

  async #ask(id: string, ask: () => Promise<boolean>): Promise<boolean> {
    try {
      const verified = await ask();
      if (verified && this.#forMs > 0) this.#remember(id);
      return verified;
    } finally {
      this.#pending.delete(id);
    }
  }

  #remember(id: string): void {
    if (this.#until.size >= MAX_REMEMBERED) {
      const [oldest] = this.#until.keys();
      this.#until.delete(oldest);
    }
    this.#until.set(id, this.#now() + this.#forMs);
  }
}
