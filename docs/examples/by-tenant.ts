// Lets rate-limit charge each tenant, which is the first label of the host: acme of acme.shop.example.com.
import { definePlugin, Type } from 'selvedge/plugin';

export default definePlugin(
  {
    name: 'by-tenant',
    options: Type.Object({ domain: Type.String({ description: 'What stands behind the tenant: shop.example.com.' }) }),
  },
  async (app, { domain }) => {
    const suffix = `.${domain}`;
    app.rateLimitKeys.set('tenant', ({ selvedge: { host } }) =>
      host.endsWith(suffix) ? host.slice(0, -suffix.length) : null,
    );
  },
);
