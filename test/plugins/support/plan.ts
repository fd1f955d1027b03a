// For tests: a plugin that says of a client what only a plugin may say. `x-wants` becomes the plan, as claim and header; `x-work` the cost; `x-tenant` a key.
import { definePlugin } from '../../../src/plugin.ts';

export default definePlugin({ name: 'plan' }, async (app) => {
  app.rateLimitKeys.set('tenant', ({ headers }) => {
    const { 'x-tenant': tenant = null } = headers;
    if (tenant === 'broken') throw new Error('no such tenant');
    return tenant === 'wrong' ? (7 as never) : (tenant as string | null);
  });
  app.addHook('onRequest', async (request) => {
    const { 'x-wants': plan, 'x-work': cost } = request.headers;
    if (plan !== undefined) Object.assign(request, { user: { account: { plan } } });
    if (plan !== undefined) request.headers['x-plan'] = plan;
    if (cost !== undefined) request.headers['x-cost'] = cost;
  });
});
