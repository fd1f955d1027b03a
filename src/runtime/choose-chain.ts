// Where a request goes, by the plan of its listener: into the chain of a route, out of the mesh, to https, or to be refused.
import { SelvedgeError } from '../errors.ts';
import type { Chain } from '../proxy/chain.ts';
import type { RequestExchange } from '../proxy/exchange.ts';
import type { RouteTarget } from '../proxy/target.ts';
import type { Lookup } from '../routing/table.ts';
import { understandTunnel } from './connect.ts';
import type { ListenerPlan } from './listener-plan.ts';
import { sendToHttps } from './redirect.ts';
import { understand } from './understand.ts';

/** The chain to enter. Refusals go through a chain as well: every answer is logged and counted the same way. */
export function chooseChain(exchange: RequestExchange, plan: ListenerPlan): Chain {
  const { redirect } = plan.spec;
  if (redirect !== undefined) {
    exchange.refusal = understand(exchange, plan) ?? sendToHttps(exchange, redirect);
    return plan.fallback;
  }
  // One that got here leads past every route: see `DataPlane.connect`.
  const tunnel = exchange.req.method === 'CONNECT';
  const refusal = tunnel ? understandTunnel(exchange, plan) : understand(exchange, plan);
  if (refusal !== null) {
    exchange.refusal = refusal;
    return plan.fallback;
  }
  const lookup = tunnel
    ? null
    : plan.table.lookup({
        host: exchange.host,
        path: exchange.path,
        query: exchange.query,
        method: exchange.req.method as string,
        headers: exchange.req.headers,
      });
  if (lookup === null && plan.egress !== null && leave(exchange, plan.egress)) return plan.egress.target.chain;
  if (lookup !== null && follow(exchange, lookup)) return lookup.value.chain;
  exchange.refusal ??= notFound(exchange);
  return plan.fallback;
}

/** False, with the reason as refusal, for what cannot be sent on. */
function leave(exchange: RequestExchange, { target, way }: NonNullable<ListenerPlan['egress']>): boolean {
  // Without a Host there is nowhere to go.
  if (exchange.host === '') return false;
  if (/^https:/i.test(exchange.req.url as string)) {
    exchange.refusal = new SelvedgeError(
      'SLV_BAD_REQUEST',
      'https is asked of a proxy by CONNECT, not by an absolute URL',
    );
    return false;
  }
  exchange.target = target;
  exchange.route = { name: target.route.name, matchedPrefix: '/' };
  exchange.wayOut = way;
  return true;
}

/** Takes the route on, unless the path needs a leave that it does not give. */
function follow(exchange: RequestExchange, lookup: Lookup<RouteTarget<Chain>>): boolean {
  const { value: target, route } = lookup;
  if (exchange.encodedSlash && !route.keepEncodedSlashes) {
    exchange.refusal = new SelvedgeError('SLV_BAD_PATH', 'the request path has an encoded slash or a backslash', {
      detail: 'Encoded slashes and backslashes are not accepted here.',
    });
    return false;
  }
  exchange.target = target;
  exchange.route = { name: route.name, matchedPrefix: lookup.matchedPrefix };
  exchange.limitBody(route.bodyBytes);
  return true;
}

function notFound(exchange: RequestExchange): SelvedgeError {
  if (exchange.role === 'outbound')
    return new SelvedgeError('SLV_SERVICE_NOT_FOUND', `no service of the mesh is called "${exchange.host}"`);
  return new SelvedgeError('SLV_ROUTE_NOT_FOUND', `no route of ${exchange.role} ${exchange.owner} matches`);
}
