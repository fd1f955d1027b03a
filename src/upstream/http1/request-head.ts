// Writes the head of a request as one latin1 string: the caller's field lines, then the framing that this client alone decides.
import type { DispatchOptions } from '../../dispatch.ts';
import { SP, TOKEN } from './grammar.ts';
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
  for (const line of framingOf(options, sendsTe)) {
    head += `${line}\r\n`;
    lines += 1;
  }
  head += '\r\n';
  checkLines(head, lines);
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

function framingOf(options: DispatchOptions, sendsTe: boolean): string[] {
  const { method, body, contentLength, upgrade } = options;
  const lines: string[] = [];
  if (upgrade !== null) lines.push(sendsTe ? 'connection: upgrade, te' : 'connection: upgrade', `upgrade: ${upgrade}`);
  else if (sendsTe) lines.push('connection: te');
  if (body === null) {
    if (METHODS_WITH_BODY.has(method)) lines.push('content-length: 0');
  } else if (Buffer.isBuffer(body)) lines.push(`content-length: ${body.length}`);
  else lines.push(contentLength === null ? 'transfer-encoding: chunked' : `content-length: ${contentLength}`);
  if (holdsBody(options)) lines.push('expect: 100-continue');
  return lines;
}

/** Interceptors written for other clients may pass what only those understand. */
function checkBody({ body, contentLength }: DispatchOptions): void {
  if (body !== null && !Buffer.isBuffer(body) && typeof body.on !== 'function') throw unwritable('body');
  if (contentLength !== null && !(Number.isSafeInteger(contentLength) && contentLength >= 0)) {
    throw unwritable('content length');
  }
}

/** Whether there is a body to wait with for `100 Continue`. */
export function holdsBody({ body, contentLength, expectContinue }: DispatchOptions): boolean {
  return expectContinue && body !== null && (Buffer.isBuffer(body) ? body.length : contentLength) !== 0;
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

/** Whole lines, and in them no control character and nothing that latin1 would cut down to one (U+010A becomes LF). */
const LINES = /^(?:[\t\x20-\x7e\x80-\xff]*\r\n)+$/;

/** As many lines as were written, or one of them had a line end inside. A regular expression takes half the time of a loop here. */
function checkLines(head: string, lines: number): void {
  if (!LINES.test(head)) throw unwritable('field line');
  let lineEnds = 0;
  for (let at = head.indexOf('\n'); at >= 0; at = head.indexOf('\n', at + 1)) lineEnds += 1;
  if (lineEnds !== lines) throw unwritable('field line');
}

function unwritable(what: string): TransportError {
  return new TransportError('SLV_BAD_REQUEST', `the request cannot be written: ${what}`, { unsent: true });
}
