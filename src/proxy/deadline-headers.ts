// Deadlines that travel with a request: gRPC's `grpc-timeout` (gRPC over HTTP/2, "Timeout": at most 8 digits and a unit).

const UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 0.001, n: 0.000001 };

/** Milliseconds, or null when malformed. */
export function parseGrpcTimeout(value: string): number | null {
  const parts = /^(\d{1,8})([HMSmun])$/.exec(value);
  return parts === null ? null : Number(parts[1]) * UNITS[parts[2]];
}
