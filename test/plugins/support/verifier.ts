// A plugin that takes the authorization header for a role: what one that verifies tokens leaves behind.
import type { FastifyRequest } from 'fastify';
import { definePlugin } from '../../../src/plugin.ts';

export default definePlugin({ name: 'verifier' }, async (app) => {
  app.addHook('onRequest', async (request) => {
    const { authorization } = request.headers;
    if (authorization !== undefined) (request as FastifyRequest & { user?: unknown }).user = { role: authorization };
  });
});
