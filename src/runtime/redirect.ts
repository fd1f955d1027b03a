// Instead of the match, on a listener with `redirect`: the same host, path and query by https.
import { SelvedgeError } from '../errors.ts';
import { httpsLocation, permanentStatus } from '../http/https-location.ts';
import type { RequestExchange } from '../proxy/exchange.ts';
import type { ListenerSpec } from './listener-spec.ts';

/** Notes where the client is sent; or returns why nobody there would answer. */
export function sendToHttps(
  exchange: RequestExchange,
  { port, hosts }: NonNullable<ListenerSpec['redirect']>,
): SelvedgeError | null {
  const { host, path, query, req } = exchange;
  if (host === '') return new SelvedgeError('SLV_BAD_HOST', 'a request without a Host cannot be sent to https');
  if (hosts !== null && !hosts.has(host))
    return new SelvedgeError('SLV_ROUTE_NOT_FOUND', `no route of gateway ${exchange.owner} is for host "${host}"`);
  exchange.because = 'sent_to_https';
  exchange.redirect = {
    status: permanentStatus(req.method as string),
    location: httpsLocation(host, port, path, query),
  };
  return null;
}
