// The rate-limit plugin in a chain of its own: who is charged, what is refused, and what responses, metrics and logs say of it.

import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import { SharedStore } from '../../src/runtime/shared.ts';
import { type ChainOptions, type TestChain, testChain } from '../support/chain.ts';

type Options = Record<string, unknown>;

const WHO = fileURLToPath(new URL('./support/who.ts', import.meta.url));

async function chainOf(t: Test, options: Options, more: ChainOptions = {}): Promise<TestChain> {
  const chain = await testChain([['rate-limit', options]], more);
  t.teardown(() => chain.close());
  return chain;
}

/** Statuses of requests one after the other; each says what of it differs. */
async function statuses(chain: TestChain, requests: readonly Record<string, string>[]): Promise<number[]> {
  const codes: number[] = [];
  for (const headers of requests) codes.push((await chain.inject({ url: '/', headers })).statusCode);
  return codes;
}

/** A chain whose requests say in `x-from` what their exchange has as client address; `x-user`, `x-route` and `x-peer` likewise. */
async function chainByHeaders(t: Test, options: Options, more: ChainOptions = {}): Promise<TestChain> {
  const chain = await testChain([[WHO], ['rate-limit', options]], more);
  t.teardown(() => chain.close());
  return chain;
}

const from = (address: string) => ({ 'x-from': address });

t.test('lets max through and refuses the next with 429, reason and Retry-After', async (t) => {
  const chain = await chainOf(t, { max: 2, window: '1m' });
  t.strictSame(await statuses(chain, [{}, {}]), [200, 200]);
  const refused = await chain.inject({ url: '/' });
  t.equal(refused.statusCode, 429);
  t.strictSame(refused.json(), { code: 'SLV_RATE_LIMITED' });
  t.equal(refused.headers['retry-after'], '60');
  t.equal(chain.exchanges[2].reason, 'rate_limited');
  t.equal(chain.exchanges[2].because, 'rate_limit_2-per-1m');
  t.equal(chain.sent.length, 2, 'the service never hears of it');
});

t.test('exactly max get through, however many ask at once', async (t) => {
  const chain = await chainOf(t, {
    limits: [
      { max: 50, window: '1h' },
      { max: 60, window: '1h', algorithm: 'token-bucket' },
    ],
  });
  const answers = await Promise.all(Array.from({ length: 640 }, () => chain.inject({ url: '/' })));
  t.equal(answers.filter(({ statusCode }) => statusCode === 200).length, 50);
  t.equal(answers.filter(({ statusCode }) => statusCode === 429).length, 590);
});

t.test('says how much is left', async (t) => {
  t.test('in the fields of the draft', async (t) => {
    const chain = await chainOf(t, {
      limits: [{ max: 2, window: '1m' }, { name: 'day', max: 9, window: '1d' }, { inFlight: 5 }],
    });
    const first = await chain.inject({ url: '/' });
    t.equal(
      first.headers['ratelimit-policy'],
      '"2-per-1m";q=2;w=60, "day";q=9;w=86400, "5-in-flight";q=5;qu="concurrent-requests"',
    );
    t.equal(first.headers.ratelimit, '"2-per-1m";r=1;t=60, "day";r=8;t=86400, "5-in-flight";r=4');
    t.notOk(first.headers['x-ratelimit-limit']);
    await chain.inject({ url: '/' });
    const refused = await chain.inject({ url: '/' });
    t.equal(refused.headers.ratelimit, '"2-per-1m";r=0;t=60');
    t.equal(refused.headers['ratelimit-policy'], first.headers['ratelimit-policy']);
  });

  t.test('in the older fields, of the limit with least left', async (t) => {
    const chain = await chainOf(t, {
      limits: [
        { max: 9, window: '1d' },
        { max: 3, window: '1m' },
        { max: 8, window: '1h' },
      ],
      headers: 'classic',
    });
    const { headers } = await chain.inject({ url: '/' });
    t.match(headers, { 'x-ratelimit-limit': '3', 'x-ratelimit-remaining': '2', 'x-ratelimit-reset': '60' });
    t.notOk(headers.ratelimit);
  });

  t.test('in both, or not at all', async (t) => {
    const both = (await (await chainOf(t, { max: 2, window: '1m', headers: 'both' })).inject({ url: '/' })).headers;
    t.match(both, { 'x-ratelimit-remaining': '1', ratelimit: '"2-per-1m";r=1;t=60' });
    const none = await chainOf(t, { max: 1, window: '1m', headers: 'none' });
    t.notOk((await none.inject({ url: '/' })).headers.ratelimit);
    const refused = await none.inject({ url: '/' });
    t.equal(refused.headers['retry-after'], '60');
    t.notOk(refused.headers['x-ratelimit-limit']);
  });
});

t.test('charges', async (t) => {
  t.test('each client address for itself, IPv6 by /64', async (t) => {
    const chain = await chainByHeaders(t, { max: 1, window: '1m' });
    t.strictSame(
      await statuses(chain, [
        from('192.0.2.1'),
        from('192.0.2.2'),
        from('::ffff:192.0.2.1'),
        from('2001:db8:1:2::1'),
        from('2001:db8:1:2:ffff::9'),
        from('2001:db8:1:3::1'),
      ]),
      [200, 200, 429, 200, 429, 200],
    );
  });

  t.test('a header; a request without it goes by its address, which no value can pose as', async (t) => {
    const chain = await chainByHeaders(t, { max: 1, window: '1m', key: { header: 'X-Api-Key' } });
    t.strictSame(
      await statuses(chain, [
        { 'x-api-key': 'a' },
        { 'x-api-key': 'a', ...from('192.0.2.9') },
        { 'x-api-key': 'b' },
        { 'x-api-key': 'a=192.0.2.1' },
        {},
        {},
        from('192.0.2.9'),
        { 'x-api-key': 'x'.repeat(5_000) },
        { 'x-api-key': `${'x'.repeat(4_999)}y` },
      ]),
      [200, 429, 200, 200, 200, 429, 200, 200, 200],
    );
  });

  t.test('a cookie, a route, the peer', async (t) => {
    const cookies = await chainOf(t, { max: 1, window: '1m', key: { cookie: 'sid' } });
    t.strictSame(
      await statuses(cookies, [{ cookie: 'a=1; sid=x' }, { cookie: 'sid=x' }, { cookie: 'sid=y' }]),
      [200, 429, 200],
    );
    const routes = await chainByHeaders(t, { max: 1, window: '1m', key: 'route' });
    t.strictSame(
      await statuses(routes, [{ 'x-route': 'a' }, { 'x-route': 'a', ...from('192.0.2.7') }, { 'x-route': 'b' }]),
      [200, 429, 200],
    );
    const peers = await chainByHeaders(t, { max: 1, window: '1m', key: 'peer' });
    const spiffe = 'spiffe://shop.internal/service/';
    t.strictSame(
      await statuses(peers, [{ 'x-peer': `${spiffe}a` }, { 'x-peer': `${spiffe}a` }, { 'x-peer': `${spiffe}b` }]),
      [200, 429, 200],
    );
  });

  t.test('a claim, once it is verified: the plugin may stand before the one that verifies', async (t) => {
    const who: [string, Options] = [WHO, {}];
    const limit: [string, Options] = ['rate-limit', { max: 1, window: '1m', key: { claim: 'realm.sub' } }];
    for (const plugins of [
      [who, limit],
      [limit, who],
    ]) {
      const chain = await testChain(plugins);
      t.teardown(() => chain.close());
      const codes = await statuses(chain, [{ 'x-user': 'ann' }, { 'x-user': 'bob' }, { 'x-user': 'ann' }, {}, {}]);
      t.strictSame(codes, [200, 200, 429, 200, 429], 'without the claim: by address');
    }
  });

  t.test('each combination for itself, with no way to make two values of one', async (t) => {
    const key = [{ header: 'x-a' }, { header: 'x-b' }];
    const chain = await chainOf(t, { max: 1, window: '1m', key });
    t.strictSame(
      await statuses(chain, [
        { 'x-a': '1', 'x-b': '2' },
        { 'x-a': '1', 'x-b': '2' },
        { 'x-a': '1', 'x-b': '3' },
        { 'x-a': '1","v=2', 'x-b': '' },
        { 'x-a': '2', 'x-b': '1' },
      ]),
      [200, 429, 200, 200, 200],
    );
  });
});

t.test('a request that one limit refuses is charged to none of the others', async (t) => {
  const chain = await chainByHeaders(t, {
    limits: [
      { max: 3, window: '1h', key: 'route' },
      { max: 1, window: '1m', key: 'clientAddress' },
    ],
  });
  const greedy = Array.from({ length: 20 }, () => from('192.0.2.1'));
  await statuses(chain, greedy);
  t.strictSame(
    await statuses(chain, [from('192.0.2.2'), from('192.0.2.3'), from('192.0.2.4')]),
    [200, 200, 429],
    'the 19 that were refused took nothing of the route',
  );
});

t.test('cost: routes that share a limit take different amounts of it', async (t) => {
  const store = new SharedStore();
  const registry = new Registry();
  const limit = { name: 'api', max: 10, window: '1h' };
  const cheap = await chainOf(t, limit, { store, registry });
  const dear = await chainOf(t, { ...limit, cost: 4 }, { store, registry });
  t.strictSame(await statuses(dear, [{}, {}, {}]), [200, 200, 429]);
  t.strictSame(await statuses(cheap, [{}, {}, {}]), [200, 200, 429]);
});

t.test(
  'counts are kept while anything has the limit, across reloads, and are not those of another gateway',
  async (t) => {
    const store = new SharedStore();
    const registry = new Registry();
    const limit = { max: 2, window: '1h' };
    const first = await testChain([['rate-limit', limit]], { store, registry });
    await statuses(first, [{}, {}]);
    const next = await testChain([['request-id'], ['rate-limit', limit]], { store, registry });
    await first.close();
    t.equal((await next.inject({ url: '/' })).statusCode, 429);
    const elsewhere = await chainOf(t, limit, { store, registry, owner: 'internal' });
    t.equal((await elsewhere.inject({ url: '/' })).statusCode, 200);
    const larger = await chainOf(t, { ...limit, max: 3 }, { store, registry });
    t.equal((await larger.inject({ url: '/' })).statusCode, 200, 'another limit counts anew');
    t.match(
      await registry.metrics(),
      'selvedge_rate_limited_total{owner="public",route="orders",limit="2-per-1h",mode="enforce"} 1',
    );
    await next.close();
  },
);

t.test('the metric goes with the last chain', async (t) => {
  const registry = new Registry();
  const chain = await testChain([['rate-limit', { max: 1, window: '1h' }]], { registry });
  t.match(await registry.metrics(), 'selvedge_rate_limited_total');
  await chain.close();
  t.notMatch(await registry.metrics(), 'selvedge_rate_limit');
});

t.test('shadow refuses nothing: it counts, and says so in the log at most once a second', async (t) => {
  const lines: Record<string, unknown>[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const chain = await chainOf(t, { max: 1, window: '1h', mode: 'shadow' }, { logger });
  t.strictSame(await statuses(chain, Array(20).fill({})), Array(20).fill(200));
  t.match(await chain.registry.metrics(), 'limit="1-per-1h",mode="shadow"} 19');
  t.match(lines, [{ owner: 'public', limit: '1-per-1h', requests: 1 }]);
  t.equal(lines.length, 1);
  t.equal(chain.exchanges.at(-1)?.reason, null);
  t.notOk((await chain.inject({ url: '/' })).headers.ratelimit, 'clients are not told of what does not hold');
});

t.test('one limit on trial beside one that holds', async (t) => {
  const chain = await chainOf(t, {
    limits: [
      { max: 1, window: '1h', mode: 'shadow' },
      { max: 2, window: '1h' },
    ],
  });
  t.strictSame(await statuses(chain, [{}, {}, {}]), [200, 200, 429]);
  const metrics = await chain.registry.metrics();
  t.match(metrics, 'limit="1-per-1h",mode="shadow"} 2');
  t.match(metrics, 'limit="2-per-1h",mode="enforce"} 1');
});

t.test('inFlight bounds what is under way by key', async (t) => {
  const waiting: (() => void)[] = [];
  const chain = await chainByHeaders(
    t,
    { inFlight: 2, key: 'clientAddress' },
    {
      answer: (_options, handler) => {
        waiting.push(() => {
          handler.onResponseStart?.({} as never, 200, {});
          handler.onResponseEnd?.({} as never, {});
        });
        return null;
      },
    },
  );
  const [a, b] = [1, 2].map(() => chain.inject({ url: '/' }));
  while (waiting.length < 2) await new Promise((resolve) => setImmediate(resolve));
  const refused = await chain.inject({ url: '/' });
  t.equal(refused.statusCode, 429);
  t.equal(refused.headers['retry-after'], '1');
  const other = chain.inject({ url: '/', headers: from('192.0.2.2') });
  while (waiting.length < 3) await new Promise((resolve) => setImmediate(resolve));
  for (const end of waiting.splice(0)) end();
  t.strictSame(
    (await Promise.all([a, b, other])).map(({ statusCode }) => statusCode),
    [200, 200, 200],
  );
  const again = chain.inject({ url: '/' });
  while (waiting.length < 1) await new Promise((resolve) => setImmediate(resolve));
  waiting[0]();
  t.equal((await again).statusCode, 200, 'what is over makes room');
});

t.test('two in one chain both hold, and both are told', async (t) => {
  const chain = await testChain([
    ['rate-limit', { max: 3, window: '1h' }],
    ['rate-limit', { max: 1, window: '1m' }],
  ]);
  t.teardown(() => chain.close());
  const { headers } = await chain.inject({ url: '/' });
  t.equal(headers['ratelimit-policy'], '"3-per-1h";q=3;w=3600, "1-per-1m";q=1;w=60');
  t.equal(headers.ratelimit, '"3-per-1h";r=2;t=3600, "1-per-1m";r=0;t=60');
  t.strictSame(await statuses(chain, [{}]), [429]);
});

t.test('beside @fastify/rate-limit itself it does not load: one of them would do nothing', async (t) => {
  const plugins = [
    ['@fastify/rate-limit', { global: false }],
    ['rate-limit', { max: 1, window: '1m' }],
  ] as const;
  await t.rejects(testChain(plugins), { message: /@fastify\/rate-limit is in this chain already/ });
});

t.test('what makes no sense is refused', async (t) => {
  const limit = { max: 5, window: '1m' };
  const cases: [Options, RegExp][] = [
    [{}, /needs "max" and "window", or "inFlight"/],
    [{ max: 5 }, /needs "max" and "window"/],
    [{ limits: [limit, {}] }, /limits\[1\]: needs "max" and "window"/],
    [{ ...limit, limits: [limit] }, /rate-limit.max: belongs into each of "limits"/],
    [{ limits: [] }, /limits/],
    [{ max: 0, window: '1m' }, /max/],
    [{ max: 5, window: '1' }, /must be a duration/],
    [{ max: 5, window: '0' }, /window: must be 1ms to 30d/],
    [{ max: 5, window: '31d' }, /window: must be 1ms to 30d/],
    [{ ...limit, burst: 9 }, /burst: needs "algorithm: token-bucket"/],
    [{ ...limit, cost: 6 }, /cost: nothing would ever pass/],
    [
      { limits: [{ ...limit, algorithm: 'token-bucket', burst: 2, cost: 3 }] },
      /limits\[0\]\.cost: nothing would ever pass/,
    ],
    [{ inFlight: 5, max: 5 }, /max: has no meaning beside "inFlight"/],
    [{ inFlight: 5, cost: 2 }, /cost: has no meaning for "inFlight"/],
    [{ inFlight: 5, algorithm: 'token-bucket' }, /algorithm: has no meaning for "inFlight"/],
    [{ limits: [{ inFlight: 5, cost: 2 }] }, /limits\[0\]\.cost: has no meaning/],
    [{ limits: [limit, { ...limit, key: 'route' }] }, /limits\[1\]: is the second one called "5-per-1m"/],
    [{ ...limit, key: 'ip' }, /key/],
    [{ ...limit, key: [] }, /key/],
    [{ ...limit, key: { header: 'no name' } }, /key: "no name" is no name of a header/],
    [{ ...limit, key: [{ header: 'x-a' }, { header: 'X-A' }] }, /key\[1\]: is there twice/],
    [{ ...limit, name: 'Not one' }, /must be 1 to 63 lower-case letters/],
    [{ ...limit, shared: true }, /shared: needs "redis: \{ url \}" at the top/],
    [{ ...limit, shared: true, redis: { url: 'http://x' } }, /redis\.url: is no redis/],
    [{ ...limit, shared: true, redis: { url: 'redis://x', timeout: '0' } }, /redis\.timeout: must be 1ms to 10s/],
    [{ ...limit, redis: { url: 'redis://x' } }, /redis: has a meaning only together with "shared: true"/],
    [{ ...limit, mode: 'dry' }, /mode/],
    [{ ...limit, maxKeys: 1 }, /maxKeys/],
    [{ ...limit, per: '1m' }, /unknown key "per"/],
  ];
  for (const [options, message] of cases)
    await t.rejects(testChain([['rate-limit', options]]), { message }, JSON.stringify(options));
});
