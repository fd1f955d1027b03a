// What Fastify has to say about a request of a chain. The access log tells of requests, so only a plugin that failed too late to be answered is left.
import fastify, { type FastifyReply, type FastifyRequest } from 'fastify';
import { EXCHANGE } from './exchange.ts';

export class ChainLog extends fastify.LogController {
  constructor() {
    super({ disableRequestLogging: true });
  }

  /** An error here is one of an onResponse hook: the client has its answer already. */
  override requestCompleted(error: Error | null, request: FastifyRequest, _reply: FastifyReply): void {
    if (error === null || error === undefined) return;
    const exchange = request.raw[EXCHANGE];
    request.log.error({ err: error, plugin: exchange?.plugin, requestId: exchange?.id }, 'onResponse failed');
  }
}
