// Keeps a client at its endpoint: the cookie that is set with its first response and leads its later requests.
import { createHmac } from 'node:crypto';
import type { Session } from '../../config/model.ts';
import type { Endpoint } from '../endpoint.ts';

/** 128 bits: more cannot be guessed than that, and every request carries it. */
const TAG_BYTES = 16;

/**
 * Stands for an endpoint in a cookie: names no address, cannot be made up without the secret, and is the same in every process
 * with that secret, across reloads and whatever other endpoints there are. 22 characters of base64url.
 */
export function sessionTag(secret: Buffer, service: string, address: string): string {
  // Neither a service's name nor an address contains a line feed.
  const digest = createHmac('sha256', secret).update(`${service}\n${address}`).digest();
  return digest.subarray(0, TAG_BYTES).toString('base64url');
}

/** The tags of a service's endpoints, computed once: a request costs a look-up. */
export class SessionTags {
  readonly #tags = new Map<Endpoint, string>();
  readonly #endpoints = new Map<string, Endpoint>();

  constructor(secret: Buffer, service: string, endpoints: readonly Endpoint[]) {
    for (const endpoint of endpoints) {
      const tag = sessionTag(secret, service, endpoint.address);
      this.#tags.set(endpoint, tag);
      // The same application behind several hops: the first one leads there as well.
      if (!this.#endpoints.has(tag)) this.#endpoints.set(tag, endpoint);
    }
  }

  /** Null: not an endpoint of the service. */
  tagOf(endpoint: Endpoint): string | null {
    return this.#tags.get(endpoint) ?? null;
  }

  /** Null: the tag is made up, of another secret or service, or its endpoint is gone. */
  endpointOf(tag: string): Endpoint | null {
    return this.#endpoints.get(tag) ?? null;
  }
}

const SAME_SITE = { strict: 'Strict', lax: 'Lax', none: 'None' } as const;

/** The value of a Set-Cookie header (RFC 6265 section 4.1; SameSite: its successor, section 5.6.7). @param https the client's request came by https */
export function serializeSessionCookie(
  session: Extract<Session, { kind: 'cookie' }>,
  tag: string,
  https: boolean,
): string {
  let cookie = `${session.name}=${tag}; Path=/`;
  if (session.maxAgeS !== null) cookie += `; Max-Age=${session.maxAgeS}`;
  if (session.secure === 'auto' ? https : session.secure) cookie += '; Secure';
  if (session.httpOnly) cookie += '; HttpOnly';
  return `${cookie}; SameSite=${SAME_SITE[session.sameSite]}`;
}
