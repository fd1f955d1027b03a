import { EventEmitter } from 'node:events';
import { type Duplex, Readable } from 'node:stream';
import t from 'tap';
import type { DispatchOptions } from '../../src/dispatch.ts';
import { SelvedgeError } from '../../src/errors.ts';
import type { Call } from '../../src/upstream/call.ts';
import { compileServices } from '../../src/upstream/compile-services.ts';
import { buildStack } from '../../src/upstream/stack.ts';
import { fakeWheel } from '../support/fake-clock.ts';
import {
  endpointConfig,
  fakeUpstream,
  makeCall,
  makeOptions,
  NO_TIMEOUTS,
  Recorder,
  serviceConfig,
  transportError,
} from '../support/fake-upstream.ts';

const stack = buildStack({ perRequest: [], perAttempt: [] });
const REFUSED = () => transportError('SLV_UPSTREAM_REFUSED', { unsent: true });
const TIMEOUTS = { requestMs: 1_000, perTryMs: 0, idleMs: 0 };

function setUp(config = serviceConfig(['a:1', 'b:1'])) {
  const { clock, wheel } = fakeWheel();
  const { network, deps } = fakeUpstream(wheel);
  const service = compileServices([config], null, deps).get(config.name)!;
  const inFlight = () => service.endpoints.reduce((sum, endpoint) => sum + endpoint.inFlight, 0);
  const send = (callRest: Partial<Call> = {}, optionsRest: Partial<DispatchOptions> = {}) => {
    const call = makeCall(service, callRest);
    const options = makeOptions(call, optionsRest);
    const client = new Recorder();
    stack(options, client);
    return { call, options, client };
  };
  return { clock, wheel, network, service, send, inFlight };
}

/** A request body under the test's control that counts as the listener's does. */
function upload() {
  const body = new Readable({ read() {} }) as Readable & { receivedBytes: number };
  body.receivedBytes = 0;
  return {
    body,
    async sends(text: string | null): Promise<void> {
      if (text !== null) body.receivedBytes += text.length;
      body.push(text);
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

t.test('deadline', async (t) => {
  t.test('answers 504 when no response head comes in time, and lets the upstream go at once', async (t) => {
    const { clock, network, send, wheel, inFlight } = setUp();
    const { client, call } = send({ timeouts: TIMEOUTS });
    clock.advance(990);
    t.equal(client.error, null);
    clock.advance(60);
    t.match(client.error, { code: 'SLV_UPSTREAM_TIMEOUT', statusCode: 504 });
    t.ok(network.last.aborted);
    t.equal(client.endings, 1);
    t.match(call.attempts, [{ outcome: 'upstream_timeout', status: 0 }]);
    t.equal(inFlight(), 0);
    t.equal(wheel.waiting, 0);
  });

  t.test('interim responses do not stop the clock', async (t) => {
    const { clock, network, send } = setUp();
    const { client } = send({ timeouts: TIMEOUTS });
    for (let time = 0; time < 1_100; time += 100) {
      if (!network.last.over) network.last.respond(103);
      clock.advance(100);
    }
    t.equal(client.error?.code, 'SLV_UPSTREAM_TIMEOUT');
  });

  t.test('a response head in time ends it, however long the body takes', async (t) => {
    const { clock, network, send, wheel } = setUp();
    const { client } = send({ timeouts: TIMEOUTS, deadlineAt: 3_000 });
    network.last.respond(200);
    t.equal(wheel.waiting, 0);
    clock.advance(60_000);
    network.last.data('late').end();
    t.same(client.events, ['start 200', 'end']);
  });

  t.test('a deadline that has passed starts no work', async (t) => {
    const { clock, network, send } = setUp();
    const { client } = send({ deadlineAt: clock.now() });
    t.match(client.error, { code: 'SLV_DEADLINE_EXCEEDED', statusCode: 504 });
    t.equal(network.exchanges.length, 0);
  });

  t.test('the deadline that came with the request wins when it is sooner', async (t) => {
    const { clock, network, send } = setUp();
    const { client } = send({ timeouts: TIMEOUTS, deadlineAt: clock.now() + 300 });
    clock.advance(290);
    t.equal(client.error, null);
    clock.advance(60);
    t.equal(client.error?.code, 'SLV_DEADLINE_EXCEEDED');
    t.ok(network.last.aborted);
  });

  t.test('counts from the end of the request body while a client uploads', async (t) => {
    const { clock, network, send } = setUp();
    const { body, sends } = upload();
    const { client, call } = send({ timeouts: TIMEOUTS }, { method: 'POST', body });
    body.resume();
    for (let time = 0; time < 10_000; time += 500) {
      await sends('some bytes');
      clock.advance(500);
    }
    t.equal(client.error, null, 'ten seconds of upload');
    t.equal(call.deadlineAt, Number.POSITIVE_INFINITY);
    await sends(null);
    t.equal(call.deadlineAt, clock.now() + 1_000);
    clock.advance(990);
    t.equal(client.error, null);
    clock.advance(60);
    t.equal(client.error?.code, 'SLV_UPSTREAM_TIMEOUT');
    t.ok(network.last.aborted);
  });

  t.test('a response that comes before the upload ends is bounded by neither', async (t) => {
    const { clock, network, send, wheel } = setUp();
    const { body, sends } = upload();
    const { client, call } = send({ timeouts: TIMEOUTS }, { method: 'POST', body });
    body.resume();
    await sends('some bytes');
    network.last.respond(200);
    await sends(null);
    t.equal(wheel.waiting, 0);
    clock.advance(10_000);
    t.equal(client.error, null);
    t.equal(call.deadlineAt, Number.POSITIVE_INFINITY);
  });

  t.test('the deadline that came with the request holds during an upload too', async (t) => {
    const { clock, send } = setUp();
    const { body, sends } = upload();
    const { client } = send({ timeouts: TIMEOUTS, deadlineAt: clock.now() + 2_000 }, { method: 'POST', body });
    body.resume();
    await sends('some bytes');
    clock.advance(1_990);
    t.equal(client.error, null);
    clock.advance(60);
    t.equal(client.error?.code, 'SLV_DEADLINE_EXCEEDED');
  });

  t.test('a body that nobody has begun to read does not stop the clock: the request waits for us', async (t) => {
    const { clock, send } = setUp();
    const { body, sends } = upload();
    const { client } = send({ timeouts: TIMEOUTS }, { method: 'POST', body });
    await sends('some bytes');
    clock.advance(1_060);
    t.equal(client.error?.code, 'SLV_UPSTREAM_TIMEOUT');
  });

  t.test('an upstream that takes nothing of an upload is given up after the idle time', async (t) => {
    const { clock, send } = setUp();
    const { body, sends } = upload();
    const { client } = send({ timeouts: { requestMs: 1_000, perTryMs: 0, idleMs: 5_000 } }, { method: 'POST', body });
    body.resume();
    await sends('some bytes');
    body.pause();
    await sends('more bytes');
    clock.advance(5_900);
    t.equal(client.error, null);
    clock.advance(200);
    t.equal(client.error?.code, 'SLV_IDLE_TIMEOUT');
  });

  t.test('covers the pause between two tries', async (t) => {
    const { clock, network, send, wheel, inFlight } = setUp();
    const { client } = send({ timeouts: { ...TIMEOUTS, requestMs: 30 } });
    network.last.fail(REFUSED());
    t.equal(client.starts, 2, 'the pause has a controller');
    clock.stall(100);
    t.equal(client.error?.code, 'SLV_UPSTREAM_TIMEOUT');
    clock.advance(1_000);
    t.equal(network.exchanges.length, 1, 'no second try after the end');
    t.equal(client.endings, 1);
    t.equal(inFlight(), 0);
    t.equal(wheel.waiting, 0);
  });

  t.test('ends the request even where nothing has begun yet, and aborts what begins later', async (t) => {
    const { wheel, clock } = fakeWheel();
    const { network, deps } = fakeUpstream(wheel);
    const service = compileServices([serviceConfig(['a:1'])], null, deps).get('orders')!;
    let go = () => {};
    const slow = buildStack({
      perRequest: [],
      perAttempt: [
        (dispatch) => (options, handler) => {
          go = () => dispatch(options, handler);
          return true;
        },
      ],
    });
    const client = new Recorder();
    slow(makeOptions(makeCall(service, { timeouts: TIMEOUTS })), client);
    clock.advance(1_100);
    t.equal(client.error?.code, 'SLV_UPSTREAM_TIMEOUT');
    go();
    t.ok(network.last.aborted);
    t.equal(client.endings, 1);
    t.equal(service.endpoints[0].inFlight, 0);
  });

  t.test('idle: a stream that says nothing is broken off, one that speaks is not', async (t) => {
    const { clock, network, send } = setUp();
    const { client } = send({ timeouts: { requestMs: 0, perTryMs: 0, idleMs: 1_000 } });
    network.last.respond(200);
    for (let time = 0; time < 5_000; time += 500) {
      clock.advance(500);
      network.last.data('.');
    }
    t.equal(client.error, null);
    clock.advance(990);
    t.equal(client.error, null);
    clock.advance(60);
    t.equal(client.error?.code, 'SLV_IDLE_TIMEOUT');
    t.ok(network.last.aborted);
  });

  t.test('idle does not count while the client is the slow side', async (t) => {
    const { clock, network, send } = setUp();
    const { client } = send({ timeouts: { requestMs: 0, perTryMs: 0, idleMs: 1_000 } });
    network.last.respond(200).data('.');
    network.last.pause();
    clock.advance(10_000);
    network.last.resume();
    clock.advance(900);
    t.equal(client.error, null, 'the whole time anew after the pause');
    clock.advance(2_000);
    t.equal(client.error?.code, 'SLV_IDLE_TIMEOUT');
  });

  t.test('idle: a pause that began and ended between two looks gives the upstream its whole time', async (t) => {
    const { clock, network, send } = setUp();
    const { client } = send({ timeouts: { requestMs: 0, perTryMs: 0, idleMs: 1_000 } });
    network.last.respond(200);
    network.last.pause();
    network.last.data('.');
    clock.advance(950);
    network.last.resume();
    clock.advance(900);
    t.equal(client.error, null);
    clock.advance(1_000);
    t.equal(client.error?.code, 'SLV_IDLE_TIMEOUT');
  });

  t.test('idle: a client that still sends keeps its stream', async (t) => {
    const { clock, network, send } = setUp();
    const { body, sends } = upload();
    const timeouts = { requestMs: 0, perTryMs: 0, idleMs: 1_000 };
    const { client } = send({ timeouts }, { method: 'POST', body });
    body.resume();
    network.last.respond(200);
    for (let time = 0; time < 5_000; time += 500) {
      await sends('some bytes');
      clock.advance(500);
    }
    t.equal(client.error, null);
    clock.advance(2_100);
    t.equal(client.error?.code, 'SLV_IDLE_TIMEOUT');
  });

  t.test('an upgrade leaves every clock behind', async (t) => {
    const { clock, network, send, wheel, inFlight } = setUp();
    const { client } = send({ timeouts: { requestMs: 500, perTryMs: 500, idleMs: 500 } }, { upgrade: 'websocket' });
    const socket = new EventEmitter() as Duplex;
    network.last.over = true;
    network.last.handler.onRequestUpgrade?.(network.last, 101, {}, socket);
    t.same(client.events, ['upgrade 101']);
    clock.advance(10_000);
    t.equal(client.error, null);
    t.equal(wheel.waiting, 0);
    t.equal(inFlight(), 1, 'in flight until the connection closes');
    socket.emit('close');
    t.equal(inFlight(), 0);
  });
});

t.test('per try', async (t) => {
  t.test('ends one try that takes too long', async (t) => {
    const { clock, network, send, inFlight } = setUp();
    const { client, call } = send({ timeouts: { requestMs: 1_000, perTryMs: 200, idleMs: 0 } });
    clock.advance(250);
    t.match(client.error, { code: 'SLV_TRY_TIMEOUT', statusCode: 504 });
    t.match(client.error?.message, /a:1 did not answer within 200 ms/);
    t.equal(network.exchanges.length, 1, 'not a failure that is retried unasked');
    t.match(call.attempts, [{ outcome: 'try_timeout' }]);
    t.equal(inFlight(), 0);
  });

  t.test('counts from the end of the upload', async (t) => {
    const { clock, network, send } = setUp();
    const { body, sends } = upload();
    const { client } = send({ timeouts: { ...NO_TIMEOUTS, perTryMs: 200 } }, { method: 'POST', body });
    body.resume();
    await sends('some bytes');
    clock.advance(5_000);
    await sends(null);
    clock.advance(190);
    network.last.respond(200).end();
    t.same(client.events, ['start 200', 'end']);
  });
});

t.test('retry', async (t) => {
  t.test('tries another endpoint once when the connection is refused', async (t) => {
    const { clock, network, send, inFlight } = setUp();
    const { client, call } = send({}, { method: 'POST', body: Buffer.from('x') });
    network.last.fail(REFUSED());
    t.equal(client.error, null);
    clock.advance(60);
    t.same(
      network.exchanges.map(({ endpoint }) => endpoint),
      ['a:1', 'b:1'],
    );
    t.equal(client.controller, network.last, 'the client holds the controller of the second try');
    network.last.respond(200).data('hello').end();
    t.same(client.events, ['start 200', 'end']);
    t.match(call.attempts, [
      { endpoint: 'a:1', outcome: 'upstream_refused', status: 0 },
      { endpoint: 'b:1', outcome: 'ok', status: 200 },
    ]);
    t.same(call.chosen, ['a:1', 'b:1']);
    t.equal(inFlight(), 0);
  });

  t.test('a second failure goes through', async (t) => {
    const { clock, network, send } = setUp(serviceConfig(['a:1', 'b:1', 'c:1']));
    const { client } = send();
    network.last.fail(REFUSED());
    clock.advance(60);
    network.last.fail(REFUSED());
    clock.advance(1_000);
    t.equal(client.error?.code, 'SLV_UPSTREAM_REFUSED');
    t.equal(network.exchanges.length, 2);
  });

  t.test('a service of one endpoint is tried again there', async (t) => {
    const { clock, network, send } = setUp(serviceConfig(['a:1']));
    const { client } = send();
    network.last.fail(REFUSED());
    clock.advance(60);
    network.last.respond(204).end();
    t.same(client.events, ['start 204', 'end']);
  });

  const neverRetried: [string, Error][] = [
    ['a failure after bytes were sent', transportError('SLV_UPSTREAM_RESET')],
    ['a full pool', transportError('SLV_POOL_FULL', { unsent: true })],
    ['a malformed response', transportError('SLV_UPSTREAM_INVALID')],
    ['an error of anything else', new Error('surprise')],
  ];
  for (const [what, error] of neverRetried) {
    t.test(`${what} is never retried`, async (t) => {
      const { clock, network, send, inFlight } = setUp();
      const { client } = send();
      network.last.fail(error);
      t.equal(client.error, error);
      clock.advance(1_000);
      t.equal(network.exchanges.length, 1);
      t.equal(inFlight(), 0);
    });
  }

  t.test('a response is never retried, whatever its status', async (t) => {
    const { clock, network, send } = setUp();
    const { client } = send();
    network.last.respond(503).end();
    clock.advance(1_000);
    t.same(client.events, ['start 503', 'end']);
    t.equal(network.exchanges.length, 1);
  });

  t.test('nothing is retried after a response head', async (t) => {
    const { clock, network, send } = setUp();
    const { client } = send();
    network.last.respond(200).fail(REFUSED());
    t.same(client.events, ['start 200', 'error SLV_UPSTREAM_REFUSED']);
    clock.advance(1_000);
    t.equal(network.exchanges.length, 1);
  });

  t.test('a body that was read from is not sent again, one that was not is', async (t) => {
    const { clock, network, send } = setUp();
    const read = upload();
    const first = send({}, { method: 'POST', body: read.body });
    read.body.resume();
    await read.sends('x');
    network.last.fail(REFUSED());
    t.equal(first.client.error?.code, 'SLV_UPSTREAM_REFUSED');
    const unread = upload();
    const second = send({}, { method: 'POST', body: unread.body });
    await unread.sends('x');
    network.last.fail(REFUSED());
    clock.advance(60);
    t.equal(second.client.error, null);
    t.equal(network.last.options.body, unread.body);
  });

  t.test('a client that leaves between two tries ends the request at once', async (t) => {
    const { clock, network, send, wheel, inFlight } = setUp();
    const { client } = send();
    network.last.fail(REFUSED());
    client.controller?.abort(new SelvedgeError('SLV_CLIENT_ABORTED', 'gone'));
    t.equal(client.error?.code, 'SLV_CLIENT_ABORTED');
    t.equal(wheel.waiting, 0);
    clock.advance(1_000);
    t.equal(network.exchanges.length, 1);
    t.equal(inFlight(), 0);
  });

  t.test('a client that leaves during the second try aborts that one', async (t) => {
    const { clock, network, send, inFlight } = setUp();
    const { client, call } = send();
    network.last.fail(REFUSED());
    clock.advance(60);
    client.controller?.abort(new SelvedgeError('SLV_CLIENT_ABORTED', 'gone'));
    t.ok(network.last.aborted);
    t.match(call.attempts[1], { outcome: 'client_aborted' });
    t.equal(client.endings, 1);
    t.equal(inFlight(), 0);
  });

  t.test('a pause that does not fit into the deadline is not begun', async (t) => {
    const { clock, network, send } = setUp();
    const { client } = send({ deadlineAt: clock.now() + 1 });
    clock.advance(1);
    network.last.fail(REFUSED());
    t.equal(client.error?.code, 'SLV_UPSTREAM_REFUSED');
  });

  t.test(
    'a burst against a dead service is retried within the budget, and the original error goes through',
    async (t) => {
      const { clock, network, send, service, inFlight, wheel } = setUp(serviceConfig(['a:1']));
      network.answer = (exchange) => exchange.fail(REFUSED());
      const clients = Array.from({ length: 200 }, () => send().client);
      clock.advance(500);
      t.ok(clients.every(({ error, endings }) => error?.code === 'SLV_UPSTREAM_REFUSED' && endings === 1));
      const retries = network.exchanges.length - 200;
      t.ok(retries > 10 && retries <= 0.2 * 200 + 10, `${retries} retries`);
      t.equal(service.memory.retryBudget.exhausted, 200 - retries);
      t.equal(inFlight(), 0);
      t.equal(wheel.waiting, 0);
    },
  );

  t.test('the way to another endpoint is not charged: the request arrives once at most', async (t) => {
    const { clock, network, send, service } = setUp(serviceConfig(['a:1', 'b:1']));
    network.answer = (exchange) => exchange.fail(REFUSED());
    const clients = Array.from({ length: 200 }, () => send().client);
    clock.advance(500);
    t.ok(clients.every(({ endings }) => endings === 1));
    t.equal(network.exchanges.length, 400);
    t.equal(service.memory.retryBudget.exhausted, 0);
  });
});

t.test('balance', async (t) => {
  t.test('whoever watches hears of each try once, and what it says instead reaches the endpoint', async (t) => {
    const { clock, network, send } = setUp();
    const heard: string[] = [];
    const observe: Call['observe'] = ({ endpoint }, { method, path, origin }) => {
      heard.push(`${method} ${origin}${path}`);
      return {
        headers: ['x-try', String(heard.length), 'x-absent', '1'],
        end: ({ outcome, status }) => void heard.push(`${endpoint} ${outcome} ${status}`),
      };
    };
    const headers = ['host', 'shop.example.com', 'x-try', '0', 'x-other', 'x-absent'];
    const { client } = send({ observe }, { headers });
    network.last.fail(REFUSED());
    clock.advance(100);
    network.last.respond(200).end();
    t.equal(client.status, 200);
    t.same(heard, [
      `GET ${network.exchanges[0].options.origin}/`,
      `${network.exchanges[0].endpoint} upstream_refused 0`,
      `GET ${network.exchanges[1].options.origin}/`,
      `${network.exchanges[1].endpoint} ok 200`,
    ]);
    t.same(
      network.exchanges.map(({ options }) => options.headers.slice(2)),
      [
        ['x-try', '1', 'x-other', 'x-absent'],
        ['x-try', '3', 'x-other', 'x-absent'],
      ],
      'a header that the request does not carry is not added',
    );
  });

  t.test('a try that is given up without an answer is over as well', async (t) => {
    const { network, send } = setUp();
    const heard: string[] = [];
    const observe: Call['observe'] = () => ({ headers: [], end: ({ outcome }) => void heard.push(outcome) });
    const { client } = send({ observe });
    client.controller?.abort(new SelvedgeError('SLV_CLIENT_ABORTED', 'the client is gone'));
    t.same(heard, ['client_aborted']);
    t.ok(network.last.aborted);
  });

  t.test('a service without endpoints is 503, an unknown subset 500', async (t) => {
    const empty = setUp(serviceConfig([])).send();
    t.match(empty.client.error, { code: 'SLV_NO_ENDPOINT', statusCode: 503 });
    const weightless = setUp(serviceConfig([endpointConfig('a:1', { weight: 0 })])).send();
    t.equal(weightless.client.error?.code, 'SLV_NO_ENDPOINT');
    const unknown = setUp().send({ subset: 'v9' });
    t.match(unknown.client.error, { code: 'SLV_BACKEND_INVALID', statusCode: 500 });
    t.equal(unknown.client.endings, 1);
    const subsets = { v2: { version: 'v2' } };
    const none = setUp(serviceConfig(['a:1'], { subsets })).send({ subset: 'v2' });
    t.equal(none.client.error?.code, 'SLV_NO_ENDPOINT', 'a subset that matches nothing');
  });

  t.test('keeps to the subset', async (t) => {
    const endpoints = ['v1', 'v2', 'v2'].map((version, index) =>
      endpointConfig(`e${index}:1`, { labels: { version } }),
    );
    const { network, send } = setUp(serviceConfig(endpoints, { subsets: { v2: { version: 'v2' } } }));
    for (let index = 0; index < 10; index++) send({ subset: 'v2' });
    t.same(new Set(network.exchanges.map(({ endpoint }) => endpoint)), new Set(['e1:1', 'e2:1']));
  });

  t.test('honours the endpoint that the caller has chosen while it is there', async (t) => {
    const { clock, network, send } = setUp(serviceConfig(['a:1', 'b:1', 'c:1']));
    for (let index = 0; index < 5; index++) send({ preferred: 'c:1' });
    t.ok(network.exchanges.every(({ endpoint }) => endpoint === 'c:1'));
    network.last.fail(REFUSED());
    clock.advance(60);
    t.not(network.last.endpoint, 'c:1', 'not again after it failed');
    send({ preferred: 'gone:1' });
    t.equal(network.last.options.origin, `http://${network.last.endpoint}`);
  });

  t.test('leaves the headers of a request to strangers alone', async (t) => {
    const { clock, network, send } = setUp();
    const { options } = send({ deadlineAt: clock.now() + 500 });
    t.equal(network.last.options, options, 'not even copied');
    t.same(network.last.options.headers, ['host', 'shop.example.com']);
    t.equal(network.last.options.origin, 'http://a:1');
  });

  t.test('tells a hop which endpoint, which attempt and how much time is left', async (t) => {
    const hop = '10.0.0.6:15001';
    const endpoints = [
      endpointConfig('a:1', { hop }),
      endpointConfig('b:1', { hop }),
      endpointConfig('c:1', { hop: '10.0.0.7:15001' }),
    ];
    const { clock, network, send } = setUp(serviceConfig(endpoints));
    const headers = ['Host', 'orders', 'X-Selvedge-Attempt', '9', 'x-selvedge-timeout-ms', '99999'];
    send({ timeouts: TIMEOUTS }, { headers });
    t.match(network.last.options, { origin: `http://${hop}` });
    t.same(network.last.options.headers, [
      'Host',
      'orders',
      'x-selvedge-endpoint',
      'a:1',
      'x-selvedge-attempt',
      '1',
      'x-selvedge-timeout-ms',
      '1000',
    ]);
    clock.advance(100);
    network.last.fail(REFUSED());
    clock.advance(60);
    t.equal(network.last.endpoint, 'b:1');
    t.equal(network.last.header('x-selvedge-attempt'), '2');
    const left = Number(network.last.header('x-selvedge-timeout-ms'));
    t.ok(left <= 900 && left >= 840, `${left} ms left`);
    send({ timeouts: TIMEOUTS });
    t.equal(network.last.endpoint, 'c:1');
    t.equal(network.last.header('x-selvedge-endpoint'), undefined, 'its hop serves no other');
    t.equal(headers.length, 6, 'the headers of the request are not touched');
  });

  t.test('tells the local application the time left, nothing about hops', async (t) => {
    const { clock, network, send } = setUp();
    send({ internal: true, deadlineAt: clock.now() + 321.7 });
    t.same(network.last.options.headers.slice(2), ['x-selvedge-timeout-ms', '321']);
    send({ internal: true });
    t.same(network.last.options.headers.slice(2), []);
  });

  t.test('an upload tells no request timeout that has not begun, since it would end it', async (t) => {
    const { network, send } = setUp();
    const { body } = upload();
    send({ internal: true, timeouts: TIMEOUTS }, { method: 'POST', body });
    t.equal(network.last.header('x-selvedge-timeout-ms'), undefined);
  });

  t.test('a transport that throws fails the request, and counts it once', async (t) => {
    const { network, send, inFlight } = setUp();
    network.answer = () => {
      throw new TypeError('broken transport');
    };
    const { client } = send();
    t.match(client.error, { message: 'broken transport' });
    t.equal(client.endings, 1);
    t.equal(inFlight(), 0);
  });

  t.test('measures a try to its response head', async (t) => {
    const { clock, network, send } = setUp();
    const { call } = send();
    network.last.respond(103);
    t.match(call.attempts, [{ outcome: 'pending', status: 0 }]);
    clock.advance(42);
    network.last.respond(200);
    clock.advance(1_000);
    network.last.fail(transportError('SLV_UPSTREAM_INCOMPLETE'));
    t.same(call.attempts, [{ endpoint: 'a:1', outcome: 'upstream_incomplete', status: 200, durationMs: 42 }]);
  });
});
