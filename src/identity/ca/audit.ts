// What a CA service has done, for people who ask later: one JSON line for every certificate and every refusal.

export interface AuditEntry {
  /** `issue`: by a join token. `renew`: by a certificate. */
  readonly event: 'issue' | 'renew' | 'refuse';
  /** Address of the client. */
  readonly from: string;
  /** SPIFFE id; absent where a refused client has proved none. */
  readonly id?: string;
  /** Hex, of the new certificate. */
  readonly serial?: string;
  /** Hex, of the certificate that was shown. */
  readonly shown?: string;
  /** ISO 8601. */
  readonly expiresAt?: string;
  /** Name of the join token's record, never its secret. */
  readonly token?: string;
  /** Of a refusal, as the client gets it. */
  readonly reason?: string;
  /** What is meant for the operator only. */
  readonly detail?: string;
}

export type Audit = (entry: AuditEntry) => void;

/** Ends with a line feed. */
export function auditLine(entry: AuditEntry, now: number): string {
  const { event, ...facts } = entry;
  return `${JSON.stringify({ time: new Date(now).toISOString(), audit: event, ...facts })}\n`;
}
