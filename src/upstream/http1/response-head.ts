// Reads one complete response head, or trailer section, out of its text: strict, in one pass (RFC 9112 sections 4 to 6).
import { TRANSPORT_CODES } from '../../dispatch.ts';
import { COLON, CR, FIELD_CONTENT, HTAB, isFraming, LF, SP, TOKEN } from './grammar.ts';
import { TransportError } from './transport-error.ts';

/** Bound of the lines in one head or trailer section. */
const MAX_FIELDS = 1000;

/** Digits of the largest body length that is accepted: below 2^53 whatever they are. */
const MAX_LENGTH_DIGITS = 15;

/** What the head of a response says; one object per connection, overwritten by every head. */
export interface ResponseHead {
  statusCode: number;
  statusMessage: string;
  /** Name, value, name, value … as received (latin1). */
  rawHeaders: string[];
  /** -1: none was sent. */
  contentLength: number;
  chunked: boolean;
  /** Whether the connection may serve again once this response is complete, as far as the head says. */
  persistent: boolean;
  /** Seconds of `Keep-Alive: timeout=N`; -1: none was sent. */
  keepAliveSeconds: number;
  /** Value of the Upgrade field, lower-case; empty: none. */
  upgrade: string;
}

export function emptyHead(): ResponseHead {
  return {
    statusCode: 0,
    statusMessage: '',
    rawHeaders: [],
    contentLength: -1,
    chunked: false,
    persistent: false,
    keepAliveSeconds: -1,
    upgrade: '',
  };
}

export function malformed(what: string): TransportError {
  return new TransportError(TRANSPORT_CODES.invalid, `the upstream's response is malformed: ${what}`);
}

/**
 * Reads a head into `head`.
 * @param text - status line, field lines and the empty line, all of them ended by CRLF
 * @throws TransportError `SLV_UPSTREAM_INVALID`, or `SLV_UPSTREAM_HEADERS_TOO_LARGE` for too many lines
 */
export function readHead(text: string, head: ResponseHead): void {
  const minorVersion = text.charCodeAt(7) - 0x30;
  if (!text.startsWith('HTTP/1.') || (minorVersion !== 0 && minorVersion !== 1) || text.charCodeAt(8) !== SP) {
    throw malformed('not an HTTP/1.x status line');
  }
  head.statusCode = readStatus(text);
  let at = 12;
  // A status line without reason phrase often lacks the space before it too.
  if (text.charCodeAt(at) === SP) {
    at += 1;
    while (FIELD_CONTENT[text.charCodeAt(at)] === 1) at += 1;
    head.statusMessage = text.slice(13, at);
  } else {
    head.statusMessage = '';
  }
  if (text.charCodeAt(at) !== CR || text.charCodeAt(at + 1) !== LF) throw malformed('status line');
  head.rawHeaders = [];
  readFields(text, at + 2, head.rawHeaders);
  readFraming(head, minorVersion);
}

function readStatus(text: string): number {
  const hundreds = text.charCodeAt(9) - 0x30;
  const tens = text.charCodeAt(10) - 0x30;
  const units = text.charCodeAt(11) - 0x30;
  if (!(hundreds >= 1 && hundreds <= 9 && tens >= 0 && tens <= 9 && units >= 0 && units <= 9))
    throw malformed('status code');
  return hundreds * 100 + tens * 10 + units;
}

/**
 * Appends the field lines from `at` up to the empty line to `lines`.
 * No folding, no space before the colon, no control characters, CRLF only.
 */
export function readFields(text: string, at: number, lines: string[]): void {
  let octet = text.charCodeAt(at);
  while (octet !== CR) {
    const nameStart = at;
    while (TOKEN[octet] === 1) octet = text.charCodeAt(++at);
    if (octet !== COLON || at === nameStart) throw malformed('field name');
    const nameEnd = at;
    do octet = text.charCodeAt(++at);
    while (octet === SP || octet === HTAB);
    const valueStart = at;
    let valueEnd = at;
    while (FIELD_CONTENT[octet] === 1) {
      at += 1;
      if (octet !== SP && octet !== HTAB) valueEnd = at;
      octet = text.charCodeAt(at);
    }
    if (octet !== CR || text.charCodeAt(at + 1) !== LF) throw malformed('field value');
    if (lines.length === MAX_FIELDS * 2) {
      throw new TransportError(
        TRANSPORT_CODES.headersTooLarge,
        `the upstream sent more than ${MAX_FIELDS} field lines`,
      );
    }
    const name = text.slice(nameStart, nameEnd);
    // Parsers differ on a tab behind `chunked`: some see another coding, and so another end of the body.
    if (valueEnd !== at && isFraming(name) && text.slice(valueEnd, at).includes('\t'))
      throw malformed('framing field value');
    lines.push(name, text.slice(valueStart, valueEnd));
    at += 2;
    octet = text.charCodeAt(at);
  }
  if (text.charCodeAt(at + 1) !== LF || at + 2 !== text.length) throw malformed('line end');
}

/** RFC 9112 section 6.3, refusing whatever two recipients could read differently. */
function readFraming(head: ResponseHead, minorVersion: number): void {
  head.contentLength = -1;
  head.chunked = false;
  head.persistent = minorVersion === 1;
  head.keepAliveSeconds = -1;
  head.upgrade = '';
  let closes = false;
  const lines = head.rawHeaders;
  for (let i = 0; i < lines.length; i += 2) {
    switch (lines[i].length) {
      case 7:
        if (lines[i].toLowerCase() === 'upgrade') {
          const upgrade = lines[i + 1].toLowerCase();
          head.upgrade = head.upgrade === '' ? upgrade : `${head.upgrade}, ${upgrade}`;
        }
        break;
      case 10: {
        const name = lines[i].toLowerCase();
        if (name === 'connection') {
          const options = lines[i + 1].toLowerCase();
          if (namesOption(options, 'close')) closes = true;
          else if (namesOption(options, 'keep-alive')) head.persistent = true;
        } else if (name === 'keep-alive') {
          const seconds = /(?:^|[,;\s])timeout\s*=\s*"?(\d{1,9})/i.exec(lines[i + 1]);
          if (seconds !== null) head.keepAliveSeconds = Number(seconds[1]);
        }
        break;
      }
      case 14:
        if (lines[i].toLowerCase() === 'content-length') {
          if (head.contentLength !== -1) throw malformed('repeated Content-Length');
          head.contentLength = readLength(lines[i + 1]);
        }
        break;
      case 17:
        if (lines[i].toLowerCase() === 'transfer-encoding') {
          if (head.chunked || lines[i + 1].toLowerCase() !== 'chunked')
            throw malformed('Transfer-Encoding other than chunked');
          head.chunked = true;
        }
        break;
    }
  }
  if (closes) head.persistent = false;
  if (head.chunked && head.contentLength !== -1) throw malformed('Content-Length beside Transfer-Encoding');
  if (head.chunked && minorVersion === 0) throw malformed('Transfer-Encoding in HTTP/1.0');
}

function readLength(value: string): number {
  if (!/^[0-9]+$/.test(value) || value.length > MAX_LENGTH_DIGITS) throw malformed('Content-Length');
  return Number(value);
}

/** Whether a lower-case comma list has this member. */
export function namesOption(list: string, option: string): boolean {
  if (list === option) return true;
  return list.includes(option) && list.split(',').some((member) => member.trim() === option);
}
