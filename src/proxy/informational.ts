// 1xx responses on their way to the client (RFC 9110 section 15.2): passed as they come, never to an HTTP/1.0 client.
import type { ServerResponse } from 'node:http';
import { STATUS_CODES } from 'node:http';
import type { ResponseHeaders } from '../dispatch.ts';
import { HOP_BY_HOP } from '../http/hop-by-hop.ts';
import type { RequestExchange } from './exchange.ts';

/** What Node's writeContinue and writeEarlyHints write with; they know no other 1xx. */
interface RawWriter {
  _writeRaw?(text: string, encoding: 'latin1'): boolean;
}

export function sendInformational(
  exchange: RequestExchange,
  status: number,
  raw: readonly string[] | null,
  headers: ResponseHeaders,
): void {
  const { req, res } = exchange;
  if (res.headersSent || res.destroyed) return;
  if (status === 100) {
    if (exchange.expectContinue) res.writeContinue();
    return;
  }
  const old = req.httpVersionMajor === 1 && req.httpVersionMinor === 0;
  const writer = res as ServerResponse & RawWriter;
  if (old || req.httpVersionMajor > 1 || writer._writeRaw === undefined) return;
  let head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n`;
  if (raw !== null) {
    for (let i = 0; i < raw.length; i += 2) {
      if (!HOP_BY_HOP.has(raw[i].toLowerCase())) head += `${raw[i]}: ${raw[i + 1]}\r\n`;
    }
  } else {
    for (const name in headers) {
      if (HOP_BY_HOP.has(name)) continue;
      for (const value of [headers[name]].flat()) head += `${name}: ${value}\r\n`;
    }
  }
  writer._writeRaw(`${head}\r\n`, 'latin1');
}
