// The accounts of one limit in this process: a bounded number of them, so that what clients make up costs memory only up to there.
import { type Account, type Grant, giveBack, type Quota, take } from './quota.ts';

/**
 * What would be forgotten with an account: next to nothing (it was charged once), something, or that nothing is left. Making room
 * begins with the first kind, the least recently seen of it: a flood of new keys pushes out itself, and whoever wants an exhausted
 * account forgotten has to exhaust as many as there is room for.
 */
const KINDS = 3;

export class Counters {
  readonly quota: Quota;
  readonly #maxKeys: number;
  readonly #now: () => number;
  readonly #onForget: () => void;
  /** Least recently seen first: a Map keeps the order of insertion. */
  readonly #accounts: readonly Map<string, Account>[] = Array.from({ length: KINDS }, () => new Map());

  /** `onForget` hears of every account that was dropped while it still mattered. */
  constructor(quota: Quota, maxKeys: number, now: () => number, onForget: () => void = () => {}) {
    this.quota = quota;
    this.#maxKeys = maxKeys;
    this.#now = now;
    this.#onForget = onForget;
  }

  take(key: string, cost: number): Grant {
    const now = this.#now();
    const account = this.#remove(key) ?? this.#open(now);
    const grant = take(this.quota, account, cost, now);
    this.#keep(key, account, grant.remaining, cost);
    return grant;
  }

  /** Undoes a `take` that was granted; an account that was forgotten since is none that could be in debt. */
  giveBack(key: string, cost: number): void {
    for (const accounts of this.#accounts) {
      const account = accounts.get(key);
      if (account !== undefined) giveBack(this.quota, account, cost);
    }
  }

  get size(): number {
    return this.#accounts.reduce((sum, { size }) => sum + size, 0);
  }

  #remove(key: string): Account | undefined {
    for (const accounts of this.#accounts) {
      const account = accounts.get(key);
      if (account === undefined) continue;
      accounts.delete(key);
      return account;
    }
    return undefined;
  }

  #keep(key: string, account: Account, remaining: number, cost: number): void {
    const kind = remaining < cost ? 2 : remaining + cost < this.quota.capacity ? 1 : 0;
    this.#accounts[kind].set(key, account);
  }

  #open(now: number): Account {
    // Two for one, so that what is over goes by itself.
    for (const accounts of this.#accounts) {
      dropIfOver(accounts, now);
      dropIfOver(accounts, now);
    }
    if (this.size >= this.#maxKeys) this.#forgetOne();
    return { taken: 0, at: 0 };
  }

  #forgetOne(): void {
    for (const accounts of this.#accounts) {
      const oldest = accounts.keys().next();
      if (oldest.done === true) continue;
      accounts.delete(oldest.value);
      this.#onForget();
      return;
    }
  }
}

function dropIfOver(accounts: Map<string, Account>, now: number): void {
  const oldest = accounts.entries().next();
  if (oldest.done !== true && oldest.value[1].at <= now) accounts.delete(oldest.value[0]);
}
