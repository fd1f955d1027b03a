// The two messages of grpc.health.v1 and their gRPC framing, by hand: one field each needs no library.

/** ServingStatus of HealthCheckResponse. */
export const SERVING = 1;

const STATUS_NAMES = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'];

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
const FRAME_HEAD_BYTES = 5;

const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;

export function servingStatusName(status: number): string {
  return STATUS_NAMES[status] ?? `serving status ${status}`;
}

/** `code`: the value of grpc-status. */
export function grpcStatusName(code: string): string {
  return (/^\d{1,2}$/.test(code) ? CODE_NAMES[Number(code)] : undefined) ?? `status ${code.slice(0, 16)}`;
}

/** HealthCheckRequest { string service = 1; }, framed. */
export function healthRequest(service: string): Buffer {
  const name = Buffer.from(service, 'utf8');
  // The default value of a field is not sent.
  const message =
    name.length === 0
      ? name
      : Buffer.concat([Buffer.from([(1 << 3) | LENGTH_DELIMITED, ...varint(name.length)]), name]);
  const head = Buffer.alloc(FRAME_HEAD_BYTES);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** HealthCheckResponse { ServingStatus status = 1; } of one whole framed message; null: it is none. */
export function servingStatus(framed: Buffer): number | null {
  if (framed.length < FRAME_HEAD_BYTES || framed[0] !== 0) return null;
  if (framed.readUInt32BE(1) !== framed.length - FRAME_HEAD_BYTES) return null;
  const reader = { octets: framed, at: FRAME_HEAD_BYTES };
  let status = 0;
  while (reader.at < framed.length) {
    const tag = readVarint(reader);
    if (tag === null || tag >> 3 === 0) return null;
    if (tag === ((1 << 3) | VARINT)) {
      const value = readVarint(reader);
      if (value === null) return null;
      status = value;
    } else if (!skip(reader, tag & 7)) return null;
  }
  return status;
}

interface Reader {
  readonly octets: Buffer;
  at: number;
}

/** Fields that a later version of the message may have. */
function skip(reader: Reader, wireType: number): boolean {
  if (wireType === VARINT) return readVarint(reader) !== null;
  let length: number | null = null;
  if (wireType === FIXED64) length = 8;
  else if (wireType === FIXED32) length = 4;
  else if (wireType === LENGTH_DELIMITED) length = readVarint(reader);
  if (length === null || length > reader.octets.length - reader.at) return false;
  reader.at += length;
  return true;
}

/** Null: broken off, or longer than the ten bytes of a 64-bit number. What does not fit in 53 bits is rounded. */
function readVarint(reader: Reader): number | null {
  let value = 0;
  for (let count = 0; count < 10 && reader.at < reader.octets.length; count++) {
    const octet = reader.octets[reader.at++];
    value += (octet & 0x7f) * 2 ** (7 * count);
    if (octet < 0x80) return value;
  }
  return null;
}

function varint(value: number): number[] {
  const octets: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return [...octets, rest];
    octets.push((rest & 0x7f) | 0x80);
  }
}
