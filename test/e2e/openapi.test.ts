// openapi over real sockets, from a config file: the document beside it, what clients are told, and an edit of the document.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { loadConfig } from '../../src/config/load.ts';
import { createSelvedge } from '../../src/index.ts';
import { exchange, httpUpstream, statusOf } from './support/sockets.ts';

const api = (limit: number) => `
openapi: 3.0.0
info: { title: Orders, version: '1' }
paths:
  /orders:
    post:
      parameters: [{ name: limit, in: query, schema: { type: integer, maximum: ${limit} } }]
      requestBody:
        content: { application/json: { schema: { type: object, required: [item], properties: { item: { type: string, maxLength: 5 } } } } }
      responses: { '200': { description: ok } }
`;

t.test('what a client is told, what a service sees, and a document that changes', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-openapi-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const seen: string[] = [];
  const { port } = await httpUpstream(t, (req, res) => {
    let body = '';
    req.on('data', (chunk) => {
      body += chunk;
    });
    req.on('end', () => {
      seen.push(`${req.headers['content-length']} ${body}`);
      res.end('served');
    });
  });
  writeFileSync(join(dir, 'api.yaml'), api(10));
  const config = join(dir, 'selvedge.yaml');
  writeFileSync(
    config,
    `version: 1
admin: false
telemetry: { accessLog: false }
gateways: { edge: { listeners: [{ name: http, host: 127.0.0.1, port: 0 }] } }
services: { app: { endpoints: ['127.0.0.1:${port}'] } }
routes:
  - { name: app, plugins: [openapi: { document: api.yaml }], to: app }
`,
  );
  const loaded = await loadConfig(config, { cwd: dir });
  t.strictSame(loaded.problems, []);
  t.ok(loaded.files.includes(join(dir, 'api.yaml')), 'the document is watched');
  const selvedge = await createSelvedge({ config, cwd: dir, logger: false });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  const { port: edge } = selvedge.addresses()['gateway/edge/http'];
  const post = (target: string, body: string) =>
    exchange(
      t,
      edge,
      `POST ${target} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
    );
  const problem = (response: string) => JSON.parse(response.slice(response.indexOf('\r\n\r\n') + 4));

  t.equal(statusOf(await post('/orders?limit=3', '{"item":"a"}')), 200);
  t.strictSame(seen, ['12 {"item":"a"}']);
  const wrong = await post('/orders?limit=11', '{"item":"a"}');
  t.equal(statusOf(wrong), 400);
  t.match(problem(wrong), {
    code: 'SLV_REQUEST_INVALID',
    errors: [{ in: 'query', name: 'limit', message: 'must be <= 10' }],
    requestId: /./,
  });
  const body = problem(await post('/orders', '{"item":"<script>"}'));
  t.strictSame(body.errors, [{ in: 'body', pointer: '/item', message: 'must NOT have more than 5 characters' }]);
  t.equal(problem(await post('/nowhere', '{}')).code, 'SLV_OPERATION_NOT_FOUND');
  const method = await exchange(t, edge, 'GET /orders HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
  t.equal(statusOf(method), 405);
  t.match(method, /^allow: POST\r/im);
  t.equal(seen.length, 1);

  writeFileSync(join(dir, 'api.yaml'), api(20));
  t.ok((await selvedge.reload()).applied);
  t.equal(statusOf(await post('/orders?limit=11', '{"item":"a"}')), 200, 'the chain is another one');
  writeFileSync(join(dir, 'api.yaml'), 'openapi: 3.0.0');
  const refused = await selvedge.reload();
  t.notOk(refused.applied);
  t.match(refused.problems, [{ message: /"paths" is missing/ }]);
  t.equal(statusOf(await post('/orders?limit=11', '{"item":"a"}')), 200, 'the old one stays in force');
});
