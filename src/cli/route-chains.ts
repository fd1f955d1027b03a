// The chains of one route, as the runtime composes them: one for each set of listeners where they are the same.
import type { Config } from '../config/model.ts';
import { gatewayListeners } from '../gateway/gateway.ts';
import { hopListeners } from '../internal/internal.ts';
import { composeChain, routeLayers } from '../routing/chain-list.ts';
import { type ExplainedChain, explainChain } from '../routing/explained-chain.ts';
import { listenerScope } from '../runtime/listener-scope.ts';
import { chainLines } from './chain-text.ts';

export interface RouteChain extends ExplainedChain {
  /** `gateway/public/https`, `outbound/orders`. */
  readonly listeners: readonly string[];
}

/** In the order of the listeners; empty when no listener serves the route. */
export function routeChains(config: Config, name: string): readonly RouteChain[] {
  const specs = [
    ...config.gateways.flatMap((gateway) => gatewayListeners(config, gateway.name)),
    ...config.services.flatMap((service) => hopListeners(config, service.name)),
  ];
  const chains = new Map<string, { listeners: string[]; chain: ExplainedChain }>();
  for (const spec of specs) {
    if (spec.protocol === 'tcp') continue;
    const { layers, routes } = listenerScope(config, spec);
    const route = routes.find((candidate) => candidate.name === name);
    if (route === undefined) continue;
    const chain = explainChain(composeChain(routeLayers(layers, route)));
    const key = JSON.stringify(chain);
    const known = chains.get(key);
    if (known === undefined) chains.set(key, { listeners: [spec.key], chain });
    else known.listeners.push(spec.key);
  }
  return [...chains.values()].map(({ listeners, chain }) => ({ listeners, ...chain }));
}

/** As comments of YAML; ends with a line break. */
export function routeChainsText(chains: readonly RouteChain[]): string {
  if (chains.length === 0) return '# chain: no listener serves this route\n';
  return chains
    .flatMap(({ listeners, ...chain }) => [
      `# chain at ${listeners.join(', ')}:`,
      ...chainLines(chain).map((line) => `#   ${line}`),
    ])
    .map((line) => `${line}\n`)
    .join('');
}
