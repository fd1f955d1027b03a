// cors: preflights and answers by origin, and what a config may not say.
import t from 'tap';
import { type ChainOptions, sentValues, testChain } from '../support/chain.ts';

const APP = 'https://app.example.com';
type Ends = { teardown(end: () => unknown): unknown };

async function corsChain(
  t: Ends,
  options: Record<string, unknown>,
  chainOptions: ChainOptions = {},
  after: [string, Record<string, unknown>?][] = [],
) {
  const chain = await testChain([['cors', options], ...after], chainOptions);
  t.teardown(() => chain.close());
  return {
    chain,
    get: (origin?: string) => chain.inject({ url: '/', headers: origin === undefined ? {} : { origin } }),
    preflight: (origin: string, headers = {}) =>
      chain.inject({
        method: 'OPTIONS',
        url: '/',
        headers: { origin, 'access-control-request-method': 'PUT', ...headers },
      }),
  };
}

t.test('a preflight of a listed origin is answered without the service', async (t) => {
  const { chain, preflight } = await corsChain(t, { origins: [APP] });
  const response = await preflight(APP, { 'access-control-request-headers': 'content-type,x-more' });
  t.equal(response.statusCode, 204);
  t.equal(response.body, '');
  t.match(response.headers, {
    'access-control-allow-origin': APP,
    'access-control-allow-methods': 'GET, HEAD, POST, PUT, PATCH, DELETE',
    'access-control-allow-headers': 'authorization, content-type',
    'access-control-max-age': '600',
    vary: 'Origin',
  });
  t.notOk('access-control-allow-credentials' in response.headers);
  t.equal(chain.sent.length, 0);
});

t.test('a preflight of another origin is refused, counted, and told nothing', async (t) => {
  const { chain, preflight } = await corsChain(t, { origins: [APP], credentials: true });
  const response = await preflight('https://evil.example');
  t.equal(response.statusCode, 403);
  t.equal(response.json().code, 'SLV_ORIGIN_DENIED');
  t.equal(response.headers.vary, 'Origin');
  t.strictSame(
    Object.keys(response.headers).filter((name) => name.startsWith('access-control-')),
    [],
  );
  t.equal(chain.exchanges[0].reason, 'origin_denied');
  t.match(await chain.registry.metrics(), 'selvedge_cors_refused_total{owner="public",route="orders"} 1');
  await chain.close();
  t.equal(await chain.registry.metrics(), '\n');
});

t.test('answers are marked for listed origins alone, and always vary', async (t) => {
  const { chain, get } = await corsChain(t, { origins: [APP], credentials: true, exposeHeaders: ['x-total', 'link'] });
  const listed = await get(APP);
  t.match(listed.headers, {
    'access-control-allow-origin': APP,
    'access-control-allow-credentials': 'true',
    'access-control-expose-headers': 'x-total, link',
    vary: 'Origin',
  });
  for (const other of [await get('https://evil.example'), await get('null'), await get()]) {
    t.equal(other.statusCode, 200, 'it is not kept from the service');
    t.equal(other.headers.vary, 'Origin');
    t.notOk('access-control-allow-origin' in other.headers);
    t.notOk('access-control-allow-credentials' in other.headers);
  }
  t.equal(chain.sent.length, 4);
});

t.test('which origins are listed', async (t) => {
  for (const [origins, origin, allowed] of [
    [['https://*.example.com'], 'https://app.example.com', true],
    [['https://*.example.com'], 'https://a.b.example.com', true],
    [['https://*.example.com'], 'https://example.com', false],
    [['https://*.example.com'], 'https://.example.com', false],
    [['https://*.example.com'], 'http://app.example.com', false],
    [['https://*.example.com'], 'https://app.example.com:8443', false],
    [['https://*.example.com:8443'], 'https://app.example.com:8443', true],
    [['https://*.example.com'], 'https://evilexample.com', false],
    [['https://*.example.com'], 'https://app.example.com.evil.example', false],
    [['https://*.example.com'], 'https://evil.example/.example.com', false],
    [['https://*.example.com'], 'https://evil.example@x.example.com', false],
    [['https://*.example.com'], 'https://*.example.com', false],
    [['https://*.example.com'], `https://${'a.'.repeat(300)}example.com`, false],
    [[APP], 'https://APP.example.com', false],
    [[APP], `${APP}, ${APP}`, false],
    [[APP], 'null', false],
    [['http://localhost:5173'], 'http://localhost:5173', true],
    [['http://[::1]:5173'], 'http://[::1]:5173', true],
    [['capacitor://localhost'], 'capacitor://localhost', true],
    [[{ regex: 'https://pr-[0-9]+\\.example\\.com' }], 'https://pr-17.example.com', true],
    [[{ regex: 'https://pr-[0-9]+\\.example\\.com' }], 'https://pr-17.example.com.evil.example', false],
    [[{ regex: '.*' }], 'null', false],
    [[{ regex: '.*' }], 'https://anywhere.example', true],
  ] as const) {
    const { get } = await corsChain(t, { origins });
    const mark = (await get(origin)).headers['access-control-allow-origin'];
    t.equal(mark, allowed ? origin : undefined, `${JSON.stringify(origins)} ${origin.slice(0, 60)}`);
  }
});

t.test('any origin: `*` on every answer, which then need not vary', async (t) => {
  const { get, preflight } = await corsChain(t, { origins: ['*'], exposeHeaders: ['*'] });
  for (const response of [await get(APP), await get('null'), await get()]) {
    t.equal(response.headers['access-control-allow-origin'], '*');
    t.equal(response.headers['access-control-expose-headers'], '*');
    t.notOk('vary' in response.headers);
  }
  t.equal((await preflight(APP)).headers['access-control-allow-origin'], '*');
});

t.test("the service's own access-control headers go, its Vary stays", async (t) => {
  const headers = {
    'access-control-allow-origin': '*',
    'access-control-allow-credentials': 'true',
    'access-control-allow-methods': 'TRACE',
    'access-control-expose-headers': 'x-secret',
    'access-control-max-age': '1',
    vary: ['Accept-Encoding', 'origin, Accept'],
  };
  const { get } = await corsChain(t, { origins: [APP] }, { answer: () => ({ headers }) });
  const listed = await get(APP);
  t.equal(listed.headers.vary, 'Accept-Encoding, origin, Accept');
  t.equal(listed.headers['access-control-allow-origin'], APP);
  const stranger = await get('https://evil.example');
  for (const [response, expected] of [
    [listed, ['access-control-allow-origin']],
    [stranger, []],
  ] as const)
    t.strictSame(
      Object.keys(response.headers).filter((name) => name.startsWith('access-control-')),
      expected,
    );
  const all = await corsChain(t, { origins: [APP] }, { answer: () => ({ headers: { vary: '*' } }) });
  t.equal((await all.get(APP)).headers.vary, '*');
});

t.test('headers: `*` allows what the page asks for, if it is a list of names', async (t) => {
  const { preflight } = await corsChain(t, { origins: [APP], headers: ['*'], credentials: true });
  const asked = await preflight(APP, { 'access-control-request-headers': 'x-a,authorization' });
  t.equal(asked.headers['access-control-allow-headers'], 'x-a,authorization');
  t.equal(asked.headers.vary, 'Origin, Access-Control-Request-Headers');
  for (const wrong of ['x-a;x', 'a'.repeat(3_000)])
    t.notOk(
      'access-control-allow-headers' in (await preflight(APP, { 'access-control-request-headers': wrong })).headers,
    );
  t.notOk('access-control-allow-headers' in (await preflight(APP)).headers);
});

t.test('a private network is opened by option alone', async (t) => {
  const ask = { 'access-control-request-private-network': 'true' };
  const closed = await corsChain(t, { origins: [APP] });
  t.notOk('access-control-allow-private-network' in (await closed.preflight(APP, ask)).headers);
  const open = await corsChain(t, { origins: [APP], privateNetwork: true });
  const response = await open.preflight(APP, ask);
  t.equal(response.headers['access-control-allow-private-network'], 'true');
  t.equal(response.headers.vary, 'Origin, Access-Control-Request-Private-Network');
  t.notOk('access-control-allow-private-network' in (await open.preflight(APP)).headers);
});

t.test('what is no preflight goes to the service', async (t) => {
  const { chain } = await corsChain(t, { origins: [APP] });
  await chain.inject({ method: 'OPTIONS', url: '/', headers: { origin: APP } });
  await chain.inject({ method: 'OPTIONS', url: '/', headers: { 'access-control-request-method': 'PUT' } });
  await chain.inject({ method: 'GET', url: '/', headers: { origin: APP, 'access-control-request-method': 'PUT' } });
  t.strictSame(
    chain.sent.map(({ method }) => method),
    ['OPTIONS', 'OPTIONS', 'GET'],
  );
});

t.test('answers of plugins are marked too, whichever stands first; a page may read why it was refused', async (t) => {
  for (const order of [0, 1]) {
    const chain = await testChain(
      [['cors', { origins: [APP] }] as const, ['mtls', { require: true }] as const].toSorted(() => (order ? -1 : 1)),
    );
    t.teardown(() => chain.close());
    const response = await chain.inject({ url: '/', headers: { origin: APP } });
    t.equal(response.statusCode, 403);
    t.equal(response.headers['access-control-allow-origin'], APP);
  }
});

t.test('preflights pass before the plugins behind it, not before those in front', async (t) => {
  const ahead = await testChain([
    ['cors', { origins: [APP] }],
    ['mtls', { require: true }],
  ]);
  const behind = await testChain([
    ['mtls', { require: true }],
    ['cors', { origins: [APP] }],
  ]);
  const preflight = {
    method: 'OPTIONS',
    url: '/',
    headers: { origin: APP, 'access-control-request-method': 'GET' },
  } as const;
  t.equal((await ahead.inject(preflight)).statusCode, 204);
  t.equal((await behind.inject(preflight)).statusCode, 403);
  await ahead.close();
  await behind.close();
});

t.test('the service need not be told the origin', async (t) => {
  const { chain, get } = await corsChain(t, { origins: [APP] }, {}, [['request-headers', { remove: ['origin'] }]]);
  t.equal((await get(APP)).headers['access-control-allow-origin'], APP);
  t.strictSame(sentValues(chain.sent[0], 'origin'), []);
});

t.test('what check refuses', async (t) => {
  for (const [options, message] of [
    [{}, /"origins" is missing/],
    [{ origins: [] }, /origins: must have at least one item/],
    [{ origins: ['*'], credentials: true }, /origins\[0\]: "\*" with "credentials" would let every page act/],
    [{ origins: [{ regex: '.*' }], credentials: true }, /origins\[0\]\.regex: lets every origin in/],
    [{ origins: [{ regex: 'https?://.+' }], credentials: true }, /origins\[0\]\.regex: lets every origin in/],
    [{ origins: ['https://*.com'], credentials: true }, /origins\[0\]: "https:\/\/\*\.com" lets anybody in/],
    [{ origins: [APP, '*'] }, /origins\[1\]: "\*" lets every origin in: leave the others out/],
    [{ origins: ['null'] }, /origins\[0\]: "null" is the origin of every sandboxed frame/],
    [{ origins: ['app.example.com'] }, /is not an origin/],
    [{ origins: ['https://app.example.com/'] }, /is not an origin/],
    [{ origins: ['https://App.example.com'] }, /is not an origin/],
    [{ origins: ['https://app.*.com'] }, /is not an origin/],
    [{ origins: ['https://*'] }, /is not an origin/],
    [{ origins: ['https://app.example.com:443'] }, /browsers leave the default port out/],
    [{ origins: [{ regex: '(' }] }, /origins\[0\]\.regex: is not a regular expression of RE2/],
    [{ origins: [{ regex: '(?=a)' }] }, /is not a regular expression of RE2/],
    [{ origins: [APP], methods: ['*'] }, /methods\[0\]: "\*" is not a method/],
    [{ origins: [APP], methods: ['patch'] }, /methods\[0\]: methods are case-sensitive: PATCH/],
    [{ origins: [APP], headers: ['a b'] }, /headers\[0\]: "a b" is not a header name/],
    [{ origins: [APP], headers: ['x-a', '*'] }, /headers: "\*" stands for all/],
    [{ origins: [APP], credentials: true, exposeHeaders: ['*'] }, /exposeHeaders: with "credentials" browsers take/],
    [{ origins: [APP], maxAge: '500ms' }, /maxAge: must be whole seconds/],
    [{ origin: APP }, /unknown key "origin" \(did you mean "origins"\?\)/],
  ] as const)
    await t.rejects(testChain([['cors', options]]), { message }, JSON.stringify(options));
});
