// Which offers to leave HTTP (RFC 9110 section 7.8) are taken up; an offer that is not is an ordinary request.
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { connectionOf } from './connection.ts';

/** HTTP/2 and TLS are chosen by the listener, never by a header: h2c smuggling past a proxy starts with this offer. */
const REFUSED = /(?:^|[\s,])(?:h2c|h2|http\/[\d.]+|tls(?:\/[\d.]+)?)(?:$|[\s,])/i;

/** Called by the parser for `Connection: upgrade` with `Upgrade`. */
export function takesUpgrade(req: IncomingMessage): boolean {
  const { headers } = req;
  if (headers.upgrade === undefined || headers.upgrade === '' || REFUSED.test(headers.upgrade)) return false;
  if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0) return false;
  // Behind a pipelined response that is still being sent the socket is not free.
  return connectionOf(req.socket)?.busy !== true;
}

/**
 * Node before 24.9 asks nobody and takes every offer. One that should be ignored is put back in front of the parser without it:
 * the head is written anew and the bytes that were read too far follow.
 */
export function putBack(req: IncomingMessage, socket: Duplex, head: Buffer): void {
  const { rawHeaders } = req;
  let text = `${req.method} ${req.url} HTTP/1.1\r\n`;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i].toLowerCase();
    if (name === 'upgrade' || name === 'http2-settings') continue;
    const value = name === 'connection' ? withoutUpgrade(rawHeaders[i + 1]) : rawHeaders[i + 1];
    text += `${rawHeaders[i]}: ${value}\r\n`;
  }
  socket.unshift(Buffer.concat([Buffer.from(`${text}\r\n`, 'latin1'), head]));
}

function withoutUpgrade(connection: string): string {
  const kept = connection.split(',').filter((token) => !/^\s*(?:upgrade|http2-settings)\s*$/i.test(token));
  return kept.join(',').trim();
}
