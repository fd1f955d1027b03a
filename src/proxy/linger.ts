// A response that is ready before its request's body: the connection closes, but not before the client could read the answer.
import type { FastifyReply } from 'fastify';
import type { RequestExchange } from './exchange.ts';

/** How long and how much a client may go on sending after its answer; past either the connection is cut. */
const LINGER_MS = 2_000;
const LINGER_BYTES = 1_048_576;

/**
 * Closing a socket with unread data makes the kernel send a reset, which can destroy an answer still on its way.
 * So the sending side closes after the answer, and the rest of the upload is read and thrown away, within bounds.
 */
export function lingerAfter(exchange: RequestExchange, reply: FastifyReply): void {
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
