// Encrypts what browsers keep for us, so that they can neither read nor change it, and nobody can use it for another purpose.
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

const ALGORITHM = 'aes-256-gcm';
const SALT = 16;
const KEY = 32;
const IV = 12;
const TAG = 16;

/** What a sealed text is for; it opens as nothing else. */
export type Purpose = 'session' | 'login' | 'tries';

export class Sealer {
  readonly #secrets: readonly Buffer[];
  readonly #context: string;

  /** The first secret seals, all open. `context`: what besides the secret must be the same, such as the client. */
  constructor(secrets: readonly string[], context: readonly string[]) {
    this.#secrets = secrets.map((secret) => Buffer.from(secret));
    this.#context = JSON.stringify(context);
  }

  /** Base64url. Every text has a key of its own, so that no number of them wears the secret out (SP 800-38D section 8.3). */
  seal(purpose: Purpose, value: unknown): string {
    const salt = randomBytes(SALT);
    const cipher = createCipheriv(ALGORITHM, ...keyAndIv(this.#secrets[0], salt), { authTagLength: TAG });
    cipher.setAAD(this.#bound(purpose));
    const sealed = Buffer.concat([cipher.update(JSON.stringify(value), 'utf8'), cipher.final()]);
    return Buffer.concat([salt, sealed, cipher.getAuthTag()]).toString('base64url');
  }

  /** Null for whatever was not sealed for this purpose with one of the secrets. */
  open(purpose: Purpose, text: string): unknown {
    const bytes = Buffer.from(text, 'base64url');
    if (bytes.length <= SALT + TAG) return null;
    const salt = bytes.subarray(0, SALT);
    const tag = bytes.subarray(-TAG);
    for (const secret of this.#secrets) {
      const decipher = createDecipheriv(ALGORITHM, ...keyAndIv(secret, salt), { authTagLength: TAG });
      decipher.setAAD(this.#bound(purpose)).setAuthTag(tag);
      try {
        const opened = Buffer.concat([decipher.update(bytes.subarray(SALT, -TAG)), decipher.final()]);
        return JSON.parse(opened.toString());
      } catch {
        // Another secret may have sealed it.
      }
    }
    return null;
  }

  #bound(purpose: Purpose): Buffer {
    return Buffer.from(`${purpose}\n${this.#context}`);
  }
}

function keyAndIv(secret: Buffer, salt: Buffer): [Buffer, Buffer] {
  const bytes = Buffer.from(hkdfSync('sha256', secret, salt, 'selvedge oidc cookie 1', KEY + IV));
  return [bytes.subarray(0, KEY), bytes.subarray(KEY)];
}
