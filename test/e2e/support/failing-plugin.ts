import { definePlugin } from '../../../src/plugin.ts';

/** Throws where the request says it should: in a hook at once, by a rejected promise or by its callback, or on the upstream side. */
export default definePlugin({ name: 'failing' }, async (app) => {
  const fail = (where: string, asked: unknown): void => {
    if (asked === where) throw new Error(`thrown in ${where}`);
  };
  type Done = (error?: Error | null, payload?: unknown) => void;
  for (const hook of ['onRequest', 'preParsing', 'preValidation', 'preHandler', 'onSend', 'onResponse'] as const) {
    const hasPayload = hook === 'preParsing' || hook === 'onSend';
    const sync = (asked: unknown, payload: unknown, done: Done): void => {
      fail(hook, asked);
      if (asked === `${hook} callback`) done(new Error(`thrown in ${hook} callback`));
      else done(null, payload);
    };
    const add = app.addHook.bind(app) as (name: string, hook: unknown) => void;
    add(
      hook,
      hasPayload
        ? (request: { headers: Record<string, unknown> }, _reply: unknown, payload: unknown, done: Done) =>
            sync(request.headers['x-fail'], payload, done)
        : (request: { headers: Record<string, unknown> }, _reply: unknown, done: Done) =>
            sync(request.headers['x-fail'], undefined, done),
    );
    add(
      hook,
      hasPayload
        ? async (request: { headers: Record<string, unknown> }, _reply: unknown, payload: unknown) => {
            fail(`${hook} async`, request.headers['x-fail']);
            return payload;
          }
        : async (request: { headers: Record<string, unknown> }) => fail(`${hook} async`, request.headers['x-fail']),
    );
  }
  const askedOf = (headers: readonly string[]): unknown => headers[headers.indexOf('x-fail') + 1];
  for (const phase of ['perRequest', 'perAttempt'] as const) {
    app.upstream.intercept(phase, (dispatch) => (options, handler) => {
      fail(phase, askedOf(options.headers));
      return dispatch(options, handler);
    });
  }
  app.upstream.intercept('perAttempt', (dispatch) => (options, handler) => {
    const asked = askedOf(options.headers);
    if (asked !== 'onResponseStart') return dispatch(options, handler);
    const onResponseStart = () => fail('onResponseStart', asked);
    return dispatch(options, { ...handler, onResponseStart });
  });
  app.upstream.observe((request) => {
    fail('observe', request.headers['x-fail']);
    return null;
  });
});
