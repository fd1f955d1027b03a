// What a certificate says about its holder, read out of the text forms that Node gives.
import type { X509Certificate } from 'node:crypto';

export interface SubjectName {
  /** `DNS`, `URI`, `IP Address`, `email` … */
  readonly type: string;
  readonly value: string;
}

/** A value that holds a separator comes quoted as a JSON string, so that a name cannot pose as two (CVE-2021-44532). */
const ENTRY = /([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)/y;

/** The subject alternative names in their order; empty when there are none or the text cannot be read whole. */
export function subjectNames(certificate: X509Certificate): readonly SubjectName[] {
  const text = certificate.subjectAltName ?? '';
  const names: SubjectName[] = [];
  ENTRY.lastIndex = 0;
  while (ENTRY.lastIndex < text.length) {
    const entry = ENTRY.exec(text);
    if (entry === null) return [];
    const [, type, value] = entry;
    names.push({ type, value: value.startsWith('"') ? (JSON.parse(value) as string) : value });
  }
  return names;
}

/** The last common name of the subject, or null. */
export function commonName(certificate: X509Certificate): string | null {
  const name = certificate.toLegacyObject().subject?.CN as string | string[] | undefined;
  return (Array.isArray(name) ? name.at(-1) : name) ?? null;
}

/** Lower-case DNS names that the certificate stands for; the common name only where there are no alternative DNS names (RFC 6125). */
export function serverNames(certificate: X509Certificate): readonly string[] {
  const names = subjectNames(certificate)
    .filter(({ type }) => type === 'DNS')
    .map(({ value }) => value.toLowerCase());
  if (names.length > 0) return names;
  const fallback = commonName(certificate);
  return fallback === null ? [] : [fallback.toLowerCase()];
}
