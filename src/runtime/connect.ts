// Beside the way of ordinary requests: CONNECT at an outbound listener names a service of the mesh, or somewhere else.
import type { Duplex } from 'node:stream';
import { SelvedgeError } from '../errors.ts';
import { clientAddressOf } from '../gateway/trust.ts';
import type { Authority } from '../http/authority.ts';
import type { RequestExchange } from '../proxy/exchange.ts';
import { sanitiseHeaders } from '../proxy/request-headers.ts';
import type { ListenerPlan } from './snapshot.ts';

/**
 * What becomes of CONNECT to a host that the mesh does not know. `authority.host` and `.port` are there; `head` is what the client sent
 * behind the request. True: it has been taken over, with `exchange.end()` to follow; false: it is answered 404.
 */
export type ConnectElsewhere = (
  exchange: RequestExchange,
  authority: Authority,
  socket: Duplex,
  head: Buffer,
) => boolean;

/** Until egress says otherwise. */
export const nowhereElse: ConnectElsewhere = () => false;

/** Whether what follows CONNECT is HTTP for a service of the mesh or a host of its routes, whichever port it names. */
export function namesMesh({ table }: ListenerPlan, authority: Authority): boolean {
  return authority.host !== null && authority.port !== null && table.knows(authority.host);
}

/** The target of CONNECT is an authority with a port and nothing else (RFC 9110 section 9.3.6). Returns why it is refused, or null. */
export function understandConnect(
  exchange: RequestExchange,
  plan: ListenerPlan,
  authority: Authority,
): SelvedgeError | null {
  const { req, connection } = exchange;
  const source = clientAddressOf(plan.trust, connection.remoteAddress, req.headers);
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
