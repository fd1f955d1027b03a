// Lets only known tenants through, and tells the service which one it serves.
import { Counter, definePlugin, SelvedgeError, Type } from 'selvedge/plugin';

export default definePlugin(
  {
    name: 'tenant',
    options: Type.Object({
      header: Type.String({ default: 'x-tenant', description: 'Header in which the client names its tenant.' }),
      allow: Type.Array(Type.String(), { minItems: 1, description: 'The tenants that may pass.' }),
    }),
  },
  async (app, { header, allow }) => {
    const known = new Set(allow);
    const help = 'Requests let through';
    const requests = app.shared(
      'tenant requests',
      () => new Counter({ name: 'tenant_requests_total', help, labelNames: ['tenant'], registers: [app.metrics] }),
      () => app.metrics.removeSingleMetric('tenant_requests_total'),
    );

    app.addHook('onRequest', async (request) => {
      const tenant = request.headers[header];
      if (typeof tenant !== 'string' || !known.has(tenant)) {
        throw new SelvedgeError('SLV_FORBIDDEN', `tenant ${JSON.stringify(tenant)} is not on the list`);
      }
      request.headers['x-tenant-verified'] = tenant;
      requests.inc({ tenant });
    });

    app.upstream.intercept('perAttempt', (dispatch) => (options, handler) => {
      const headers = [...options.headers, 'x-sent-at', new Date().toISOString()];
      return dispatch({ ...options, headers }, handler);
    });
  },
);
