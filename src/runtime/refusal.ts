// How a listener itself says no: before any route is known, so without a chain, and the connection closes behind it.
import { randomUUID } from 'node:crypto';
import { type ServerResponse, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { CODES, type Code, SelvedgeError } from '../errors.ts';
import type { ErrorPages, RenderedPage } from '../http/error-pages.ts';
import { errorBody, PROXY_NAME } from '../proxy/problem.ts';
import type { OpenConnection } from './connection.ts';

/** How long and how much a refused client may go on sending while it reads the answer. */
const LINGER_MS = 1_000;
const LINGER_BYTES = 1_048_576;

export interface Refusal {
  readonly code: Code;
  /** In the answer and in the log, so that the one leads to the other. */
  readonly requestId: string;
}

export function newRefusal(code: Code): Refusal {
  return { code, requestId: randomUUID() };
}

/** Where the parser gave up, or gave the socket away, responses to earlier requests may be on their way: the refusal comes behind them. */
export function refuseInTurn(connection: OpenConnection, refusal: Refusal): void {
  const { response, socket } = connection;
  const again = (): void => refuseInTurn(connection, refusal);
  if (response === null || !connection.busy) refuseSocket(socket, refusal);
  else if (response.req.complete) response.once('close', again);
  else if (response.socket === null) response.once('socket', again);
  // The request whose body is broken is being answered already: breaking the answer off is all that is left to say.
  else if (response.headersSent) socket.destroy();
  else refuseSocket(socket, refusal);
}

/** Does nothing on a dead socket. */
function refuseSocket(socket: Duplex, refusal: Refusal): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const { status, headers, body } = answerTo(refusal);
  let head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nDate: ${new Date().toUTCString()}\r\n`;
  for (const name in headers) head += `${name}: ${headers[name]}\r\n`;
  closeGently(socket, `${head}connection: close\r\n\r\n${body.toString('latin1')}`);
}

/** Answers a request that was parsed. In its turn where requests are pipelined. */
export function refuseRequest(res: ServerResponse, refusal: Refusal, pages: ErrorPages | undefined): void {
  const { req } = res;
  const { status, headers, body } = answerTo(refusal, (error) => errorBody(error, refusal.requestId, pages, req));
  const { socket } = req;
  socket.destroySoon = () => closeGently(socket);
  res.shouldKeepAlive = false;
  res.writeHead(status, headers);
  res.end(body);
}

/**
 * Closing a socket with unread data makes the kernel send a reset, which can overtake the answer.
 * So only the sending side closes, and what still comes is read and thrown away, within bounds.
 */
function closeGently(socket: Duplex & { readonly bytesRead?: number }, last?: string): void {
  const before = socket.bytesRead ?? 0;
  const startedAt = performance.now();
  const check = setInterval(() => {
    if ((socket.bytesRead ?? 0) - before > LINGER_BYTES || performance.now() - startedAt > LINGER_MS) socket.destroy();
  }, 100);
  socket.once('end', () => socket.destroy());
  socket.once('close', () => clearInterval(check));
  if (last !== undefined && !socket.writableEnded) socket.end(last, 'latin1');
  else socket.end();
  socket.resume();
}

/** What the parser gave up on says nothing of what its client would like to read. */
function problemOf({ requestId }: Refusal): (error: SelvedgeError) => RenderedPage {
  return (error) => errorBody(error, requestId, undefined, { headers: {} });
}

function answerTo(refusal: Refusal, answer = problemOf(refusal)) {
  const { code, requestId } = refusal;
  const { status, proxyError } = CODES[code];
  const { contentType, body } = answer(new SelvedgeError(code, CODES[code].title));
  const headers: Record<string, string> = {
    'content-type': contentType,
    'x-request-id': requestId,
    'cache-control': 'no-store',
    'content-length': String(body.length),
  };
  if (proxyError !== null) headers['proxy-status'] = `${PROXY_NAME}; error=${proxyError}`;
  return { status, headers, body };
}
