// The status that access log and metrics state for a request that is over.
import type { FastifyReply, FastifyRequest } from 'fastify';

/** The status that was sent; 499 when the client left before any was. */
export function finalStatus(request: FastifyRequest, reply: FastifyReply): number {
  const { statusCode, raw } = reply;
  // The head of an upgraded connection is written past Node's response, which therefore knows of none.
  const sent = raw.headersSent || statusCode === 101;
  return request.selvedge.reason === 'client_aborted' && !sent ? 499 : statusCode;
}
