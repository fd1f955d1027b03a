// What the parser lets through and a proxy must not: checked on every request head before anything reads it.
import type { IncomingMessage } from 'node:http';
import type { Code } from '../errors.ts';

/** Of the listener's limits; Infinity where one is off. */
export interface HeadLimits {
  readonly headerCount: number;
  /** Of the request target, as received. */
  readonly urlBytes: number;
}

/** RFC 9110 section 8.6; at most 19 digits, past that no number of bytes is meant. */
const CONTENT_LENGTH = /^\d{1,19}$/;

/**
 * Null, or why the request is refused. One pass over the header lines as received, because `req.headers` hides repetitions:
 * exactly one Host (HTTP/1.0: at most one), one well-formed Content-Length at most, never together with Transfer-Encoding,
 * which is `chunked` and nothing else (RFC 9112 sections 3.2, 6.1, 6.3).
 *
 * Node's parser (llhttp 9) refuses by itself, measured on 20.20 and 26.10: folded lines, bare LF and CR, space before the colon, controls in
 * names, values and target, malformed chunks and most malformed framing. The tests hold it to that.
 */
export function checkRequest(req: IncomingMessage, limits: HeadLimits): Code | null {
  const { rawHeaders, httpVersionMajor: major, httpVersionMinor: minor } = req;
  if (major !== 1 || minor > 1) return 'SLV_BAD_REQUEST';
  if ((req.url as string).length > limits.urlBytes) return 'SLV_URL_TOO_LONG';
  if (rawHeaders.length > 2 * limits.headerCount) return 'SLV_HEADERS_TOO_LARGE';
  let hosts = 0;
  let lengths = 0;
  let encodings = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i];
    switch (name.length) {
      case 4:
        if (name.toLowerCase() !== 'host') break;
        if (++hosts > 1 || (rawHeaders[i + 1] === '' && minor === 1)) return 'SLV_BAD_HOST';
        break;
      case 14:
        if (name.toLowerCase() !== 'content-length') break;
        if (++lengths > 1 || !CONTENT_LENGTH.test(rawHeaders[i + 1])) return 'SLV_BAD_REQUEST';
        // Larger than a double counts exactly: what is left of it could not be told from what came.
        if (!Number.isSafeInteger(Number(rawHeaders[i + 1]))) return 'SLV_BODY_TOO_LARGE';
        break;
      case 17:
        if (name.toLowerCase() !== 'transfer-encoding') break;
        if (++encodings > 1 || minor === 0 || rawHeaders[i + 1].toLowerCase() !== 'chunked') return 'SLV_BAD_REQUEST';
        break;
    }
  }
  if (hosts === 0 && minor === 1) return 'SLV_BAD_HOST';
  return lengths + encodings > 1 ? 'SLV_BAD_REQUEST' : null;
}
