// Writes the head of a request as one latin1 string: the caller's field lines, then the framing that this client alone decides.
import type { DispatchOptions } from '../../dispatch.ts';
import { CR, FIELD_CONTENT, LF, SP, TOKEN } from './grammar.ts';
import { TransportError } from './transport-error.ts';

/** Methods whose recipients expect to be told that there is no body (RFC 9110 section 8.6). */
const METHODS_WITH_BODY: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH']);

/**
 * Field lines about connection and framing that a caller passes by mistake are left out: they are decided here.
 * @param authority - value of the Host field when the caller gives none
 * @throws TransportError `SLV_BAD_REQUEST` when method, target or a field line would not stay what it is on the wire
 */
export function writeHead(options: DispatchOptions, authority: string): string {
  const { method, path, headers } = options;
  if (!isToken(method)) throw unwritable('method');
  if (!isTarget(path)) throw unwritable('request target');
  checkBody(options);
  let head = `${method} ${path} HTTP/1.1\r\n`;
  let lines = 2;
  let hostGiven = false;
  let sendsTe = false;
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i];
    switch (name.length) {
      case 0:
        throw unwritable('field name');
      case 2:
        if (name.toLowerCase() === 'te') sendsTe = true;
        break;
      case 4:
        if (name.toLowerCase() === 'host') {
          if (hostGiven) throw unwritable('repeated Host');
          hostGiven = true;
        }
        break;
      case 6:
      case 7:
      case 10:
      case 14:
      case 17:
        if (isOurs(name)) continue;
        break;
    }
    head += `${name}: ${headers[i + 1]}\r\n`;
    lines += 1;
  }
  if (!hostGiven) {
    head += `host: ${authority}\r\n`;
    lines += 1;
  }
  const framing = framingOf(options, sendsTe);
  head += `${framing}\r\n`;
  checkLines(head, framing, lines);
  return head;
}

function isOurs(name: string): boolean {
  const lower = name.toLowerCase();
  return (
    lower === 'expect' ||
    lower === 'upgrade' ||
    lower === 'connection' ||
    lower === 'keep-alive' ||
    lower === 'content-length' ||
    lower === 'transfer-encoding'
  );
}

function framingOf(
  { method, body, contentLength, upgrade, expectContinue }: DispatchOptions,
  sendsTe: boolean,
): string {
  let framing = '';
  if (upgrade !== null) framing = `connection: ${sendsTe ? 'upgrade, te' : 'upgrade'}\r\nupgrade: ${upgrade}\r\n`;
  else if (sendsTe) framing = 'connection: te\r\n';
  if (body === null) return METHODS_WITH_BODY.has(method) ? `${framing}content-length: 0\r\n` : framing;
  if (Buffer.isBuffer(body)) framing += `content-length: ${body.length}\r\n`;
  else framing += contentLength === null ? 'transfer-encoding: chunked\r\n' : `content-length: ${contentLength}\r\n`;
  return expectContinue && bodyMayBeHeld(body, contentLength) ? `${framing}expect: 100-continue\r\n` : framing;
}

/** Interceptors written for other clients may pass what only those understand. */
function checkBody({ body, contentLength }: DispatchOptions): void {
  if (body !== null && !Buffer.isBuffer(body) && typeof body.on !== 'function') throw unwritable('body');
  if (contentLength !== null && !(Number.isSafeInteger(contentLength) && contentLength >= 0)) {
    throw unwritable('content length');
  }
}

/** Whether there is a body worth waiting with for `100 Continue`. */
export function bodyMayBeHeld(body: DispatchOptions['body'], contentLength: number | null): boolean {
  return body !== null && (Buffer.isBuffer(body) ? body.length : contentLength) !== 0;
}

function isToken(method: string): boolean {
  for (let i = 0; i < method.length; i++) {
    if (TOKEN[method.charCodeAt(i)] !== 1) return false;
  }
  return method.length > 0;
}

function isTarget(path: string): boolean {
  for (let i = 0; i < path.length; i++) {
    const octet = path.charCodeAt(i);
    if (octet <= SP || octet === 0x7f || octet > 0xff) return false;
  }
  return path.length > 0;
}

/**
 * One pass over the assembled head: as many line ends as lines were written, no other control character, nothing that latin1
 * would cut down to one (U+010A becomes LF).
 */
function checkLines(head: string, framing: string, lines: number): void {
  let lineEnds = 0;
  for (let i = 0; i < head.length; i++) {
    const octet = head.charCodeAt(i);
    if (FIELD_CONTENT[octet] === 1) continue;
    if (octet !== CR || head.charCodeAt(++i) !== LF) throw unwritable('field line');
    lineEnds += 1;
  }
  for (let at = framing.indexOf('\r\n'); at !== -1; at = framing.indexOf('\r\n', at + 2)) lines += 1;
  if (lineEnds !== lines) throw unwritable('field line');
}

function unwritable(what: string): TransportError {
  return new TransportError('SLV_BAD_REQUEST', `the request cannot be written: ${what}`, { unsent: true });
}
