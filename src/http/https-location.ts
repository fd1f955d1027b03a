// Where a plain request is sent to come again by https, and with which status.

/**
 * Absolute, so that no path can name another host; only visible ASCII, so that nothing of the request can end the header line.
 * `host` and `path` are normalised (http/path.ts), the query is as it came; port 443 is left out.
 */
export function httpsLocation(host: string, port: number, path: string, query: string): string {
  return `https://${host}${port === 443 ? '' : `:${port}`}${path}${query === '' ? '' : `?${escapeBytes(query)}`}`;
}

/** Of a redirect for good: crawlers know 301 best, and only 308 says that any other method and its body stay (RFC 9110 section 15.4.9). */
export function permanentStatus(method: string): 301 | 308 {
  return method === 'GET' || method === 'HEAD' ? 301 : 308;
}

const BEYOND_VISIBLE_ASCII = /[^\x21-\x7e]+/g;

/** Characters that a header cannot carry, as escapes; of text from the wire, one character a byte. */
export function escapeBytes(text: string): string {
  return text.replace(BEYOND_VISIBLE_ASCII, (run) => escapeAll(Buffer.from(run, 'latin1')));
}

/** The same for text that a person wrote, as UTF-8. */
export function escapeWritten(text: string): string {
  return text.replace(BEYOND_VISIBLE_ASCII, (run) => escapeAll(Buffer.from(run, 'utf8')));
}

function escapeAll(bytes: Buffer): string {
  let escaped = '';
  for (const byte of bytes) escaped += `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  return escaped;
}
