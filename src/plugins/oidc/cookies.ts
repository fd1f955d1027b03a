// The cookies of this plugin: taken out of a request before anybody else sees it, and written for the browser.
import { createHash } from 'node:crypto';

/** Characters of one cookie's value: browsers take 4,096 of name, value and attributes together. */
const MAX_VALUE = 3_500;
/** Cookies that one session may be spread over. */
const MAX_CHUNKS = 5;
/** Login cookies of one request that are looked at; the others are removed unread. */
const MAX_LOGINS_READ = 20;
const LOGIN_SECONDS = 600;

export interface CookieSettings {
  readonly name: string;
  readonly domain: string | null;
  readonly path: string;
  readonly sameSite: 'Lax' | 'None';
  readonly secure: boolean;
}

/** What a request brought along. */
export interface Jar {
  /** Sealed; null: none, or not whole. */
  readonly session: string | null;
  /** Names of session cookies, to be removed when the session has fewer. */
  readonly sessionNames: readonly string[];
  readonly logins: ReadonlyMap<string, string>;
  /** Names of login cookies beyond those that are looked at. */
  readonly surplus: readonly string[];
  readonly tries: string | null;
  /** The Cookie header without any of these. */
  readonly rest: string | undefined;
}

export class Cookies {
  readonly #session: string;
  readonly #login: string;
  readonly #tries: string;
  readonly #sessionAttributes: string;
  readonly #ownAttributes: string;

  constructor({ name, domain, path, sameSite, secure }: CookieSettings) {
    const hostOnly = secure ? '__Host-' : '';
    const common = `; HttpOnly; SameSite=${sameSite}${secure ? '; Secure' : ''}`;
    this.#session = `${domain === null && path === '/' ? hostOnly : secure ? '__Secure-' : ''}${name}`;
    this.#sessionAttributes = `; Path=${path}${domain === null ? '' : `; Domain=${domain}`}${common}`;
    // Of one browser at one host, so that no other host of the domain can slip in a login of its own.
    this.#login = `${hostOnly}${name}.login.`;
    this.#tries = `${hostOnly}${name}.tries`;
    this.#ownAttributes = `; Path=/${common}`;
  }

  take(header: string | undefined): Jar {
    const chunks = new Map<string, string>();
    const logins = new Map<string, string>();
    const surplus: string[] = [];
    const rest: string[] = [];
    let tries: string | null = null;
    for (const pair of header?.split(';') ?? []) {
      const equals = pair.indexOf('=');
      const name = pair.slice(0, Math.max(equals, 0)).trim();
      const value = pair.slice(equals + 1).trim();
      if (
        name === this.#session ||
        (name.startsWith(`${this.#session}.`) &&
          /^\.\d$/.test(name.slice(-2)) &&
          name.length === this.#session.length + 2)
      ) {
        if (!chunks.has(name)) chunks.set(name, value);
      } else if (name.startsWith(this.#login)) {
        if (logins.size < MAX_LOGINS_READ) logins.set(name.slice(this.#login.length), value);
        else surplus.push(name);
      } else if (name === this.#tries) tries ??= value;
      else rest.push(pair);
    }
    return {
      session: this.#whole(chunks),
      sessionNames: [...chunks.keys()],
      logins,
      surplus,
      tries,
      rest: rest.every((pair) => pair.trim() === '') ? undefined : rest.join(';').trim(),
    };
  }

  /** Null: it is too large for a browser to keep. */
  writeSession(sealed: string, maxAgeMs: number, before: readonly string[]): string[] | null {
    const count = Math.ceil(sealed.length / MAX_VALUE);
    if (count > MAX_CHUNKS) return null;
    const maxAge = `; Max-Age=${Math.ceil(maxAgeMs / 1_000)}`;
    const chunks = Array.from({ length: count }, (_, index) => {
      const part = sealed.slice(index * MAX_VALUE, (index + 1) * MAX_VALUE);
      const value = index === 0 ? `${count}.${part}` : part;
      return `${this.#chunkName(index)}=${value}${this.#sessionAttributes}${maxAge}`;
    });
    const written = new Set(chunks.map((_, index) => this.#chunkName(index)));
    return [...chunks, ...before.filter((name) => !written.has(name)).map((name) => this.#removedSession(name))];
  }

  removeSession({ sessionNames }: Jar): string[] {
    return sessionNames.map((name) => this.#removedSession(name));
  }

  writeLogin(id: string, sealed: string): string {
    return `${this.#login}${id}=${sealed}${this.#ownAttributes}; Max-Age=${LOGIN_SECONDS}`;
  }

  removeLogins(ids: Iterable<string>, { surplus }: Pick<Jar, 'surplus'>): string[] {
    const names = [...[...ids].map((id) => `${this.#login}${id}`), ...surplus];
    return names.map((name) => `${name}=${this.#ownAttributes}; Max-Age=0`);
  }

  writeTries(sealed: string, maxAgeMs: number): string {
    return `${this.#tries}=${sealed}${this.#ownAttributes}; Max-Age=${Math.ceil(maxAgeMs / 1_000)}`;
  }

  #whole(chunks: ReadonlyMap<string, string>): string | null {
    const first = /^([1-9])\.(.*)$/.exec(chunks.get(this.#session) ?? '');
    if (first === null || Number(first[1]) > MAX_CHUNKS) return null;
    const parts = Array.from({ length: Number(first[1]) - 1 }, (_, index) => chunks.get(this.#chunkName(index + 1)));
    return parts.every((part) => part !== undefined) ? `${first[2]}${parts.join('')}` : null;
  }

  #chunkName(index: number): string {
    return index === 0 ? this.#session : `${this.#session}.${index}`;
  }

  #removedSession(name: string): string {
    return `${name}=${this.#sessionAttributes}; Max-Age=0`;
  }
}

export const LOGIN_MS = LOGIN_SECONDS * 1_000;

/** Under which name the browser keeps the login with this state; says nothing about the state itself. */
export function loginId(state: string): string {
  return createHash('sha256').update(state).digest('base64url').slice(0, 22);
}
