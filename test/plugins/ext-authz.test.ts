// ext-authz: what the authorization service is told, what its answer comes to, and what happens without one.
import t, { type Test } from 'tap';
import { type ChainOptions, type OwnSent, sentValues, type TestChain, testChain } from '../support/chain.ts';

type Answer = { status?: number; headers?: Record<string, string | string[]>; body?: string | Buffer };

async function chainOf(t: Test, options: Record<string, unknown> = {}, more: ChainOptions = {}) {
  const chain = await testChain([['ext-authz', { service: 'auth', ...options }]], more);
  t.teardown(() => chain.close());
  return chain;
}

const aborted: Error[] = [];
const CONTROLLER = { pause() {}, resume() {}, abort: (reason: Error) => void aborted.push(reason) };

function answer({ handler }: OwnSent, { status = 200, headers = {}, body = '' }: Answer = {}): void {
  const controller = CONTROLLER as never;
  handler.onRequestStart?.(controller, null);
  handler.onResponseStart?.(controller, status, headers);
  if (body.length > 0) handler.onResponseData?.(controller, Buffer.from(body));
  handler.onResponseEnd?.(controller, {});
}

/** Waits until the service has been asked so many times. */
async function asked(chain: TestChain, times: number): Promise<OwnSent> {
  for (let turns = 0; chain.own.length < times && turns < 1_000; turns += 1) await new Promise(setImmediate);
  return chain.own[times - 1];
}

async function through(chain: TestChain, request: Record<string, unknown>, reply: Answer = {}) {
  const before = chain.own.length;
  const response = chain.inject({ url: '/', ...request });
  const question = await asked(chain, before + 1);
  answer(question, reply);
  return { response: await response, question };
}

function told({ request }: OwnSent, name: string): string | undefined {
  const at = request.headers.findIndex((text, index) => index % 2 === 0 && text === name);
  return at < 0 ? undefined : request.headers[at + 1];
}

async function count(chain: TestChain, result: string): Promise<number> {
  const metric = await chain.registry.getSingleMetric('selvedge_ext_authz_total')?.get();
  return metric?.values.find(({ labels }) => labels.result === result)?.value ?? 0;
}

t.test('envoy: method, path, host and Authorization of the request, and what is allowed beside them', async (t) => {
  const chain = await chainOf(
    t,
    { pathPrefix: '/check', allowedHeaders: ['x-tenant', 'X-Plan-*'] },
    { exchange: { port: '8443', scheme: 'https' } },
  );
  const { response, question } = await through(chain, {
    method: 'DELETE',
    url: '/orders/1?full=1',
    headers: {
      authorization: 'Bearer a',
      cookie: 'session=1',
      'x-tenant': 'acme',
      'x-plan-name': 'gold',
      'x-other': '1',
      'x-forwarded-for': '6.6.6.6',
      'x-forwarded-method': 'GET',
      'x-forwarded-uri': '/harmless',
      traceparent: '00-1-2-01',
    },
  });
  t.equal(response.statusCode, 200);
  const { service, subset, request } = question;
  t.strictSame([service, subset, request.method, request.path], ['auth', null, 'DELETE', '/check/orders/1?full=1']);
  t.equal(request.timeoutMs, 200);
  const headers = Object.fromEntries(request.headers.flatMap((v, i, all) => (i % 2 === 0 ? [[v, all[i + 1]]] : [])));
  t.strictSame(headers, {
    host: 'shop.example.com:8443',
    'x-forwarded-for': '192.0.2.1',
    'x-forwarded-proto': 'https',
    'x-forwarded-host': 'shop.example.com:8443',
    'x-forwarded-method': 'DELETE',
    'x-forwarded-uri': '/orders/1?full=1',
    authorization: 'Bearer a',
    'x-tenant': 'acme',
    'x-plan-name': 'gold',
    traceparent: '00-1-2-01',
    'x-selvedge-ext-authz': 'auth',
  });
});

t.test(
  'forward-auth: a GET that says what is asked in X-Forwarded headers, with all that the client sent',
  async (t) => {
    const chain = await chainOf(t, { protocol: 'forward-auth', path: '/verify', host: 'login.example.com' });
    const { question } = await through(chain, {
      method: 'POST',
      url: '/orders?a=1',
      headers: {
        cookie: 'session=1',
        'x-any': 'thing',
        'content-type': 'application/grpc',
        'content-length': '0',
        'if-none-match': '"a"',
        range: 'bytes=0-1',
        'accept-encoding': 'gzip',
        'x-selvedge-peer': 'forged',
        'x-forwarded-uri': '/harmless',
        'x-original-url': '/harmless',
        'x-http-method-override': 'GET',
      },
    });
    t.strictSame([question.request.method, question.request.path], ['GET', '/verify']);
    t.equal(told(question, 'host'), 'login.example.com');
    t.equal(told(question, 'x-forwarded-method'), 'POST');
    t.equal(told(question, 'x-forwarded-uri'), '/orders?a=1');
    t.equal(told(question, 'cookie'), 'session=1');
    t.equal(told(question, 'x-any'), 'thing');
    for (const name of [
      'content-type',
      'content-length',
      'if-none-match',
      'range',
      'accept-encoding',
      'x-selvedge-peer',
    ])
      t.equal(told(question, name), undefined, name);
    for (const name of ['x-original-url', 'x-http-method-override']) t.equal(told(question, name), undefined, name);
  },
);

t.test('what a trusted proxy says of scheme and host counts, a stranger is not believed', async (t) => {
  const headers = { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'outside.example.com' };
  for (const trusted of [true, false]) {
    const chain = await chainOf(t, {}, { exchange: { trusted } });
    const { question } = await through(chain, { headers });
    t.equal(told(question, 'x-forwarded-proto'), trusted ? 'https' : 'http');
    t.equal(told(question, 'x-forwarded-host'), trusted ? 'outside.example.com' : 'shop.example.com');
  }
});

t.test('a yes takes the allowed headers to the service and to the client, and no others', async (t) => {
  const chain = await chainOf(t, {
    allowedUpstreamHeaders: ['X-User', 'authorization', 'x-absent'],
    allowedClientHeadersOnSuccess: ['set-cookie', 'x-quota-*'],
  });
  const { response } = await through(
    chain,
    { headers: { authorization: 'Bearer of-the-client', 'x-absent': 'forged' } },
    {
      headers: {
        'x-user': 'ann',
        authorization: 'Bearer inner',
        'set-cookie': ['a=1', 'b=2'],
        'x-quota-left': '3',
        'x-internal': 'secret',
        connection: 'x-quota-hop',
        'x-quota-hop': '1',
      },
    },
  );
  t.equal(response.statusCode, 200);
  t.strictSame(sentValues(chain.sent[0], 'x-user'), ['ann']);
  t.strictSame(sentValues(chain.sent[0], 'authorization'), ['Bearer inner']);
  t.strictSame(sentValues(chain.sent[0], 'x-absent'), [], 'what the service did not say nobody says');
  t.strictSame(response.headers['set-cookie'], ['a=1', 'b=2']);
  t.equal(response.headers['x-quota-left'], '3');
  t.notOk('x-internal' in response.headers || 'x-quota-hop' in response.headers || 'x-user' in response.headers);
  t.equal(await count(chain, 'allowed'), 1);
});

t.test('a no is the answer to the client: status, body and the headers that a refusal needs', async (t) => {
  const chain = await chainOf(t, { allowedClientHeaders: ['x-reason'] });
  const cases: { status: number; reason: string; headers: Record<string, string> }[] = [
    { status: 401, reason: 'unauthorized', headers: { 'www-authenticate': 'Bearer', 'content-type': 'text/plain' } },
    { status: 302, reason: 'unauthorized', headers: { location: 'https://login.example.com/?next=1' } },
    { status: 403, reason: 'forbidden', headers: { 'x-reason': 'plan', 'cache-control': 'private' } },
    { status: 404, reason: 'forbidden', headers: {} },
    { status: 429, reason: 'rate_limited', headers: { 'retry-after': '3' } },
  ];
  for (const { status, reason, headers } of cases) {
    const { response } = await through(
      chain,
      {},
      { status, headers: { ...headers, 'x-user': 'ann', 'set-cookie': 'a=1' }, body: 'because' },
    );
    t.equal(response.statusCode, status);
    t.equal(response.body, 'because');
    t.match(response.headers, headers);
    t.ok('cache-control' in response.headers, 'and nobody keeps it');
    t.notOk('x-user' in response.headers || 'set-cookie' in response.headers);
    const exchange = chain.exchanges[chain.exchanges.length - 1];
    t.strictSame([exchange.reason, exchange.because, exchange.decidedBy], [reason, 'ext_authz_denied', 'ext-authz']);
  }
  t.equal(chain.sent.length, 0, 'the service is not asked');
  t.equal(await count(chain, 'denied'), cases.length);
});

t.test('a no stays a no when its body is too large or breaks off, also where failures pass', async (t) => {
  const chain = await chainOf(t, { onFailure: 'allow' });
  const large = await through(
    chain,
    {},
    { status: 401, headers: { 'www-authenticate': 'Basic' }, body: 'x'.repeat(70_000) },
  );
  t.equal(large.response.statusCode, 401);
  t.equal(large.response.body, '');
  t.equal(large.response.headers['www-authenticate'], 'Basic');
  t.ok(aborted.length > 0, 'and nobody reads on');

  const response = chain.inject({ url: '/' });
  const { handler } = await asked(chain, 2);
  handler.onResponseStart?.(CONTROLLER as never, 403, { 'content-type': 'text/html' });
  handler.onResponseError?.(null, new Error('reset'));
  t.equal((await response).statusCode, 403);
  t.notOk('content-type' in (await response).headers);
  t.equal(chain.sent.length, 0);
});

t.test('what is neither yes nor no is a failure: 503, or through where the config says so', async (t) => {
  const failures: [string, string, (sent: OwnSent) => void][] = [
    ['500', 'status_500', (sent) => answer(sent, { status: 500 })],
    ['503', 'status_503', (sent) => answer(sent, { status: 503 })],
    ['304', 'invalid', (sent) => answer(sent, { status: 304 })],
    ['a refusal in gRPC', 'invalid', (sent) => answer(sent, { headers: { 'grpc-status': '7' } })],
    ['a gRPC answer', 'invalid', (sent) => answer(sent, { headers: { 'content-type': 'application/grpc' } })],
    ['refused', 'upstream_refused', ({ handler }) => fail(handler, 'SLV_UPSTREAM_REFUSED')],
    ['a pool that is full', 'pool_full', ({ handler }) => fail(handler, 'SLV_POOL_FULL')],
    ['a timeout of the stack', 'timeout', ({ handler }) => fail(handler, 'SLV_UPSTREAM_TIMEOUT')],
    ['garbage', 'upstream_invalid', ({ handler }) => fail(handler, 'SLV_UPSTREAM_INVALID')],
    ['another protocol', 'invalid', ({ handler }) => upgrade(handler)],
    ['something unheard of', 'failed', ({ handler }) => fail(handler, 'EWEIRD')],
  ];
  const fail = (handler: OwnSent['handler'], code: string) =>
    handler.onResponseError?.(null, Object.assign(new Error('no'), { code }));
  const upgrade = (handler: OwnSent['handler']) =>
    handler.onRequestUpgrade?.(CONTROLLER as never, 101, {}, { destroy() {} } as never);
  for (const onFailure of ['deny', 'allow']) {
    const chain = await chainOf(t, { onFailure, allowedUpstreamHeaders: ['x-user', 'authorization'] });
    for (const [index, [what, reason, happen]] of failures.entries()) {
      const response = chain.inject({ url: '/', headers: { authorization: 'Bearer a' } });
      happen(await asked(chain, index + 1));
      const { statusCode, body } = await response;
      t.equal(statusCode, onFailure === 'deny' ? 503 : 200, `${what}, ${onFailure}`);
      if (onFailure === 'deny') t.match(body, 'SLV_AUTH_UNAVAILABLE');
      t.equal(chain.exchanges[index].because, `ext_authz_${reason}`, what);
    }
    t.equal(await count(chain, onFailure === 'deny' ? 'failed_closed' : 'failed_open'), failures.length);
    t.equal(chain.sent.length, onFailure === 'deny' ? 0 : failures.length);
    for (const sent of chain.sent)
      t.strictSame(sentValues(sent, 'authorization'), [], 'nothing that a client could say for it');
  }
});

t.test('no answer in time is no answer, and the question ends', async (t) => {
  const chain = await chainOf(t, { timeout: '20ms' });
  const response = chain.inject({ url: '/' });
  const { handler } = await asked(chain, 1);
  const before = aborted.length;
  handler.onRequestStart?.(CONTROLLER as never, null);
  t.equal((await response).statusCode, 503);
  t.equal(aborted.length, before + 1);
  handler.onResponseStart?.(CONTROLLER as never, 200, {});
  t.equal(chain.sent.length, 0, 'a yes that comes later changes nothing');
});

t.test('the deadline of the request comes before the timeout', async (t) => {
  for (const onFailure of ['deny', 'allow']) {
    const exchange = { deadlineAt: performance.now() + 10 };
    const chain = await chainOf(t, { timeout: '60s', onFailure }, { exchange });
    const response = await chain.inject({ url: '/' });
    t.equal(response.statusCode, 504);
    t.match(response.body, 'SLV_DEADLINE_EXCEEDED');
  }
});

t.test('nobody is asked about a request without a route, nor on behalf of the question itself', async (t) => {
  const chain = await chainOf(t, {}, { role: 'inbound', owner: 'orders' });
  const { statusCode } = await chain.inject({ url: '/', headers: { 'x-selvedge-ext-authz': 'other, auth' } });
  t.equal(statusCode, 508);
  const { question } = await through(chain, { headers: { 'x-selvedge-ext-authz': 'other' } });
  t.equal(told(question, 'x-selvedge-ext-authz'), 'other, auth');

  const unrouted = await chainOf(t, {}, { exchange: { route: null } });
  t.equal((await unrouted.inject({ url: '/' })).statusCode, 200);
  t.equal(unrouted.own.length, 0);
  await t.rejects(chainOf(t, {}, { role: 'inbound', owner: 'auth' }), /about every question/);
});

t.test('a yes is remembered for those who would tell the service the same, and a no is not', async (t) => {
  const options = {
    allowedHeaders: ['x-tenant'],
    allowedUpstreamHeaders: ['x-user'],
    cache: { ttl: '1h', maxEntries: 2 },
  };
  const chain = await chainOf(t, options);
  const ann = { url: '/orders', headers: { authorization: 'Bearer ann', 'x-tenant': 'a', 'x-other': '1' } };
  await through(chain, ann, { headers: { 'x-user': 'ann' } });
  const again = await chain.inject({ ...ann, headers: { ...ann.headers, 'x-other': '2' } });
  t.equal(again.statusCode, 200);
  t.equal(chain.own.length, 1, 'not asked again');
  t.strictSame(sentValues(chain.sent[1], 'x-user'), ['ann']);
  t.equal(await count(chain, 'cached'), 1);

  const others: Record<string, unknown>[] = [
    { ...ann, headers: { ...ann.headers, authorization: 'Bearer bob' } },
    { ...ann, headers: { 'x-tenant': 'a' } },
    { ...ann, headers: { ...ann.headers, 'x-tenant': 'b' } },
    { ...ann, headers: { authorization: 'Bearer ann', 'x-tenant': ['a', 'b'] } },
    { ...ann, method: 'POST' },
    { ...ann, url: '/orders/1' },
    { ...ann, url: '/orders?all=1' },
  ];
  for (const other of others) {
    const { response } = await through(chain, other, { status: 403 });
    t.equal(response.statusCode, 403, JSON.stringify(other));
    const repeated = await through(chain, other, { status: 403 });
    t.equal(repeated.response.statusCode, 403, 'and asked again');
  }
  const before = chain.own.length;
  await through(chain, { ...ann, url: '/2' });
  await through(chain, { ...ann, url: '/3' });
  await through(chain, ann);
  t.equal(chain.own.length, before + 3, 'the oldest was forgotten');
});

t.test('an answer that is not to be kept is not, nor one with a cookie, nor a huge one', async (t) => {
  const chain = await chainOf(t, {
    allowedUpstreamHeaders: ['x-user'],
    allowedClientHeadersOnSuccess: ['set-cookie'],
    cache: { ttl: '1h' },
  });
  const answers: Answer[] = [
    { headers: { 'cache-control': 'no-store' } },
    { headers: { 'cache-control': 'private, No-Cache' } },
    { headers: { 'cache-control': 'max-age=0' } },
    { headers: { 'cache-control': 'max-age=60, max-age=0' } },
    { headers: { 'set-cookie': 'a=1' } },
    { headers: { 'x-user': 'x'.repeat(9_000) } },
  ];
  for (const reply of answers) {
    const before = chain.own.length;
    await through(chain, {}, reply);
    await through(chain, {}, reply);
    t.equal(chain.own.length, before + 2, JSON.stringify(reply).slice(0, 80));
  }
});

t.test(
  'those who ask the same at the same time ask once, and one who leaves takes nothing from the others',
  async (t) => {
    const chain = await chainOf(t, { cache: { ttl: '1h' }, timeout: '60s' });
    const gone = new AbortController();
    const leaving = chain.inject({ url: '/', signal: gone.signal }).catch(() => null);
    const staying = [chain.inject({ url: '/' }), chain.inject({ url: '/' })];
    const question = await asked(chain, 1);
    gone.abort();
    t.equal(await leaving, null);
    const before = aborted.length;
    answer(question);
    for (const { statusCode } of await Promise.all(staying)) t.equal(statusCode, 200);
    t.equal(chain.own.length, 1);
    t.equal(aborted.length, before);
  },
);

t.test('the body goes along whole, and on to the service as it came', async (t) => {
  const chain = await chainOf(t, { withBody: { maxBytes: '1KiB' } });
  const { response, question } = await through(chain, {
    method: 'POST',
    payload: '{"a":1}',
    headers: { 'content-type': 'application/json' },
  });
  t.equal(response.statusCode, 200);
  t.equal(String(question.request.body), '{"a":1}');
  t.equal(told(question, 'content-type'), 'application/json');

  const larger = await chain.inject({ method: 'POST', url: '/', payload: 'x'.repeat(1_025) });
  t.equal(larger.statusCode, 413);
  const { question: without } = await through(chain, { method: 'GET' });
  t.equal(without.request.body, null);
  t.equal(chain.own.length, 2);
});

t.test('options that cannot be meant are refused at their place', async (t) => {
  const wrong: [Record<string, unknown>, RegExp][] = [
    [{ timeout: '0s' }, /timeout: "0s" is not 1ms to 60s/],
    [{ timeout: '2m' }, /timeout/],
    [{ allowedUpstreamHeaders: ['x-user-*'] }, /allowedUpstreamHeaders\[0\]/],
    [
      { allowedUpstreamHeaders: ['x-ok', 'x-forwarded-for'] },
      /allowedUpstreamHeaders\[1\]: "x-forwarded-for" is needed/,
    ],
    [{ allowedUpstreamHeaders: ['host'] }, /"host"/],
    [{ allowedUpstreamHeaders: ['cookie'] }, /"cookie"/],
    [{ allowedHeaders: ['x-*-y'] }, /allowedHeaders\[0\].*end only/],
    [{ allowedHeaders: ['x y'] }, /header name/],
    [{ path: '/verify' }, /path: is for protocol forward-auth/],
    [{ protocol: 'forward-auth', pathPrefix: '/p' }, /pathPrefix: is for protocol envoy/],
    [{ pathPrefix: '/check/' }, /leave out the "\/"/],
    [{ protocol: 'forward-auth', path: '/a?b' }, /without query/],
    [{ withBody: { maxBytes: '2MiB' } }, /withBody.maxBytes: "2MiB" is not/],
    [{ withBody: {}, cache: { ttl: '1s' } }, /cache: cannot be together with withBody/],
    [{ cache: { ttl: '0s' } }, /cache.ttl/],
    [{ protocol: 'forward-auth', cache: { ttl: '1s' } }, /cache: needs allowedHeaders/],
    [{ onFailure: 'ignore' }, /onFailure/],
  ];
  for (const [options, expected] of wrong) await t.rejects(chainOf(t, options), expected, JSON.stringify(options));
});
