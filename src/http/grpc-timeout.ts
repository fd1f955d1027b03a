// Deadlines that travel with a request: gRPC's `grpc-timeout` (gRPC over HTTP/2, "Timeout": at most 8 digits and a unit).

const UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 0.001, n: 0.000001 };

/** Milliseconds, or null when malformed. */
export function parseGrpcTimeout(value: string): number | null {
  const parts = /^(\d{1,8})([HMSmun])$/.exec(value);
  return parts === null ? null : Number(parts[1]) * UNITS[parts[2]];
}

/** The largest unit that keeps it within eight digits. */
export function formatGrpcTimeout(ms: number): string {
  const whole = Math.floor(ms);
  if (whole < 100_000_000) return `${whole}m`;
  return whole < 100_000_000_000
    ? `${Math.floor(whole / 1_000)}S`
    : `${Math.min(99_999_999, Math.floor(whole / 3_600_000))}H`;
}
