// transform: headers by templates, JSON bodies by rules, and what is refused rather than guessed.
import { Readable } from 'node:stream';
import t from 'tap';
import type { DispatchOptions } from '../../src/plugin.ts';
import { type ChainOptions, sentValues, testChain } from '../support/chain.ts';

type Ends = { teardown(end: () => unknown): unknown };

interface Asked extends ChainOptions {
  readonly method?: 'GET' | 'POST' | 'HEAD';
  readonly url?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Buffer;
}

async function ask(
  t: Ends,
  options: Record<string, unknown>,
  { method = 'POST', url = '/', headers = { 'content-type': 'application/json' }, body, ...rest }: Asked = {},
) {
  const dispatch = (): Partial<DispatchOptions> =>
    body === undefined ? {} : { body: Readable.from([Buffer.from(body)]), contentLength: Buffer.byteLength(body) };
  const chain = await testChain([['transform', options]], { ...rest, dispatch });
  t.teardown(() => chain.close());
  const response = await chain.inject({ method, url, headers });
  const [sent] = chain.sent;
  const counted = [
    ...(await chain.registry.metrics()).matchAll(
      /transformed_bodies_total\{owner="public",side="(\w+)",result="(\w+)"\} 1/g,
    ),
  ];
  return {
    status: response.statusCode,
    headers: response.headers,
    body: response.body,
    because: chain.exchanges[0].because,
    counted: counted.map(([, side, result]) => `${side} ${result}`).join(),
    sent,
    sentBody: sent?.body === undefined ? undefined : String(sent.body),
  };
}

t.test('request headers are filled from facts; without its fact a header is removed', async (t) => {
  const set = {
    'x-who': '{{claims.sub}}',
    'x-roles': '{{claims.realm.roles}}',
    'x-dotted': '{{claims.https://a.b/c}}',
    'x-line': '{{method}} {{scheme}}://{{host}}{{path}} from {{clientAddress}} ({{requestId}}, {{route}})',
    'x-query': '{{query.q}}',
    'x-cookie': '{{cookie.c}}',
    'x-copy': 'a{{header.X-Given}}b{{header.x-absent}}',
    'x-forged': '{{claims.nobody}}',
    'x-proto': '{{claims.__proto__}}',
  };
  const { sent } = await ask(
    t,
    { request: { headers: { set, remove: ['x-given'] } } },
    {
      method: 'GET',
      url: '/p?q=a%0d%0ax-evil:%20%C3%A9%20',
      headers: { 'x-given': 'G', cookie: 'c=1', 'x-forged': 'me', 'x-proto': 'me' },
      user: { sub: 'alice\r\nx-evil: 1', realm: { roles: ['a', 'b'] }, 'https://a.b/c': 7 },
    },
  );
  const got = (name: string): string => sentValues(sent, name).join();
  t.equal(got('x-who'), 'alice%0D%0Ax-evil: 1', 'no line break in a header');
  t.equal(got('x-roles'), '["a","b"]');
  t.equal(got('x-dotted'), '7');
  t.equal(got('x-line'), 'GET http://shop.example.com/p from 192.0.2.1 (id-1, orders)');
  t.equal(got('x-query'), 'a%0D%0Ax-evil: %C3%A9');
  t.equal(got('x-cookie'), '1');
  t.equal(got('x-copy'), 'aGb');
  t.strictSame(sentValues(sent, 'x-forged'), [], 'what the client says under that name is gone');
  t.strictSame(sentValues(sent, 'x-proto'), []);
  t.strictSame(sentValues(sent, 'x-given'), [], 'taken out, and still a fact');
});

t.test('a request body: remove, rename, set, wrap, with its length', async (t) => {
  const body = {
    remove: ['/password', 'items.*.secret', '/list/0', '/none/at/all'],
    rename: { '/a': 'b', 'items.*.id': 'key' },
    set: {
      '/tenant': '{{header.x-tenant}}',
      '/deep/er/x': { by: 'for {{claims.sub}}', n: 1, list: ['{{path}}'] },
      '/missing': '{{claims.none}}',
      '/roles': '{{claims.roles}}',
      '/items/*/seen': true,
      '/list/-': 9,
      '/a~1b': 1,
    },
    wrap: 'data',
  };
  const given =
    '{"password":"x","a":1,"items":[{"id":1,"secret":2},{"id":3}],"list":[1,2],"big":12345678901234567890,"f":1.10}';
  const { sent, sentBody, counted } = await ask(
    t,
    { request: { body } },
    {
      body: given,
      headers: {
        'content-type': 'application/merge-patch+json; charset=utf-8',
        'x-tenant': 'acme',
        'content-digest': 'sha-256=:x:',
      },
      user: { sub: 'al', roles: ['r'] },
    },
  );
  t.equal(
    sentBody,
    '{"data":{"items":[{"key":1,"seen":true},{"key":3,"seen":true}],"list":[2,9],"big":12345678901234567890,"f":1.10,"b":1,"tenant":"acme","deep":{"er":{"x":{"by":"for al","n":1,"list":["/"]}}},"roles":["r"],"a/b":1}}',
  );
  t.equal(sent.contentLength, Buffer.byteLength(sentBody as string));
  t.strictSame(sentValues(sent, 'content-digest'), []);
  t.equal(counted, 'request changed');
});

t.test('no path leads to a prototype', async (t) => {
  const set = { '/__proto__/polluted': 1, 'constructor.prototype.polluted': 1 };
  const { sentBody } = await ask(
    t,
    { request: { body: { set, rename: { '/x': '__proto__' } } } },
    { body: '{"x":{"y":1},"__proto__":{"z":2}}' },
  );
  t.equal(({} as { polluted?: unknown }).polluted, undefined);
  t.strictSame(Object.keys(JSON.parse(sentBody as string)).sort(), ['__proto__', 'constructor']);
});

t.test('request bodies that cannot be changed never reach the service', async (t) => {
  const options = { request: { body: { remove: ['/a'] } }, maxBody: 20 };
  for (const [asked, status, because] of [
    [{ body: '{"a":' }, 400, 'transform_not_json'],
    [{ body: Buffer.from([0x22, 0xff, 0x22]) }, 400, 'transform_not_json'],
    [{ body: `{"a":"${'x'.repeat(30)}"}` }, 413, null],
    [
      { body: '{}', headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' } },
      415,
      'transform_compressed',
    ],
  ] as const) {
    const answer = await ask(t, options, asked);
    t.match(answer, { status, because, sent: undefined });
  }
  const deep = await ask(t, { ...options, maxBody: '1MiB' }, { body: '['.repeat(200_000) + ']'.repeat(200_000) });
  t.match(deep, { sent: undefined });
  t.ok([400, 413].includes(deep.status), `nested too deeply: ${deep.status}`);
  const grown = await ask(
    t,
    { request: { body: { set: { '/*/x': 'y'.repeat(100) } } }, maxBody: 150 },
    { body: '[{},{}]' },
  );
  t.match(grown, { status: 413, because: 'transform_not_changed', sent: undefined });
  const chunked = await testChain([['transform', options]], {
    dispatch: () => ({ body: Readable.from([Buffer.alloc(15, 0x20), Buffer.alloc(15, 0x20)]), contentLength: null }),
  });
  t.teardown(() => chunked.close());
  t.equal(
    (await chunked.inject({ method: 'POST', url: '/', headers: { 'content-type': 'application/json' } })).statusCode,
    413,
  );
});

t.test('other types, and no body at all, pass as they are', async (t) => {
  const options = { request: { body: { remove: ['/a'] } } };
  const text = await ask(t, options, { body: '{"a":1}', headers: { 'content-type': 'text/plain' } });
  t.type(text.sent.body, Readable);
  t.match(await ask(t, options, { method: 'GET', headers: {} }), { status: 200, counted: '' });
  t.match(await ask(t, options, { body: '' }), { status: 200, sentBody: '' });
});

t.test('answers: body and headers are changed, what is no longer true is gone', async (t) => {
  const options = {
    response: {
      headers: { set: { 'x-status': '{{status}} {{path}}', server: 'edge' }, remove: ['x-powered-by'] },
      body: { remove: ['/secret'], set: { '/status': '{{status}}' } },
    },
  };
  const headers = {
    'content-type': 'application/json',
    'content-length': '24',
    etag: '"1"',
    'x-powered-by': 'php',
    server: 'nginx',
    'set-cookie': ['a=1', 'b=2'],
  };
  const answer = () => ({ status: 201, headers, body: '{"secret":1,"n":1e400}' });
  const got = await ask(t, options, {
    method: 'GET',
    headers: { range: 'bytes=0-1', 'accept-encoding': 'gzip' },
    answer,
  });
  t.equal(got.body, '{"n":1e400,"status":201}');
  t.match(got.headers, { 'content-length': '24', 'x-status': '201 /', server: 'edge', 'set-cookie': ['a=1', 'b=2'] });
  t.equal(got.headers.etag, undefined);
  t.equal(got.headers['x-powered-by'], undefined);
  t.strictSame(sentValues(got.sent, 'accept-encoding'), ['identity']);
  t.strictSame(sentValues(got.sent, 'range'), []);
  t.equal(got.counted, 'response changed');
  t.match(
    await ask(t, options, { method: 'GET', answer: () => ({ headers: { 'content-type': 'text/html' }, body: '<p>' }) }),
    { body: '<p>', counted: '' },
  );
  const head = await ask(t, options, { method: 'HEAD', answer: () => ({ headers, body: '' }) });
  t.equal(head.headers.etag, undefined);
});

t.test('answers that cannot be changed: 502, or as they are where that is asked for', async (t) => {
  const json = { 'content-type': 'application/json' };
  for (const [what, answer] of [
    ['not_json', { headers: json, body: '{' }],
    ['compressed', { headers: { ...json, 'content-encoding': 'gzip' }, body: '{}' }],
    ['partial', { status: 206, headers: json, body: '{}' }],
    ['too_large', { headers: json, body: `"${'x'.repeat(40)}"` }],
    ['too_large', { headers: { ...json, 'content-length': '42' }, body: `"${'x'.repeat(40)}"` }],
    ['not_changed', { headers: json, body: '{ "l": [{},{},{},{},{}] }' }],
  ] as const) {
    const options = { response: { body: { set: { '/l/*/x': 'twenty bytes of text' } } }, maxBody: 30 };
    const failed = await ask(t, options, { method: 'GET', answer: () => answer });
    t.match(failed, { status: 502, because: `transform_${what}`, counted: `response ${what}` });
    t.notMatch(failed.body, 'xxx');
    const passed = await ask(t, { ...options, unreadable: 'pass' }, { method: 'GET', answer: () => answer });
    t.match(passed, { status: 'status' in answer ? answer.status : 200, body: answer.body, because: null });
  }
});

t.test('what a config may not say', async (t) => {
  for (const [options, message] of [
    [{}, /transform: does nothing/],
    [{ request: { headers: { set: { host: 'a' } } } }, /request.headers.set.host: "host" is set by Selvedge/],
    [{ request: { headers: { set: { 'Content-Length': '1' } } } }, /"content-length" belongs to the connection/],
    [
      { response: { headers: { remove: ['Transfer-Encoding'] } } },
      /response.headers.remove\[0\]: "transfer-encoding" belongs/,
    ],
    [{ request: { headers: { set: { 'X-Selvedge-Attempt': '1' } } } }, /is Selvedge's own to say/],
    [{ request: { headers: { set: { 'x-forwarded-for': '1' } } } }, /is Selvedge's own to say/],
    [{ request: { headers: { set: { 'x-a': 'a\r\nb' } } } }, /no line breaks/],
    [{ request: { headers: { set: { 'x-a': '{{status}}' } } } }, /{{status}} is not known: there are method/],
    [{ request: { headers: { set: { 'x-a': '{{constructor}}' } } } }, /{{constructor}} is not known/],
    [{ request: { body: { set: { '/a': ['{{header.}}'] } } } }, /request.body.set.\/a\[0\]: {{header.}} is not known/],
    [{ request: { body: { remove: [''] } } }, /request.body.remove\[0\]: "" names no field/],
    [{ request: { body: { remove: ['/a~2'] } } }, /is no JSON pointer/],
    [{ request: { body: { remove: ['a..b'] } } }, /names no field/],
    [{ request: { body: { remove: ['a'] } }, maxBody: '1GiB' }, /maxBody: must be whole bytes/],
  ] as const)
    await t.rejects(testChain([['transform', options as Record<string, unknown>]]), { message });
});
