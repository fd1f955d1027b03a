// A response that is ready before its request's body: the connection closes, but not before the client could read the answer.
import type { FastifyReply } from 'fastify';
import { reasonOf } from '../errors.ts';
import type { RequestExchange } from './exchange.ts';

/** A body this small is read to its end and thrown away, and the connection goes on. */
const SMALL_BODY_BYTES = 65_536;
/** How long and how much a client may go on sending after its answer; past either the connection is cut. */
const LINGER_MS = 2_000;
const LINGER_BYTES = 1_048_576;
/** Who was too slow for its answer is not waited for after it. */
const TOO_SLOW = reasonOf('SLV_REQUEST_TIMEOUT');

/**
 * For an answer that does not wait for the request's body: decides what becomes of the rest of it.
 * A client that waits for `100 Continue` may never send it, so nothing can be read behind it (RFC 9110 section 10.1.1).
 */
export function releaseBody(exchange: RequestExchange, reply: FastifyReply): void {
  const { req, contentLength, expectContinue } = exchange;
  if (!exchange.hasBody || req.complete) return;
  const tooSlow = exchange.reason === TOO_SLOW;
  if (tooSlow || expectContinue || contentLength === null || contentLength > SMALL_BODY_BYTES)
    lingerAfter(exchange, reply);
  else endWithin(exchange, exchange.connection.listener.limits.bodyIdleTimeoutMs || LINGER_MS);
}

/** The answer is out, and its head did not say that the connection closes: what is still being uploaded then gets a moment to end. */
export function cutRest(exchange: RequestExchange): void {
  if (exchange.hasBody && !exchange.req.complete) endWithin(exchange, LINGER_MS);
}

/** Whoever read the body may have paused it when it stopped: unread, it would hold up the next request on the connection. */
function endWithin({ req }: RequestExchange, limitMs: number): void {
  const { socket } = req;
  req.resume();
  const timer = setTimeout(() => {
    if (!req.complete) socket.destroy();
  }, limitMs);
  timer.unref();
  req.once('close', () => clearTimeout(timer));
}

/**
 * Closing a socket with unread data makes the kernel send a reset, which can destroy an answer still on its way.
 * So the sending side closes after the answer, and the rest of the upload is read and thrown away, within bounds.
 */
function lingerAfter(exchange: RequestExchange, reply: FastifyReply): void {
  const { req, res } = exchange;
  reply.header('connection', 'close');
  const { socket } = req;
  if (socket === null || socket.destroyed) return;
  const before = socket.bytesRead;
  const cut = (): void => {
    socket.destroy();
  };
  socket.destroySoon = (): void => {
    if (socket.writable) socket.end();
    const timer = setTimeout(cut, LINGER_MS);
    const check = setInterval(() => {
      if (socket.bytesRead - before > LINGER_BYTES) cut();
    }, 50);
    socket.once('end', cut);
    socket.once('close', () => {
      clearTimeout(timer);
      clearInterval(check);
    });
    if (!req.complete && !req.destroyed) req.resume();
  };
  res.shouldKeepAlive = false;
}
