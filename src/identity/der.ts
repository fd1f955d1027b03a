// The few shapes of DER (X.690) that certificates and requests are made of: written for ours, read strictly from anybody's.

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** `[n]` that holds other elements. */
export function contextTag(number: number): number {
  return 0xa0 | number;
}

/** `[n] IMPLICIT` of a string. */
export function implicitTag(number: number): number {
  return 0x80 | number;
}

export function element(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const length = contents.reduce((sum, part) => sum + part.length, 0);
  const head = length < 0x80 ? [tag, length] : [tag, 0x80 | bigEndian(length).length, ...bigEndian(length)];
  return Buffer.concat([Buffer.from(head), ...contents]);
}

export function sequence(...contents: readonly Uint8Array[]): Buffer {
  return element(TAG.sequence, ...contents);
}

/** Of an unsigned big-endian number: as short as it can be, and never negative. */
export function unsigned(octets: Uint8Array): Buffer {
  let start = 0;
  while (start < octets.length - 1 && octets[start] === 0) start += 1;
  const short = octets.subarray(start);
  return element(TAG.integer, ...(short[0] >= 0x80 ? [Buffer.of(0), short] : [short]));
}

export function oid(dotted: string): Buffer {
  const [first, second, ...rest] = dotted.split('.').map(Number);
  return element(TAG.oid, Buffer.from([first * 40 + second, ...rest.flatMap(base128)]));
}

/** With no unused bits. */
export function bitString(octets: Uint8Array): Buffer {
  return element(TAG.bitString, Buffer.of(0), octets);
}

export function boolean(value: boolean): Buffer {
  return element(TAG.boolean, Buffer.of(value ? 0xff : 0));
}

/** UTCTime until 2049, GeneralizedTime from then on (RFC 5280, section 4.1.2.5). Whole seconds. */
export function time(at: number): Buffer {
  const digits = new Date(at).toISOString().replace(/\.\d+/, '').replace(/[-:T]/g, '');
  return at < Date.UTC(2050, 0)
    ? element(TAG.utcTime, Buffer.from(digits.slice(2), 'latin1'))
    : element(TAG.generalizedTime, Buffer.from(digits, 'latin1'));
}

function bigEndian(value: number): number[] {
  const octets: number[] = [];
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256);
  return octets;
}

function base128(value: number): number[] {
  const octets = [value % 128];
  for (let rest = Math.floor(value / 128); rest > 0; rest = Math.floor(rest / 128)) octets.unshift((rest % 128) | 0x80);
  return octets;
}

/** One element that was read. */
export interface Element {
  readonly tag: number;
  readonly content: Buffer;
  /** With tag and length. */
  readonly raw: Buffer;
}

/** What is read is not DER, or not of the shape that was asked for. */
export class DerError extends Error {
  override readonly name = 'DerError';
}

/** Steps over the elements of one level, in order. */
export class DerReader {
  readonly #octets: Buffer;
  #at = 0;

  constructor(octets: Buffer) {
    this.#octets = octets;
  }

  get done(): boolean {
    return this.#at === this.#octets.length;
  }

  /** The tag of the next element; -1 at the end. */
  get nextTag(): number {
    return this.done ? -1 : this.#octets[this.#at];
  }

  next(): Element {
    const [octets, start] = [this.#octets, this.#at];
    if (octets.length - start < 2) throw new DerError('broken off');
    const tag = octets[start];
    if ((tag & 0x1f) === 0x1f) throw new DerError('a tag of more than one octet');
    let contentAt = start + 2;
    let length = octets[start + 1];
    if (length >= 0x80) {
      const count = length & 0x7f;
      // No indefinite length, no number that has a shorter form, nothing beyond 4 GiB.
      if (count === 0 || count > 4 || octets.length - contentAt < count) throw new DerError('a bad length');
      length = octets.readUIntBE(contentAt, count);
      if (length < 0x80 || length < 2 ** (8 * (count - 1)))
        throw new DerError('a length that is not as short as it can be');
      contentAt += count;
    }
    if (length > octets.length - contentAt) throw new DerError('broken off');
    this.#at = contentAt + length;
    return { tag, content: octets.subarray(contentAt, this.#at), raw: octets.subarray(start, this.#at) };
  }

  expect(tag: number): Element {
    if (this.nextTag !== tag) throw new DerError(`an element that is not 0x${tag.toString(16)}`);
    return this.next();
  }

  optional(tag: number): Element | null {
    return this.nextTag === tag ? this.next() : null;
  }

  /** A level deeper. */
  enter(tag: number = TAG.sequence): DerReader {
    return new DerReader(this.expect(tag).content);
  }

  end(): void {
    if (!this.done) throw new DerError('something that does not belong there');
  }
}

/** The only element that there is. */
export function onlyElement(octets: Buffer, tag: number = TAG.sequence): Element {
  const reader = new DerReader(octets);
  const found = reader.expect(tag);
  reader.end();
  return found;
}

export function readOid({ content }: Element): string {
  const arcs: number[] = [];
  let value = 0;
  if (content.length === 0 || content[content.length - 1] >= 0x80) throw new DerError('a bad object identifier');
  for (const octet of content) {
    value = value * 128 + (octet & 0x7f);
    if (value > Number.MAX_SAFE_INTEGER) throw new DerError('a bad object identifier');
    if (octet >= 0x80) continue;
    arcs.push(value);
    value = 0;
  }
  const [head, ...rest] = arcs;
  const first = Math.min(2, Math.floor(head / 40));
  return [first, head - first * 40, ...rest].join('.');
}

/** `null`, an element that was left out, is the default. */
export function readBoolean(element: Element | null): boolean {
  if (element === null) return false;
  const { content } = element;
  // BER has other ways to say true, which others might read differently.
  if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) throw new DerError('a bad boolean');
  return content[0] === 0xff;
}

/** Of a BIT STRING without unused bits. */
export function readBits({ content }: Element): Buffer {
  if (content.length === 0 || content[0] !== 0) throw new DerError('a bad bit string');
  return content.subarray(1);
}

/** Milliseconds since the epoch. */
export function readTime({ tag, content }: Element): number {
  const text = content.toString('latin1');
  const short = tag === TAG.utcTime;
  if (!short && tag !== TAG.generalizedTime) throw new DerError('an element that is no time');
  if (!(short ? /^\d{12}Z$/ : /^\d{14}Z$/).test(text)) throw new DerError('a bad time');
  // RFC 5280, section 4.1.2.5.1: two digits from 50 on are of the last century.
  const digits = short ? `${Number(text.slice(0, 2)) >= 50 ? '19' : '20'}${text}` : text;
  const at = Date.parse(digits.replace(/^(....)(..)(..)(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6Z'));
  if (Number.isNaN(at)) throw new DerError('a bad time');
  return at;
}
