// Tries reads again, never what a client marks as delicate, and tells an audit service about each of those.
import { definePlugin, type RetryPolicy, Type } from 'selvedge/plugin';

/** Tells at a time; more are left out rather than kept waiting. */
const MAX_TELLING = 100;

const once: RetryPolicy = {
  attempts: 1,
  conditions: new Set(['connect-failure', 'reset']),
  statuses: new Set([503]),
  grpc: new Set(),
  backoffMs: 25,
  maxBackoffMs: 250,
  methods: new Set(['GET', 'HEAD']),
  bufferBytes: 0,
};

export default definePlugin(
  {
    name: 'careful',
    options: Type.Object({ audit: Type.String({ description: 'Service that is told about delicate requests.' }) }),
    references: ({ audit }) => [{ service: audit, subset: null, path: 'audit' }],
  },
  async (app, { audit }) => {
    app.upstream.policy({ retry: once });
    let telling = 0;

    app.addHook('onRequest', async (request) => {
      if (request.headers['x-delicate'] === undefined) return;
      const { id } = request.selvedge;
      request.selvedge.policies = { retry: { ...once, attempts: 0 } };
      if (telling === MAX_TELLING) return;
      telling += 1;
      const headers = ['host', audit, 'x-request-id', id];
      const told = () => {
        telling -= 1;
      };
      app.upstream.send(
        audit,
        null,
        { method: 'POST', path: '/delicate', headers, body: null, contentLength: null, timeoutMs: 1_000 },
        { onResponseEnd: told, onResponseError: told },
      );
    });
  },
);
