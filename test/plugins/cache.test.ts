// cache: what is kept, for how long, for whom, and what must never be (RFC 9111, a shared cache).
import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { DispatchOptions } from '../../src/dispatch.ts';
import { parseDirectives } from '../../src/plugins/cache/directives.ts';
import { ageMs, freshnessOf, usability } from '../../src/plugins/cache/freshness.ts';
import { Store } from '../../src/plugins/cache/store.ts';
import { type Answer, type ChainOptions, sentValues, testChain } from '../support/chain.ts';

const PLAIN = { heuristic: false, staleIfErrorMs: 0 };
const now = () => new Date().toUTCString();
const ago = (seconds: number) => new Date(Date.now() - seconds * 1_000).toUTCString();

type Answers = (options: DispatchOptions, nth: number) => Answer;

async function chainOf(t: Test, answers: Answers, options: Record<string, unknown> = {}, more: ChainOptions = {}) {
  let nth = 0;
  const chain = await testChain([['cache', options]], { answer: (sent) => answers(sent, ++nth), ...more });
  t.teardown(() => chain.close());
  const get = (url = '/', headers: Record<string, string> = {}, method: 'GET' | 'HEAD' | 'POST' = 'GET') =>
    chain.inject({ method, url, headers });
  return { ...chain, get, asked: () => chain.sent.length };
}

const counted: Answers = (_sent, nth) => ({ headers: { 'cache-control': 'max-age=60' }, body: `answer ${nth}` });

t.test('a fresh answer is used again, and says so', async (t) => {
  const { get, asked, exchanges, registry } = await chainOf(t, counted);
  const first = await get('/a?x=1');
  t.equal(first.headers['cache-status'], 'selvedge; fwd=miss; fwd-status=200; stored');
  const second = await get('/a?x=1');
  t.equal(second.payload, 'answer 1');
  t.match(second.headers['cache-status'], /^selvedge; hit; ttl=(59|60)$/);
  t.match(second.headers.age, /^[01]$/);
  t.equal(asked(), 1);
  t.strictSame(
    exchanges.map(({ cache }) => cache),
    ['miss', 'hit'],
  );
  const head = await get('/a?x=1', {}, 'HEAD');
  t.equal(head.headers['content-length'], '8');
  t.equal(asked(), 1);
  const metrics = await registry.metrics();
  t.match(metrics, 'selvedge_cache_total{owner="public",result="hit"} 2');
  t.match(metrics, 'selvedge_cache_entries{owner="public"} 1');
});

t.test('what is told apart', async (t) => {
  await t.test('path, query, and by Vary what the service names', async (t) => {
    const { get, asked } = await chainOf(t, (_sent, nth) => ({
      headers: { 'cache-control': 'max-age=60', vary: 'Accept-Language' },
      body: `${nth}`,
    }));
    const seen = [];
    for (const [url, language] of [
      ['/a', 'de'],
      ['/a', 'en'],
      ['/a', 'de'],
      ['/a', ''],
      ['/A', 'de'],
      ['/a?', 'de'],
      ['/a?b', 'de'],
    ])
      seen.push((await get(url, language === '' ? {} : { 'accept-language': language as string })).payload);
    t.strictSame(seen, ['1', '2', '1', '3', '4', '1', '5']);
    t.equal(asked(), 5);
  });
  await t.test('host, scheme and port', async (t) => {
    const facts: NonNullable<ChainOptions['exchange']> = {};
    const { get, asked } = await chainOf(t, counted, {}, { exchange: facts });
    for (const exchange of [{}, { host: 'other' }, { scheme: 'https' as const }, { port: '81' }, {}]) {
      for (const key of Object.keys(facts)) delete facts[key as keyof typeof facts];
      Object.assign(facts, exchange);
      await get();
    }
    t.equal(asked(), 4);
  });
  await t.test('route, service and subset: a canary answers for itself', async (t) => {
    const facts: NonNullable<ChainOptions['exchange']> = {};
    const { get, asked } = await chainOf(t, counted, {}, { exchange: facts });
    for (const exchange of [{ subset: 'v1' }, { subset: 'v2' }, { subset: 'v1' }, { subset: 'v1', service: 'b' }]) {
      for (const key of Object.keys(facts)) delete facts[key as keyof typeof facts];
      Object.assign(facts, exchange);
      await get();
    }
    t.equal(asked(), 3);
  });
  await t.test('key: headers and the only parameters that count', async (t) => {
    const { get, asked } = await chainOf(t, counted, { key: { headers: ['X-Tenant'], query: ['page'] } });
    await get('/?page=1&utm=a', { 'x-tenant': 'a' });
    await get('/?utm=b&%70age=1', { 'x-tenant': 'a' });
    t.equal(asked(), 2, 'the written form counts');
    await get('/?page=1&utm=c', { 'x-tenant': 'a' });
    t.equal(asked(), 2);
    await get('/?page=1', { 'x-tenant': 'b' });
    t.equal(asked(), 3);
  });
});

t.test('never kept', async (t) => {
  const cases: Record<string, Answer> = {
    'no-store': { headers: { 'cache-control': 'max-age=60, no-store' } },
    private: { headers: { 'cache-control': 'private="x", max-age=60' } },
    'no lifetime': { headers: { 'last-modified': ago(86_400) } },
    'max-age that is no number': { headers: { 'cache-control': 'max-age=a' } },
    's-maxage=0 over max-age': { headers: { 'cache-control': 'max-age=60, s-maxage=0' } },
    'Expires in the past': { headers: { expires: '0' } },
    'Vary: *': { headers: { 'cache-control': 'max-age=60', vary: 'accept, *' } },
    'Set-Cookie': { headers: { 'cache-control': 'public, max-age=60', 'set-cookie': 'session=1' } },
    'a part': { status: 206, headers: { 'cache-control': 'max-age=60', 'content-range': 'bytes 0-1/9' } },
    'an error': { status: 500, headers: { 'cache-control': 'max-age=60' } },
    'shorter than declared': { headers: { 'cache-control': 'max-age=60', 'content-length': '9' } },
    'too large': { headers: { 'cache-control': 'max-age=60' }, body: 'x'.repeat(2_000) },
  };
  for (const [what, answer] of Object.entries(cases)) {
    const { get, asked } = await chainOf(t, () => answer, { maxEntryBytes: 1_000 });
    await get();
    await get();
    t.equal(asked(), 2, what);
  }
  t.test('answers to requests with credentials, in any form', async (t) => {
    const shared = () => ({ headers: { 'cache-control': 'public, max-age=60' } });
    const header = await chainOf(t, shared);
    await header.get('/', { authorization: 'Bearer a' });
    await header.get('/', {});
    await header.get('/', { authorization: 'Bearer b' });
    t.equal(header.asked(), 3, 'nor is one that is kept used for them');
    const user = await chainOf(t, shared, {}, { user: { sub: 'a' } });
    await user.get();
    await user.get();
    t.equal(user.asked(), 2, 'a plugin knows who it is');
  });
  t.test('with authorization: true, those that the service does not offer for it', async (t) => {
    for (const [control, expected] of [
      ['max-age=60', 2],
      ['public, max-age=60', 1],
      ['s-maxage=60', 1],
      ['max-age=60, must-revalidate', 1],
    ] as const) {
      const { get, asked } = await chainOf(t, () => ({ headers: { 'cache-control': control } }), {
        authorization: true,
      });
      await get('/', { authorization: 'Bearer a' });
      await get('/', { authorization: 'Bearer b' });
      t.equal(asked(), expected, control);
    }
    const { get, asked } = await chainOf(t, counted, { authorization: true });
    await get();
    await get('/', { authorization: 'Bearer b' });
    t.equal(asked(), 2, 'what was kept for strangers says nothing of who shows credentials');
  });
  t.test('answers to HEAD, Range and no-store, which leave what is kept alone', async (t) => {
    const { get, asked } = await chainOf(t, (_sent, nth) => ({
      headers: { 'cache-control': 'max-age=60' },
      body: `${nth}`,
    }));
    await get('/', {}, 'HEAD');
    await get('/', { range: 'bytes=0-0' });
    await get('/', { 'cache-control': 'no-store' });
    t.equal((await get()).payload, '4');
    t.equal((await get('/', { range: 'bytes=0-0' })).payload, '5');
    t.equal((await get()).payload, '4');
    t.equal(asked(), 5);
  });
});

t.test('validation', async (t) => {
  const validated: Answers = (sent, nth) =>
    sentValues(sent, 'if-none-match').includes('"a"')
      ? {
          status: 304,
          headers: { etag: '"a"', 'x-nth': `${nth}`, 'cache-control': nth > 2 ? 'max-age=60' : 'max-age=0' },
          body: '',
        }
      : { headers: { 'cache-control': 'max-age=0', etag: '"a"', 'x-nth': `${nth}` }, body: 'whole' };
  t.test('a stale answer that still holds is used, with the headers of the 304', async (t) => {
    const { get, asked } = await chainOf(t, validated);
    t.equal((await get()).payload, 'whole');
    const second = await get();
    t.equal(second.statusCode, 200);
    t.equal(second.payload, 'whole');
    t.equal(second.headers['x-nth'], '2');
    t.equal(second.headers['cache-status'], 'selvedge; fwd=stale; fwd-status=304');
    await get();
    t.equal((await get()).headers['x-nth'], '3', 'fresh again by the 304');
    t.equal(asked(), 3);
  });
  t.test('a client that has it already is told so, from memory', async (t) => {
    const { get, asked } = await chainOf(t, () => ({
      headers: { 'cache-control': 'max-age=60', etag: 'W/"a"', 'last-modified': ago(100), 'x-y': 'z' },
    }));
    await get();
    for (const [headers, status] of [
      [{ 'if-none-match': '"a"' }, 304],
      [{ 'if-none-match': '"b", W/"a"' }, 304],
      [{ 'if-none-match': '*' }, 304],
      [{ 'if-none-match': '"b"' }, 200],
      [{ 'if-modified-since': ago(50) }, 304],
      [{ 'if-modified-since': ago(500) }, 200],
      [{ 'if-none-match': '"b"', 'if-modified-since': now() }, 200],
    ] as const) {
      const answer = await get('/', headers as never);
      t.equal(answer.statusCode, status, JSON.stringify(headers));
      if (status === 304) t.equal(answer.headers.etag, 'W/"a"');
    }
    t.equal(asked(), 1);
  });
  t.test('a 304 about something else is not believed', async (t) => {
    const { get, asked } = await chainOf(t, (_sent, nth) =>
      nth === 2
        ? { status: 304, headers: { etag: '"b"', 'cache-control': 'max-age=60' }, body: '' }
        : { headers: { 'cache-control': 'max-age=0', etag: '"a"' } },
    );
    await get();
    await get();
    await get();
    t.strictSame(asked(), 3);
  });
});

t.test('what the client asks of the cache', async (t) => {
  const aged: Answers = (_sent, nth) => ({ headers: { 'cache-control': 'max-age=60', age: '30' }, body: `${nth}` });
  for (const [control, used] of [
    ['max-age=40', true],
    ['max-age=20', false],
    ['no-cache', false],
    ['min-fresh=20', true],
    ['min-fresh=40', false],
    ['only-if-cached', true],
  ] as const) {
    const { get, asked } = await chainOf(t, aged);
    await get();
    await get('/', { 'cache-control': control });
    t.equal(asked(), used ? 1 : 2, control);
  }
  const stale = await chainOf(t, () => ({ headers: { 'cache-control': 'max-age=10', age: '30', etag: '"a"' } }));
  await stale.get();
  await stale.get('/', { 'cache-control': 'max-stale=60' });
  t.equal(stale.asked(), 1);
  await stale.get('/', { 'cache-control': 'max-stale=5' });
  t.equal(stale.asked(), 2);
  const none = await chainOf(t, aged);
  const refused = await none.get('/', { 'cache-control': 'only-if-cached' });
  t.equal(refused.statusCode, 504);
  t.equal(refused.json().code, 'SLV_NOT_CACHED');
  t.equal(none.asked(), 0);
});

t.test('stale answers', async (t) => {
  t.test('are used while the service fails, as far as they allow', async (t) => {
    for (const [control, used] of [
      ['max-age=0, stale-if-error=60', true],
      ['s-maxage=0, stale-if-error=60', true],
      ['max-age=0, stale-if-error=60, must-revalidate', false],
      ['max-age=0', false],
    ] as const) {
      const { get, exchanges } = await chainOf(t, (_sent, nth) =>
        nth === 1
          ? { headers: { 'cache-control': control, etag: '"a"' }, body: 'kept' }
          : nth === 2
            ? { status: 503, body: 'down' }
            : { fails: new Error('refused') },
      );
      await get();
      t.equal((await get()).payload === 'kept', used, control);
      t.equal((await get()).payload === 'kept', used, control);
      t.equal(exchanges[1].cache === 'stale', used);
    }
    const { get } = await chainOf(
      t,
      (_sent, nth) =>
        nth === 1 ? { headers: { 'cache-control': 'max-age=0', etag: '"a"' }, body: 'kept' } : { status: 502 },
      { staleIfError: '1m' },
    );
    await get();
    t.equal((await get()).payload, 'kept', 'by the config');
  });
  t.test('are used while they are validated behind the back, once', async (t) => {
    const { get, asked, own } = await chainOf(t, () => ({
      headers: { 'cache-control': 'max-age=0, stale-while-revalidate=60', etag: '"a"' },
      body: 'old',
    }));
    await get();
    t.equal((await get()).payload, 'old');
    t.equal((await get()).payload, 'old');
    t.equal(asked(), 1);
    t.equal(own.length, 1);
    t.match(own[0].request.headers.join(), 'if-none-match,"a"');
    const { handler } = own[0];
    handler.onResponseStart?.({} as never, 200, { 'cache-control': 'max-age=60' });
    handler.onResponseData?.({} as never, Buffer.from('new'));
    handler.onResponseEnd?.({} as never, {});
    t.equal((await get()).payload, 'new');
    t.equal(asked(), 1);
  });
});

t.test('an unsafe method makes what is kept untrue, if it succeeds', async (t) => {
  let status = 200;
  const { get, asked } = await chainOf(t, (sent, nth) =>
    sent.method === 'POST'
      ? { status, headers: { location: '/list', 'content-location': 'http://elsewhere/' } }
      : counted(sent, nth),
  );
  await get('/a');
  await get('/list');
  status = 500;
  await get('/a', {}, 'POST');
  await get('/a');
  t.equal(asked(), 3);
  status = 201;
  await get('/a', {}, 'POST');
  await get('/a');
  await get('/list');
  t.equal(asked(), 6);
});

t.test('bounded in bytes, in number and in variants', async (t) => {
  const flood = await chainOf(t, () => ({ headers: { 'cache-control': 'max-age=60', vary: 'x-any' } }));
  for (let i = 0; i < 200; i++) await flood.get('/', { 'x-any': `${i}` });
  t.match(await flood.registry.metrics(), 'selvedge_cache_entries{owner="public"} 32');
  const few = await chainOf(t, counted, { maxEntries: 3 });
  for (const url of ['/1', '/2', '/3', '/1', '/4']) await few.get(url);
  t.equal(few.asked(), 4);
  await few.get('/1');
  t.equal(few.asked(), 4, 'the least recently used has gone');
  await few.get('/2');
  t.equal(few.asked(), 5);
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 3_000 }))), (puts) => {
      const store = new Store(10_000, 5);
      const freshness = freshnessOf(200, { 'cache-control': 'max-age=9' }, 0, 0, PLAIN);
      if (freshness === null) return false;
      for (const [name, length] of puts) {
        store.put({
          resource: `${name}`,
          lane: '',
          vary: [],
          status: 200,
          headers: {},
          body: Buffer.alloc(length),
          freshness,
        });
        if (store.bytes > 10_000 || store.size > 5 || store.bytes < 0) return false;
      }
      for (let name = 0; name < 10; name++) store.invalidate(`${name}`);
      return store.bytes === 0 && store.size === 0;
    }),
  );
});

t.test('lifetime and age, on random answers', (t) => {
  const seconds = fc.integer({ min: 0, max: 10_000 });
  fc.assert(
    fc.property(
      fc.option(seconds),
      fc.option(seconds),
      fc.option(seconds),
      seconds,
      seconds,
      (shared, most, expires, age, later) => {
        const control = [shared === null ? '' : `s-maxage=${shared}`, most === null ? '' : `max-age=${most}`].filter(
          (x) => x !== '',
        );
        const at = 1_700_000_000_000;
        const headers: Record<string, string> = { date: new Date(at).toUTCString(), age: `${age}`, etag: '"a"' };
        if (control.length > 0) headers['cache-control'] = control.join(', ');
        if (expires !== null) headers.expires = new Date(at + expires * 1_000).toUTCString();
        const freshness = freshnessOf(200, headers, at, at, PLAIN);
        const lifetime = shared ?? most ?? expires;
        if (lifetime === null) return freshness === null;
        if (freshness === null) return false;
        const then = at + later * 1_000;
        const usable = usability(freshness, parseDirectives(undefined), then);
        return ageMs(freshness, then) === (age + later) * 1_000 && (usable === 'fresh') === lifetime > age + later;
      },
    ),
  );
  fc.assert(fc.property(fc.string(), (text) => parseDirectives(text) instanceof Map));
  t.strictSame(
    [...parseDirectives('Max-Age="5", x="a,no-store", max-age=3,, no-cache="b", no-cache')],
    [
      ['max-age', '3'],
      ['x', 'a,no-store'],
      ['no-cache', true],
    ],
  );
  t.end();
});

t.test('guesses a lifetime only when told to', async (t) => {
  const { get, asked } = await chainOf(t, () => ({ headers: { 'last-modified': ago(86_400) } }), { heuristic: true });
  await get();
  await get();
  t.equal(asked(), 1);
});

t.test('check refuses what cannot be', async (t) => {
  for (const [options, message] of [
    [{ maxBytes: '1KiB' }, /maxEntryBytes: is larger than "maxBytes"/],
    [{ collapse: '2m' }, /collapse: must be at most 1m/],
    [{ key: { headers: ['a b'] } }, /must be a header name/],
  ] as const)
    await t.rejects(testChain([['cache', options as never]]), { message });
});
