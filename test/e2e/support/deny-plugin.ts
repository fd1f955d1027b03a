import { definePlugin, SelvedgeError } from '../../../src/plugin.ts';

export default definePlugin({ name: 'deny' }, async (app) => {
  app.addHook('onRequest', async () => {
    throw new SelvedgeError('SLV_FORBIDDEN', 'nobody may');
  });
});
