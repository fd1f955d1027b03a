// The two messages of grpc.health.v1, by hand: one field each needs no library.
import { FRAME_HEAD_BYTES, frame, lengthDelimited, ProtobufReader, VARINT } from '../../http/grpc-wire.ts';

/** ServingStatus of HealthCheckResponse. */
export const SERVING = 1;

const STATUS_NAMES = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'];

export function servingStatusName(status: number): string {
  return STATUS_NAMES[status] ?? `serving status ${status}`;
}

/** HealthCheckRequest { string service = 1; }, framed. */
export function healthRequest(service: string): Buffer {
  const name = Buffer.from(service, 'utf8');
  // The default value of a field is not sent.
  return frame(name.length === 0 ? name : lengthDelimited(1, name));
}

/** HealthCheckResponse { ServingStatus status = 1; } of one whole framed message; null: it is none. */
export function servingStatus(framed: Buffer): number | null {
  if (framed.length < FRAME_HEAD_BYTES || framed[0] !== 0) return null;
  if (framed.readUInt32BE(1) !== framed.length - FRAME_HEAD_BYTES) return null;
  const reader = new ProtobufReader(framed, FRAME_HEAD_BYTES);
  let status = 0;
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === null) return null;
    if (tag.field === 1 && tag.wireType === VARINT) {
      const value = reader.varint();
      if (value === null) return null;
      status = value;
    } else if (!reader.skip(tag.wireType)) return null;
  }
  return status;
}
