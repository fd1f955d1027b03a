import { definePlugin } from '../../../src/plugin.ts';

/** Fails in the phase that the request names, in every way that code can fail. */
export default definePlugin({ name: 'throwing' }, async (app) => {
  const failing = (phase: string, how: string | string[] | undefined): void => {
    if (how === phase) throw new Error(`${phase} failed`);
  };
  app.addHook('onRequest', (request, _reply, done) => {
    if (request.headers['x-fail'] === 'callback') done(new Error('callback failed'));
    else {
      failing('onRequest', request.headers['x-fail']);
      done();
    }
  });
  app.addHook('preHandler', async (request) => failing('preHandler', request.headers['x-fail']));
  app.addHook('onSend', async (request, _reply, payload) => {
    failing('onSend', request.headers['x-fail']);
    return payload;
  });
  app.addHook('onResponse', async (request) => failing('onResponse', request.headers['x-fail']));
});
