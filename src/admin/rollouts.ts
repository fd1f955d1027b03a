// What operators see and change of the rollouts: the only part of the admin API that changes anything.
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { SelvedgeError } from '../errors.ts';
import { AddressSet } from '../http/address.ts';
import type { RolloutStore } from '../runtime/rollouts.ts';

/** What a request that changes something has to carry. */
export const CHANGE_HEADER = 'x-selvedge-admin';

export const ROLLOUT_PAGES = {
  '/rollouts': 'the rollouts of the routes; POST /rollouts/ROUTE/pause, resume or abort changes one',
} as const;

const THIS_MACHINE = new AddressSet(['127.0.0.0/8', '::1']);

/** `problem`: how the admin server answers what is refused without an SLV_ code. */
export function serveRollouts(
  app: FastifyInstance,
  store: () => RolloutStore | null,
  problem: (status: number, detail: string) => Error,
): void {
  app.get('/rollouts', async () => {
    const rollouts = store();
    return { rollouts: rollouts?.all().map((rollout) => rollouts.describe(rollout)) ?? [] };
  });
  app.post('/rollouts/:route/:action', async (request) => {
    refuseForeignChange(request);
    const { route, action } = request.params as { route: string; action: string };
    if (action !== 'pause' && action !== 'resume' && action !== 'abort')
      throw problem(404, 'A rollout can be paused, resumed and aborted');
    const rollouts = store();
    const rollout = rollouts?.get(route) ?? null;
    if (rollouts === null || rollout === null)
      throw problem(404, `no route "${route}" with a rollout is in force here`);
    const refusal = rollout[action]();
    if (refusal !== null) throw problem(409, refusal);
    return rollouts.describe(rollout);
  });
}

/**
 * There is no password, so changes come from this machine alone, and not from a page in its browser: a page of another origin can send
 * a POST by itself, but no header of its own unless a preflight allows it, and none is ever answered. Host is checked before.
 */
function refuseForeignChange({ headers, socket }: FastifyRequest): void {
  if (!THIS_MACHINE.has(socket.remoteAddress ?? '')) throw refusal('Changes are taken from loopback addresses only.');
  if (headers[CHANGE_HEADER] !== '1') throw refusal(`A change needs the header "${CHANGE_HEADER}: 1".`);
  const { origin, host } = headers;
  if (origin === undefined) return;
  const own = URL.canParse(origin) && new URL(origin).host === host;
  if (!own) throw refusal('A change is not taken from a page of another origin.');
}

function refusal(detail: string): SelvedgeError {
  return new SelvedgeError('SLV_FORBIDDEN', `a change by the admin API was refused: ${detail}`, { detail });
}
