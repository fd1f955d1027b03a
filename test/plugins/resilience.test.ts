// The built-in plugins for services that fail: retry, outlier-detection, fault, mirror, circuit-breaker, each in a chain of its own.
import { PassThrough } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import type { DispatchController, DispatchHandler, DispatchOptions } from '../../src/dispatch.ts';
import { type Code, SelvedgeError } from '../../src/errors.ts';
import { Breaker, type BreakerSettings, type Outcome, Pass } from '../../src/plugins/breaker.ts';
import { DEFAULT_OUTLIER } from '../../src/policies/outlier-detection.ts';
import { SharedStore } from '../../src/runtime/shared.ts';
import { type ChainOptions, sentValues, type TestChain, testChain } from '../support/chain.ts';

type Uses = Parameters<typeof testChain>[0];

/** A chain that is closed with the test. */
async function chainOf(t: Test, plugins: Uses, options?: ChainOptions): Promise<TestChain> {
  const chain = await testChain(plugins, options);
  t.teardown(() => chain.close());
  return chain;
}

async function refuses(t: Test, name: string, cases: readonly (readonly [Record<string, unknown>, RegExp])[]) {
  for (const [options, message] of cases) await t.rejects(testChain([[name, options]]), { message });
}

// Nothing that a plugin waits for keeps the process alive, so that something here has to.
const alive = setInterval(() => {}, 60_000);
t.teardown(() => clearInterval(alive));

t.test('retry says when the chain tries again', async (t) => {
  const chain = await chainOf(t, [['retry', { attempts: 3, on: ['reset', { status: [503] }], bufferBytes: '1KiB' }]]);
  t.match(chain.policies.retry, { attempts: 3, backoffMs: 25, bufferBytes: 1_024 });
  t.strictSame([...(chain.policies.retry?.conditions ?? [])], ['reset']);
  t.strictSame([...(chain.policies.retry?.statuses ?? [])], [503]);
  await refuses(t, 'retry', [
    [{ attempts: 11 }, /attempts/],
    [{ on: ['always'] }, /on\[0\]/],
    [{ backoff: '1s', maxBackoff: '10ms' }, /retry\.(backoff|maxBackoff)/],
    [{ tries: 2 }, /unknown key "tries"/],
  ]);
});

t.test('outlier-detection says by what the chain judges endpoints', async (t) => {
  const chain = await chainOf(t, [['outlier-detection', { consecutive5xx: 2 }]]);
  t.strictSame(chain.policies.outlierDetection, { ...DEFAULT_OUTLIER, consecutive5xx: 2 });
  await refuses(t, 'outlier-detection', [[{ baseEjection: '10m' }, /baseEjection: is longer than "maxEjection"/]]);
});

t.test('fault', async (t) => {
  /** Ids come from the request, as behind another hop. */
  const withIds = (options: Record<string, unknown>): Uses => [
    ['request-id', { trust: true }],
    ['fault', options],
  ];

  t.test('fails requests with the status, the code and the reason of a fault', async (t) => {
    const chain = await chainOf(t, [['fault', { abort: { status: 418 } }]]);
    const response = await chain.inject({ url: '/' });
    t.equal(response.statusCode, 418);
    t.strictSame(response.json(), { code: 'SLV_FAULT_INJECTED' });
    t.equal(chain.exchanges[0].reason, 'fault_injected');
    t.equal(chain.sent.length, 0, 'the service never hears of it');
    t.match(
      await chain.registry.metrics(),
      'selvedge_faults_injected_total{owner="public",route="orders",kind="abort"} 1',
    );
  });

  t.test('takes its share of the requests, and the same ones again', async (t) => {
    const chain = await chainOf(t, withIds({ abort: { share: '30%', status: 500 } }));
    const failed = async (): Promise<number[]> => {
      const which: number[] = [];
      for (let id = 0; id < 1_000; id++) {
        const { statusCode } = await chain.inject({ url: '/', headers: { 'x-request-id': `r-${id}` } });
        if (statusCode === 500) which.push(id);
      }
      return which;
    };
    const first = await failed();
    t.ok(first.length > 250 && first.length < 350, `${first.length} of 1000`);
    t.strictSame(await failed(), first);
  });

  t.test('touches nothing at 0%, without its header, or where no route matched', async (t) => {
    const abort = { status: 500 };
    for (const [options, exchange, headers, status] of [
      [{ abort: { ...abort, share: '0%' } }, {}, {}, 200],
      [{ abort, header: 'X-Chaos' }, {}, {}, 200],
      [{ abort, header: 'X-Chaos' }, {}, { 'x-chaos': '' }, 500],
      [{ abort }, { route: null }, {}, 200],
    ] as const) {
      const chain = await chainOf(t, [['fault', options]], { exchange });
      t.equal((await chain.inject({ url: '/', headers })).statusCode, status, JSON.stringify(options));
    }
  });

  t.test('delays, then lets pass', async (t) => {
    let sentAt = 0;
    const answer = () => {
      sentAt = performance.now();
      return {};
    };
    const chain = await chainOf(t, [['fault', { delay: { time: '40ms' } }]], { answer });
    const askedAt = performance.now();
    t.equal((await chain.inject({ url: '/' })).statusCode, 200);
    // A timer may come a fraction of a millisecond early, and late by whatever the machine is busy with.
    t.ok(sentAt - askedAt >= 39, `${sentAt - askedAt} ms`);
    t.match(await chain.registry.metrics(), 'kind="delay"} 1');
    t.notMatch(await chain.registry.metrics(), 'kind="abort"');
  });

  t.test('delays, then fails', async (t) => {
    const chain = await chainOf(t, [['fault', { delay: { time: '1ms' }, abort: { status: 503 } }]]);
    t.equal((await chain.inject({ url: '/' })).statusCode, 503);
    t.match(await chain.registry.metrics(), 'kind="delay"} 1');
    t.match(await chain.registry.metrics(), 'kind="abort"} 1');
  });

  t.test('has its options checked', async (t) => {
    await refuses(t, 'fault', [
      [{}, /does nothing/],
      [{ delay: { time: '0s' } }, /delay\.time: must be longer than 0/],
      [{ abort: { status: 200 } }, /abort\.status/],
      [{ abort: { status: 500, share: '101%' } }, /abort\.share: "101%" is not a share/],
    ]);
  });

  t.test('takes its metric away with the last chain', async (t) => {
    const registry = new Registry();
    const store = new SharedStore();
    const first = await testChain([['fault', { abort: { status: 500 } }]], { registry, store });
    const second = await testChain([['fault', { abort: { status: 501 } }]], { registry, store });
    await first.close();
    t.match(await registry.metrics(), 'selvedge_faults_injected_total');
    await second.close();
    t.notMatch(await registry.metrics(), 'selvedge_faults_injected_total');
  });
});

const CONTROL = (): DispatchController & { abortedWith: Error | null } => ({
  pause() {},
  resume() {},
  abort(reason) {
    this.abortedWith ??= reason;
  },
  abortedWith: null,
  paused: false,
  aborted: false,
  reason: null,
  rawHeaders: null,
  rawTrailers: null,
});

t.test('mirror', async (t) => {
  const metric = async (chain: TestChain, result: string, service = 'next'): Promise<number> => {
    const line = new RegExp(`selvedge_mirrored_total\\{service="${service}",result="${result}"\\} (\\d+)`);
    return Number(line.exec(await chain.registry.metrics())?.[1] ?? 0);
  };
  const to = (target: Record<string, unknown> = {}): Uses => [['mirror', { to: [{ service: 'next', ...target }] }]];

  t.test('sends a copy that says of which route it is', async (t) => {
    const chain = await chainOf(t, to({ subset: 'v2' }));
    const response = await chain.inject({ url: '/a?b=1', headers: { 'x-a': '1', authorization: 'Bearer x' } });
    t.equal(response.statusCode, 200);
    t.equal(chain.own.length, 1);
    const [{ service, subset, request }] = chain.own;
    t.match({ service, subset }, { service: 'next', subset: 'v2' });
    t.match(request, { method: 'GET', path: '/a?b=1', body: null, timeoutMs: 10_000 });
    const headers = { headers: [...request.headers] } as DispatchOptions;
    t.strictSame(sentValues(headers, 'x-selvedge-mirror'), ['orders']);
    t.strictSame(sentValues(headers, 'x-a'), ['1']);
    t.strictSame(sentValues(headers, 'authorization'), ['Bearer x']);
    t.strictSame(sentValues(chain.sent[0], 'x-selvedge-mirror'), [], 'the request itself is as it was');
    t.equal(await metric(chain, 'sent'), 1);
  });

  t.test('counts what became of the copy, and the request knows nothing of it', async (t) => {
    const chain = await chainOf(t, to());
    for (let i = 0; i < 5; i++) t.equal((await chain.inject({ url: '/' })).statusCode, 200);
    const [answered, refused, broken, huge, upgraded] = chain.own.map(({ handler }) => handler);
    const control = CONTROL();
    answered.onRequestStart?.(control, null);
    answered.onResponseStart?.(control, 103, {});
    answered.onResponseStart?.(control, 500, {});
    answered.onResponseData?.(control, Buffer.alloc(10));
    t.equal(await metric(chain, 'answered'), 0, 'not before its end');
    answered.onResponseEnd?.(control, {});
    t.equal(await metric(chain, 'answered'), 1);
    refused.onResponseError?.(null, new Error('refused'));
    broken.onResponseError?.(control, new Error('broken'));
    broken.onResponseError?.(control, new Error('told twice'));
    t.equal(await metric(chain, 'failed'), 2);
    huge.onResponseStart?.(control, 200, {});
    huge.onResponseData?.(control, Buffer.alloc(1_048_576));
    t.equal(control.abortedWith, null);
    huge.onResponseData?.(control, Buffer.alloc(1));
    t.match(control.abortedWith, { message: /larger/ });
    huge.onResponseError?.(control, control.abortedWith as never);
    t.equal(await metric(chain, 'answered'), 2);
    const socket = new PassThrough();
    upgraded.onRequestUpgrade?.(control, 101, {}, socket);
    t.ok(socket.destroyed);
    t.equal(await metric(chain, 'failed'), 3);
  });

  t.test('a mirror that throws fails nothing but the copy', async (t) => {
    const chain = await chainOf(t, to({ maxInFlight: 1 }));
    Object.assign(chain.app.upstream, {
      send() {
        throw new Error('no');
      },
    });
    for (let i = 0; i < 2; i++) t.equal((await chain.inject({ url: '/' })).statusCode, 200);
    t.equal(await metric(chain, 'failed'), 2);
    t.equal(await metric(chain, 'too_many'), 0, 'its place is free again');
  });

  t.test('has as many copies under way as allowed, over all chains with the same target', async (t) => {
    const registry = new Registry();
    const store = new SharedStore();
    const chain = await chainOf(t, to({ maxInFlight: 2 }), { registry, store });
    const other = await chainOf(t, [...to({ maxInFlight: 2 }), ['request-id']], { registry, store });
    for (const one of [chain, other, chain]) t.equal((await one.inject({ url: '/' })).statusCode, 200);
    t.equal(chain.own.length + other.own.length, 2);
    t.equal(await metric(chain, 'too_many'), 1);
    other.own[0].handler.onResponseEnd?.(CONTROL(), {});
    await chain.inject({ url: '/' });
    t.equal(chain.own.length, 2);
  });

  t.test('takes its share, for each target its own', async (t) => {
    const targets = {
      to: [
        { service: 'a', share: '50%' },
        { service: 'b', share: '50%' },
        { service: 'c', share: '0%' },
      ],
    };
    const uses: Uses = [
      ['request-id', { trust: true }],
      ['mirror', targets],
    ];
    const chain = await chainOf(t, uses);
    let both = 0;
    for (let id = 0; id < 1_000; id++) {
      const before = chain.own.length;
      await chain.inject({ url: '/', headers: { 'x-request-id': `r-${id}` } });
      if (chain.own.length === before + 2) both += 1;
      for (const { handler } of chain.own.slice(before)) handler.onResponseEnd?.(CONTROL(), {});
    }
    const count = (name: string): number => chain.own.filter(({ service }) => service === name).length;
    for (const name of ['a', 'b']) t.ok(count(name) > 430 && count(name) < 570, `${name}: ${count(name)} of 1000`);
    t.ok(both > 180 && both < 320, `${both} of 1000 went to both`);
    t.equal(count('c'), 0);
  });

  t.test('copies no upgrade, no CONNECT and no copy', async (t) => {
    for (const different of [
      { upgrade: 'websocket' },
      { method: 'CONNECT' },
      { headers: ['x-selvedge-mirror', 'r'] },
    ]) {
      const chain = await chainOf(t, to(), { dispatch: () => different });
      await chain.inject({ url: '/' });
      t.equal(chain.own.length, 0, JSON.stringify(different));
    }
  });

  t.test('names what it refers to, and has its options checked', async (t) => {
    await refuses(t, 'mirror', [
      [{ to: [] }, /to: must have at least one item/],
      [{ to: [{ service: 'a', share: '200%' }] }, /to\[0\]\.share: "200%" is not a share/],
      [{ to: [{ service: 'a', bufferBytes: '0.3B' }] }, /to\[0\]\.bufferBytes/],
      [{ to: [{ service: 'a', bufer: 1 }] }, /unknown key "bufer"/],
    ]);
  });

  t.test('with a body', async (t) => {
    /** The service reads the body when the test says so, and answers when the test says so. */
    const withBody = async (t: Test, target: Record<string, unknown>, declared: number | null = null) => {
      const source = new PassThrough();
      let heard: DispatchHandler | null = null;
      const chain = await chainOf(t, to(target), {
        dispatch: () => ({ method: 'POST', body: source, contentLength: declared }),
        answer: (_options, handler) => {
          heard = handler;
          return null;
        },
      });
      const response = chain.inject({ method: 'POST', url: '/' });
      while (heard === null) await turn();
      const handler = heard as DispatchHandler;
      const answer = (): void => {
        handler.onResponseStart?.(CONTROL(), 200, {});
        handler.onResponseEnd?.(CONTROL(), {});
      };
      return { source, chain, response, answer, body: chain.sent[0].body as PassThrough };
    };

    t.test('the copy leaves once the service has read it whole, with the same bytes', async (t) => {
      const { source, chain, response, answer, body } = await withBody(t, {});
      const read = buffer(body);
      source.write('abc');
      await turn();
      t.equal(chain.own.length, 0);
      source.end('def');
      t.equal((await read).toString(), 'abcdef');
      t.equal(chain.own.length, 1);
      t.match(chain.own[0].request, { method: 'POST', contentLength: 6 });
      t.equal(chain.own[0].request.body?.toString(), 'abcdef');
      answer();
      t.equal((await response).statusCode, 200);
    });

    t.test('one that grows too large goes to the service alone', async (t) => {
      const { source, chain, response, answer, body } = await withBody(t, { bufferBytes: 5, maxInFlight: 1 });
      const read = buffer(body);
      source.end('abcdef');
      t.equal((await read).toString(), 'abcdef');
      answer();
      t.equal((await response).statusCode, 200);
      t.equal(chain.own.length, 0);
      t.equal(await metric(chain, 'too_large'), 1);
    });

    t.test('one that is declared too large is not even kept', async (t) => {
      const { source, chain, response, answer, body } = await withBody(t, { bufferBytes: 5 }, 6);
      t.equal(body, source);
      t.equal(await metric(chain, 'too_large'), 1);
      answer();
      await response;
    });

    t.test('an answer before the end of the upload leaves no copy and no place taken', async (t) => {
      const { source, chain, response, answer, body } = await withBody(t, {});
      body.resume();
      source.write('abc');
      await turn();
      answer();
      t.equal((await response).statusCode, 200);
      t.equal(await metric(chain, 'failed'), 1);
      t.notOk(source.destroyed);
      source.resume();
      source.end('def');
      await turn();
      t.equal(chain.own.length, 0);
    });

    t.test('an answer that comes while the last bytes lie in buffers leaves a copy all the same', async (t) => {
      const { source, chain, response, answer, body } = await withBody(t, {});
      Object.assign(source, { complete: true });
      source.end('abcdef');
      body.pause();
      answer();
      t.equal((await response).statusCode, 200);
      await turn();
      await turn();
      t.equal(chain.own[0].request.body?.toString(), 'abcdef');
    });

    t.test('an upload that breaks off is not copied', async (t) => {
      const { source, chain, answer, response, body } = await withBody(t, {});
      body.on('error', () => {}).resume();
      source.write('abc');
      await turn();
      source.destroy(new Error('gone'));
      await turn();
      t.equal(chain.own.length, 0);
      t.equal(await metric(chain, 'failed'), 1);
      answer();
      await response;
    });
  });
});

t.test('circuit-breaker', async (t) => {
  const error = (code: Code): SelvedgeError => new SelvedgeError(code, code);

  t.test('refuses once too much has failed, and says when to come back', async (t) => {
    const lines: { msg: string; service?: string }[] = [];
    const logger = pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) });
    const options = { failureRate: '50%', minRequests: 4, openFor: '30s' };
    let answer: () => { status?: number } | { fails: Error } = () => ({});
    const chain = await chainOf(t, [['circuit-breaker', options]], { answer: () => answer(), logger });
    const status = async (): Promise<number> => (await chain.inject({ url: '/' })).statusCode;
    t.strictSame([await status(), await status()], [200, 200]);
    answer = () => ({ status: 500 });
    t.equal(await status(), 500);
    t.match(await chain.registry.metrics(), 'selvedge_circuit_open{service="orders"} 0');
    answer = () => ({ fails: error('SLV_UPSTREAM_RESET') });
    t.equal(await status(), 502);
    const refused = await chain.inject({ url: '/' });
    t.equal(refused.statusCode, 503);
    t.strictSame(refused.json(), { code: 'SLV_CIRCUIT_OPEN' });
    t.equal(refused.headers['retry-after'], '30');
    t.equal(chain.exchanges.at(-1)?.reason, 'circuit_open');
    t.equal(chain.sent.length, 4, 'the service is not asked');
    const metrics = await chain.registry.metrics();
    t.match(metrics, 'selvedge_circuit_open{service="orders"} 1');
    t.match(metrics, 'selvedge_circuit_rejected_total{service="orders",reason="circuit_open"} 1');
    t.match(lines, [{ msg: /circuit opened/, service: 'orders' }]);
  });

  t.test('counts neither what the client did, nor limits of our own, nor a refusal of the service', async (t) => {
    const options = { failureRate: '1%', minRequests: 1 };
    for (const one of [
      { fails: error('SLV_CLIENT_ABORTED') },
      { fails: error('SLV_BODY_TOO_LARGE') },
      { fails: error('SLV_DEADLINE_EXCEEDED') },
      { fails: error('SLV_POOL_FULL') },
      { fails: new Error('a plugin') },
      { status: 429 },
    ]) {
      const chain = await chainOf(t, [['circuit-breaker', options]], { answer: () => one });
      await chain.inject({ url: '/' });
      await chain.inject({ url: '/' });
      t.equal(chain.sent.length, 2, JSON.stringify(one));
    }
    for (const code of [
      'SLV_UPSTREAM_REFUSED',
      'SLV_UPSTREAM_TIMEOUT',
      'SLV_TRY_TIMEOUT',
      'SLV_NO_ENDPOINT',
    ] as const) {
      const chain = await chainOf(t, [['circuit-breaker', options]], { answer: () => ({ fails: error(code) }) });
      await chain.inject({ url: '/' });
      t.equal((await chain.inject({ url: '/' })).json().code, 'SLV_CIRCUIT_OPEN', code);
    }
  });

  t.test('bounds the requests under way, streams and upgraded connections included', async (t) => {
    const handlers: DispatchHandler[] = [];
    const answer = (_options: DispatchOptions, handler: DispatchHandler) => {
      handlers.push(handler);
      return null;
    };
    const chain = await chainOf(t, [['circuit-breaker', { requests: 2 }]], { answer });
    const streaming = chain.inject({ url: '/' });
    while (handlers.length < 1) await turn();
    void chain.inject({ url: '/' }).catch(() => {});
    while (handlers.length < 2) await turn();
    const refused = async () => (await chain.inject({ url: '/' })).json();
    t.strictSame(await refused(), { code: 'SLV_REQUEST_LIMIT' });
    const socket = new PassThrough();
    handlers[1].onRequestUpgrade?.(CONTROL(), 101, {}, socket);
    handlers[0].onResponseStart?.(CONTROL(), 200, {});
    t.strictSame(await refused(), { code: 'SLV_REQUEST_LIMIT' }, 'a head is no end');
    handlers[0].onResponseEnd?.(CONTROL(), {});
    await streaming;
    const next = chain.inject({ url: '/' });
    while (handlers.length < 3) await turn();
    t.strictSame(await refused(), { code: 'SLV_REQUEST_LIMIT' }, 'the upgraded one is still there');
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.destroy();
    await closed;
    const last = chain.inject({ url: '/' });
    while (handlers.length < 4) await turn();
    for (const handler of handlers.slice(2)) handler.onResponseEnd?.(CONTROL(), {});
    await Promise.all([next, last]);
    t.match(
      await chain.registry.metrics(),
      'selvedge_circuit_rejected_total{service="orders",reason="request_limit"} 3',
    );
  });

  t.test('is one for all chains with the same options and across reloads, and one for each service', async (t) => {
    const registry = new Registry();
    const store = new SharedStore();
    const options = { failureRate: '100%', minRequests: 1 };
    const make = (service: string, other = {}) =>
      testChain([['circuit-breaker', { ...options, ...other }]], {
        registry,
        store,
        exchange: { service },
        answer: () => ({ status: 502 }),
      });
    const old = await make('orders');
    await old.inject({ url: '/' });
    const reloaded = await make('orders');
    await old.close();
    t.equal((await reloaded.inject({ url: '/' })).statusCode, 503);
    const carts = await make('carts');
    t.equal((await carts.inject({ url: '/' })).statusCode, 502);
    const stricter = await make('orders', { openFor: '9s' });
    t.equal((await stricter.inject({ url: '/' })).statusCode, 502, 'other options, another breaker');
    t.match(await registry.metrics(), 'selvedge_circuit_open{service="orders"} 2');
    await stricter.close();
    t.match(await registry.metrics(), 'selvedge_circuit_open{service="orders"} 1');
    await reloaded.close();
    await carts.close();
    t.notMatch(await registry.metrics(), 'selvedge_circuit');
    t.equal(store.size, 0);
  });

  t.test('has its options checked', async (t) => {
    await refuses(t, 'circuit-breaker', [
      [{}, /does nothing/],
      [{ failureRate: '0%' }, /failureRate: must be more than 0%/],
      [{ failureRate: '120%' }, /failureRate: must be more than 0% and at most 100%/],
      [{ failureRate: '50%', openFor: '2m' }, /openFor: is longer than "maxOpen" \(60s\)/],
      [{ failureRate: '50%', window: '0s' }, /window: must be/],
      [{ requests: 0 }, /requests/],
    ]);
  });

  t.test('over time', async (t) => {
    const settings: BreakerSettings = {
      requests: Number.POSITIVE_INFINITY,
      failureRate: 0.5,
      minRequests: 4,
      windowMs: 10_000,
      openForMs: 5_000,
      maxOpenMs: 12_000,
      probes: 1,
    };
    function breakerAt(start: number, rest: Partial<BreakerSettings> = {}) {
      const clock = { now: start };
      const changes: string[] = [];
      const breaker = new Breaker(
        { ...settings, ...rest },
        () => clock.now,
        (open, forMs) => {
          changes.push(open ? `open ${forMs}` : 'closed');
        },
      );
      const ask = (): Pass => {
        const pass = breaker.enter();
        if (!(pass instanceof Pass)) throw new Error(pass.reason);
        return pass;
      };
      const run = (outcome: Outcome): void => {
        const pass = ask();
        pass.judge(outcome);
        pass.leave();
      };
      return { clock, changes, breaker, ask, run };
    }

    t.test('opens at the share, not below it and not before there are enough outcomes', async (t) => {
      const { run, changes } = breakerAt(0);
      for (const outcome of ['failure', 'failure', 'failure'] as const) run(outcome);
      t.strictSame(changes, []);
      run('neither');
      t.strictSame(changes, [], 'what says nothing does not make it enough');
      run('success');
      t.strictSame(changes, [], 'only a failure opens');
      const under = breakerAt(0);
      for (const outcome of ['success', 'success', 'success', 'failure', 'failure'] as const) under.run(outcome);
      t.strictSame(under.changes, []);
      under.run('failure');
      t.strictSame(under.changes, ['open 5000']);
    });

    t.test('forgets what lies before the window', async (t) => {
      for (const [later, opens] of [
        [8_000, true],
        [10_500, false],
        [1_000_000, false],
      ] as const) {
        const { run, clock, changes } = breakerAt(123_456);
        for (let i = 0; i < 3; i++) run('failure');
        clock.now += later;
        run('failure');
        t.equal(changes.length === 1, opens, `${later} ms later`);
      }
    });

    t.test(
      'lets one request try after a while: success closes, failure opens for longer, up to the longest',
      async (t) => {
        const { run, ask, breaker, clock, changes } = breakerAt(0);
        for (let i = 0; i < 4; i++) run('failure');
        for (const [waitMs, nextMs] of [
          [5_000, 10_000],
          [10_000, 12_000],
          [12_000, 12_000],
        ]) {
          clock.now += waitMs - 1;
          t.match(breaker.enter(), { reason: 'circuit_open', retryAfterMs: 1 });
          clock.now += 1;
          const probe = ask();
          t.match(breaker.enter(), { reason: 'circuit_open', retryAfterMs: 0 }, 'one at a time');
          probe.judge('failure');
          probe.leave();
          t.equal(changes.at(-1), `open ${nextMs}`);
        }
        clock.now += 12_000;
        ask().leave();
        const again = ask();
        again.judge('success');
        t.equal(changes.at(-1), 'closed', 'one that says nothing leaves the place to the next');
        for (let i = 0; i < 4; i++) run('failure');
        t.equal(changes.at(-1), 'open 5000', 'and it begins anew');
      },
    );

    t.test('outcomes of requests that set out before it opened change nothing', async (t) => {
      const { run, ask, clock, changes, breaker } = breakerAt(0);
      const slow = [ask(), ask()];
      for (let i = 0; i < 4; i++) run('failure');
      slow[0].judge('success');
      t.ok(breaker.open, 'an old success does not close it');
      clock.now += 5_000;
      const probe = ask();
      slow[1].judge('failure');
      t.strictSame(changes, ['open 5000'], 'an old failure is not the probe’s');
      probe.judge('success');
      t.strictSame(changes, ['open 5000', 'closed']);
      for (const pass of [...slow, probe]) pass.leave();
      t.equal(breaker.inFlight, 0);
    });

    t.test('as many probes at a time as asked for', async (t) => {
      const { run, ask, clock, breaker } = breakerAt(0, { probes: 2 });
      for (let i = 0; i < 4; i++) run('failure');
      clock.now += 5_000;
      ask();
      ask();
      t.match(breaker.enter(), { reason: 'circuit_open' });
    });

    t.test('never opens when only requests are bounded', async (t) => {
      const { run, changes } = breakerAt(0, { failureRate: null });
      for (let i = 0; i < 100; i++) run('failure');
      t.strictSame(changes, []);
    });
  });
});
