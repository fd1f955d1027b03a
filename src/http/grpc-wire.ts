// gRPC framing and the wire format of protobuf, by hand: enough for the few small messages that are read and written here.

/** Names of the gRPC status codes by number. */
const CODE_NAMES = [
  'OK',
  'CANCELLED',
  'UNKNOWN',
  'INVALID_ARGUMENT',
  'DEADLINE_EXCEEDED',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
  'UNAUTHENTICATED',
];

/** Flag and length before every gRPC message. */
export const FRAME_HEAD_BYTES = 5;

/** Wire types. */
export const VARINT = 0;
const FIXED64 = 1;
export const LENGTH_DELIMITED = 2;
const FIXED32 = 5;

/** `code`: the value of grpc-status. */
export function grpcStatusName(code: string): string {
  return (/^\d{1,2}$/.test(code) ? CODE_NAMES[Number(code)] : undefined) ?? `status ${code.slice(0, 16)}`;
}

/** One uncompressed message as it goes over the stream. */
export function frame(message: Buffer): Buffer {
  const head = Buffer.alloc(FRAME_HEAD_BYTES);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** A string, bytes or message field. */
export function lengthDelimited(field: number, content: Buffer): Buffer {
  return Buffer.concat([Buffer.from([...varint((field << 3) | LENGTH_DELIMITED), ...varint(content.length)]), content]);
}

/** Steps over the fields of one message. Everything returns null (or false) for a message that is malformed or broken off. */
export class ProtobufReader {
  readonly #octets: Buffer;
  #at: number;

  constructor(octets: Buffer, at = 0) {
    this.#octets = octets;
    this.#at = at;
  }

  get done(): boolean {
    return this.#at >= this.#octets.length;
  }

  /** The number and wire type of the next field. */
  tag(): { readonly field: number; readonly wireType: number } | null {
    const tag = this.varint();
    return tag === null || tag >= 2 ** 32 || tag >>> 3 === 0 ? null : { field: tag >>> 3, wireType: tag & 7 };
  }

  /** Longer than the ten bytes of a 64-bit number is malformed. What does not fit in 53 bits is rounded. */
  varint(): number | null {
    let value = 0;
    for (let count = 0; count < 10 && this.#at < this.#octets.length; count++) {
      const octet = this.#octets[this.#at++];
      value += (octet & 0x7f) * 2 ** (7 * count);
      if (octet < 0x80) return value;
    }
    return null;
  }

  /** The content of a length-delimited field, not copied. */
  bytes(): Buffer | null {
    const length = this.varint();
    if (length === null || length > this.#octets.length - this.#at) return null;
    this.#at += length;
    return this.#octets.subarray(this.#at - length, this.#at);
  }

  /** Fields that a later version of the message may have. */
  skip(wireType: number): boolean {
    if (wireType === VARINT) return this.varint() !== null;
    if (wireType === LENGTH_DELIMITED) return this.bytes() !== null;
    const length = wireType === FIXED64 ? 8 : wireType === FIXED32 ? 4 : Number.POSITIVE_INFINITY;
    if (length > this.#octets.length - this.#at) return false;
    this.#at += length;
    return true;
  }
}

function varint(value: number): number[] {
  const octets: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return [...octets, rest];
    octets.push((rest & 0x7f) | 0x80);
  }
}
