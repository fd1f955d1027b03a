// What went wrong on a client connection, as one of our codes.
import type { Code } from '../errors.ts';

/** Node's error, with what the HTTP parser adds. */
interface ParserError extends NodeJS.ErrnoException {
  readonly bytesParsed?: number;
  /** The bytes that were parsed last. */
  readonly rawPacket?: Buffer;
}

const LF = 10;
const END_OF_HEAD = '\r\n\r\n';
/** A request line that is in order but for a method that Node's parser does not know (RFC 9110 section 9.1: 501). */
const UNKNOWN_METHOD = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64} [!-~]+ HTTP\/1\.[01]\r?$/;
const REQUEST_LINE_START = /^\s*[A-Z-]{3,20} /;

/** Null: the client is gone, there is nobody to answer and nothing to count. */
export function codeOfClientError(error: ParserError): Code | null {
  switch (error.code) {
    case 'ECONNRESET':
    case 'EPIPE':
    case 'ECONNABORTED':
    case 'ETIMEDOUT':
      return null;
    case 'ERR_HTTP_REQUEST_TIMEOUT':
    case 'ERR_TLS_HANDSHAKE_TIMEOUT':
      return 'SLV_REQUEST_TIMEOUT';
    case 'HPE_HEADER_OVERFLOW':
      return inRequestLine(error) ? 'SLV_URL_TOO_LONG' : 'SLV_HEADERS_TOO_LARGE';
    case 'HPE_INVALID_METHOD':
      return UNKNOWN_METHOD.test(requestLine(error)) ? 'SLV_METHOD_UNSUPPORTED' : 'SLV_BAD_REQUEST';
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return 'SLV_BODY_TOO_LARGE';
    default:
      return 'SLV_BAD_REQUEST';
  }
}

/** The line that the parser gave up in, behind the last whole head of the packet; without its line end. */
function requestLine({ rawPacket, bytesParsed = 0 }: ParserError): string {
  if (rawPacket === undefined) return '';
  const before = rawPacket.lastIndexOf(END_OF_HEAD, bytesParsed);
  const start = before === -1 ? 0 : before + END_OF_HEAD.length;
  const end = rawPacket.indexOf(LF, start);
  return rawPacket.toString('latin1', start, end === -1 ? rawPacket.length : end);
}

/** True when the bytes at hand, behind the last whole head among them, begin a request whose first line has no end. */
function inRequestLine({ rawPacket, bytesParsed = 0 }: ParserError): boolean {
  if (rawPacket === undefined) return false;
  const parsed = rawPacket.subarray(0, bytesParsed);
  const before = parsed.lastIndexOf(END_OF_HEAD);
  const last = before === -1 ? parsed : parsed.subarray(before + END_OF_HEAD.length);
  return REQUEST_LINE_START.test(last.toString('latin1', 0, 40)) && !last.includes(LF);
}
