// Bounds the request body of a chain: a larger one is refused before anything is sent upstream, or cut where it grows too long.
import { definePlugin, parseSizeBytes, SelvedgeError, Type, UNIT_PATTERNS } from '../plugin.ts';

export default definePlugin(
  {
    name: 'body-limit',
    options: Type.Object({
      max: Type.Union(
        [
          Type.Integer({ minimum: 0 }),
          Type.String({ pattern: UNIT_PATTERNS.size, patternErrorMessage: 'must be a size such as 1MiB' }),
        ],
        {
          description:
            'Largest request body: bytes, or a size like 1MiB. It can lower the limit of the listener or route, never raise it.',
        },
      ),
    }),
    check: ({ max }) =>
      parseSizeBytes(max) === null ? [{ path: 'max', message: `"${max}" is not a whole number of bytes` }] : [],
  },
  async (app, options) => {
    const max = parseSizeBytes(options.max) as number;

    app.addHook('onRequest', (request, _reply, done) => {
      const declared = request.headers['content-length'];
      if (declared !== undefined && Number(declared) > max) {
        done(
          new SelvedgeError('SLV_BODY_TOO_LARGE', `body of ${declared} bytes is over the limit of ${max}`, {
            detail: `At most ${max} bytes are accepted`,
          }),
        );
        return;
      }
      request.selvedge.limitBody(max);
      done();
    });
  },
);
