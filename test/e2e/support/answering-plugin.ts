import { definePlugin } from '../../../src/plugin.ts';

/** Answers by itself, as soon as the head is there. */
export default definePlugin({ name: 'answering' }, async (app) => {
  app.addHook('onRequest', (_request, reply) => {
    reply.code(202).send('mine');
  });
});
