// rate-limit where clients are not alike: sizes by plan, costs that a header says, and keys that another plugin makes.
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { DESCRIPTION } from '../../src/plugin.ts';
import { builtins } from '../../src/plugins/index.ts';
import { type ChainOptions, type TestChain, testChain } from '../support/chain.ts';

const PLAN = fileURLToPath(new URL('./support/plan.ts', import.meta.url));

type Options = Record<string, unknown>;
type Headers = Record<string, string>;

/** The limit stands before the plugin that says who the client is. */
async function chainOf(t: Test, options: Options, more: ChainOptions = {}): Promise<TestChain> {
  const chain = await testChain([['rate-limit', options], [PLAN]], more);
  t.teardown(() => chain.close());
  return chain;
}

async function statuses(chain: TestChain, requests: readonly Headers[]): Promise<number[]> {
  const codes: number[] = [];
  for (const headers of requests) codes.push((await chain.inject({ url: '/', headers })).statusCode);
  return codes;
}

const times = (count: number, headers: Headers): Headers[] => Array.from({ length: count }, () => headers);

t.test('a plan has a size of its own; who is on none of them has the one beside', async (t) => {
  for (const by of [{ claim: 'account.plan' }, { header: 'X-Plan' }]) {
    const chain = await chainOf(t, {
      max: 1,
      window: '1h',
      plans: { by, sizes: { gold: { max: 3 }, silver: { max: 2 } } },
    });
    t.strictSame(await statuses(chain, times(4, { 'x-wants': 'gold' })), [200, 200, 200, 429]);
    t.strictSame(await statuses(chain, times(3, { 'x-wants': 'silver' })), [200, 200, 429]);
    t.strictSame(await statuses(chain, [{}, {}]), [200, 429]);
    t.strictSame(await statuses(chain, [{ 'x-wants': 'made up' }, { 'x-wants': 'constructor' }]), [429, 429]);
  }
});

t.test('a plan in a bucket has its burst, one in flight its number', async (t) => {
  const by = { claim: 'account.plan' };
  const bucket = {
    max: 10,
    window: '1h',
    burst: 1,
    algorithm: 'token-bucket',
    plans: { by, sizes: { gold: { burst: 2 } } },
  };
  const chain = await chainOf(t, bucket);
  t.strictSame(await statuses(chain, times(3, { 'x-wants': 'gold' })), [200, 200, 429]);
  t.strictSame(await statuses(chain, [{}, {}]), [200, 429]);

  const ends: (() => void)[] = [];
  const answer: ChainOptions['answer'] = (_options, handler) => {
    ends.push(() => {
      handler.onResponseStart?.({} as never, 200, {});
      handler.onResponseEnd?.({} as never, {});
    });
    return null;
  };
  const busy = await chainOf(t, { inFlight: 1, plans: { by, sizes: { gold: { inFlight: 2 } } } }, { answer });
  const under = [1, 2].map(() => busy.inject({ url: '/', headers: { 'x-wants': 'gold' } }));
  while (ends.length < 2) await new Promise((resolve) => setImmediate(resolve));
  t.strictSame(await statuses(busy, [{ 'x-wants': 'gold' }]), [429]);
  for (const end of ends.splice(0)) end();
  for (const { statusCode } of await Promise.all(under)) t.equal(statusCode, 200);
});

t.test('responses tell the size of the plan', async (t) => {
  const by = { claim: 'account.plan' };
  const chain = await chainOf(t, {
    headers: 'both',
    limits: [
      { max: 9, window: '1m' },
      { max: 1, window: '1h', plans: { by, sizes: { gold: { max: 3 } } } },
    ],
  });
  const gold = await chain.inject({ url: '/', headers: { 'x-wants': 'gold' } });
  t.equal(gold.headers['ratelimit-policy'], '"9-per-1m";q=9;w=60, "requests-per-1h";q=3;w=3600');
  t.equal(gold.headers.ratelimit, '"9-per-1m";r=8;t=60, "requests-per-1h";r=2;t=3600');
  t.equal(gold.headers['x-ratelimit-limit'], '3');
  const other = await chain.inject({ url: '/' });
  t.equal(other.headers['ratelimit-policy'], '"9-per-1m";q=9;w=60, "requests-per-1h";q=1;w=3600');
  const refused = await chain.inject({ url: '/' });
  t.equal(refused.statusCode, 429);
  t.match(refused.headers['ratelimit-policy'], '"requests-per-1h";q=1;w=3600');
  t.match(await chain.registry.metrics(), 'limit="requests-per-1h",mode="enforce"} 1');
});

t.test("headers that say plan or cost are nobody's word for himself", async () => {
  const description = (await builtins.get('rate-limit')?.())?.default[DESCRIPTION];
  const sizes = { gold: { max: 9 } };
  const limit = { max: 5, window: '1m', plans: { by: { header: 'X-Plan' }, sizes }, cost: { header: 'X-Cost' } };
  t.strictSame(description?.identityHeaders?.(limit as never), ['x-plan', 'x-cost']);
  t.strictSame(
    description?.identityHeaders?.({ cost: { header: 'x-cost' }, limits: [{ max: 5, window: '1m' }] } as never),
    ['x-cost'],
  );
  t.strictSame(description?.identityHeaders?.({ cost: 1, max: 5, window: '1m' } as never), []);
});

t.test('a request costs what a header says, from 1 to max', async (t) => {
  const left = async (options: Options, work: string | null) => {
    const chain = await chainOf(t, { max: 100, window: '1h', ...options });
    const { headers } = await chain.inject({ url: '/', headers: work === null ? {} : { 'x-work': work } });
    return Number(/;r=(\d+)/.exec(String(headers.ratelimit))?.[1]);
  };
  const cost = { header: 'X-Cost', max: 50 };
  for (const [work, expected] of [
    ['7', 93],
    ['50', 50],
    ['51', 50],
    ['999999999999999', 50],
    ['9'.repeat(400), 99],
    ['0', 99],
    ['-5', 99],
    ['1.5', 99],
    ['1e2', 99],
    ['5, 6', 99],
    ['', 99],
    [null, 99],
  ] as const)
    t.equal(await left({ cost }, work), expected, String(work));
  t.equal(await left({ cost: { header: 'x-cost' } }, '1000'), 0, 'without max: all there is');
  t.equal(await left({ algorithm: 'token-bucket', cost }, '30'), 70);
});

t.test('what one limit refuses is given back to the others at the cost it had', async (t) => {
  const chain = await chainOf(t, {
    cost: { header: 'x-cost' },
    limits: [
      { name: 'wide', max: 100, window: '1h', key: ['route', { header: 'x-none' }, { plugin: 'tenant' }] },
      { name: 'tight', max: 10, window: '1h', key: [{ plugin: 'tenant' }, 'route'] },
    ],
  });
  t.strictSame(
    await statuses(chain, [
      { 'x-work': '8', 'x-tenant': 'a' },
      { 'x-work': '8', 'x-tenant': 'a' },
    ]),
    [200, 429],
  );
  const { headers } = await chain.inject({ url: '/', headers: { 'x-work': '1', 'x-tenant': 'a' } });
  t.match(headers.ratelimit, '"wide";r=91;t=3600, "tight";r=1;');
});

t.test('a service says afterwards what a request cost', async (t) => {
  for (const algorithm of ['fixed-window', 'token-bucket']) {
    const costs = ['4', 'nothing', '0', '1000', '2'];
    let at = 0;
    const chain = await chainOf(
      t,
      { max: 20, window: '1h', algorithm, cost: { responseHeader: 'X-Cost', max: 10 } },
      { answer: () => ({ headers: { 'x-cost': costs[at++] } }) },
    );
    const left: string[] = [];
    for (let i = 0; i < 6; i++) {
      const { headers, statusCode } = await chain.inject({ url: '/' });
      left.push(`${statusCode} ${/;r=(\d+)/.exec(String(headers.ratelimit))?.[1]}`);
    }
    // Before each: 20, 16, 15, 14, 4, 2; told is what is left once the request itself has taken 1.
    t.strictSame(left, ['200 19', '200 15', '200 14', '200 13', '200 3', '200 1'], algorithm);
    t.strictSame(await statuses(chain, [{}, {}]), [200, 429], 'the service of the sixth said nothing');
  }
});

t.test('what turns out dearer than all that is left takes that, and no debt', async (t) => {
  const answer: ChainOptions['answer'] = () => ({ headers: { 'x-cost': '9' } });
  const chain = await chainOf(t, { max: 10, window: '1s', cost: { responseHeader: 'x-cost' } }, { answer });
  t.strictSame(await statuses(chain, [{}, {}, {}]), [200, 200, 429]);
  await new Promise((resolve) => setTimeout(resolve, 1_050));
  t.strictSame(await statuses(chain, [{}]), [200], 'the next window is whole');
});

t.test('a key that a plugin makes', async (t) => {
  const lines: { msg: string }[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const chain = await chainOf(t, { max: 1, window: '1h', key: { plugin: 'tenant' } }, { logger });
  t.strictSame(await statuses(chain, [{ 'x-tenant': 'a' }, { 'x-tenant': 'b' }, { 'x-tenant': 'a' }]), [200, 200, 429]);
  t.strictSame(await statuses(chain, [{}, {}]), [200, 429], 'null: by address');
  t.strictSame(await statuses(chain, [{ 'x-tenant': 'broken' }, { 'x-tenant': 'wrong' }]), [500, 500]);
  t.strictSame(
    chain.exchanges.slice(-2).map(({ reason }) => reason),
    ['plugin_failed', 'plugin_failed'],
  );
  await t.rejects(testChain([['rate-limit', { max: 1, window: '1h', key: [{ plugin: 'org' }, 'route'] }], [PLAN]]), {
    message: /no plugin of this chain makes the key "org"/,
  });
});

t.test('what makes no sense is refused', async (t) => {
  const limit = { max: 5, window: '1m' };
  const by = { claim: 'plan' };
  const gold = (size: object) => ({ by, sizes: { gold: size } });
  const cases: [Options, RegExp][] = [
    [{ ...limit, plans: { by, sizes: {} } }, /plans\.sizes: has no plan/],
    [{ ...limit, plans: gold({}) }, /plans\.sizes\.gold: says nothing: give it "max" or "burst"/],
    [{ ...limit, plans: gold({ max: 0 }) }, /plans\.sizes\.gold\.max/],
    [{ ...limit, plans: gold({ inFlight: 3, max: 9 }) }, /gold\.inFlight: is of another kind/],
    [{ inFlight: 5, plans: gold({ max: 3 }) }, /plans\.sizes\.gold: says nothing: give it "inFlight"/],
    [{ ...limit, plans: gold({ burst: 9 }) }, /plans\.sizes\.gold\.burst: needs "algorithm: token-bucket"/],
    [{ ...limit, plans: gold({ window: '1h' }) }, /window/],
    [{ window: '1m', plans: gold({ max: 9 }) }, /needs "max" and "window"/],
    [
      { ...limit, plans: { by: { header: 'cookie' }, sizes: { gold: { max: 9 } } } },
      /plans\.by\.header: "cookie" is needed/,
    ],
    [{ ...limit, plans: { by: { header: 'a b' }, sizes: { gold: { max: 9 } } } }, /plans\.by\.header: "a b"/],
    [{ ...limit, plans: { by: 'plan', sizes: { gold: { max: 9 } } } }, /plans\.by/],
    [{ ...limit, limits: [limit], plans: gold({ max: 3 }) }, /rate-limit\.plans: belongs into each of "limits"/],
    [
      { ...limit, cost: 3, plans: gold({ max: 2 }) },
      /cost: nothing would ever pass: .* plan "gold" of requests-per-1m/,
    ],
    [{ ...limit, cost: { header: 'x-cost', max: 6 } }, /cost\.max: is more than the 5 that 5-per-1m grants at once/],
    [{ ...limit, cost: { header: 'authorization' } }, /cost\.header: "authorization" is needed/],
    [{ ...limit, cost: { responseHeader: 'a b' } }, /cost\.responseHeader: "a b" is no name of a header/],
    [{ ...limit, cost: {} }, /cost/],
    [{ inFlight: 5, cost: { header: 'x-cost' } }, /cost: has no meaning for "inFlight"/],
    [{ ...limit, key: { plugin: '' } }, /key/],
    [{ ...limit, key: ['apiKey', 'apiKey'] }, /key\[1\]: is there twice/],
  ];
  for (const [options, message] of cases)
    await t.rejects(testChain([['rate-limit', options]]), { message }, JSON.stringify(options));
  const many = Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`p${index}`, { max: 2 }]));
  await t.rejects(testChain([['rate-limit', { ...limit, plans: { by, sizes: many } }]]), {
    message: /more than 64 plans/,
  });
});
