// `Retry-After` (RFC 9110 section 10.2.3): how long a service asks to be left alone, in seconds or until a date.

/** Milliseconds from now on, 0 for a date that has passed; null when it is malformed. `wallNow`: milliseconds since the epoch. */
export function retryAfterMs(value: string, wallNow: number): number | null {
  const text = value.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1_000;
  // A date names its weekday; `Date.parse` alone would take much that is none ("1", "2026-1").
  if (!/^[A-Z][a-z]{2}/.test(text)) return null;
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : Math.max(0, at - wallNow);
}
