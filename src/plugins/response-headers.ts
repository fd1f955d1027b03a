// Changes response headers on their way to the client, those of Selvedge's own answers too: remove, then set, then add.
import { applyToReply, headerChangeProblems, headerChanges } from '../http/header-changes.ts';
import { definePlugin, Type } from '../plugin.ts';

export default definePlugin(
  {
    name: 'response-headers',
    unrouted: true,
    options: Type.Object({
      remove: Type.Array(Type.String(), { default: [], description: 'Headers to remove.' }),
      set: Type.Record(Type.String(), Type.String(), {
        default: {},
        description: 'Headers to set, replacing what the answer has.',
      }),
      add: Type.Record(Type.String(), Type.String(), {
        default: {},
        description: 'Headers to add beside what the answer has.',
      }),
    }),
    check: (options) => headerChangeProblems(options, 'response'),
  },
  async (app, options) => {
    const changes = headerChanges(options);

    app.addHook('onSend', (_request, reply, payload, done) => {
      applyToReply(changes, reply);
      done(null, payload);
    });
  },
);
