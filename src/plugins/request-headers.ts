// Changes request headers on their way to the service: remove, then set, then add.
import { applyToRequest, headerChangeProblems, headerChanges } from '../http/header-changes.ts';
import { definePlugin, Type } from '../plugin.ts';

export default definePlugin(
  {
    name: 'request-headers',
    options: Type.Object({
      remove: Type.Array(Type.String(), { default: [], description: 'Headers to remove.' }),
      set: Type.Record(Type.String(), Type.String(), {
        default: {},
        description: 'Headers to set, replacing what the request has.',
      }),
      add: Type.Record(Type.String(), Type.String(), {
        default: {},
        description: 'Headers to add beside what the request has.',
      }),
    }),
    check: (options) => headerChangeProblems(options, 'request'),
  },
  async (app, options) => {
    const changes = headerChanges(options);

    app.addHook('preHandler', (request, _reply, done) => {
      applyToRequest(changes, request.headers as Record<string, string | string[] | undefined>);
      done();
    });
  },
);
