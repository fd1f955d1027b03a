import t from 'tap';
import type { ServiceConfig } from '../../src/config/model.ts';
import { SelvedgeError } from '../../src/errors.ts';
import { DEFAULT_OUTLIER, type OutlierPolicy } from '../../src/policies/outlier-detection.ts';
import { DEFAULT_RETRY, NO_RETRY } from '../../src/policies/retry.ts';
import type { Call } from '../../src/upstream/call.ts';
import { compileServices, retireServices } from '../../src/upstream/compile-services.ts';
import { NO_EVENTS, type UpstreamEvents } from '../../src/upstream/events.ts';
import type { Service } from '../../src/upstream/service.ts';
import { buildStack } from '../../src/upstream/stack.ts';
import { fakeWheel } from '../support/fake-clock.ts';
import {
  endpointConfig,
  type FakeExchange,
  fakeUpstream,
  makeCall,
  makeOptions,
  Recorder,
  serviceConfig,
  transportError,
} from '../support/fake-upstream.ts';

const stack = buildStack({ perRequest: [], perAttempt: [] });
const POLICY: OutlierPolicy = { ...DEFAULT_OUTLIER, consecutive5xx: 3 };

type Answer = (exchange: FakeExchange) => void;
const good: Answer = (exchange) => exchange.respond(200).end();
const bad: Answer = (exchange) => exchange.respond(503).end();
const refused: Answer = (exchange) => exchange.fail(transportError('SLV_UPSTREAM_REFUSED', { unsent: true }));

function setUp(endpoints: ServiceConfig['endpoints'] | readonly string[], rest: Partial<ServiceConfig> = {}) {
  const { clock, wheel } = fakeWheel();
  const { network, deps } = fakeUpstream(wheel);
  const told: string[] = [];
  const events: UpstreamEvents = {
    ...NO_EVENTS,
    ejected: (_service, endpoint, cause, forMs) =>
      told.push(`${endpoint} ejected ${cause} ${Math.round(forMs / 1_000)}s`),
    returned: (_service, endpoint, by) => told.push(`${endpoint} returned ${by}`),
    panicking: (_service, panicking) => told.push(panicking ? 'panic' : 'no panic'),
    resting: (_service, endpoint, forMs) => told.push(`${endpoint} rests ${forMs}`),
  };
  const config = serviceConfig(endpoints, { outlierDetection: POLICY, ...rest });
  const compile = (changes: Partial<ServiceConfig>, previous: Service | null): Service => {
    const before = previous === null ? null : new Map([['orders', previous]]);
    const service = compileServices([{ ...config, ...changes }], before, { ...deps, events }).get('orders')!;
    service.activate(true);
    if (previous !== null) retireServices([previous], [service]);
    return service;
  };
  const service = compile({}, null);
  const answers = new Map<string, Answer>();
  network.answer = (exchange) => (answers.get(exchange.endpoint) ?? good)(exchange);
  const send = (call: Partial<Call> = {}, to = service, method = 'GET') => {
    const made = makeCall(to, { retry: NO_RETRY, ...call });
    const client = new Recorder();
    stack(makeOptions(made, { method }), client);
    return { client, call: made };
  };
  /** Where so many requests went. */
  const spread = (count: number, to = service, method = 'GET'): Record<string, number> => {
    const seen: Record<string, number> = {};
    for (let n = 0; n < count; n++) {
      const [address] = send({}, to, method).call.chosen;
      seen[address] = (seen[address] ?? 0) + 1;
    }
    return seen;
  };
  return { clock, wheel, network, service, answers, send, spread, told, compile };
}

t.test('outlier detection', async (t) => {
  t.test('failures in a row eject, and nothing goes there until the ejection is over', async (t) => {
    const { clock, answers, spread, told } = setUp(['a:1', 'b:1', 'c:1']);
    answers.set('b:1', bad);
    spread(9);
    t.match(told, [/^b:1 ejected consecutive_failures (27|28|29|30|31|32|33)s$/]);
    t.same(spread(10), { 'a:1': 5, 'c:1': 5 });
    clock.advance(26_000);
    t.notOk('b:1' in spread(10));
  });

  t.test('a success in between begins the count anew', async (t) => {
    const { answers, spread, told } = setUp(['a:1', 'b:1']);
    for (let round = 0; round < 10; round++) {
      answers.set('b:1', bad);
      spread(4);
      answers.set('b:1', good);
      spread(2);
    }
    t.same(told, []);
  });

  const outcomes: readonly [what: string, answer: Answer, failure: boolean][] = [
    ['a 500', (exchange) => exchange.respond(500).end(), true],
    ['a refused connection', refused, true],
    ['a reset', (exchange) => exchange.fail(transportError('SLV_UPSTREAM_RESET')), true],
    ['a malformed answer', (exchange) => exchange.fail(transportError('SLV_UPSTREAM_INVALID')), true],
    [
      'an answer that breaks off',
      (exchange) => exchange.respond(200).fail(transportError('SLV_UPSTREAM_INCOMPLETE')),
      false,
    ],
    ['a 404', (exchange) => exchange.respond(404).end(), false],
    ['a 429', (exchange) => exchange.respond(429).end(), false],
    ['a full pool', (exchange) => exchange.fail(transportError('SLV_POOL_FULL', { unsent: true })), false],
    ['a client that leaves', (exchange) => exchange.fail(new SelvedgeError('SLV_CLIENT_ABORTED', 'gone')), false],
    [
      'a closed idle connection',
      (exchange) => exchange.fail(transportError('SLV_UPSTREAM_RESET', { reused: true })),
      false,
    ],
  ];
  for (const [what, answer, failure] of outcomes) {
    t.test(`${what} is ${failure ? 'a' : 'no'} failure of the endpoint`, async (t) => {
      const { answers, spread, told } = setUp(['a:1', 'b:1']);
      answers.set('b:1', answer);
      spread(40, undefined, 'POST');
      t.equal(
        told.some((line) => line.startsWith('b:1 ejected')),
        failure,
      );
    });
  }

  t.test('a timeout is a failure of the endpoint, a deadline of the caller is not', async (t) => {
    for (const [timeouts, deadlineMs, ejected] of [
      [{ requestMs: 0, perTryMs: 100, idleMs: 0 }, 0, true],
      [{ requestMs: 100, perTryMs: 0, idleMs: 0 }, 0, true],
      [{ requestMs: 0, perTryMs: 0, idleMs: 0 }, 100, false],
    ] as const) {
      const { clock, answers, send, told } = setUp(['a:1', 'b:1']);
      answers.set('b:1', () => {});
      for (let n = 0; n < 20; n++)
        send({ timeouts, ...(deadlineMs > 0 ? { deadlineAt: clock.now() + deadlineMs } : {}) });
      clock.advance(200);
      t.equal(
        told.some((line) => line.startsWith('b:1 ejected')),
        ejected,
      );
    }
  });

  t.test('the last endpoint is never ejected, nor more than maxEjected', async (t) => {
    for (const [count, maxEjected, out] of [
      [1, 1, 0],
      [2, 0.5, 1],
      [2, 1, 1],
      [3, 0.5, 1],
      [4, 0.5, 2],
      [10, 0.1, 1],
      [10, 0.09, 0],
      [5, 0, 0],
    ] as const) {
      const addresses = Array.from({ length: count }, (_, index) => `e${index}:1`);
      const outlierDetection = { ...POLICY, maxEjected, panicThreshold: 0 };
      const { answers, spread, service } = setUp(addresses, { outlierDetection });
      for (const address of addresses) answers.set(address, bad);
      spread(100);
      t.equal(
        service.endpoints.filter(({ health }) => health.ejected).length,
        out,
        `${count} endpoints, ${maxEjected}`,
      );
    }
  });

  t.test(
    'one live request probes; its success brings the endpoint back, its failure ejects it for longer',
    async (t) => {
      const { clock, network, answers, send, spread, told } = setUp(['a:1', 'b:1']);
      answers.set('b:1', bad);
      spread(6);
      told.length = 0;
      clock.advance(33_500);
      answers.set('b:1', () => {});
      const probe = send();
      t.same(probe.call.chosen, ['b:1']);
      t.same(spread(10), { 'a:1': 10 }, 'one only');
      network.exchanges
        .find(({ endpoint, over }) => endpoint === 'b:1' && !over)!
        .respond(500)
        .end();
      t.match(told, [/^b:1 ejected probe_failed (5[4-9]|6[0-6])s$/]);
      clock.advance(50_000);
      t.same(spread(4), { 'a:1': 4 });
      clock.advance(20_000);
      answers.set('b:1', good);
      spread(1);
      t.equal(told.at(-1), 'b:1 returned probe');
      t.same(spread(10), { 'a:1': 5, 'b:1': 5 });
    },
  );

  t.test('what cannot be made good elsewhere does not probe', async (t) => {
    const { clock, answers, spread, told } = setUp(['a:1', 'b:1']);
    answers.set('b:1', bad);
    spread(6);
    answers.set('b:1', good);
    clock.advance(34_000);
    t.same(spread(5, undefined, 'POST'), { 'a:1': 5 });
    t.same(spread(2), { 'a:1': 1, 'b:1': 1 });
    t.equal(told.at(-1), 'b:1 returned probe');
  });

  t.test('where nothing but POSTs come, one of them probes in the end', async (t) => {
    const { clock, answers, spread, told } = setUp(['a:1', 'b:1']);
    answers.set('b:1', bad);
    spread(6);
    answers.set('b:1', good);
    clock.advance(40_000);
    t.same(spread(2, undefined, 'POST'), { 'a:1': 1, 'b:1': 1 });
    t.equal(told.at(-1), 'b:1 returned probe');
  });

  t.test('a probe that ends without saying anything leaves its place to the next', async (t) => {
    const { clock, answers, send, spread } = setUp(['a:1', 'b:1']);
    answers.set('b:1', bad);
    spread(6);
    clock.advance(34_000);
    answers.set('b:1', () => {});
    const { client } = send();
    client.controller?.abort(new SelvedgeError('SLV_CLIENT_ABORTED', 'gone'));
    answers.set('b:1', good);
    t.same(spread(2), { 'a:1': 1, 'b:1': 1 });
  });

  t.test('ejections grow by the base up to the longest, and are forgiven one step a healthy interval', async (t) => {
    const policy = { ...POLICY, baseEjectionMs: 10_000, maxEjectionMs: 25_000, intervalMs: 10_000 };
    const { clock, answers, spread, told } = setUp(['a:1', 'b:1'], { outlierDetection: policy });
    const lengths: number[] = [];
    const failAndReturn = (): void => {
      answers.set('b:1', bad);
      spread(8);
      lengths.push(Number(/(\d+)s$/.exec(told.at(-1)!)![1]));
      clock.advance(30_000);
      answers.set('b:1', good);
      spread(1);
    };
    for (let n = 0; n < 4; n++) failAndReturn();
    clock.advance(31_000);
    failAndReturn();
    for (const [index, expected] of [10, 20, 25, 25, 20].entries())
      t.ok(Math.abs(lengths[index] - expected) <= expected * 0.11, `ejection ${index + 1}: ${lengths[index]} s`);
  });

  t.test('below the panic threshold ejections are not believed', async (t) => {
    const outlierDetection = { ...POLICY, maxEjected: 0.8, panicThreshold: 0.5 };
    const { answers, spread, told } = setUp(['a:1', 'b:1', 'c:1', 'd:1'], { outlierDetection });
    for (const address of ['a:1', 'b:1', 'c:1']) answers.set(address, bad);
    spread(40);
    t.ok(told.includes('panic'));
    t.equal(Object.keys(spread(20)).length, 4);
  });

  t.test('success rate: what succeeds less often than its peers is ejected, once there is enough to say', async (t) => {
    const successRate = { deviations: 1.9, minEndpoints: 5, minRequests: 20 };
    const addresses = ['a:1', 'b:1', 'c:1', 'd:1', 'e:1', 'f:1'];
    const { clock, answers, spread, told } = setUp(addresses, { outlierDetection: { ...POLICY, successRate } });
    let n = 0;
    answers.set('c:1', (exchange) => (n++ % 2 === 0 ? bad : good)(exchange));
    spread(150);
    t.same(told, [], 'not before the interval is over');
    clock.advance(11_000);
    spread(1);
    t.match(told, [/^c:1 ejected success_rate/]);
    const few = setUp(addresses.slice(0, 4), { outlierDetection: { ...POLICY, successRate } });
    let m = 0;
    few.answers.set('c:1', (exchange) => (m++ % 2 === 0 ? bad : good)(exchange));
    few.spread(150);
    few.clock.advance(11_000);
    few.spread(1);
    t.same(few.told, [], 'four endpoints are no crowd to differ from');
  });

  t.test('off means off; a request may bring a policy of its own', async (t) => {
    const { answers, spread, told, send } = setUp(['a:1', 'b:1', 'c:1'], { outlierDetection: null });
    answers.set('b:1', bad);
    spread(60);
    t.same(told, []);
    for (let n = 0; n < 12; n++) send({ outlierDetection: POLICY });
    t.match(told, [/^b:1 ejected/]);
  });

  t.test('ejections survive a reload of anything else, and end when detection is switched off', async (t) => {
    const { answers, spread, service, compile } = setUp(['a:1', 'b:1', 'c:1']);
    answers.set('b:1', bad);
    spread(9);
    const changed = compile({ retryBudget: { share: 0.5, windowMs: 10_000, minPerSecond: 1 } }, service);
    t.not(changed, service);
    t.notOk('b:1' in spread(9, changed));
    const off = compile({ outlierDetection: null }, changed);
    t.ok('b:1' in spread(9, off));
  });
});

t.test('rest', async (t) => {
  t.test('an endpoint that says Retry-After rests that long while others are up', async (t) => {
    for (const status of [429, 503]) {
      const { clock, answers, spread, told } = setUp(['a:1', 'b:1']);
      answers.set('b:1', (exchange) => exchange.respond(status, { 'retry-after': '3' }).end());
      spread(2);
      answers.set('b:1', good);
      t.same(
        told.filter((line) => line.startsWith('b:1')),
        ['b:1 rests 3000'],
      );
      t.same(spread(6), { 'a:1': 6 });
      clock.advance(3_100);
      t.same(spread(6), { 'a:1': 3, 'b:1': 3 });
    }
  });

  t.test('30 seconds at most, and not when everybody rests', async (t) => {
    const { clock, answers, spread } = setUp(['a:1', 'b:1']);
    for (const address of ['a:1', 'b:1'])
      answers.set(address, (exchange) => exchange.respond(503, { 'retry-after': '3600' }).end());
    spread(2);
    t.equal(Object.keys(spread(4)).length, 2);
    for (const address of ['a:1', 'b:1']) answers.set(address, good);
    clock.advance(30_500);
    t.same(spread(4), { 'a:1': 2, 'b:1': 2 });
  });
});

t.test('bulkheads', async (t) => {
  const limited = (rest: Partial<ServiceConfig['connections']>) => ({
    connections: { ...serviceConfig([]).connections, ...rest },
  });

  t.test('one request too many is answered at once, and a place that is free again is given', async (t) => {
    const { network, answers, send, service } = setUp(['a:1'], limited({ requests: 2 }));
    answers.set('a:1', () => {});
    const [one] = [send(), send()];
    const third = send();
    t.match(third.client.error, { code: 'SLV_REQUEST_LIMIT', statusCode: 503 });
    t.equal(network.exchanges.length, 2);
    network.exchanges[0].respond(200).end();
    t.same(one.client.events, ['start 200', 'end']);
    answers.set('a:1', good);
    t.equal(send().client.status, 200);
    t.equal(service.memory.requests, 1);
  });

  t.test('an upgraded connection takes no place', async (t) => {
    const { network, answers, send } = setUp(['a:1'], limited({ requests: 1 }));
    answers.set('a:1', () => {});
    send();
    const socket = { once() {} };
    network.last.handler.onRequestUpgrade?.(network.last, 101, {}, socket as never);
    answers.set('a:1', good);
    t.equal(send().client.status, 200);
  });

  t.test('the places belong to the service and survive reloads', async (t) => {
    const { answers, send, service, compile } = setUp(['a:1'], limited({ requests: 2 }));
    answers.set('a:1', () => {});
    send();
    const next = compile({ ...limited({ requests: 1 }) }, service);
    t.equal(send({}, next).client.error?.code, 'SLV_REQUEST_LIMIT');
  });
});

t.test('waiting for an endpoint', async (t) => {
  const waits = (rest: Partial<ServiceConfig['connections']> = {}) => ({
    connections: { ...serviceConfig([]).connections, waitForEndpointMs: 5_000, ...rest },
  });

  /** Active checks are what says that it is up. */
  function down(rest: Partial<ServiceConfig['connections']> = {}) {
    const set = setUp(['a:1'], waits(rest));
    const [endpoint] = set.service.endpoints;
    endpoint.health.check(false, set.clock.now());
    return { ...set, endpoint };
  }

  t.test('requests wait while none is up, and go in their order when one is', async (t) => {
    const { clock, network, send, endpoint, service } = down();
    const clients = [send(), send(), send()].map(({ client }) => client);
    clock.advance(3_000);
    t.equal(network.exchanges.length, 0);
    t.equal(service.memory.waiting.size, 3);
    endpoint.health.check(true, clock.now());
    clock.advance(60);
    t.ok(clients.every(({ status, endings }) => status === 200 && endings === 1));
    t.equal(service.memory.waiting.size, 0);
  });

  t.test('not longer than they may, and never past their deadline', async (t) => {
    const { clock, send, wheel } = down();
    const late = send().client;
    const deadline = send({ deadlineAt: clock.now() + 1_000 }).client;
    clock.advance(1_100);
    t.equal(deadline.error?.code, 'SLV_DEADLINE_EXCEEDED');
    t.equal(late.error, null);
    clock.advance(4_000);
    t.equal(late.error?.code, 'SLV_NO_ENDPOINT');
    t.equal(late.endings, 1);
    t.equal(wheel.waiting, 0);
  });

  t.test('the queue has a bound: one more is answered at once', async (t) => {
    const { send } = down({ pending: 2 });
    send();
    send();
    t.match(send().client.error, { code: 'SLV_POOL_FULL', statusCode: 503 });
  });

  t.test('a client that leaves gives its place up', async (t) => {
    const { clock, network, send, service, endpoint } = down();
    const { client } = send();
    client.controller?.abort(new SelvedgeError('SLV_CLIENT_ABORTED', 'gone'));
    t.equal(client.error?.code, 'SLV_CLIENT_ABORTED');
    t.equal(service.memory.waiting.size, 0);
    endpoint.health.check(true, clock.now());
    clock.advance(100);
    t.equal(network.exchanges.length, 0);
  });

  t.test('without it, none up is 503 at once', async (t) => {
    const { send, service, clock } = setUp(['a:1']);
    service.endpoints[0].health.check(false, clock.now());
    t.match(send().client.error, { code: 'SLV_NO_ENDPOINT', statusCode: 503 });
  });
});

t.test('draws', async (t) => {
  t.test('an endpoint that active checks call down gets nothing, whatever is left', async (t) => {
    const { clock, service, spread } = setUp(['a:1', 'b:1', 'c:1', 'd:1']);
    for (const endpoint of service.endpoints.slice(1)) endpoint.health.check(false, clock.now());
    t.same(spread(8), { 'a:1': 8 });
    service.endpoints[2].health.check(true, clock.now());
    t.same(spread(8), { 'a:1': 4, 'c:1': 4 });
  });

  t.test('a pass of active checks ends an ejection', async (t) => {
    const { clock, answers, service, spread } = setUp(['a:1', 'b:1']);
    answers.set('b:1', bad);
    spread(6);
    answers.set('b:1', good);
    service.endpoints[1].health.check(true, clock.now());
    t.same(spread(4), { 'a:1': 2, 'b:1': 2 });
  });

  t.test('the endpoint of a session is kept while it is fit', async (t) => {
    const { clock, service, send } = setUp(['a:1', 'b:1', 'c:1']);
    const [, sticky] = service.endpoints;
    for (let n = 0; n < 5; n++) t.same(send({ sticky }).call.chosen, ['b:1']);
    sticky.health.check(false, clock.now());
    t.not(send({ sticky }).call.chosen[0], 'b:1');
  });

  t.test('a try after the first goes elsewhere than the session', async (t) => {
    const { clock, service, answers, send } = setUp(['a:1', 'b:1']);
    const [sticky] = service.endpoints;
    answers.set('a:1', refused);
    const { client, call } = send({ sticky, retry: DEFAULT_RETRY });
    clock.advance(100);
    t.same(call.chosen, ['a:1', 'b:1']);
    t.equal(client.status, 200);
  });

  t.test('priorities fail over in order, and come back', async (t) => {
    const endpoints = ['a:1', 'b:1', 'c:1'].map((address, priority) => endpointConfig(address, { priority }));
    const { clock, service, spread } = setUp(endpoints);
    t.same(spread(4), { 'a:1': 4 });
    service.endpoints[0].health.check(false, clock.now());
    t.same(spread(4), { 'b:1': 4 });
    service.endpoints[1].health.check(false, clock.now());
    t.same(spread(4), { 'c:1': 4 });
    service.endpoints[0].health.check(true, clock.now());
    t.same(spread(4), { 'a:1': 4 });
  });

  t.test('a new endpoint among old ones begins with a tenth of its share', async (t) => {
    const { clock, service, compile, spread } = setUp(['a:1', 'b:1'], { slowStartMs: 10_000 });
    t.same(spread(20), { 'a:1': 10, 'b:1': 10 }, 'at the start everybody is new');
    const grown = compile({ endpoints: ['a:1', 'b:1', 'c:1'].map((address) => endpointConfig(address)) }, service);
    t.equal(spread(210, grown)['c:1'], 10);
    clock.advance(5_000);
    const half = spread(255, grown)['c:1'];
    t.ok(half > 50 && half < 60, `${half}`);
    clock.advance(6_000);
    t.same(spread(30, grown), { 'a:1': 10, 'b:1': 10, 'c:1': 10 });
  });
});

t.test('what hops are told', async (t) => {
  t.test('grpc-timeout says what is left, also to endpoints outside the mesh', async (t) => {
    const { clock, network, answers, service } = setUp(['a:1']);
    answers.set('a:1', () => {});
    const call = makeCall(service, { grpcTimeout: true, deadlineAt: clock.now() + 800 });
    stack(makeOptions(call, { headers: ['host', 'x', 'grpc-timeout', '5S'] }), new Recorder());
    t.equal(network.last.header('grpc-timeout'), '800m');
    t.equal(network.last.header('x-selvedge-timeout-ms'), undefined);
  });
});
