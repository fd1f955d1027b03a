// Limits whose size depends on the plan of the client: one limit for each plan, of which the one is asked that the client is on.
import type { FastifyRequest } from 'fastify';
import { claimReader } from './key.ts';
import type { Limit } from './limit.ts';
import type { Plans } from './options.ts';

/** `otherwise`: for who is on none of them. */
export function plannedLimit({ by }: Plans, otherwise: Limit, plans: ReadonlyMap<string, Limit>): Limit {
  const read = planReader(by);
  return {
    settings: otherwise.settings,
    ask(request) {
      const plan = read(request);
      return ((plan === null ? undefined : plans.get(plan)) ?? otherwise).ask(request);
    },
  };
}

function planReader(by: Plans['by']): (request: FastifyRequest) => string | null {
  if ('claim' in by) return claimReader(by.claim);
  const name = by.header.toLowerCase();
  return ({ headers }) => {
    const value = Object.hasOwn(headers, name) ? headers[name] : undefined;
    return typeof value === 'string' ? value : null;
  };
}
