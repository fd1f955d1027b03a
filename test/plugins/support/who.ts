// For tests: believes what a request says of itself. `x-from` is the client address, `x-user` the claim `realm.sub`, `x-route`, `x-peer`. `x-slow`: after so many milliseconds.
import type { FastifyRequest } from 'fastify';
import { definePlugin } from '../../../src/plugin.ts';

export default definePlugin({ name: 'who' }, async (app) => {
  app.addHook('onRequest', async (request: FastifyRequest) => {
    const { 'x-from': clientAddress, 'x-user': sub, 'x-route': name, 'x-peer': id } = request.headers;
    const slow = Number(request.headers['x-slow'] ?? 0);
    if (slow > 0) await new Promise((resolve) => setTimeout(resolve, slow));
    if (clientAddress !== undefined) Object.assign(request.selvedge, { clientAddress });
    if (sub !== undefined) Object.assign(request, { user: { realm: { sub } } });
    if (name !== undefined) Object.assign(request.selvedge, { route: { name, matchedPrefix: '/' } });
    if (id !== undefined) Object.assign(request.selvedge, { peer: { id } });
  });
});
