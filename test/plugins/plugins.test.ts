// Every built-in plugin but the access log, each in a chain of its own.
import { Registry } from 'prom-client';
import t from 'tap';
import { positionOf } from '../../src/http/position.ts';
import { builtins } from '../../src/plugins/index.ts';
import { SharedStore } from '../../src/runtime/shared.ts';
import { type ChainOptions, sentValues, testChain } from '../support/chain.ts';

type Uses = Parameters<typeof testChain>[0];

/** A chain that is closed with the test. */
async function chainOf(t: { teardown(end: () => unknown): unknown }, plugins: Uses, options?: ChainOptions) {
  const chain = await testChain(plugins, options);
  t.teardown(() => chain.close());
  return chain;
}

t.test('every built-in plugin bears the name it is listed under and describes each of its options', async (t) => {
  t.ok(builtins.size >= 7);
  for (const [name, load] of builtins) {
    const { default: plugin } = await load();
    const description = plugin[
      Object.getOwnPropertySymbols(plugin).find((symbol) => symbol.description === 'selvedge.plugin') as never
    ] as {
      name: string;
      options: { properties: Record<string, { description?: string }> };
    };
    t.equal(description.name, name);
    for (const [option, schema] of Object.entries(description.options.properties))
      t.type(schema.description, 'string', `${name}.${option}`);
  }
});

t.test('request-id', async (t) => {
  t.test('gives the request its id, upstream and in the answer, whatever the client and the service say', async (t) => {
    const chain = await chainOf(t, [['request-id']], {
      answer: () => ({ headers: { 'x-request-id': 'of the service' } }),
    });
    const response = await chain.inject({ url: '/', headers: { 'x-request-id': 'of-the-client' } });
    t.equal(response.headers['x-request-id'], 'id-1');
    t.strictSame(sentValues(chain.sent[0], 'x-request-id'), ['id-1']);
    t.equal(chain.exchanges[0].id, 'id-1');
  });

  const taken = (id: string | string[], options: Record<string, unknown>, role: 'gateway' | 'inbound' = 'gateway') =>
    t.test(`${role} with ${JSON.stringify(options)} and ${JSON.stringify(id)}`, async (t) => {
      const chain = await chainOf(t, [['request-id', options]], { role });
      await chain.inject({ url: '/', headers: { 'x-request-id': id } });
      t.equal(chain.exchanges[0].id === id, EXPECT_TAKEN.has(JSON.stringify([id, options, role])));
      t.strictSame(sentValues(chain.sent[0], 'x-request-id'), [chain.exchanges[0].id]);
    });
  const EXPECT_TAKEN = new Set(
    [
      ['a-b_c.9', { trust: true }, 'gateway'],
      ['x'.repeat(128), { trust: true }, 'gateway'],
      ['hop', {}, 'inbound'],
    ].map((one) => JSON.stringify(one)),
  );
  await taken('a-b_c.9', { trust: true });
  await taken('x'.repeat(128), { trust: true });
  await taken('x'.repeat(129), { trust: true });
  await taken('with space', { trust: true });
  await taken('"}{', { trust: true });
  await taken('', { trust: true });
  await taken('hop', {}, 'inbound');
  await taken('hop', {}, 'gateway');
  await taken('hop', { trust: false }, 'inbound');

  t.test('uses another header, and leaves the answer alone when told to', async (t) => {
    const chain = await chainOf(t, [['request-id', { header: 'X-Correlation-Id', response: false }]]);
    const response = await chain.inject({ url: '/' });
    t.strictSame(sentValues(chain.sent[0], 'x-correlation-id'), ['id-1']);
    t.notOk('x-correlation-id' in response.headers);
  });
});

t.test('request-headers removes, then sets, then adds', async (t) => {
  const chain = await chainOf(t, [
    [
      'request-headers',
      {
        remove: ['X-Gone', 'x-both'],
        set: { 'X-Set': 'new', 'x-both': 'set' },
        add: { 'x-set': 'added', 'x-more': 'two', cookie: 'b=2', constructor: 'own' },
      },
    ],
  ]);
  await chain.inject({
    url: '/',
    headers: { 'x-gone': '1', 'x-set': 'old', 'x-both': 'old', 'x-more': 'one', cookie: 'a=1' },
  });
  const [sent] = chain.sent;
  t.strictSame(sentValues(sent, 'x-gone'), []);
  t.strictSame(sentValues(sent, 'x-set'), ['new', 'added']);
  t.strictSame(sentValues(sent, 'x-both'), ['set']);
  t.strictSame(sentValues(sent, 'x-more'), ['one', 'two']);
  t.strictSame(sentValues(sent, 'cookie'), ['a=1; b=2'], 'one Cookie line');
  t.strictSame(sentValues(sent, 'constructor'), ['own']);
});

t.test('response-headers changes what the service answered and what Selvedge itself answers', async (t) => {
  const changes = {
    remove: ['Server', 'x-both'],
    set: { 'x-frame-options': 'DENY', 'x-both': 'set' },
    add: { vary: 'origin', 'set-cookie': 'b=2' },
  };
  const chain = await chainOf(
    t,
    [
      ['response-headers', changes],
      ['body-limit', { max: 4 }],
    ],
    {
      answer: () => ({ headers: { server: 'x', 'x-both': 'old', vary: 'accept', 'set-cookie': ['a=1'] } }),
    },
  );
  const { headers } = await chain.inject({ url: '/' });
  t.notOk('server' in headers);
  t.equal(headers['x-both'], 'set');
  t.strictSame([headers.vary].flat().join(', '), 'accept, origin');
  t.strictSame(headers['set-cookie'], ['a=1', 'b=2']);
  const refused = await chain.inject({ method: 'POST', url: '/', payload: 'longer than four' });
  t.equal(refused.statusCode, 413);
  t.equal(refused.headers['x-frame-options'], 'DENY');
});

t.test('response-headers replaces every Set-Cookie when it sets one', async (t) => {
  const chain = await chainOf(t, [['response-headers', { set: { 'Set-Cookie': 'only=1' } }]], {
    answer: () => ({ headers: { 'set-cookie': ['a=1', 'b=2'] } }),
  });
  const { headers } = await chain.inject({ url: '/' });
  t.strictSame([headers['set-cookie']].flat(), ['only=1']);
});

t.test('header plugins refuse framing headers, malformed names and values, and one name twice', async (t) => {
  const refused = (name: string, options: Record<string, unknown>, message: RegExp) =>
    t.rejects(testChain([[name, options]]), { message });
  await refused(
    'request-headers',
    { set: { Connection: 'close' } },
    /request-headers\.set\.Connection: "connection" belongs to the connection/,
  );
  await refused('request-headers', { remove: ['Transfer-Encoding'] }, /remove\[0\]: "transfer-encoding" belongs/);
  await refused(
    'response-headers',
    { add: { 'content-length': '1' } },
    /add\.content-length: "content-length" belongs/,
  );
  await refused('request-headers', { remove: ['host'] }, /remove\[0\]: "host" is set by Selvedge: use rewrite\.host/);
  await refused('request-headers', { set: { host: 'x' } }, /set\.host: "host" is set by Selvedge/);
  await refused('request-headers', { set: { 'a b': 'x' } }, /"a b" is not a header name/);
  await refused(
    'response-headers',
    { set: { 'x-a': 'one\r\nx-b: two' } },
    /set\.x-a: a header value has no line breaks/,
  );
  await refused('response-headers', { set: { 'x-a': '漢' } }, /set\.x-a: a header value has no/);
  await refused('request-headers', { add: { 'X-A': '1', 'x-a': '2' } }, /add\.x-a: "x-a" stands here twice/);
  await refused('request-headers', { set: { 'x-a': 1 } }, /set\.x-a: must be text, not 1/);
});

t.test('body-limit', async (t) => {
  t.test(
    'answers 413 at once when the declared length is over it, and asks for the bound on anything else',
    async (t) => {
      const chain = await chainOf(t, [['body-limit', { max: '1KiB' }]]);
      const over = await chain.inject({ method: 'POST', url: '/', payload: 'x'.repeat(1_025) });
      t.equal(over.statusCode, 413);
      t.equal(over.json().code, 'SLV_BODY_TOO_LARGE');
      t.equal(chain.sent.length, 0);
      const exact = await chain.inject({ method: 'POST', url: '/', payload: 'x'.repeat(1_024) });
      t.equal(exact.statusCode, 200);
      t.equal(chain.exchanges[1].bodyLimit, 1_024);
    },
  );

  t.test('refuses what is not a size', async (t) => {
    await t.rejects(testChain([['body-limit', { max: '1 megabyte' }]]), {
      message: /body-limit\.max: must be a size such as 1MiB, not "1 megabyte"/,
    });
    await t.rejects(testChain([['body-limit', { max: '0.3B' }]]), {
      message: /body-limit\.max: "0\.3B" is not a whole number of bytes/,
    });
    await t.rejects(testChain([['body-limit', { max: -1 }]]), { message: /body-limit\.max: must be at least 0/ });
    await t.rejects(testChain([['body-limit', { max: true }]]), {
      message: /body-limit\.max: must be a whole number or a size such as 1MiB/,
    });
    await t.rejects(testChain([['body-limit']]), { message: /body-limit: "max" is missing/ });
  });
});

t.test('header-routing', async (t) => {
  const routed = async (rules: unknown[], headers: Record<string, string>, options?: ChainOptions) => {
    const chain = await testChain([['header-routing', { rules }]], options);
    await chain.inject({ url: '/', headers });
    await chain.close();
    return chain.exchanges[0].sentTo;
  };
  const v2 = { service: null, subset: 'v2' };
  const to = { subset: 'v2' };

  t.test('goes by a header: exactly, by prefix, by an anchored regex, or by its presence', async (t) => {
    t.strictSame(await routed([{ header: 'X-Version', value: 'v2', to }], { 'x-version': 'v2' }), v2);
    t.equal(await routed([{ header: 'x-version', value: 'v2', to }], { 'x-version': 'v22' }), null);
    t.equal(await routed([{ header: 'x-version', value: 'v2', to }], {}), null);
    t.strictSame(await routed([{ header: 'x-version', value: { prefix: 'v2' }, to }], { 'x-version': 'v2.1' }), v2);
    t.strictSame(await routed([{ header: 'x-version', value: { regex: 'v[23]' }, to }], { 'x-version': 'v3' }), v2);
    t.equal(await routed([{ header: 'x-version', value: { regex: 'v[23]' }, to }], { 'x-version': 'xv3' }), null);
    t.strictSame(await routed([{ header: 'x-version', to }], { 'x-version': '' }), v2);
    t.equal(await routed([{ header: 'constructor', to }], {}), null, 'nothing inherited is a header');
  });

  t.test('goes by a cookie', async (t) => {
    t.strictSame(await routed([{ cookie: 'ab', value: 'b', to }], { cookie: 'x=1; ab=b; y="2"' }), v2);
    t.strictSame(await routed([{ cookie: 'y', value: '2', to }], { cookie: 'x=1; y="2"' }), v2, 'without its quotes');
    t.equal(
      await routed([{ cookie: 'ab', value: 'b', to }], { cookie: 'xab=b; ab=c; ab=b' }),
      null,
      'the first of that name',
    );
    t.equal(await routed([{ cookie: 'ab', to }], {}), null);
  });

  t.test('goes by a verified claim, deep or in a list, and never by what an object merely inherits', async (t) => {
    const claim = (name: string, value: string, user: unknown) => routed([{ claim: name, value, to }], {}, { user });
    t.strictSame(await claim('realm.group', 'beta', { realm: { group: 'beta' } }), v2);
    t.strictSame(await claim('https://example.com/group', 'beta', { 'https://example.com/group': 'beta' }), v2);
    t.strictSame(await claim('groups', 'beta', { groups: ['alpha', 'beta'] }), v2);
    t.strictSame(await claim('level', '3', { level: 3 }), v2);
    t.equal(await claim('groups', 'beta', { groups: ['alpha'] }), null);
    t.equal(await claim('sub', 'x', undefined), null);
    t.equal(await routed([{ claim: 'constructor.name', to }], {}, { user: {} }), null);
  });

  t.test('the first rule that applies decides', async (t) => {
    const rules = [
      { header: 'x-a', value: '1', to: { service: 'first' } },
      { header: 'x-a', to: { service: 'second', subset: 's' } },
    ];
    t.strictSame(await routed(rules, { 'x-a': '1' }), { service: 'first', subset: null });
    t.strictSame(await routed(rules, { 'x-a': '2' }), { service: 'second', subset: 's' });
  });

  t.test('a share takes its part of the clients, always the same ones, and raising it keeps those', async (t) => {
    const side = async (share: string) => {
      const chain = await testChain([['header-routing', { rules: [{ share, sticky: { header: 'x-user' }, to }] }]]);
      const inside = new Set<number>();
      for (let user = 0; user < 2_000; user++) {
        await chain.inject({ url: '/', headers: { 'x-user': `user-${user}` } });
        if (chain.exchanges[user].sentTo !== null) inside.add(user);
      }
      await chain.close();
      return inside;
    };
    const [first, again, more] = [await side('20%'), await side('20%'), await side('30%')];
    t.strictSame([...again], [...first]);
    t.ok(first.size > 340 && first.size < 460, `${first.size} of 2000 is about 20%`);
    t.ok(more.size > 530 && more.size < 670, `${more.size} of 2000 is about 30%`);
    t.ok([...first].every((user) => more.has(user)));
  });

  t.test('sticks to the client address by default and where the key is missing', async (t) => {
    const address = Array.from({ length: 200 }, (_, index) => `10.0.0.${index}`);
    const inside = (sticky: unknown) =>
      Promise.all(
        address.map(
          async (clientAddress) =>
            (await routed(
              [{ share: '50%', ...(sticky === undefined ? {} : { sticky }), to }],
              {},
              { exchange: { clientAddress } },
            )) !== null,
        ),
      );
    const expected = address.map((one) => positionOf(`/v2/${one}`) < 0.5);
    t.strictSame(await inside(undefined), expected);
    t.strictSame(await inside({ cookie: 'absent' }), expected);
  });

  t.test('refuses rules that cannot mean anything', async (t) => {
    const refused = (rule: unknown, message: RegExp) =>
      t.rejects(testChain([['header-routing', { rules: [rule] }]]), { message });
    await refused({ header: 'a', cookie: 'b', to }, /rules\[0\]: looks at one of header, cookie and claim/);
    await refused({ to }, /rules\[0\]: needs a header, cookie, claim or share/);
    await refused({ share: '10%', value: 'x', to }, /rules\[0\]\.value: needs a header/);
    await refused({ header: 'a', to: {} }, /rules\[0\]\.to: names neither/);
    await refused({ header: 'a', value: { regex: '(' }, to }, /rules\[0\]\.value\.regex: is not a regular expression/);
    await refused({ header: 'a', value: { regexp: 'x' }, to }, /rules\[0\]\.value/);
    await refused({ header: 'a', share: '120%', to }, /rules\[0\]\.share: "120%" is more than 100%/);
    await refused({ header: 'a', share: 0.2, to }, /rules\[0\]\.share: must be a share such as 20%/);
    await refused(
      { header: 'a', sticky: 'clientAddress', to },
      /rules\[0\]\.sticky: has a meaning only together with share/,
    );
    await refused(
      { headr: 'a', share: '1%', to },
      /rules\[0\]\.headr: unknown key "headr" \(did you mean "header"\?\)/,
    );
    await t.rejects(testChain([['header-routing', { rules: [] }]]), {
      message: /rules: must have at least one item/,
    });
  });
});

t.test('positions spread evenly and do not follow the order of keys', async (t) => {
  const tenths = new Array<number>(10).fill(0);
  for (let key = 0; key < 10_000; key++) tenths[Math.floor(positionOf(`10.0.${key >> 8}.${key & 255}`) * 10)]++;
  for (const count of tenths) t.ok(count > 850 && count < 1_150, String(count));
});

t.test('metrics', async (t) => {
  const lines = async (registry: Registry, name: string) =>
    (await registry.metrics()).split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  const retried = [
    { endpoint: 'a:1', outcome: 'upstream_refused', status: 0, durationMs: 1 },
    { endpoint: 'b:1', outcome: 'ok', status: 200, durationMs: 2 },
  ];

  t.test('counts every request and every attempt by what became of it', async (t) => {
    const chain = await chainOf(t, [['metrics']], {
      exchange: { attempts: retried },
      answer: ({ path }) => ({ status: path === '/gone' ? 410 : 200 }),
    });
    await chain.inject({ url: '/' });
    await chain.inject({ url: '/' });
    await chain.inject({ url: '/gone' });
    t.strictSame(await lines(chain.registry, 'selvedge_requests_total'), [
      'selvedge_requests_total{role="gateway",owner="public",route="orders",service="orders",code="200",reason=""} 2',
      'selvedge_requests_total{role="gateway",owner="public",route="orders",service="orders",code="410",reason=""} 1',
    ]);
    t.strictSame(await lines(chain.registry, 'selvedge_upstream_attempts_total'), [
      'selvedge_upstream_attempts_total{service="orders",endpoint="a:1",outcome="upstream_refused"} 3',
      'selvedge_upstream_attempts_total{service="orders",endpoint="b:1",outcome="ok"} 3',
    ]);
    t.strictSame(await lines(chain.registry, 'selvedge_request_duration_seconds_count'), [
      'selvedge_request_duration_seconds_count{role="gateway",owner="public",route="orders"} 3',
    ]);
  });

  t.test('a refusal, a request without route and a client that left are counted with their reason', async (t) => {
    const limited = await chainOf(t, [['metrics'], ['body-limit', { max: 1 }]]);
    await limited.inject({ method: 'POST', url: '/', payload: 'long' });
    t.match((await lines(limited.registry, 'selvedge_requests_total'))[0], /code="413",reason="body_too_large"\} 1$/);
    const lost = await chainOf(t, [['metrics']], {
      exchange: { route: null, service: null, reason: 'route_not_found' },
      answer: () => ({ status: 404 }),
    });
    await lost.inject({ url: '/' });
    t.match(
      (await lines(lost.registry, 'selvedge_requests_total'))[0],
      /route="",service="",code="404",reason="route_not_found"\} 1$/,
    );
    const aborted = await chainOf(t, [['metrics']], { answer: () => 'abort' });
    await t.rejects(aborted.inject({ url: '/' }));
    t.match((await lines(aborted.registry, 'selvedge_requests_total'))[0], /code="499",reason="client_aborted"\} 1$/);
    t.strictSame(await lines(aborted.registry, 'selvedge_requests_in_flight'), [
      'selvedge_requests_in_flight{role="gateway",owner="public"} 0',
    ]);
  });

  t.test('the gauge knows what is in flight, also when a plugin before it refused', async (t) => {
    const gauge = (value: number) => [`selvedge_requests_in_flight{role="gateway",owner="public"} ${value}`];
    const registry = new Registry();
    let during: Promise<string[]> | undefined;
    const answer = () => {
      during = lines(registry, 'selvedge_requests_in_flight');
      return {};
    };
    const chain = await chainOf(t, [['body-limit', { max: 1 }], ['metrics']], { registry, answer });
    await chain.inject({ url: '/' });
    t.strictSame(await during, gauge(1));
    await chain.inject({ method: 'POST', url: '/', payload: 'long' });
    t.strictSame(await lines(registry, 'selvedge_requests_in_flight'), gauge(0));
  });

  t.test('no more series than allowed: the rest is counted as other, and that is counted', async (t) => {
    let request = 0;
    const registry = new Registry();
    const chain = await chainOf(t, [['metrics', { maxSeries: 5 }]], {
      registry,
      exchange: {
        get route() {
          return { name: `route-${request++}`, matchedPrefix: '/' };
        },
      },
    });
    for (let count = 0; count < 50; count++) await chain.inject({ url: '/' });
    const all = await lines(registry, 'selvedge_requests_total');
    t.ok(all.length <= 5, `${all.length} series`);
    const other = all.find((line) => line.includes('route="other"'));
    t.match(other, /role="other",owner="other",route="other",service="other",code="other",reason="other"/);
    const total = all.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
    t.equal(total, 50, 'every request is counted once');
    t.match((await lines(registry, 'selvedge_metrics_folded_total')).join(), /metric="selvedge_requests_total"\} 4\d/);
  });

  t.test('chains share one set of metrics, and a reload keeps the counts', async (t) => {
    const registry = new Registry();
    const store = new SharedStore();
    const first = await testChain([['metrics']], { registry, store });
    const second = await testChain([['metrics']], { registry, store, owner: 'partners' });
    await first.inject({ url: '/' });
    await second.inject({ url: '/' });
    const reloaded = await testChain([['metrics']], { registry, store });
    await first.close();
    await reloaded.inject({ url: '/' });
    t.match(await lines(registry, 'selvedge_requests_total'), [/owner="public".* 2$/, /owner="partners".* 1$/]);
    await second.close();
    await reloaded.close();
    t.equal(await registry.metrics(), '\n', 'nothing is left behind');
  });

  t.test('other buckets start the histogram anew and leave the counters alone', async (t) => {
    const registry = new Registry();
    const store = new SharedStore();
    const old = await testChain([['metrics', { buckets: [1, 2] }]], { registry, store });
    await old.inject({ url: '/' });
    const next = await testChain([['metrics', { buckets: [3] }]], { registry, store });
    await next.inject({ url: '/' });
    await old.inject({ url: '/' });
    t.match(await lines(registry, 'selvedge_requests_total'), [/ 3$/]);
    t.match(await lines(registry, 'selvedge_request_duration_seconds_bucket'), [/le="3".* 1$/, /le="\+Inf".* 1$/]);
    const back = await testChain([['metrics', { buckets: [1, 2] }]], { registry, store });
    await back.inject({ url: '/' });
    t.match(await lines(registry, 'selvedge_request_duration_seconds_bucket'), [
      /le="1".* 3$/,
      /le="2".* 3$/,
      /le="\+Inf".* 3$/,
    ]);
    for (const chain of [old, next, back]) await chain.close();
  });

  t.test('refuses buckets that do not ascend', async (t) => {
    await t.rejects(testChain([['metrics', { buckets: [2, 1] }]]), { message: /metrics\.buckets: must ascend/ });
  });
});
