// Tokens whose signature and claims were found good, so that the next request with the same one costs a hash.
import { hash } from 'node:crypto';
import type { Key } from './keys.ts';
import type { KeySource } from './remote-keys.ts';

const MAX_TOKENS = 40_000;
/** Characters of the tokens whose claims are held. */
const MAX_CHARACTERS = 32 * 1_024 * 1_024;
/** Entries that may be passed over when room is made: one that was used since it was last looked at stays for another round. */
const MAX_SPARED = 16;

export type Claims = Readonly<Record<string, unknown>>;

interface Entry {
  readonly claims: Claims;
  /** Milliseconds since the epoch, clock skew included: the last moment at which it is good. */
  readonly goodUntil: number;
  readonly key: Key;
  readonly source: KeySource;
  readonly characters: number;
  used: boolean;
}

/**
 * Bounded by number and size; what was not used goes first, the oldest of it. (A use marks the entry: to move it to the end of a
 * Map at every request would cost more than the look-up.) Only what was verified comes in, so that garbage evicts nobody. */
export class VerifiedTokens {
  readonly #entries = new Map<string, Entry>();
  readonly #now: () => number;
  #characters = 0;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Undefined also where the token expired, or the issuer has taken back the key that it was verified with. */
  get(token: string): Claims | undefined {
    const id = idOf(token);
    const entry = this.#entries.get(id);
    if (entry === undefined) return undefined;
    if (this.#now() > entry.goodUntil || !entry.source.keys.has(entry.key)) {
      this.#delete(id, entry);
      return undefined;
    }
    entry.used = true;
    return entry.claims;
  }

  /** The claims are shared by all requests with this token, and frozen for that. */
  add(token: string, claims: Claims, goodUntil: number, key: Key, source: KeySource): void {
    const id = idOf(token);
    const before = this.#entries.get(id);
    if (before !== undefined) this.#delete(id, before);
    freeze(claims);
    this.#set(id, { claims, goodUntil, key, source, characters: token.length, used: false });
    this.#makeRoom();
  }

  #makeRoom(): void {
    let spared = 0;
    for (const [oldest, entry] of this.#entries) {
      if (this.#entries.size <= MAX_TOKENS && this.#characters <= MAX_CHARACTERS) break;
      this.#delete(oldest, entry);
      if (!entry.used || spared++ >= MAX_SPARED) continue;
      entry.used = false;
      this.#set(oldest, entry);
    }
  }

  #set(id: string, entry: Entry): void {
    this.#entries.set(id, entry);
    this.#characters += entry.characters;
  }

  #delete(id: string, entry: Entry): void {
    this.#entries.delete(id);
    this.#characters -= entry.characters;
  }
}

/** Of the whole token, signature included: what differs in a single bit is another one. */
function idOf(token: string): string {
  return hash('sha256', token, 'base64');
}

/** Without recursion: claims may be nested as deep as a token is long. */
function freeze(claims: object): void {
  const waiting: object[] = [claims];
  for (let value = waiting.pop(); value !== undefined; value = waiting.pop()) {
    Object.freeze(value);
    for (const inner of Object.values(value)) if (typeof inner === 'object' && inner !== null) waiting.push(inner);
  }
}
