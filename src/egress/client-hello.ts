// Reads the first thing a TLS client says inside a tunnel, as far as the name of the server that it asks for. Nothing is decrypted.

/** Octets that a client may take for it, record headers included. */
export const MAX_HELLO_BYTES = 16_384;

export type Hello =
  /** The beginning of one: more must come. */
  | { readonly kind: 'more' }
  /** `serverName` in lower case; null: it names none. */
  | { readonly kind: 'hello'; readonly serverName: string | null }
  /** `not_tls`: something else. `malformed`: TLS, and wrong or too long. */
  | { readonly kind: 'not_tls' }
  | { readonly kind: 'malformed' };

const MORE: Hello = Object.freeze({ kind: 'more' });
const NOT_TLS: Hello = Object.freeze({ kind: 'not_tls' });
const MALFORMED: Hello = Object.freeze({ kind: 'malformed' });

const HANDSHAKE_RECORD = 22;
const CLIENT_HELLO = 1;
const SERVER_NAME_EXTENSION = 0;
const HOST_NAME = 0;
const RECORD_HEADER = 5;
const HANDSHAKE_HEADER = 4;
/** RFC 8446 section 5.1: a plaintext record. */
const MAX_RECORD = 16_384;

/** @param octets - what the client has sent so far, from its first octet (RFC 8446 section 4.1.2, RFC 6066 section 3) */
export function readHello(octets: Buffer): Hello {
  if (octets.length > 0 && octets[0] !== HANDSHAKE_RECORD) return NOT_TLS;
  if (octets.length > 1 && octets[1] !== 3) return NOT_TLS;
  const message = handshakeOf(octets);
  if (!Buffer.isBuffer(message)) return message;
  if (message.length === 0) return MORE;
  if (message[0] !== CLIENT_HELLO) return NOT_TLS;
  if (message.length < HANDSHAKE_HEADER) return tooLong(octets) ? MALFORMED : MORE;
  const end = HANDSHAKE_HEADER + message.readUIntBE(1, 3);
  if (end > MAX_HELLO_BYTES) return MALFORMED;
  if (message.length < end) return tooLong(octets) ? MALFORMED : MORE;
  return serverNameOf(new Reader(message.subarray(HANDSHAKE_HEADER, end)));
}

function tooLong(octets: Buffer): boolean {
  return octets.length >= MAX_HELLO_BYTES;
}

/** A hello may be spread over several records: their contents in a row, the last one perhaps not whole. */
function handshakeOf(octets: Buffer): Buffer | Hello {
  const parts: Buffer[] = [];
  for (let at = 0; at + RECORD_HEADER <= octets.length; ) {
    const length = octets.readUInt16BE(at + 3);
    if (octets[at] !== HANDSHAKE_RECORD || octets[at + 1] !== 3 || length === 0 || length > MAX_RECORD) {
      // What stands behind a whole hello is not our concern.
      if (isWhole(parts)) break;
      return at === 0 ? NOT_TLS : MALFORMED;
    }
    parts.push(octets.subarray(at + RECORD_HEADER, Math.min(at + RECORD_HEADER + length, octets.length)));
    at += RECORD_HEADER + length;
  }
  return parts.length === 1 ? parts[0] : Buffer.concat(parts);
}

function isWhole(parts: readonly Buffer[]): boolean {
  const message = Buffer.concat(parts);
  return message.length >= HANDSHAKE_HEADER && message.length >= HANDSHAKE_HEADER + message.readUIntBE(1, 3);
}

function serverNameOf(hello: Reader): Hello {
  // legacy_version, random, legacy_session_id, cipher_suites, legacy_compression_methods
  if (!hello.skip(34) || hello.vector(1) === null || hello.vector(2) === null || hello.vector(1) === null)
    return MALFORMED;
  if (hello.left === 0) return { kind: 'hello', serverName: null };
  const extensions = hello.vector(2);
  if (extensions === null || hello.left > 0) return MALFORMED;
  let names: Reader | null = null;
  while (extensions.left > 0) {
    const type = extensions.uint(2);
    const data = extensions.vector(2);
    if (type === null || data === null) return MALFORMED;
    if (type !== SERVER_NAME_EXTENSION) continue;
    // Two of them: servers differ in which one they believe.
    if (names !== null) return MALFORMED;
    names = data;
  }
  return names === null ? { kind: 'hello', serverName: null } : hostNameOf(names);
}

function hostNameOf(extension: Reader): Hello {
  const list = extension.vector(2);
  if (list === null || extension.left > 0) return MALFORMED;
  const type = list.uint(1);
  const name = list.vector(2);
  // One name of one kind: nothing else was ever defined, and who sends more wants to be misread.
  if (type !== HOST_NAME || name === null || list.left > 0) return MALFORMED;
  const serverName = name.text();
  return serverName === null ? MALFORMED : { kind: 'hello', serverName };
}

/** A position in octets that never leaves them. */
class Reader {
  readonly #octets: Buffer;
  #at = 0;

  constructor(octets: Buffer) {
    this.#octets = octets;
  }

  get left(): number {
    return this.#octets.length - this.#at;
  }

  skip(length: number): boolean {
    if (length > this.left) return false;
    this.#at += length;
    return true;
  }

  uint(size: 1 | 2): number | null {
    if (size > this.left) return null;
    const value = this.#octets.readUIntBE(this.#at, size);
    this.#at += size;
    return value;
  }

  /** What stands behind a length of `size` octets. */
  vector(size: 1 | 2): Reader | null {
    const length = this.uint(size);
    if (length === null || length > this.left) return null;
    const from = this.#at;
    this.#at += length;
    return new Reader(this.#octets.subarray(from, this.#at));
  }

  /** A host name in lower case; null for anything else. */
  text(): string | null {
    const text = this.#octets.toString('latin1').toLowerCase();
    return text.length <= 253 && /^[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/.test(text) ? text : null;
  }
}
