// Passwords against scrypt hashes (RFC 7914) in PHC string form, off the event loop and a few at a time.
import { type ScryptOptions, scrypt, timingSafeEqual } from 'node:crypto';
import { SelvedgeError } from '../plugin.ts';

export interface PasswordHash {
  readonly cost: Required<Pick<ScryptOptions, 'N' | 'r' | 'p' | 'maxmem'>>;
  readonly salt: Buffer;
  readonly hash: Buffer;
}

const PHC = /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{22,86})\$([A-Za-z0-9+/]{43,86})$/;
/** 2^14, 8, 1 is the least that is advised for anything that answers people; N · r · p here, and the work of one try. */
const MIN_WORK = 2 ** 17;
const MAX_WORK = 2 ** 21;
/** 128 · N · r bytes. */
const MAX_MEMORY = 128 * 2 ** 20;

/** A hash, or a sentence about what is wrong; it never repeats what was written. */
export function parsePasswordHash(text: string): PasswordHash | string {
  const found = PHC.exec(text);
  if (found === null)
    return 'is no scrypt hash: $scrypt$ln=15,r=8,p=3$SALT$HASH, with at least 16 bytes of salt and 32 of hash';
  const [ln, r, p] = found.slice(1, 4).map(Number);
  const N = 2 ** ln;
  const memory = 128 * N * r;
  const work = N * r * p;
  if (ln < 10 || work < MIN_WORK) return 'has a hash that costs too little: at least ln=14,r=8,p=1';
  if (work > MAX_WORK || memory > MAX_MEMORY) return 'has a hash that costs too much: at most ln=17,r=8,p=2';
  // OpenSSL wants room for p blocks and some beside.
  const cost = { N, r, p, maxmem: 2 * MAX_MEMORY };
  return { cost, salt: Buffer.from(found[4], 'base64'), hash: Buffer.from(found[5], 'base64') };
}

/** Of Node's four threads for such work two stay free for files and names; each try takes up to 128 MiB. */
const CONCURRENT = 2;
/** At the usual cost the last of them waits some 5 s. */
const MAX_WAITING = 64;

/** One for the process: what it bounds is the work of all chains. */
export class PasswordVerifier {
  readonly #concurrent: number;
  readonly #maxWaiting: number;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(concurrent = CONCURRENT, maxWaiting = MAX_WAITING) {
    this.#concurrent = concurrent;
    this.#maxWaiting = maxWaiting;
  }

  /** Rejects with SLV_VERIFICATION_LIMIT when too many wait already. */
  async verify(password: Buffer, { cost, salt, hash }: PasswordHash): Promise<boolean> {
    if (this.#running < this.#concurrent) this.#running++;
    else if (this.#waiting.length < this.#maxWaiting) await new Promise<void>((go) => this.#waiting.push(go));
    else
      throw new SelvedgeError('SLV_VERIFICATION_LIMIT', `${this.#maxWaiting} passwords wait to be verified`, {
        retryAfter: 1,
      });
    try {
      return await new Promise<boolean>((resolve, reject) => {
        scrypt(password, salt, hash.length, cost, (error, derived) => {
          if (error === null) resolve(timingSafeEqual(derived, hash));
          else reject(error);
        });
      });
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}
