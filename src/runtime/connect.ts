// Beside the way of ordinary requests: CONNECT at an outbound listener names a service of the mesh, or somewhere else.
import { SelvedgeError } from '../errors.ts';
import { clientOf } from '../gateway/trust.ts';
import { parseAuthority } from '../http/authority.ts';
import type { RequestExchange } from '../proxy/exchange.ts';
import { sanitiseHeaders } from '../proxy/request-headers.ts';
import type { ListenerPlan } from './listener-plan.ts';

/** Whether what follows CONNECT is HTTP for a service of the mesh or a host of its routes, whichever port it names. */
export function namesMesh({ table }: ListenerPlan, target: string): boolean {
  const { host, port } = parseAuthority(target);
  return host !== null && port !== null && table.knows(host);
}

/** The target of CONNECT is an authority with a port and nothing else (RFC 9110 section 9.3.6). Returns why it is refused, or null. */
export function understandTunnel(exchange: RequestExchange, plan: ListenerPlan): SelvedgeError | null {
  const { req, connection } = exchange;
  const authority = parseAuthority(req.url as string);
  const source = clientOf(plan.trust, connection, req.headers);
  exchange.clientAddress = source.address;
  exchange.trusted = source.trusted;
  exchange.authority = authority.raw;
  exchange.port = authority.port;
  sanitiseHeaders(exchange);
  if (authority.host === null || authority.host === '' || authority.port === null)
    return new SelvedgeError('SLV_BAD_HOST', 'CONNECT asks for a host and a port', {
      detail: 'The target of CONNECT is host:port.',
    });
  exchange.host = authority.host;
  return null;
}
