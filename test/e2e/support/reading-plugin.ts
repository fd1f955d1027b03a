import { Transform } from 'node:stream';
import { definePlugin, type ResponsePayload, readResponseBody, transformResponseBody } from '../../../src/plugin.ts';

/** Reads up to 1,000 bytes and says what it got, or turns letters to capitals on their way: as the request asks. */
export default definePlugin({ name: 'reading' }, async (app) => {
  app.addHook('onSend', async (request, reply, payload: ResponsePayload) => {
    if (reply.statusCode >= 500) return payload;
    if (request.headers['x-do'] === 'capitals' && payload) {
      const capitals = new Transform({
        transform: (chunk, _encoding, done) => done(null, String(chunk).toUpperCase()),
      });
      return transformResponseBody(payload, capitals);
    }
    const body = await readResponseBody(reply, payload, 1_000);
    reply.header('x-read', Buffer.isBuffer(body) ? `whole ${body.length}` : 'larger');
    return body;
  });
});
