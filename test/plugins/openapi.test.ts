// openapi: what a document describes passes, what it does not is refused, and no document or body can hold the process up.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pino } from 'pino';
import t from 'tap';
import type { DispatchOptions } from '../../src/plugin.ts';
import { OpenApiDocument } from '../../src/plugins/openapi/document.ts';
import { compileApi } from '../../src/plugins/openapi/operations.ts';
import { type ChainOptions, testChain } from '../support/chain.ts';

const dir = mkdtempSync(join(tmpdir(), 'selvedge-openapi-'));
t.teardown(() => rmSync(dir, { recursive: true }));

const PETS = `
openapi: 3.0.3
info: { title: Pets, version: '1' }
servers: [{ url: 'https://api.example.com/{v}', variables: { v: { default: v1 } } }]
paths:
  /pets:
    parameters: [{ $ref: '#/components/parameters/trace' }]
    get:
      parameters:
        - { name: limit, in: query, schema: { type: integer, minimum: 1, maximum: 100 } }
        - { name: tag, in: query, schema: { type: array, items: { type: string, enum: [a, b] }, maxItems: 2 } }
        - { name: ids, in: query, explode: false, schema: { type: array, items: { type: integer } } }
        - { name: pipe, in: query, style: pipeDelimited, explode: false, schema: { type: array, items: { type: boolean } } }
        - { name: filter, in: query, style: deepObject, schema: { type: object, properties: { age: { type: integer }, name: { type: string } }, additionalProperties: false } }
        - { name: range, in: query, schema: { type: object, properties: { from: { type: integer }, to: { type: integer } } } }
        - { name: json, in: query, content: { application/json: { schema: { type: object, required: [x] } } } }
        - { name: empty, in: query, allowEmptyValue: true, schema: { type: integer } }
        - { name: session, in: cookie, schema: { type: string, minLength: 3 } }
        - { name: X-List, in: header, schema: { type: array, items: { type: number } } }
        - { name: Authorization, in: header, required: true, schema: { type: string } }
      responses:
        '200': { description: ok, content: { application/json: { schema: { type: array, items: { $ref: '#/components/schemas/Pet' } } } } }
        4XX: { description: no, content: { application/problem+json: {} } }
    post:
      requestBody: { required: true, content: { application/json: { schema: { $ref: '#/components/schemas/Pet' } }, image/*: {} } }
      responses: { '201': { description: made } , default: { description: else } }
  /pets/{id}:
    get:
      parameters: [{ name: id, in: path, required: true, schema: { type: integer, format: int32 } }]
      responses: { '200': { description: ok } }
    delete: { parameters: [{ name: id, in: path, required: true, schema: { type: string, pattern: '^[a-z]+$' } }], responses: {} }
  /pets/mine: { get: { responses: {} } }
  /files/{name}.json: { get: { parameters: [{ name: name, in: path, required: true, schema: { type: string, maxLength: 3 } }], responses: {} } }
components:
  securitySchemes: { key: { type: apiKey, in: query, name: api_key } }
  parameters: { trace: { name: x-trace, in: header, schema: { type: string, format: uuid } } }
  schemas:
    Pet:
      type: object
      required: [id, name, password]
      additionalProperties: false
      properties:
        id: { type: integer, readOnly: true }
        name: { type: string, minLength: 1 }
        password: { type: string, writeOnly: true }
        nick: { type: string, nullable: true }
        weight: { type: number, minimum: 0, exclusiveMinimum: true }
        born: { type: string, format: date }
        tags: { type: array, uniqueItems: true, items: {} }
        mother: { nullable: true, allOf: [{ $ref: '#/components/schemas/Pet' }] }
        code: { type: string, pattern: '^(a+)+$' }
        default: { type: string }
`;
const file = join(dir, 'pets.yaml');
writeFileSync(file, PETS);

interface Asked extends ChainOptions {
  readonly method?: 'GET' | 'POST' | 'HEAD' | 'DELETE' | 'PUT';
  readonly headers?: Record<string, string>;
  readonly body?: string | Buffer;
  readonly chunked?: boolean;
}

async function ask(
  t: { teardown(end: () => unknown): unknown },
  options: Record<string, unknown>,
  url: string,
  asked: Asked = {},
) {
  const { method = 'GET', headers = {}, body, chunked = false, ...rest } = asked;
  const framed =
    body === undefined
      ? headers
      : chunked
        ? { 'transfer-encoding': 'chunked', ...headers }
        : { 'content-length': String(Buffer.byteLength(body)), ...headers };
  const dispatch = (): Partial<DispatchOptions> =>
    body === undefined
      ? {}
      : { body: Readable.from([Buffer.from(body)]), contentLength: chunked ? null : Buffer.byteLength(body) };
  const lines: string[] = [];
  const logger = pino({}, { write: (line: string) => void lines.push(line) });
  const chain = await testChain([['openapi', { document: file, ...options }]], { logger, ...rest, dispatch });
  t.teardown(() => chain.close());
  const response = await chain.inject({ method, url, headers: framed });
  const [sent] = chain.sent;
  return {
    status: response.statusCode,
    body: response.body,
    allow: response.headers.allow,
    because: chain.exchanges[0].because,
    sent: sent !== undefined,
    sentBody: Buffer.isBuffer(sent?.body) ? String(sent.body) : null,
    log: lines.join(''),
    counted: [
      ...(await chain.registry.metrics()).matchAll(
        /openapi_total\{owner="public",side="(\w+)",mode="(\w+)",result="(\w+)"\} 1/g,
      ),
    ].map(([, ...labels]) => labels.join(' ')),
  };
}

t.test('paths, bases and methods', async (t) => {
  for (const [method, url, expected] of [
    ['GET', '/v1/pets', { status: 200, counted: ['request enforce valid'] }],
    ['HEAD', '/v1/pets', { status: 200 }],
    ['GET', '/v1/pets/mine', { status: 200 }],
    ['GET', '/v1/pets/12', { status: 200 }],
    ['GET', '/v1/pets/x', { status: 400, because: 'openapi_parameter', sent: false }],
    ['GET', '/v1/pets/3000000000', { status: 400 }],
    ['GET', '/v1/pets/', { status: 404, because: 'openapi_unknown_path', sent: false }],
    ['GET', '/pets', { status: 404, counted: ['request enforce unknown_path'] }],
    ['GET', '/v10/pets', { status: 404 }],
    ['PUT', '/v1/pets', { status: 405, allow: 'GET, POST', because: 'openapi_unknown_method', sent: false }],
    ['GET', '/v1/files/ab%C3%A9.json', { status: 200 }],
    ['GET', '/v1/files/abcd.json', { status: 400 }],
    ['GET', '/v1/files/.json', { status: 404 }],
    ['DELETE', '/v1/pets/abc', { status: 200 }],
  ] as const)
    t.match(await ask(t, {}, url, { method }), expected, `${method} ${url}`);
  t.match(await ask(t, {}, '/x', { exchange: { path: '/v1/files/%FF.json' } }), { status: 400 }, 'no UTF-8');
  t.match(await ask(t, { basePath: '/api/' }, '/api/pets'), { status: 200 });
  t.match(await ask(t, { basePath: '/' }, '/pets'), { status: 200 });
  t.match(await ask(t, { unknownPaths: 'allow' }, '/other'), { status: 200, counted: [] });
  t.match(await ask(t, { unknownPaths: 'allow' }, '/v1/pets', { method: 'PUT' }), { status: 405 });
});

t.test('parameters by style', async (t) => {
  for (const [query, status] of [
    ['limit=1', 200],
    ['limit=0', 400],
    ['limit=1.5', 400],
    ['limit=0x10', 400],
    ['limit=1&limit=2', 400],
    ['limit=%ff', 400],
    ['tag=a&tag=b', 200],
    ['tag=c', 400],
    ['tag=a&tag=b&tag=a', 400],
    ['ids=1,2,3', 200],
    ['ids=1%2C2', 400],
    ['ids=1,x', 400],
    ['pipe=true%7Cfalse', 200],
    ['pipe=true%7C1', 400],
    ['filter[age]=3&filter[name]=x', 200],
    ['filter%5Bage%5D=x', 400],
    ['filter[other]=1', 400],
    ['filter[age]=1&filter[age]=2', 400],
    ['filter[__proto__]=1', 400],
    ['from=1&to=2', 200],
    ['from=x', 400],
    ['json=%7B%22x%22:1%7D', 200],
    ['json=%7B%7D', 400],
    ['json=%7B', 400],
    ['empty=', 200],
    ['empty=x', 400],
    ['unknown=1', 200],
  ] as const)
    t.equal((await ask(t, {}, `/v1/pets?${query}`)).status, status, query);
  for (const [headers, status] of [
    [{ cookie: 'session=abc' }, 200],
    [{ cookie: 'session=a' }, 400],
    [{ 'x-list': '1, 2.5' }, 200],
    [{ 'x-list': '1, x' }, 400],
    [{ 'x-trace': '6f1b2d3e-0000-4000-8000-000000000000' }, 200],
    [{ 'x-trace': 'nope' }, 400],
  ] as const)
    t.equal((await ask(t, {}, '/v1/pets', { headers: headers as never })).status, status, JSON.stringify(headers));
  const denied = { unknownQuery: 'deny' };
  t.equal((await ask(t, denied, '/v1/pets?other=1')).status, 400);
  t.equal((await ask(t, denied, '/v1/pets?limit=1&filter[age]=1&from=1&api_key=k')).status, 200);
});

t.test('request bodies', async (t) => {
  const json = { 'content-type': 'application/json; charset=utf-8' };
  const pet = (more: object = {}) => JSON.stringify({ name: 'Tom', password: 'x', ...more });
  for (const [body, status] of [
    [pet(), 200],
    [pet({ nick: null, mother: null, weight: 0.1, born: '2024-02-29', default: 'd' }), 200],
    [pet({ mother: { name: 'Mia', password: 'y', mother: { name: 'Z', password: 'z' } } }), 200],
    [pet({ mother: { name: 'Mia' } }), 400],
    [pet({ weight: 0 }), 400],
    [pet({ born: '2023-02-29' }), 400],
    [pet({ other: 1 }), 400],
    [
      pet({
        tags: [
          { a: 1, b: 2 },
          { b: 2, a: 1 },
        ],
      }),
      400,
    ],
    [pet({ tags: [1, '1', [1], { a: 1 }] }), 200],
    ['{"name":"Tom"}', 400],
    ['{"name":', 400],
    ['[]', 400],
  ] as const) {
    const got = await ask(t, {}, '/v1/pets', { method: 'POST', headers: json, body });
    t.equal(got.status, status, body);
    t.equal(got.sent, status === 200);
    if (status === 200) t.equal(got.sentBody, body, 'byte for byte');
    else t.match(got, { because: 'openapi_body', counted: ['request enforce body'] });
  }
  const post = (asked: Asked, options = {}) => ask(t, options, '/v1/pets', { method: 'POST', ...asked });
  t.match(await post({}), { status: 400, sent: false }, 'it is required');
  t.match(await post({ headers: { 'content-type': 'text/plain' }, body: 'x' }), { status: 415, sent: false });
  t.match(await post({ body: 'x' }), { status: 415 });
  t.match(
    await post({ headers: { 'content-type': 'image/png' }, body: 'x' }),
    { status: 200, sentBody: null },
    'it streams',
  );
  t.match(await post({ headers: { ...json, 'content-encoding': 'gzip' }, body: pet() }), { status: 415 });
  t.match(await post({ headers: json, body: pet() }, { maxBody: 10 }), { status: 413, sent: false });
  t.match(await post({ headers: json, body: pet(), chunked: true }, { maxBody: 10 }), { status: 413, sent: false });
  t.match(await post({ headers: json, body: pet(), chunked: true }), { status: 200 });
  t.match(await ask(t, {}, '/v1/pets', { headers: json, body: '{}' }), { status: 400 }, 'none is described');
});

t.test('mode shadow refuses nothing, and tells', async (t) => {
  const options = { mode: 'shadow' };
  const json = { 'content-type': 'application/json' };
  const bad = await ask(t, options, '/v1/pets?limit=secret-value');
  t.match(bad, { status: 200, because: null, counted: ['request shadow parameter'] });
  t.match(JSON.parse(bad.log), {
    operation: 'GET /pets',
    mode: 'shadow',
    mistakes: [{ in: 'query', name: 'limit', message: 'must be integer' }],
  });
  t.notMatch(bad.log, 'secret-value');
  t.match(await ask(t, options, '/nowhere'), { status: 200, counted: ['request shadow unknown_path'] });
  const body = { method: 'POST', headers: json, body: '{"name":""}' } as const;
  t.match(await ask(t, options, '/v1/pets', body), {
    status: 200,
    sentBody: '{"name":""}',
    counted: ['request shadow body'],
  });
  t.match(await ask(t, { ...options, maxBody: 5 }, '/v1/pets', body), {
    status: 200,
    counted: ['request shadow not_read'],
  });
  t.match(await ask(t, options, '/v1/pets', { ...body, chunked: true }), {
    status: 200,
    counted: ['request shadow not_read'],
  });
});

t.test('answers', async (t) => {
  const json = { 'content-type': 'application/json' };
  for (const [answer, result] of [
    [{ headers: json, body: '[{"id":1,"name":"Tom"}]' }, null],
    [{ headers: json, body: '[{"name":"Tom"}]' }, 'body'],
    [{ headers: json, body: '[' }, 'not_json'],
    [{ headers: { 'content-type': 'text/html' }, body: '<p>' }, 'media_type'],
    [{ status: 500, headers: json, body: '{}' }, 'unknown_status'],
    [{ status: 404, headers: { 'content-type': 'application/problem+json' }, body: '{}' }, null],
    [{ headers: { ...json, 'content-encoding': 'br' }, body: '[]' }, 'compressed'],
    [{ headers: json, body: `[${' '.repeat(100)}]` }, 'too_large'],
  ] as const) {
    const options = { maxBody: 50 };
    const status = 'status' in answer ? answer.status : 200;
    const enforced = await ask(t, { ...options, responses: 'enforce' }, '/v1/pets', { answer: () => answer });
    if (result === null)
      t.match(enforced, { status, body: answer.body, counted: ['request enforce valid', 'response enforce valid'] });
    else
      t.match(enforced, {
        status: 502,
        because: `openapi_response_${result}`,
        counted: ['request enforce valid', `response enforce ${result}`],
      });
    const logged = await ask(t, { ...options, responses: 'log' }, '/v1/pets', { answer: () => answer });
    t.match(logged, { status, body: answer.body, because: null });
    if (result !== null) t.match(logged.counted, ['request enforce valid', `response shadow ${result}`]);
    t.match(await ask(t, options, '/v1/pets', { answer: () => answer }), {
      status,
      counted: ['request enforce valid'],
    });
  }
  const made = { status: 201, headers: json, body: '{"any":1}' };
  const post = { method: 'POST', headers: json, body: '{"name":"a","password":"b"}', answer: () => made } as const;
  t.match(
    await ask(t, { responses: 'enforce' }, '/v1/pets', post),
    { status: 201, body: '{"any":1}' },
    'no content is described',
  );
});

// With an engine that backtracks, or items that are compared each with every other, these would take hours.
t.test('nothing that a client sends makes a check slow', async (t) => {
  const json = { 'content-type': 'application/json' };
  const evil = JSON.stringify({ name: 'a', password: 'b', code: `${'a'.repeat(50_000)}!` });
  t.match(await ask(t, {}, '/v1/pets', { method: 'POST', headers: json, body: evil }), { status: 400 });
  const many = `{"name":"a","password":"b","tags":[${'{},'.repeat(100_000)}{}]}`;
  t.match(await ask(t, {}, '/v1/pets', { method: 'POST', headers: json, body: many }), { status: 400 });
  const deep = `${'{"name":"a","password":"b","mother":'.repeat(20_000)}null${'}'.repeat(20_000)}`;
  const { status } = await ask(t, {}, '/v1/pets', { method: 'POST', headers: json, body: deep });
  t.ok([200, 400].includes(status));
});

t.test('OpenAPI 3.1 and JSON', (t) => {
  const api = compileApi(
    new OpenApiDocument(
      JSON.stringify({
        openapi: '3.1.0',
        paths: {
          '/x': {
            post: {
              requestBody: {
                content: {
                  'application/json': {
                    schema: {
                      type: ['object', 'null'],
                      properties: { n: { exclusiveMinimum: 1, $ref: '#/$defs/small' } },
                      unevaluatedProperties: false,
                    },
                  },
                },
              },
            },
          },
        },
        $defs: { small: { maximum: 5, description: 'a' } },
      }),
    ),
    { responses: false },
  );
  const validate = api.paths.find('/x')?.value.get('POST')?.body?.content.get('application/json');
  t.equal(validate?.(null), null);
  t.equal(validate?.({ n: 2 }), null);
  t.match(validate?.({ n: 1 }), { pointer: '/n' });
  t.match(validate?.({ n: 6 }), { pointer: '/n' });
  t.match(validate?.({ m: 6 }), { message: /unevaluated/ });
  t.strictSame(api.bases, ['']);
  t.end();
});

t.test('documents that cannot be used are said at their place', async (t) => {
  const head = 'openapi: 3.0.0\n';
  for (const [text, message] of [
    ['{', /openapi.document: ".*bad.yaml": .*JSON/],
    ['a: [', /openapi.document: /],
    ['- 1', /it is not an object/],
    ['swagger: "2.0"\npaths: {}', /\/openapi: "openapi" must be 3\.0\.x or 3\.1\.x/],
    [head, /\/paths: "paths" is missing/],
    [`${head}paths: { /a: { $ref: 'other.yaml' } }`, /\/paths\/~1a: "other.yaml" leads out of the document/],
    [`${head}paths: { /a: { $ref: '#/nowhere' } }`, /"#\/nowhere" leads nowhere/],
    [
      `${head}paths: { /a: { get: { parameters: [{ name: q, in: query, schema: { type: string, pattern: '(?=a)' } }] } } }`,
      /\/paths\/~1a\/get\/parameters\/0\/schema: the pattern "\(\?=a\)" cannot run in linear time/,
    ],
    [
      `${head}paths: { /a: { get: { parameters: [{ name: q, in: path, style: matrix, schema: {} }] } } }`,
      /the style "matrix" is not supported in path/,
    ],
    [`${head}paths: { /a: { get: { parameters: [{ name: q, in: query }] } } }`, /needs a "schema"/],
    [
      `${head}paths: { /a: { post: { requestBody: { content: { application/json: { schema: { type: strong } } } } } } }`,
      /\/paths\/~1a\/post\/requestBody\/content\/application~1json\/schema: /,
    ],
    [`${head}paths: { '/{a}-{b}': {} }`, /at most one \{parameter\} in a segment/],
    [`${head}paths: { /a: { $ref: '#/x' } }\nx: { $ref: '#/x' }`, /references go round in circles/],
  ] as const) {
    const document = join(dir, 'bad.yaml');
    writeFileSync(document, text);
    await t.rejects(testChain([['openapi', { document }]]), { message });
  }
  await t.rejects(testChain([['openapi', { document: join(dir, 'none.yaml') }]]), { message: /ENOENT/ });
  await t.rejects(testChain([['openapi', { document: file, maxBody: '1GiB' }]]), {
    message: /openapi.maxBody: must be whole bytes/,
  });
});
