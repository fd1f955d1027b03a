// Gives every request one id, before any other plugin looks at it: in the upstream's headers, the answer, logs and problems.
import { definePlugin, Type } from '../plugin.ts';

/** What may be taken over from a caller: bounded, and harmless in a header, a log line and a URL. */
const WELL_FORMED = /^[A-Za-z0-9._-]{1,128}$/;

export default definePlugin(
  {
    name: 'request-id',
    options: Type.Object({
      header: Type.String({
        default: 'x-request-id',
        pattern: '^[A-Za-z0-9-]{1,64}$',
        patternErrorMessage: 'must be a header name of letters, digits and hyphens',
        description: 'Header that carries the id, upstream and in the answer.',
      }),
      trust: Type.Optional(
        Type.Boolean({
          description:
            "Take over the caller's id when it is well-formed (at most 128 of A-Z a-z 0-9 . _ -). Default: true at internal hops, false at the edge.",
        }),
      ),
      response: Type.Boolean({ default: true, description: 'Put the id on the answer too.' }),
    }),
  },
  async (app, options) => {
    const header = options.header.toLowerCase();
    const trust = options.trust ?? app.chain.role !== 'gateway';

    app.addHook('onRequest', (request, reply, done) => {
      const { headers, selvedge } = request;
      const given = headers[header];
      if (trust && typeof given === 'string' && WELL_FORMED.test(given)) selvedge.id = given;
      else headers[header] = selvedge.id;
      // What stands on the reply already wins over the upstream's own idea of it.
      if (options.response) reply.header(header, selvedge.id);
      done();
    });
  },
);
