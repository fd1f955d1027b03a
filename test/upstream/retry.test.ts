import { Readable } from 'node:stream';
import fc from 'fast-check';
import t from 'tap';
import type { ServiceConfig } from '../../src/config/model.ts';
import type { DispatchOptions } from '../../src/dispatch.ts';
import { SelvedgeError } from '../../src/errors.ts';
import { type RetryOptions, retryPolicy } from '../../src/policies/retry.ts';
import type { Call } from '../../src/upstream/call.ts';
import { compileServices } from '../../src/upstream/compile-services.ts';
import { NO_EVENTS } from '../../src/upstream/events.ts';
import { buildStack } from '../../src/upstream/stack.ts';
import { fakeWheel } from '../support/fake-clock.ts';
import {
  fakeUpstream,
  makeCall,
  makeOptions,
  Recorder,
  serviceConfig,
  transportError,
} from '../support/fake-upstream.ts';

const stack = buildStack({ perRequest: [], perAttempt: [] });
const REFUSED = () => transportError('SLV_UPSTREAM_REFUSED', { unsent: true });
const RESET = () => transportError('SLV_UPSTREAM_RESET');
const RACE = () => transportError('SLV_UPSTREAM_RESET', { reused: true });

const DEFAULTS: RetryOptions = {
  attempts: 1,
  on: ['connect-failure', 'refused-stream'],
  backoff: '25ms',
  maxBackoff: '250ms',
  methods: ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'],
  bufferBytes: '64KiB',
};
const policy = (options: RetryOptions) => retryPolicy({ ...DEFAULTS, ...options });

function setUp(endpoints: readonly string[] = ['a:1', 'b:1', 'c:1'], rest: Partial<ServiceConfig> = {}) {
  const { clock, wheel } = fakeWheel();
  const { network, deps } = fakeUpstream(wheel);
  const told: string[] = [];
  const events = {
    ...NO_EVENTS,
    retry: (_service: string, reason: string, result: string) => void told.push(`${reason} ${result}`),
  };
  const config = serviceConfig(endpoints, rest);
  const service = compileServices([config], null, { ...deps, events }).get('orders')!;
  service.activate(true);
  const send = (retry: RetryOptions = {}, options: Partial<DispatchOptions> = {}, rest: Partial<Call> = {}) => {
    const call = makeCall(service, { retry: policy(retry), ...rest });
    const client = new Recorder();
    stack(makeOptions(call, options), client);
    return { call, client };
  };
  /** Time passes until the next try, or so much that there is none. */
  const pass = () => {
    const before = network.exchanges.length;
    for (let passed = 0; passed < 300 && network.exchanges.length === before; passed += 10) clock.advance(10);
  };
  const clean = () =>
    service.endpoints.every(({ inFlight }) => inFlight === 0) &&
    service.memory.requests === 0 &&
    service.memory.retries === 0;
  return { clock, wheel, network, service, send, told, pass, clean };
}

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

t.test('what is tried again', async (t) => {
  const cases: readonly [on: NonNullable<RetryOptions['on']>, outcome: string, retried: boolean][] = [
    [['reset'], 'reset', true],
    [['5xx'], 'reset', true],
    [['gateway-error'], 'reset', false],
    [['connect-failure'], 'reset', false],
    [['gateway-error'], '502', true],
    [['gateway-error'], '503', true],
    [['gateway-error'], '504', true],
    [['gateway-error'], '500', false],
    [['5xx'], '500', true],
    [['5xx'], '599', true],
    [['5xx'], '499', false],
    [[{ status: [429, 409] }], '409', true],
    [[{ status: [429] }], '503', false],
    [[{ grpc: ['unavailable'] }], 'grpc 14', true],
    [[{ grpc: ['unavailable'] }], 'grpc 13', false],
    [[{ grpc: ['unavailable', 'internal'] }], 'grpc 13', true],
    [['per-try-timeout'], 'timeout', true],
    [['reset'], 'timeout', false],
    [['connect-failure'], 'refused', true],
    [['reset'], 'refused', false],
    [[], 'refused', false],
  ];
  for (const [on, outcome, retried] of cases) {
    t.test(`on ${JSON.stringify(on)}, ${outcome} is ${retried ? '' : 'not '}tried again`, async (t) => {
      const { network, send, pass, clean } = setUp();
      const timeouts = { requestMs: 5_000, perTryMs: 100, idleMs: 0 };
      const { client, call } = send({ on }, {}, { timeouts });
      if (outcome === 'reset') network.last.fail(RESET());
      else if (outcome === 'refused') network.last.fail(REFUSED());
      else if (outcome.startsWith('grpc')) network.last.respond(200, { 'grpc-status': outcome.slice(5) }).end();
      else if (outcome !== 'timeout') network.last.respond(Number(outcome)).data('sorry').end();
      pass();
      t.equal(network.exchanges.length, retried ? 2 : 1);
      t.equal(client.endings, retried ? 0 : 1);
      if (!retried) return;
      t.not(network.exchanges[1].endpoint, network.exchanges[0].endpoint, 'at another endpoint');
      network.last.respond(200).data('good').end();
      t.same(client.events, ['start 200', 'end']);
      t.equal(client.body, 'good', 'nothing of the first answer');
      t.match(call.attempts, [{}, { outcome: 'ok', status: 200 }]);
      t.ok(clean());
    });
  }
});

t.test('a status that was retried stands in the attempts with what it was', async (t) => {
  const { clock, network, send } = setUp();
  const { call } = send({ on: ['gateway-error'] });
  network.last.respond(503).end();
  clock.advance(300);
  network.last.respond(200).end();
  t.match(call.attempts, [
    { endpoint: 'a:1', outcome: 'ok', status: 503 },
    { endpoint: 'b:1', outcome: 'ok', status: 200 },
  ]);
});

t.test('the last failure goes through as it is', async (t) => {
  const { clock, network, send, told, clean } = setUp();
  const { client } = send({ attempts: 2, on: ['gateway-error'] });
  for (let attempt = 0; attempt < 3; attempt++) {
    network.last.respond(503).data(`answer ${attempt}`).end();
    clock.advance(300);
  }
  t.equal(network.exchanges.length, 3);
  t.same(client.events, ['start 503', 'end']);
  t.equal(client.body, 'answer 2');
  t.same(told, ['status_503 retried', 'status_503 retried']);
  t.ok(clean());
});

t.test('methods', async (t) => {
  t.test('a POST is not sent again where it may have been acted on', async (t) => {
    for (const fail of ['reset', 'status'] as const) {
      const { clock, network, send } = setUp();
      const { client } = send({ attempts: 3, on: ['reset', '5xx'] }, { method: 'POST' });
      if (fail === 'reset') network.last.fail(RESET());
      else network.last.respond(503).end();
      clock.advance(1_000);
      t.equal(network.exchanges.length, 1);
      t.equal(client.endings, 1);
    }
  });

  t.test('a POST is sent again where no byte of it was sent', async (t) => {
    const { clock, network, send } = setUp();
    const { client } = send({}, { method: 'POST' });
    network.last.fail(REFUSED());
    clock.advance(300);
    network.last.respond(201).end();
    t.same(client.events, ['start 201', 'end']);
  });

  t.test('a POST with an Idempotency-Key, or of a route that lists it, is sent again', async (t) => {
    const byHeader = setUp();
    byHeader.send({ on: ['reset'] }, { method: 'POST', headers: ['host', 'x', 'Idempotency-Key', 'k1'] });
    byHeader.network.last.fail(RESET());
    byHeader.clock.advance(300);
    t.equal(byHeader.network.exchanges.length, 2);
    const byMethod = setUp();
    byMethod.send({ on: ['reset'], methods: ['POST'] }, { method: 'POST' });
    byMethod.network.last.fail(RESET());
    byMethod.clock.advance(300);
    t.equal(byMethod.network.exchanges.length, 2);
    const get = setUp();
    get.send({ on: ['reset'], methods: ['POST'] });
    get.network.last.fail(RESET());
    get.clock.advance(300);
    t.equal(get.network.exchanges.length, 1, 'a GET that the list leaves out is not');
  });
});

t.test('bodies', async (t) => {
  /** Reads what the endpoint is sent, as the transport would. */
  function reading(body: unknown): { text: string; ended: boolean } {
    const read = { text: '', ended: false };
    (body as Readable)
      .on('data', (chunk: Buffer) => {
        read.text += chunk;
      })
      .on('end', () => {
        read.ended = true;
      });
    return read;
  }

  t.test('a body that was sent is sent whole again', async (t) => {
    const { clock, network, send, clean } = setUp();
    const body = new Readable({ read() {} });
    const { client } = send({ on: ['reset'] }, { method: 'PUT', body });
    body.push('first ');
    const one = reading(network.last.options.body);
    await turn();
    t.equal(one.text, 'first ');
    network.last.fail(RESET());
    clock.advance(300);
    const two = reading(network.last.options.body);
    body.push('second');
    body.push(null);
    await turn();
    await turn();
    t.same(two, { text: 'first second', ended: true });
    network.last.respond(200).end();
    t.same(client.events, ['start 200', 'end']);
    t.ok(clean());
  });

  t.test('a body over bufferBytes is sent once and loses nothing', async (t) => {
    const { clock, network, send, told } = setUp();
    const body = new Readable({ read() {} });
    const { client } = send({ on: ['reset'], bufferBytes: '10B' }, { method: 'PUT', body });
    const one = reading(network.last.options.body);
    body.push('0123456789');
    body.push('abc');
    body.push(null);
    await turn();
    await turn();
    t.same(one, { text: '0123456789abc', ended: true });
    network.last.fail(RESET());
    clock.advance(300);
    t.equal(client.error?.code, 'SLV_UPSTREAM_RESET');
    t.equal(network.exchanges.length, 1);
    t.same(told, ['upstream_reset body_too_large']);
  });

  t.test('a body whose length says that it is too large is not kept at all', async (t) => {
    const { network, send } = setUp();
    const body = new Readable({ read() {} });
    send({ on: ['reset'], bufferBytes: '10B' }, { method: 'PUT', body, contentLength: 11 });
    t.equal(network.last.options.body, body);
  });
});

t.test('a kept connection that closes as the request sets out', async (t) => {
  t.test('costs no attempt, no backoff and nothing of the budget', async (t) => {
    const { clock, network, send, told } = setUp(['a:1']);
    const { client } = send({ attempts: 0 }, { method: 'PUT', body: Buffer.from('x') });
    network.last.fail(RACE());
    clock.advance(40);
    t.equal(network.exchanges.length, 2);
    network.last.respond(200).end();
    t.same(client.events, ['start 200', 'end']);
    t.same(told, []);
  });

  t.test('is no way to go round for ever', async (t) => {
    const { clock, network, send } = setUp(['a:1']);
    network.answer = (exchange) => exchange.fail(RACE());
    const { client } = send({ attempts: 0 });
    clock.advance(5_000);
    t.equal(client.error?.code, 'SLV_UPSTREAM_RESET');
    t.equal(network.exchanges.length, 4);
  });

  t.test('sends a POST that nobody has read again, with the body that was handed back', async (t) => {
    const { clock, network, send } = setUp(['a:1']);
    const source = Readable.from([Buffer.from('abc')]);
    const { client } = send({ attempts: 0 }, { method: 'POST', body: source });
    network.last.fail(transportError('SLV_UPSTREAM_RESET', { reused: true, unsent: true, body: Buffer.from('abc') }));
    clock.advance(40);
    t.equal(network.exchanges.length, 2);
    t.same(network.last.options.body, Buffer.from('abc'));
    network.last.respond(200).end();
    t.same(client.events, ['start 200', 'end']);
  });

  t.test('does not send a POST twice', async (t) => {
    const { clock, network, send } = setUp(['a:1']);
    const { client } = send({ attempts: 5, on: ['reset'] }, { method: 'POST' });
    network.last.fail(RACE());
    clock.advance(5_000);
    t.equal(client.error?.code, 'SLV_UPSTREAM_RESET');
    t.equal(network.exchanges.length, 1);
  });
});

t.test('time', async (t) => {
  t.test('backoff is uniform up to (2^n - 1) times the base, and capped', async (t) => {
    const { clock, network, send, service } = setUp(Array.from({ length: 12 }, (_, index) => `e${index}:1`));
    service.memory.configure({ share: 1, windowMs: 10_000, minPerSecond: 1_000 }, null);
    const longest = [0, 0, 0, 0, 0, 0];
    for (let round = 0; round < 60; round++) {
      send({ attempts: 6, on: ['reset'], backoff: '40ms', maxBackoff: '400ms' });
      for (let retry = 0; retry < 6; retry++) {
        const before = network.exchanges.length;
        const from = clock.now();
        network.last.fail(RESET());
        while (network.exchanges.length === before) clock.advance(10);
        longest[retry] = Math.max(longest[retry], clock.now() - from);
      }
      network.last.respond(200).end();
    }
    // The wheel adds two ticks of 20 ms at most.
    for (const [retry, ceiling] of [40, 120, 280, 400, 400, 400].entries()) {
      t.ok(longest[retry] <= ceiling + 40, `retry ${retry + 1}: ${longest[retry]} ms at most`);
      t.ok(longest[retry] > ceiling / 2, `retry ${retry + 1}: ${longest[retry]} ms at least once`);
    }
  });

  for (const [form, header] of [
    ['seconds', () => '2'],
    ['a date', () => new Date(Date.now() + 2_900).toUTCString()],
  ] as const) {
    t.test(`Retry-After as ${form} is never undercut`, async (t) => {
      const { clock, network, send } = setUp(['a:1']);
      send({ on: ['gateway-error'] });
      network.last.respond(503, { 'retry-after': header() }).end();
      clock.advance(1_500);
      t.equal(network.exchanges.length, 1);
      clock.advance(1_600);
      t.equal(network.exchanges.length, 2);
    });
  }

  t.test('a Retry-After that does not fit into the deadline is no retry: the answer goes through', async (t) => {
    const { clock, network, send, told } = setUp();
    const { client } = send({ on: ['gateway-error'] }, {}, { deadlineAt: clock.now() + 1_000 });
    network.last.respond(503, { 'retry-after': '2' }).end();
    t.same(client.events, ['start 503', 'end']);
    t.same(told, ['status_503 no_time']);
  });

  t.test('every try has its own perTry, all of them one deadline', async (t) => {
    const { clock, network, send } = setUp();
    const timeouts = { requestMs: 400, perTryMs: 150, idleMs: 0 };
    const { client } = send(
      { attempts: 9, on: ['per-try-timeout'], backoff: '1ms', maxBackoff: '1ms' },
      {},
      { timeouts },
    );
    clock.advance(1_000);
    t.equal(client.error?.code, 'SLV_UPSTREAM_TIMEOUT');
    t.equal(network.exchanges.length, 3);
    t.ok(network.exchanges.every(({ aborted }) => aborted));
  });
});

t.test('bounds', async (t) => {
  t.test('an exhausted budget lets the original answer through, and counts it', async (t) => {
    const { clock, network, send, service, told, clean } = setUp(['a:1', 'b:1']);
    network.answer = (exchange) => exchange.respond(503).data('no').end();
    const clients = Array.from({ length: 200 }, () => send({ attempts: 1, on: ['gateway-error'] }).client);
    clock.advance(900);
    t.ok(clients.every(({ status, body, endings }) => status === 503 && body === 'no' && endings === 1));
    const retries = network.exchanges.length - 200;
    t.ok(retries > 10 && retries <= 50, `${retries} retries`);
    t.equal(service.memory.retryBudget.exhausted, 200 - retries);
    t.equal(told.filter((line) => line.endsWith('budget_exhausted')).length, 200 - retries);
    t.ok(clean());
  });

  t.test('connections.retries bounds the retries under way', async (t) => {
    const { clock, network, send, told, clean } = setUp(['a:1', 'b:1'], {
      connections: { ...serviceConfig([]).connections, retries: 2 },
    });
    const clients = Array.from({ length: 4 }, () => send({ on: ['reset'] }).client);
    for (const exchange of [...network.exchanges]) exchange.fail(RESET());
    clock.advance(300);
    t.equal(network.exchanges.length, 6);
    t.same(told.toSorted(), [
      'upstream_reset retried',
      'upstream_reset retried',
      'upstream_reset too_many',
      'upstream_reset too_many',
    ]);
    for (const exchange of network.exchanges) if (!exchange.over) exchange.respond(200).end();
    t.ok(clients.every(({ endings }) => endings === 1));
    t.ok(clean());
  });

  t.test('a hop behind another one leaves retries to it', async (t) => {
    const { clock, network, send } = setUp();
    const { client } = send({ attempts: 3, on: ['connect-failure', 'reset'] }, {}, { outerAttempt: 1 });
    network.last.fail(REFUSED());
    clock.advance(1_000);
    t.equal(client.error?.code, 'SLV_UPSTREAM_REFUSED');
    t.equal(network.exchanges.length, 1);
  });

  t.test('a long answer that is not wanted is cut, a short one read to its end', async (t) => {
    const { clock, network, send, clean } = setUp();
    send({ on: ['gateway-error'] });
    const [first] = network.exchanges;
    first.respond(503);
    for (let piece = 0; piece < 9; piece++) first.data('x'.repeat(8_192));
    t.ok(first.aborted);
    clock.advance(300);
    network.last.respond(200).end();
    t.ok(clean());
    send({ on: ['gateway-error'] });
    const slow = network.last;
    slow.respond(503).data('…');
    t.notOk(slow.aborted);
    clock.advance(300);
    t.ok(slow.aborted, 'or cut when the backoff is over');
    network.last.respond(200).end();
    t.ok(clean());
  });

  t.test('a client that leaves during backoff ends the request and the answer that is thrown away', async (t) => {
    const { clock, network, send, wheel, clean } = setUp();
    const { client } = send({ on: ['gateway-error'] });
    network.last.respond(503).data('…');
    client.controller?.abort(new SelvedgeError('SLV_CLIENT_ABORTED', 'gone'));
    t.equal(client.error?.code, 'SLV_CLIENT_ABORTED');
    t.ok(network.last.aborted);
    clock.advance(1_000);
    t.equal(network.exchanges.length, 1);
    t.equal(wheel.waiting, 0);
    t.ok(clean());
  });
});

t.test(
  'whatever happens, a request ends once, a response head goes up once, nothing stays counted, and no POST goes again that may have arrived',
  async () => {
    const event = fc.constantFrom(
      'refused',
      'reset',
      'race',
      '200',
      '503',
      'partial 503',
      'broken 200',
      'time',
      'abort',
    );
    fc.assert(
      fc.property(fc.array(event, { maxLength: 12 }), fc.constantFrom('GET', 'POST'), (events, method) => {
        const { clock, network, send, wheel, clean } = setUp();
        const on: RetryOptions['on'] = ['connect-failure', 'reset', 'per-try-timeout', '5xx'];
        const timeouts = { requestMs: 3_000, perTryMs: 200, idleMs: 0 };
        const { client } = send({ attempts: 4, on }, { method }, { timeouts });
        const became = new Map<unknown, string>();
        for (const what of events) {
          const { last } = network;
          if (!last.over && !became.has(last)) {
            if (what !== 'time') became.set(last, what);
            if (what === 'refused') last.fail(REFUSED());
            else if (what === 'reset') last.fail(RESET());
            else if (what === 'race') last.fail(RACE());
            else if (what === '200') last.respond(200).end();
            else if (what === '503') last.respond(503).end();
            else if (what === 'partial 503') last.respond(503).data('x');
            else if (what === 'broken 200') last.respond(200).fail(transportError('SLV_UPSTREAM_INCOMPLETE'));
          }
          if (what === 'abort') client.controller?.abort(new SelvedgeError('SLV_CLIENT_ABORTED', 'gone'));
          clock.advance(what === 'time' ? 250 : 60);
        }
        for (const exchange of network.exchanges) if (!exchange.over && became.has(exchange)) exchange.end();
        clock.advance(10_000);
        const heads = client.events.filter((line) => line.startsWith('start')).length;
        const again = network.exchanges.slice(0, -1).map((exchange) => became.get(exchange));
        const safe = method === 'GET' || again.every((what) => what === 'refused');
        return client.endings === 1 && heads <= 1 && safe && clean() && wheel.waiting === 0;
      }),
    );
  },
);
