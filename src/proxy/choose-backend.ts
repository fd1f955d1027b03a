// Where a matched request goes: the backend that a plugin asked for, else one of the route's by weight, else by the share of its rollout.
import { SelvedgeError } from '../errors.ts';
import { pickBackend } from '../routing/pick.ts';
import type { Service } from '../upstream/service.ts';
import type { RequestExchange } from './exchange.ts';
import type { RouteTarget, TargetBackend } from './target.ts';

/** Throws a SelvedgeError where the route has no backend to give. */
export function chooseBackend(exchange: RequestExchange, target: RouteTarget): TargetBackend {
  const chosen = choose(exchange, target);
  const { rollout } = target;
  const { service, subset } = chosen.config;
  if (service !== rollout?.service) return chosen;
  if (exchange.override === null) {
    exchange.version = Math.random() < rollout.rollout.share() ? 'to' : 'from';
    return rollout[exchange.version];
  }
  // A plugin's choice wins; what becomes of it counts for the version that it chose.
  if (subset === rollout.from.config.subset) exchange.version = 'from';
  else if (subset === rollout.to.config.subset) exchange.version = 'to';
  return exchange.version === null ? chosen : rollout[exchange.version];
}

function choose(exchange: RequestExchange, target: RouteTarget): TargetBackend {
  const { override } = exchange;
  if (override === null) return byWeight(target);
  if (override.service === null) {
    const { config, service } = byWeight(target);
    return sideDoor(target, config.service, override.subset, service);
  }
  const { service, subset } = override;
  const named = target.backends.find(({ config }) => config.service === service && config.subset === subset);
  return named ?? sideDoor(target, service, subset, target.services.get(service) ?? null);
}

function byWeight(target: RouteTarget): TargetBackend {
  const picked = pickBackend(target.backends, Math.random);
  if (picked !== null) return picked;
  throw new SelvedgeError('SLV_BACKEND_INVALID', `route "${target.route.name}" has no backend with a weight`);
}

/** Where the route itself does not lead: with the route's changes, and no backend's. */
function sideDoor(
  { route, backends }: RouteTarget,
  name: string,
  subset: string | null,
  service: Service | null,
): TargetBackend {
  return {
    config: {
      service: name,
      subset,
      weight: 1,
      rewrite: null,
      requestHeaders: null,
      responseHeaders: null,
      at: route.at,
    },
    weight: 1,
    service,
    session: backends.find((backend) => backend.service === service)?.session ?? null,
    requestHeaders: route.requestHeaders === null ? [] : [route.requestHeaders],
    responseHeaders: route.responseHeaders === null ? [] : [route.responseHeaders],
  };
}
