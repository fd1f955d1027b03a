import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import t from 'tap';
import type {
  Dispatch,
  DispatchController,
  DispatchOptions,
  Interceptor,
  ResponseHeaders,
} from '../../src/dispatch.ts';
import { SelvedgeError } from '../../src/errors.ts';
import { TimerWheel } from '../../src/timer-wheel.ts';
import { balance } from '../../src/upstream/balance.ts';
import type { Call } from '../../src/upstream/call.ts';
import { compileServices } from '../../src/upstream/compile-services.ts';
import { deadline } from '../../src/upstream/deadline.ts';
import type { Endpoint } from '../../src/upstream/endpoint.ts';
import { NO_EVENTS } from '../../src/upstream/events.ts';
import { hedge } from '../../src/upstream/hedge.ts';
import { perTry } from '../../src/upstream/per-try.ts';
import { retry } from '../../src/upstream/retry.ts';
import { http1Transport } from '../../src/upstream/transport.ts';
import { fakeWheel } from '../support/fake-clock.ts';
import {
  type FakeExchange,
  fakeUpstream,
  makeCall,
  makeOptions,
  NO_TIMEOUTS,
  Recorder,
  serviceConfig,
  transportError,
} from '../support/fake-upstream.ts';

const AFTER_100 = { afterMs: 100, quantile: null };
const CLIENT_LEFT = new SelvedgeError('SLV_CLIENT_ABORTED', 'the client left');

const toEndpoint: Dispatch = (options, handler) =>
  ((options.call as Call).tried.at(-1) as Endpoint).dispatch(options, handler);

/** Knows the head as raw lines, what the handler threw away, and that nothing comes after the end. */
class Client extends Recorder {
  rawHeaders: string[] | null = null;
  afterEnd = 0;
  onHead: (controller: DispatchController) => void = () => {};

  override onResponseStart(controller: DispatchController, status: number, headers: ResponseHeaders): void {
    if (this.endings > 0) this.afterEnd += 1;
    this.rawHeaders = controller.rawHeaders;
    super.onResponseStart(controller, status, headers);
    if (status >= 200) this.onHead(controller);
  }

  override onResponseData(controller: DispatchController, chunk: Buffer): void {
    if (this.endings > 0) this.afterEnd += 1;
    super.onResponseData(controller, chunk);
  }
}

function setUp(config = serviceConfig(['a:1', 'b:1']), perAttempt: readonly Interceptor[] = []) {
  const { clock, wheel } = fakeWheel();
  const { network, deps } = fakeUpstream(wheel);
  const told: string[] = [];
  const events = { ...NO_EVENTS, hedge: (_service: string, result: string) => told.push(result) };
  const service = compileServices([config], null, { ...deps, events }).get(config.name)!;
  const layers = [deadline, hedge, retry, balance, ...perAttempt, perTry];
  const stack = layers.reduceRight((inner, layer) => layer(inner), toEndpoint);
  const send = (callRest: Partial<Call> = {}, optionsRest: Partial<DispatchOptions> = {}) => {
    const call = makeCall(service, { hedge: AFTER_100, ...callRest });
    const client = new Client();
    stack(makeOptions(call, optionsRest), client);
    return { call, client };
  };
  /** A request that is slow enough for both its tries to be under way. */
  const sendSlow = (callRest: Partial<Call> = {}, optionsRest: Partial<DispatchOptions> = {}) => {
    const sent = send(callRest, optionsRest);
    clock.advance(140);
    const [first, second] = network.exchanges.slice(-2);
    return { ...sent, first, second };
  };
  /** Nothing is left of any request. */
  const rests = () => ({
    inFlight: service.endpoints.reduce((sum, { inFlight }) => sum + inFlight, 0),
    retries: service.memory.retries,
    waiting: wheel.waiting,
    under: network.exchanges.filter(({ over }) => !over).length,
  });
  return { clock, wheel, network, service, told, send, sendSlow, rests };
}

const AT_REST = { inFlight: 0, retries: 0, waiting: 0, under: 0 };

t.test('which requests are hedged', async (t) => {
  t.test('without the policy the request goes straight through', async (t) => {
    const { service } = setUp();
    const client = new Client();
    const seen: unknown[] = [];
    const options = makeOptions(makeCall(service));
    hedge((...passed) => {
      seen.push(...passed);
      return true;
    })(options, client);
    t.equal(seen[0], options);
    t.equal(seen[1], client, 'nothing stands between');
  });

  t.test('safe and idempotent methods whose body, if any, is at hand', async (t) => {
    for (const method of ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']) {
      const { network, sendSlow } = setUp();
      sendSlow({}, { method });
      t.equal(network.exchanges.length, 2, method);
    }
    const { network, sendSlow } = setUp();
    const body = Buffer.from('all of it');
    sendSlow({}, { method: 'PUT', body, contentLength: body.length });
    t.same(
      network.exchanges.map(({ options }) => options.body),
      [body, body],
    );
  });

  t.test('no others: they might be acted on twice, or cannot be sent twice', async (t) => {
    const others: [string, Partial<Call>, Partial<DispatchOptions>][] = [
      ['POST', {}, { method: 'POST' }],
      ['PATCH', {}, { method: 'PATCH' }],
      ['CONNECT', {}, { method: 'CONNECT' }],
      ['a body that streams', {}, { method: 'PUT', body: Readable.from(['x']) }],
      ['an upgrade', {}, { upgrade: 'websocket' }],
      ['Expect', {}, { method: 'PUT', body: Buffer.from('x'), expectContinue: true }],
      ['somebody in front of us', { outerAttempt: 1 }, {}],
    ];
    for (const [name, call, options] of others) {
      const { network, sendSlow, wheel } = setUp();
      sendSlow(call, options);
      t.equal(network.exchanges.length, 1, name);
      t.equal(wheel.waiting, 0, name);
    }
  });

  t.test('an answer in time costs no second try', async (t) => {
    const { clock, network, send, told, rests } = setUp();
    const { client } = send();
    clock.advance(90);
    network.last.respond(200);
    clock.advance(1_000);
    network.last.data('ok').end();
    t.same(client.events, ['start 200', 'end']);
    t.equal(network.exchanges.length, 1);
    t.same(rests(), AT_REST);
    t.same(told, []);
  });

  t.test('a failure in time goes through as it is', async (t) => {
    for (const fail of [
      (exchange: FakeExchange) => exchange.respond(503).end(),
      (exchange: FakeExchange) => exchange.fail(transportError('SLV_UPSTREAM_RESET')),
    ]) {
      const { clock, network, send, rests } = setUp();
      const { client } = send();
      fail(network.last);
      clock.advance(1_000);
      t.equal(client.endings, 1);
      t.equal(network.exchanges.length, 1);
      t.same(rests(), AT_REST);
    }
  });

  t.test('only where an endpoint is left that was not tried', async (t) => {
    const { network, sendSlow, told, wheel } = setUp(serviceConfig(['a:1']));
    sendSlow();
    t.equal(network.exchanges.length, 1);
    t.equal(wheel.waiting, 0);
    t.same(told, []);
  });

  t.test('within connections.retries of the service', async (t) => {
    const { connections } = serviceConfig([]);
    const { network, sendSlow, told, service } = setUp(
      serviceConfig(['a:1', 'b:1'], { connections: { ...connections, retries: 1 } }),
    );
    const { second } = sendSlow();
    t.equal(service.memory.retries, 1);
    sendSlow();
    t.equal(network.exchanges.length, 3);
    t.same(told, ['too_many']);
    second.respond(200);
    t.equal(service.memory.retries, 1, 'it is still under way');
    second.end();
    t.equal(service.memory.retries, 0);
    sendSlow();
    t.equal(network.exchanges.length, 5);
  });

  t.test('within the retry budget of the service', async (t) => {
    const { clock, network, send, told, service } = setUp();
    while (service.memory.retryBudget.withdraw(clock.now() + 120));
    send();
    clock.advance(140);
    t.equal(network.exchanges.length, 1);
    t.same(told, ['budget_exhausted']);
    t.equal(service.memory.retries, 0);
  });

  t.test('by quantile: not before enough is known of the service, then after that time', async (t) => {
    const { clock, network, send, service, wheel } = setUp();
    const byQuantile = { hedge: { afterMs: null, quantile: 0.95 } };
    send(byQuantile);
    t.equal(wheel.waiting, 0);
    for (let count = 0; count < 100; count++) service.memory.latencies.observe(count < 90 ? 10 : 400, clock.now());
    const before = network.exchanges.length;
    send(byQuantile);
    clock.advance(360);
    t.equal(network.exchanges.length, before + 1);
    clock.advance(100);
    t.equal(network.exchanges.length, before + 2);
  });

  t.test('once only, and not when the deadline has come', async (t) => {
    const { clock, network, send } = setUp(serviceConfig(['a:1', 'b:1', 'c:1']));
    send();
    clock.advance(10_000);
    t.equal(network.exchanges.length, 2);
    send({ deadlineAt: clock.now() + 90 });
    clock.stall(500);
    t.equal(network.exchanges.length, 3);
  });

  t.test('not while the client reads nothing: the first may have answered long ago', async (t) => {
    const { clock, network, send } = setUp();
    const { client } = send();
    client.controller?.pause();
    clock.advance(500);
    t.equal(network.exchanges.length, 1);
    t.ok(network.last.paused);
  });
});

t.test('who wins', async (t) => {
  t.test('the second try, at another endpoint: the first is aborted at once', async (t) => {
    const { sendSlow, told, rests } = setUp();
    const { call, client, first, second } = sendSlow();
    t.same([first.endpoint, second.endpoint], ['a:1', 'b:1']);
    second.respond(200, { 'x-from': 'b' });
    t.ok(first.aborted);
    t.equal((first.reason as SelvedgeError).code, 'SLV_HEDGE_LOST');
    t.same(client.rawHeaders, ['x-from', 'b']);
    second.data('hello').end();
    t.same(client.events, ['start 200', 'end']);
    t.equal(client.body, 'hello');
    t.match(call.attempts, [
      { endpoint: 'a:1', outcome: 'hedge_lost', status: 0 },
      { endpoint: 'b:1', outcome: 'ok', status: 200 },
    ]);
    t.equal(call.chosen.at(-1), 'b:1', 'the exchange names who answered');
    t.same(told, ['won']);
    t.same(rests(), AT_REST);
  });

  t.test('the first try after all: the second is aborted at once', async (t) => {
    const { sendSlow, told, rests, service } = setUp();
    const { call, client, first, second } = sendSlow();
    first.respond(404);
    t.ok(second.aborted);
    t.equal(service.memory.retries, 0);
    first.data('not found').end();
    t.same(client.events, ['start 404', 'end']);
    t.equal(client.body, 'not found');
    t.match(call.attempts, [{ outcome: 'ok', status: 404 }, { outcome: 'hedge_lost' }]);
    t.same(call.chosen, ['a:1']);
    t.same(told, ['lost']);
    t.same(rests(), AT_REST);
  });

  t.test('a 5xx waits for the other try and loses to a better answer', async (t) => {
    for (const failing of ['first', 'second'] as const) {
      const { sendSlow, rests, told } = setUp();
      const { client, ...tries } = sendSlow();
      const other = failing === 'first' ? tries.second : tries.first;
      tries[failing].respond(503);
      t.ok(tries[failing].paused, 'held back');
      t.same(client.events, []);
      other.respond(200);
      t.ok(tries[failing].aborted);
      other.end();
      t.same(client.events, ['start 200', 'end']);
      t.same(told, [failing === 'first' ? 'won' : 'lost']);
      t.same(rests(), AT_REST);
    }
  });

  t.test('a 5xx is better than an error', async (t) => {
    for (const failing of ['first', 'second'] as const) {
      const { sendSlow, rests } = setUp();
      const { client, ...tries } = sendSlow();
      const other = failing === 'first' ? tries.second : tries.first;
      tries[failing].respond(503, { 'x-from': failing }).data('sor');
      other.fail(transportError('SLV_UPSTREAM_RESET'));
      t.same(client.events, ['start 503']);
      t.same(client.rawHeaders, ['x-from', failing]);
      t.notOk(tries[failing].paused, 'it goes on');
      tries[failing].data('ry').end();
      t.same(client.events, ['start 503', 'end']);
      t.equal(client.body, 'sorry');
      t.same(rests(), AT_REST);
    }
  });

  t.test('a 5xx that has ended meanwhile is told whole', async (t) => {
    const { sendSlow, rests } = setUp();
    const { client, first, second } = sendSlow();
    first.respond(503).data('sorry').end();
    t.same(client.events, []);
    second.fail(transportError('SLV_UPSTREAM_RESET'));
    t.same(client.events, ['start 503', 'end']);
    t.equal(client.body, 'sorry');
    t.same(rests(), AT_REST);
  });

  t.test('of two 5xx the one that came first', async (t) => {
    const { sendSlow, rests, told } = setUp();
    const { client, first, second } = sendSlow();
    second.respond(502);
    first.respond(503);
    t.ok(first.aborted);
    second.end();
    t.same(client.events, ['start 502', 'end']);
    t.same(told, ['won']);
    t.same(rests(), AT_REST);
  });

  t.test('an error of one waits for the other', async (t) => {
    for (const failing of ['first', 'second'] as const) {
      const { sendSlow, rests } = setUp();
      const { client, ...tries } = sendSlow();
      const other = failing === 'first' ? tries.second : tries.first;
      tries[failing].fail(transportError('SLV_UPSTREAM_RESET'));
      t.equal(client.endings, 0);
      other.respond(503).end();
      t.same(client.events, ['start 503', 'end'], 'there is nothing left to wait for');
      t.same(rests(), AT_REST);
    }
  });

  t.test('an answer that breaks while it is held back counts as an error', async (t) => {
    const { sendSlow, rests } = setUp();
    const { client, first, second } = sendSlow();
    first.respond(503).data('sor');
    first.fail(transportError('SLV_UPSTREAM_INCOMPLETE'));
    t.equal(client.endings, 0);
    second.respond(200).end();
    t.same(client.events, ['start 200', 'end']);
    t.equal(client.body, '');
    t.same(rests(), AT_REST);
  });

  t.test('what is held back is bounded', async (t) => {
    const { sendSlow } = setUp();
    const { client, first, second } = sendSlow();
    first.respond(503).data('x'.repeat(60_000)).data('x'.repeat(60_000));
    t.ok(first.aborted);
    second.respond(200).end();
    t.same(client.events, ['start 200', 'end']);
  });

  t.test('when both fail there is one error: that of the first try', async (t) => {
    for (const order of [
      ['first', 'second'],
      ['second', 'first'],
    ] as const) {
      const { sendSlow, rests, told } = setUp();
      const { client, call, ...tries } = sendSlow();
      for (const name of order) {
        tries[name].fail(transportError(name === 'first' ? 'SLV_UPSTREAM_RESET' : 'SLV_UPSTREAM_INVALID'));
      }
      t.same(client.events, ['error SLV_UPSTREAM_RESET']);
      t.match(call.attempts, [{ outcome: 'upstream_reset' }, { outcome: 'upstream_invalid' }]);
      t.same(told, ['lost']);
      t.same(rests(), AT_REST);
    }
  });

  t.test('a winner that breaks off is an error', async (t) => {
    const { sendSlow, rests } = setUp();
    const { client, second } = sendSlow();
    second.respond(200).data('hel');
    second.fail(transportError('SLV_UPSTREAM_INCOMPLETE'));
    t.same(client.events, ['start 200', 'error SLV_UPSTREAM_INCOMPLETE']);
    t.same(rests(), AT_REST);
  });
});

t.test('one stream of events', async (t) => {
  t.test('one controller for both tries', async (t) => {
    const { sendSlow } = setUp();
    const { client, second } = sendSlow();
    const { controller } = client;
    t.equal(client.starts, 1);
    let atHead: DispatchController | null = null;
    client.onHead = (given) => {
      atHead = given;
    };
    second.respond(200);
    t.equal(atHead, controller);
  });

  t.test('interim responses of the first try only, and only until there is a winner', async (t) => {
    const { sendSlow } = setUp();
    const { client, first, second } = sendSlow();
    first.respond(103, { link: '</a>' });
    t.same(client.rawHeaders, ['link', '</a>']);
    second.respond(103);
    second.respond(200);
    first.respond(103);
    second.end();
    t.same(client.events, ['start 103', 'start 200', 'end']);
  });

  t.test('trailers are those of the winner', async (t) => {
    const { sendSlow } = setUp();
    const { client, second } = sendSlow();
    let trailers: string[] | null | undefined;
    const { controller } = client;
    client.onResponseEnd = () => {
      trailers = controller?.rawTrailers;
    };
    second.respond(200);
    second.rawTrailers = ['x-sum', '1'];
    second.end();
    t.same(trailers, ['x-sum', '1']);
  });

  t.test('pause and resume go to the winner', async (t) => {
    const { sendSlow } = setUp();
    const { client, second } = sendSlow();
    client.onHead = (controller) => controller.pause();
    second.respond(200);
    t.ok(second.paused);
    t.equal(client.controller?.paused, true);
    client.controller?.resume();
    t.notOk(second.paused);
  });

  t.test('before there is a winner they go to both, but an answer that is held back stays held back', async (t) => {
    const { sendSlow } = setUp();
    const { client, first, second } = sendSlow();
    first.respond(503);
    client.controller?.pause();
    t.ok(first.paused && second.paused);
    client.controller?.resume();
    t.ok(first.paused);
    t.notOk(second.paused);
  });

  t.test('an answer that is let go while the client is not ready stays paused', async (t) => {
    const { sendSlow } = setUp();
    const { client, first, second } = sendSlow();
    client.onHead = (controller) => controller.pause();
    first.respond(503);
    second.fail(transportError('SLV_UPSTREAM_RESET'));
    t.ok(first.paused);
    client.controller?.resume();
    t.notOk(first.paused);
  });

  t.test('a client that leaves aborts both tries, and is told once', async (t) => {
    for (const held of [false, true]) {
      const { sendSlow, told, rests } = setUp();
      const { client, call, first, second } = sendSlow();
      if (held) second.respond(503);
      client.controller?.abort(CLIENT_LEFT);
      t.ok(first.aborted && second.aborted);
      t.same(client.events, ['error SLV_CLIENT_ABORTED']);
      t.match(call.attempts, [{ outcome: 'client_aborted' }, { outcome: 'client_aborted' }]);
      client.controller?.abort(CLIENT_LEFT);
      t.equal(client.endings, 1);
      t.same(told, ['lost']);
      t.same(rests(), AT_REST);
    }
  });

  t.test('a client that leaves before the second try, or amid the answer, aborts what there is', async (t) => {
    const early = setUp();
    const { client } = early.send();
    client.controller?.abort(CLIENT_LEFT);
    early.clock.advance(1_000);
    t.equal(early.network.exchanges.length, 1);
    t.same(client.events, ['error SLV_CLIENT_ABORTED']);
    t.same(early.rests(), AT_REST);

    const late = setUp();
    const slow = late.sendSlow();
    slow.second.respond(200).data('hel');
    slow.client.controller?.abort(CLIENT_LEFT);
    t.ok(slow.second.aborted);
    t.same(slow.client.events, ['start 200', 'error SLV_CLIENT_ABORTED']);
    t.same(late.rests(), AT_REST);
  });

  t.test('a client that leaves when it sees the head of an answer let go hears nothing more of it', async (t) => {
    for (const ended of [false, true]) {
      const { sendSlow, rests } = setUp();
      const { client, first, second } = sendSlow();
      client.onHead = (controller) => controller.abort(CLIENT_LEFT);
      first.respond(503).data('sorry');
      if (ended) first.end();
      second.fail(transportError('SLV_UPSTREAM_RESET'));
      t.same(client.events, ['start 503', 'error SLV_CLIENT_ABORTED']);
      t.equal(client.body, '');
      t.same(rests(), AT_REST);
    }
  });

  t.test('the request timeout ends both', async (t) => {
    const { clock, sendSlow, rests } = setUp();
    const { client, first, second } = sendSlow({ timeouts: { ...NO_TIMEOUTS, requestMs: 500 } });
    clock.advance(500);
    t.ok(first.aborted && second.aborted);
    t.same(client.events, ['error SLV_UPSTREAM_TIMEOUT']);
    t.same(rests(), AT_REST);
  });
});

t.test('beside the other policies', async (t) => {
  t.test('a retry of the first try looks for an endpoint that neither has tried', async (t) => {
    const { clock, network, sendSlow, rests } = setUp(serviceConfig(['a:1', 'b:1', 'c:1']));
    const { client, call, first } = sendSlow();
    first.fail(transportError('SLV_UPSTREAM_REFUSED', { unsent: true }));
    clock.advance(60);
    t.equal(network.exchanges.length, 3);
    t.equal(network.last.endpoint, 'c:1');
    network.last.respond(200).end();
    t.same(client.events, ['start 200', 'end']);
    t.match(call.attempts, [{ endpoint: 'a:1' }, { endpoint: 'b:1', outcome: 'hedge_lost' }, { endpoint: 'c:1' }]);
    t.same(rests(), AT_REST);
  });

  t.test('a winner ends the pause before a retry', async (t) => {
    const { clock, network, sendSlow, rests } = setUp(serviceConfig(['a:1', 'b:1', 'c:1']));
    const { client, first, second } = sendSlow();
    first.fail(transportError('SLV_UPSTREAM_REFUSED', { unsent: true }));
    second.respond(200).end();
    clock.advance(1_000);
    t.equal(network.exchanges.length, 2);
    t.same(client.events, ['start 200', 'end']);
    t.same(rests(), AT_REST);
  });

  t.test('each try keeps its own endpoint, though an interceptor lets the first go late', async (t) => {
    const waiting: (() => void)[] = [];
    const holdBack: Interceptor = (dispatch) => (options, handler) => {
      waiting.push(() => dispatch(options, handler));
      return true;
    };
    const { clock, network, send } = setUp(serviceConfig(['a:1', 'b:1']), [holdBack]);
    const { client } = send();
    clock.advance(140);
    t.equal(waiting.length, 2);
    waiting[0]();
    waiting[1]();
    t.same(
      network.exchanges.map(({ endpoint }) => endpoint),
      ['a:1', 'b:1'],
    );
    t.equal(client.starts, 1);
  });

  t.test('a try that begins after the other has won is aborted as it begins', async (t) => {
    let letFirstGo = () => {};
    let seen = 0;
    const holdFirst: Interceptor = (dispatch) => (options, handler) => {
      seen += 1;
      if (seen > 1) return dispatch(options, handler);
      letFirstGo = () => dispatch(options, handler);
      return true;
    };
    const { clock, network, send, rests } = setUp(serviceConfig(['a:1', 'b:1']), [holdFirst]);
    const { client } = send();
    clock.advance(140);
    network.last.respond(200).end();
    letFirstGo();
    t.ok(network.last.aborted);
    t.same(client.events, ['start 200', 'end']);
    t.same(rests(), AT_REST);
  });

  t.test('whatever happens in whatever order: one end, nothing after it, nothing left', async (t) => {
    const steps = ['interim', '200', '404', '503', 'data', 'end', 'fail', 'refuse'] as const;
    const happening = fc.oneof(
      { weight: 8, arbitrary: fc.record({ who: fc.nat(2), what: fc.constantFrom(...steps) }) },
      { weight: 1, arbitrary: fc.constantFrom('abort' as const, 'pause' as const, 'resume' as const) },
      { weight: 1, arbitrary: fc.integer({ min: 1, max: 200 }) },
    );
    const headed = new WeakSet<FakeExchange>();
    const act = (exchange: FakeExchange | undefined, what: (typeof steps)[number]): void => {
      if (exchange === undefined || exchange.over) return;
      const hasHead = headed.has(exchange);
      if (what === 'interim' && !hasHead) exchange.respond(103);
      else if (/\d/.test(what) && !hasHead) {
        headed.add(exchange);
        exchange.respond(Number(what));
      } else if (what === 'data' && hasHead) exchange.data('.');
      else if (what === 'end' && hasHead) exchange.end();
      else if (what === 'fail') exchange.fail(transportError('SLV_UPSTREAM_RESET'));
      else if (what === 'refuse' && !hasHead) exchange.fail(transportError('SLV_UPSTREAM_REFUSED', { unsent: true }));
    };
    const property = fc.property(
      fc.array(happening, { maxLength: 30 }),
      fc.integer({ min: 1, max: 4 }),
      (story, size) => {
        const addresses = ['a:1', 'b:1', 'c:1', 'd:1'].slice(0, size);
        const { clock, network, send, rests, told } = setUp(serviceConfig(addresses));
        const { client, call } = send();
        for (const one of story) {
          if (typeof one === 'number') clock.advance(one);
          else if (one === 'abort') client.controller?.abort(CLIENT_LEFT);
          else if (one === 'pause') client.controller?.pause();
          else if (one === 'resume') client.controller?.resume();
          else act(network.exchanges[one.who], one.what);
        }
        clock.advance(1_000);
        for (const exchange of network.exchanges) act(exchange, 'fail');
        clock.advance(1_000);
        for (const exchange of network.exchanges) act(exchange, 'fail');
        const heads = client.events.filter((event) => /^start [2-5]/.test(event)).length;
        const ok = client.endings === 1 && client.afterEnd === 0 && client.starts === 1 && heads <= 1;
        const whole = call.attempts.every(({ outcome }) => outcome !== 'pending') && told.length <= 1;
        return ok && whole && JSON.stringify(rests()) === JSON.stringify(AT_REST);
      },
    );
    fc.assert(property, { numRuns: 1_000, seed: 5 });
    t.pass('held');
  });
});

t.test('over real connections', async (t) => {
  /** Two servers; the request that each gets is given to the test. */
  async function twoServers(t: { teardown: (fn: () => unknown) => void }) {
    const asked: Promise<[IncomingMessage, ServerResponse]>[] = [];
    const addresses: string[] = [];
    for (let index = 0; index < 2; index++) {
      const server = createServer();
      asked.push(once(server, 'request') as Promise<[IncomingMessage, ServerResponse]>);
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      addresses.push(`127.0.0.1:${(server.address() as AddressInfo).port}`);
      t.teardown(() => {
        server.closeAllConnections();
        server.close();
      });
    }
    const wheel = new TimerWheel();
    const config = serviceConfig(addresses);
    const service = compileServices([config], null, { wheel, makeTransport: http1Transport(wheel) }).get('orders')!;
    t.teardown(() => service.destroy());
    const layers = [deadline, hedge, retry, balance, perTry];
    const stack = layers.reduceRight((inner, layer) => layer(inner), toEndpoint);
    const client = new Client();
    const ended = new Promise<void>((resolve) => {
      for (const last of ['onResponseEnd', 'onResponseError'] as const) {
        const record = client[last].bind(client) as (...args: unknown[]) => void;
        client[last] = (...args: unknown[]) => {
          record(...args);
          resolve();
        };
      }
    });
    const call = makeCall(service, { hedge: { afterMs: 1, quantile: null } });
    stack(makeOptions(call), client);
    const [[, first], [, second]] = await Promise.all(asked);
    return { client, call, ended, first, second, service };
  }

  t.test('the loser is broken off', async (t) => {
    const { client, ended, first, second, service } = await twoServers(t);
    second.end('hello');
    await Promise.all([ended, once(first, 'close')]);
    t.equal(client.status, 200);
    t.equal(client.body, 'hello');
    t.equal(service.endpoints[0].stats.connections, 0);
    t.equal(service.endpoints[1].stats.idle, 1);
  });

  t.test('a 503 that is held back arrives whole when the other try breaks', async (t) => {
    const { client, call, ended, first, second } = await twoServers(t);
    const body = 'x'.repeat(300_000);
    first.writeHead(503, { 'x-from': 'first' }).write(body.slice(0, 10_000));
    while (call.attempts[0].status !== 503) await new Promise((resolve) => setImmediate(resolve));
    first.end(body.slice(10_000));
    t.equal(client.status, 0);
    second.destroy();
    await ended;
    t.equal(client.status, 503);
    t.equal(client.body.length, body.length);
    t.same(client.events, ['start 503', 'end']);
  });
});
