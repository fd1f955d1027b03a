// Changes headers by templates and JSON bodies by rules, both ways: what a small service in between would do, without its code.
import type { FastifyRequest } from 'fastify';
import { Counter, calledFor, type DispatchOptions, definePlugin, type Exchange, parseSizeBytes } from '../plugin.ts';
import { changeRequest } from './transform/change-request.ts';
import { changingReader } from './transform/change-response.ts';
import { compileChanges } from './transform/changes.ts';
import { type Side, transformOptions, transformProblems } from './transform/options.ts';
import { type Context, compileTemplate, headerValue, tellsIdentity } from './transform/template.ts';
import { WholeResponse } from './whole-response.ts';

const TOTAL = 'selvedge_transformed_bodies_total';

export default definePlugin(
  {
    name: 'transform',
    options: transformOptions,
    check: transformProblems,
    identityHeaders: ({ request }) =>
      Object.entries(request?.headers?.set ?? {})
        .filter(([, template]) => tellsIdentity(template))
        .map(([name]) => name.toLowerCase()),
  },
  async (app, { request: before, response: after, maxBody, unreadable }) => {
    const { owner } = app.chain;
    const maxBytes = parseSizeBytes(maxBody) as number;
    const requests = new WeakMap<Exchange, FastifyRequest>();
    const changeHeaders = headerChanges(before?.headers, 'request');
    const changeAnswer = headerChanges(after?.headers, 'response');
    const total = app.shared(
      'transform metrics',
      () =>
        new Counter({
          name: TOTAL,
          help: 'JSON bodies that transform was to change, by side and what came of it',
          labelNames: ['owner', 'side', 'result'],
          registers: [app.metrics],
        }),
      () => app.metrics.removeSingleMetric(TOTAL),
    );

    app.addHook('preHandler', (request, _reply, done) => {
      requests.set(request.selvedge, request);
      const { headers } = request;
      for (const [name, value] of changeHeaders({ request, status: null })) {
        if (value === null) delete headers[name];
        else headers[name] = value;
      }
      done();
    });

    app.addHook('onSend', (request, reply, payload, done) => {
      for (const [name, value] of changeAnswer({ request, status: reply.statusCode })) {
        reply.removeHeader(name);
        if (value !== null) reply.header(name, value);
      }
      done(null, payload);
    });

    if (before?.body !== undefined) {
      const change = compileChanges(before.body, 'request');
      const count = (result: string): void => total.inc({ owner, side: 'request', result });
      app.upstream.intercept('perRequest', (dispatch) => (options, handler) => {
        const request = requestOf(options);
        if (request === null || options.body === null) return dispatch(options, handler);
        return changeRequest(dispatch, options, handler, { request, change, maxBytes, count });
      });
    }

    if (after?.body !== undefined) {
      const change = compileChanges(after.body, 'response');
      const count = (result: string): void => total.inc({ owner, side: 'response', result });
      app.upstream.intercept('perRequest', (dispatch) => (options, handler) => {
        const request = requestOf(options);
        if (request === null) return dispatch(options, handler);
        const { headers, reader } = changingReader(options, { request, change, maxBytes, count, unreadable });
        return dispatch({ ...options, headers }, new WholeResponse(handler, reader));
      });
    }

    /** Null for what has no bodies of its own: upgrades, tunnels, requests of plugins. */
    function requestOf(options: DispatchOptions): FastifyRequest | null {
      const exchange = calledFor(options);
      if (exchange === null || options.upgrade !== null || options.method === 'CONNECT') return null;
      return requests.get(exchange) ?? null;
    }
  },
);

/** By lower-case name; null: removed. */
function headerChanges(headers: Side['headers'], side: 'request' | 'response') {
  const removed = (headers?.remove ?? []).map((name) => [name.toLowerCase(), null] as const);
  const set = Object.entries(headers?.set ?? {}).map(
    ([name, template]) => [name.toLowerCase(), compileTemplate(template, side)] as const,
  );
  return (context: Context): (readonly [string, string | null])[] => [
    ...removed,
    ...set.map(([name, template]) => {
      const fact = template(context);
      return [name, fact === undefined ? null : headerValue(fact)] as const;
    }),
  ];
}
