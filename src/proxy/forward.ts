// The terminal handler of every chain: answers for the route itself, or sends the request on its way upstream (forwarding.ts).
import type { FastifyReply, FastifyRequest } from 'fastify';
import { applyToReply } from '../http/header-changes.ts';
import { redirectLocation } from '../routing/rewrite.ts';
import { chooseBackend } from './choose-backend.ts';
import type { RequestExchange, WayOut } from './exchange.ts';
import { Forwarding } from './forwarding.ts';
import { releaseBody } from './linger.ts';
import type { RouteTarget } from './target.ts';

/** Answers or forwards. Throws a SelvedgeError for what Selvedge refuses itself; the chain's error handler answers it. */
export function forward(exchange: RequestExchange, request: FastifyRequest, reply: FastifyReply): void {
  if (exchange.refusal !== null) throw exchange.refusal;
  if (exchange.redirect !== null) {
    releaseBody(exchange, reply);
    reply.code(exchange.redirect.status).header('location', exchange.redirect.location).send();
    return;
  }
  const target = exchange.target as RouteTarget;
  if (exchange.wayOut !== null) {
    void leaveMesh(exchange, request, reply, target, exchange.wayOut);
    return;
  }
  const { action } = target.route;
  if (action.kind === 'forward') {
    const backend = chooseBackend(exchange, target);
    new Forwarding(exchange, reply, target, backend).start(request);
    return;
  }
  releaseBody(exchange, reply);
  if (target.route.responseHeaders !== null) applyToReply(target.route.responseHeaders, reply);
  if (action.kind === 'redirect') {
    reply.code(action.redirect.status).header('location', redirectLocation(action.redirect, redirectSource(exchange)));
    reply.send();
    return;
  }
  const { status, body, headers } = action.respond;
  reply.code(status).headers(headers);
  if (body !== '' && !reply.hasHeader('content-type')) reply.header('content-type', 'text/plain; charset=utf-8');
  reply.send(body === '' ? undefined : Buffer.from(body));
}

/** Where it goes is found first, which may take a lookup; then it is forwarded like any other. */
async function leaveMesh(
  exchange: RequestExchange,
  request: FastifyRequest,
  reply: FastifyReply,
  target: RouteTarget,
  way: WayOut,
): Promise<void> {
  try {
    if (exchange.req.method === 'CONNECT') await way.tunnel(exchange, reply);
    else {
      const backend = await way.backend(exchange);
      if (!exchange.aborted) new Forwarding(exchange, reply, target, backend).start(request);
    }
  } catch (error) {
    if (!exchange.aborted) reply.send(error);
  }
}

function redirectSource({ scheme, host, path, query, port, route }: RequestExchange) {
  const matchedPrefix = route?.matchedPrefix ?? '';
  return { scheme, host, port: port === null ? null : Number(port), path, query, matchedPrefix };
}
