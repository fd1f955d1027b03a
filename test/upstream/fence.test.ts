import { gzipSync } from 'node:zlib';
import t from 'tap';
import { interceptors as undici } from 'undici';
import type { DispatchHandler, DispatchOptions, Interceptor } from '../../src/dispatch.ts';
import type { Call } from '../../src/upstream/call.ts';
import { compileServices } from '../../src/upstream/compile-services.ts';
import { buildStack, type ChainInterceptors } from '../../src/upstream/stack.ts';
import { fakeWheel } from '../support/fake-clock.ts';
import {
  fakeUpstream,
  makeCall,
  makeOptions,
  Recorder,
  serviceConfig,
  transportError,
} from '../support/fake-upstream.ts';

function setUp(interceptors: Partial<ChainInterceptors>) {
  const { clock, wheel } = fakeWheel();
  const { network, deps } = fakeUpstream(wheel);
  const service = compileServices([serviceConfig(['a:1', 'b:1'])], null, deps).get('orders')!;
  const stack = buildStack({ perRequest: [], perAttempt: [], ...interceptors });
  const inFlight = () => service.endpoints.reduce((sum, endpoint) => sum + endpoint.inFlight, 0);
  const send = (optionsRest: Partial<DispatchOptions> = {}, callRest: Partial<Call> = {}) => {
    const client = new Recorder();
    stack(makeOptions(makeCall(service, callRest), optionsRest), client);
    return client;
  };
  return { clock, wheel, network, send, inFlight };
}

const theirs = (interceptor: unknown) => interceptor as Interceptor;
const settled = () => new Promise((resolve) => setTimeout(resolve, 10));

/** Wraps the handler of every dispatch. */
function wrapping(wrap: (handler: DispatchHandler) => DispatchHandler): Interceptor {
  return (dispatch) => (options, handler) => dispatch(options, wrap(handler));
}

function passing(handler: DispatchHandler, over: Partial<DispatchHandler> = {}): DispatchHandler {
  return {
    onRequestStart: (...args) => handler.onRequestStart?.(...args),
    onRequestUpgrade: (...args) => handler.onRequestUpgrade?.(...args),
    onResponseStart: (...args) => handler.onResponseStart?.(...args),
    onResponseData: (...args) => handler.onResponseData?.(...args),
    onResponseEnd: (...args) => handler.onResponseEnd?.(...args),
    onResponseError: (...args) => handler.onResponseError?.(...args),
    ...over,
  };
}

t.test('interceptors run in order around their phase, attempts once each', async (t) => {
  const seen: string[] = [];
  const note =
    (name: string): Interceptor =>
    (dispatch) =>
    (options, handler) => {
      seen.push(`${name} ${options.origin}`);
      return dispatch(options, handler);
    };
  const { clock, network, send } = setUp({
    perRequest: [note('r1'), note('r2')],
    perAttempt: [note('a1'), note('a2')],
  });
  const client = send();
  network.last.fail(transportError('SLV_UPSTREAM_REFUSED', { unsent: true }));
  clock.advance(60);
  network.last.respond(200, { x: 'y' }).end();
  t.same(seen, [
    'r1 http://all.orders.shop.example.com',
    'r2 http://all.orders.shop.example.com',
    'a1 http://a:1',
    'a2 http://a:1',
    'a1 http://b:1',
    'a2 http://b:1',
  ]);
  t.same(client.events, ['start 200', 'end']);
  t.same(client.headers, { x: 'y' }, 'header objects are there for whoever intercepts');
});

t.test('undici: decompress', async (t) => {
  const { network, send, inFlight } = setUp({ perRequest: [theirs(undici.decompress())] });
  const client = send();
  const zipped = gzipSync('hello '.repeat(1_000));
  network.last.respond(200, { 'content-encoding': 'gzip', 'content-length': String(zipped.length) });
  network.last.handler.onResponseData?.(network.last, zipped);
  network.last.end();
  for (let wait = 0; wait < 100 && client.endings === 0; wait++) await settled();
  t.equal(client.body, 'hello '.repeat(1_000));
  t.equal(client.headers['content-encoding'], undefined);
  t.equal(client.events.at(-1), 'end');
  t.equal(inFlight(), 0);
});

t.test('undici: cache answers the second request itself', async (t) => {
  const { network, send, inFlight } = setUp({ perRequest: [theirs(undici.cache())] });
  const headers = { 'cache-control': 'public, max-age=60', 'content-type': 'text/plain', etag: '"1"' };
  network.answer = (exchange) => {
    exchange.rawHeaders = Object.entries(headers).flat();
    exchange
      .respond(200, { ...headers, date: new Date().toUTCString() })
      .data('cached')
      .end();
  };
  const first = send({ path: '/thing' });
  t.equal(first.body, 'cached');
  await settled();
  const second = send({ path: '/thing' });
  for (let wait = 0; wait < 100 && second.endings === 0; wait++) await settled();
  t.equal(second.body, 'cached');
  t.equal(second.status, 200);
  t.equal(network.exchanges.length, 1);
  send({ path: '/other' });
  t.equal(network.exchanges.length, 2);
  send({ path: '/thing', headers: ['Host', 'other.example.com'] });
  t.equal(network.exchanges.length, 3, 'another host has a cache of its own');
  t.equal(inFlight(), 0);
});

t.test('undici: cache revalidates with headers of its own shape', async (t) => {
  const { network, send } = setUp({ perRequest: [theirs(undici.cache())] });
  network.answer = (exchange) => {
    const headers = { 'cache-control': 'public, no-cache', etag: '"1"', date: new Date().toUTCString() };
    if (exchange.header('if-none-match') === '"1"') exchange.respond(304, headers).end();
    else exchange.respond(200, headers).data('cached').end();
  };
  send({ path: '/thing' });
  await settled();
  const second = send({ path: '/thing' });
  for (let wait = 0; wait < 100 && second.endings === 0; wait++) await settled();
  t.equal(network.exchanges.length, 2);
  t.equal(network.last.header('if-none-match'), '"1"');
  t.equal(network.last.header('host'), 'shop.example.com');
  t.equal(second.body, 'cached');
});

t.test('undici: responseError turns a status into an error', async (t) => {
  const { network, send, inFlight } = setUp({ perRequest: [theirs(undici.responseError())] });
  const client = send();
  network.last.respond(418, { 'content-type': 'text/plain' }).data('teapot').end();
  t.match(client.error, { statusCode: 418, body: 'teapot' });
  t.equal(client.endings, 1);
  t.equal(inFlight(), 0);
});

t.test('undici: dump replaces methods of its controller, and neither deadline nor client is deaf for it', async (t) => {
  for (const phase of ['perRequest', 'perAttempt'] as const) {
    const { clock, network, send, inFlight } = setUp({ [phase]: [theirs(undici.dump())] });
    const late = send({}, { timeouts: { requestMs: 100, perTryMs: 0, idleMs: 0 } });
    clock.advance(200);
    t.equal(late.error?.code, 'SLV_UPSTREAM_TIMEOUT', phase);
    t.ok(network.last.aborted);
    const gone = send();
    gone.controller?.abort(new Error('gone'));
    t.equal(gone.error?.message, 'gone');
    t.ok(network.last.aborted);
    t.equal(inFlight(), 0);
  }
});

t.test('interim responses pass by interceptors that would take them for the response', async (t) => {
  const { network, send } = setUp({ perRequest: [theirs(undici.decompress())], perAttempt: [theirs(undici.dump())] });
  const client = send();
  network.last.respond(103, { link: '</a.css>' }).respond(200).end();
  t.same(client.events, ['start 103', 'start 200', 'end']);
});

t.test('what an interceptor throws fails its own request, once, and nothing of it stays', async (t) => {
  const hooks = ['onRequestStart', 'onResponseStart', 'onResponseData', 'onResponseEnd', 'onResponseError'] as const;
  for (const phase of ['perRequest', 'perAttempt'] as const) {
    for (const hook of hooks) {
      const throws = () => {
        throw new TypeError(`thrown in ${hook}`);
      };
      const interceptor = wrapping((handler) => passing(handler, { [hook]: throws }));
      const { clock, network, send, inFlight, wheel } = setUp({ [phase]: [interceptor] });
      const client = send({}, { timeouts: { requestMs: 5_000, perTryMs: 0, idleMs: 5_000 } });
      if (!network.last.over) {
        if (hook === 'onResponseError') network.last.fail(transportError('SLV_UPSTREAM_RESET'));
        else {
          network.last.respond(200);
          if (!network.last.over) network.last.data('x');
          if (!network.last.over) network.last.end();
        }
      }
      clock.advance(100);
      t.match(client.error, { code: 'SLV_PLUGIN_FAILED', statusCode: 500, cause: TypeError }, `${phase} ${hook}`);
      t.equal(client.endings, 1);
      t.ok(network.last.over, 'the upstream is let go');
      t.equal(inFlight(), 0);
      t.equal(wheel.waiting, 0);
    }
  }
});

t.test('an interceptor that throws before it dispatches, or loses `call`, fails its request', async (t) => {
  const faults: Interceptor[] = [
    () => () => {
      throw new TypeError('not today');
    },
    (dispatch) =>
      ({ call: _call, ...rest }, handler) =>
        dispatch(rest, handler),
  ];
  for (const fault of faults) {
    for (const phase of ['perRequest', 'perAttempt'] as const) {
      const { network, send, inFlight } = setUp({ [phase]: [fault] });
      const client = send();
      t.match(client.error, { code: 'SLV_PLUGIN_FAILED' });
      t.equal(client.endings, 1);
      t.equal(network.exchanges.length, 0);
      t.equal(inFlight(), 0);
    }
  }
});

t.test('an interceptor may change headers in any of the shapes that undici knows, and the body', async (t) => {
  const shapes: [unknown, string[]][] = [
    [{ a: '1', b: ['2', '3'], none: undefined }, ['a', '1', 'b', '2', 'b', '3']],
    [new Map([['a', '1']]), ['a', '1']],
    [[['a', '1']], ['a', '1']],
    [undefined, []],
    [null, []],
  ];
  for (const [headers, expected] of shapes) {
    const change: Interceptor = (dispatch) => (options, handler) =>
      dispatch({ ...options, headers: headers as never }, handler);
    const { network, send } = setUp({ perRequest: [change] });
    send();
    t.same(network.last.options.headers, expected);
  }
  const bodies: [unknown, string][] = [
    ['höllo', 'höllo'],
    [new TextEncoder().encode('bytes'), 'bytes'],
  ];
  for (const [body, expected] of bodies) {
    const change: Interceptor = (dispatch) => (options, handler) =>
      dispatch({ ...options, body: body as never }, handler);
    const { network, send } = setUp({ perAttempt: [change] });
    send({ contentLength: 3 });
    t.equal(String(network.last.options.body), expected);
    t.equal(network.last.options.contentLength, Buffer.byteLength(expected));
  }
});

t.test('the client is heard where an interceptor has not dispatched yet', async (t) => {
  let go = () => {};
  const waits: Interceptor = (dispatch) => (options, handler) => {
    go = () => dispatch(options, handler);
    return true;
  };
  const { clock, network, send, inFlight } = setUp({ perAttempt: [waits] });
  const client = send({}, { timeouts: { requestMs: 100, perTryMs: 0, idleMs: 0 } });
  t.equal(inFlight(), 1);
  clock.advance(200);
  t.equal(client.error?.code, 'SLV_UPSTREAM_TIMEOUT');
  go();
  t.ok(network.last.aborted);
  t.equal(client.endings, 1);
  t.equal(inFlight(), 0);
});

t.test('pausing reaches whoever feeds the client', async (t) => {
  const { network, send } = setUp({ perRequest: [wrapping((handler) => passing(handler))] });
  const client = send();
  network.last.respond(200);
  client.controller?.pause();
  t.ok(network.last.paused);
  t.ok(client.controller?.paused);
  client.controller?.resume();
  t.notOk(network.last.paused);
});
