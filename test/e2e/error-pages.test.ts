// errorPages of a gateway over real sockets: by status and Accept, reloaded with their files, and never for what services say.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { loadConfig } from '../../src/config/load.ts';
import { formatProblem } from '../../src/config/problem.ts';
import { createSelvedge } from '../../src/index.ts';
import { exchange, httpUpstream, statusOf } from './support/sockets.ts';

const dir = mkdtempSync(join(tmpdir(), 'selvedge-pages-'));
t.teardown(() => rm(dir, { recursive: true }));

function config(pages: string, port = 1): string {
  const file = join(dir, 'selvedge.yaml');
  writeFileSync(
    file,
    `version: 1
admin: false
telemetry: { accessLog: false }
gateways:
  edge:
    listeners: [{ name: http, host: 127.0.0.1, port: 0, limits: { urlBytes: 100 } }]
    errorPages:
${pages}services: { app: { endpoints: ['127.0.0.1:${port}'] }, gone: { endpoints: ['127.0.0.1:1'] } }
routes:
  - { name: app, match: [{ path: /app }], to: app }
  - { name: gone, match: [{ path: /gone }], to: gone }
`,
  );
  return file;
}

const bodyOf = (response: string): string => response.slice(response.indexOf('\r\n\r\n') + 4);
const typeOf = (response: string): string | undefined => /^content-type: (.*?)\r$/im.exec(response)?.[1];

t.test('a browser gets the page, a program the problem; services say what they like', async (t) => {
  const { port } = await httpUpstream(t, (_req, res) => res.writeHead(404).end('their own'));
  const page = join(dir, '404.html');
  writeFileSync(page, '<h1>{{title}}</h1>');
  const pages = `      404: 404.html\n      4xx: { html: '<p>{{status}} {{code}} {{requestId}}', json: '{"e":"{{code}}"}' }\n      5xx: { json: '{"error":{"code":"{{code}}","id":"{{requestId}}"}}' }\n`;
  const selvedge = await createSelvedge({ config: config(pages, port), cwd: dir, logger: false });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  const { port: edge } = selvedge.addresses()['gateway/edge/http'];
  const ask = (line: string, accept = 'text/html,*/*;q=0.8', more = '') =>
    exchange(t, edge, `${line} HTTP/1.1\r\nHost: a\r\nAccept: ${accept}\r\n${more}Connection: close\r\n\r\n`);

  const missing = await ask('GET /nowhere');
  t.equal(statusOf(missing), 404);
  t.equal(typeOf(missing), 'text/html; charset=utf-8');
  t.equal(bodyOf(missing), '<h1>No route matches the request</h1>');
  t.match(missing, /^cache-control: no-store/im);
  const head = await ask('HEAD /nowhere');
  t.equal(typeOf(head), 'text/html; charset=utf-8');
  t.equal(bodyOf(head), '', 'HEAD has no body');
  t.match(head, /^content-length: 37\r/im);
  t.equal(typeOf(await ask('GET /nowhere', '*/*')), 'application/problem+json');
  t.match(bodyOf(await ask('GET /app')), /^9\r\ntheir own\r/);
  const gone = await ask('GET /gone');
  t.equal(statusOf(gone), 502);
  t.match(JSON.parse(bodyOf(gone)), { error: { code: 'SLV_UPSTREAM_REFUSED', id: /./ } });
  t.match(bodyOf(await ask('GET /gone', 'application/problem+json')), '"title"');
  const grpc = await ask('POST /nowhere', 'text/html', 'Content-Type: application/grpc\r\nContent-Length: 0\r\n');
  t.equal(statusOf(grpc), 200);
  t.equal(typeOf(grpc), 'application/grpc', 'gRPC has its own way to say it');

  // The listener itself refuses: what was parsed has an Accept, what was not has none.
  const long = await ask(`GET /${'x'.repeat(200)}`);
  t.equal(statusOf(long), 414);
  t.match(bodyOf(long), /^<p>414 SLV_URL_TOO_LONG [0-9a-f-]{36}$/);
  const broken = await exchange(t, edge, 'GET / HTTP/1.1\r\nHost : a\r\nAccept: text/html\r\n\r\n');
  t.equal(statusOf(broken), 400);
  t.equal(typeOf(broken), 'application/problem+json');

  writeFileSync(page, '<h1>new</h1>');
  t.ok((await selvedge.reload()).applied);
  t.equal(bodyOf(await ask('GET /nowhere')), '<h1>new</h1>');
  writeFileSync(page, '<h1>{{nobody}}</h1>');
  t.notOk((await selvedge.reload()).applied);
  t.equal(bodyOf(await ask('GET /nowhere')), '<h1>new</h1>', 'the old one stays');
});

t.test('what check says of them, and what is watched', async (t) => {
  writeFileSync(join(dir, 'big.html'), '<'.padEnd(256 * 1024 + 1, 'x'));
  writeFileSync(join(dir, 'fine.json'), '{"a":"{{title}}"}');
  for (const [pages, said] of [
    ['      404: nowhere.html\n', /errorPages.404: "nowhere.html" cannot be read/],
    ['      404: page.txt\n', /errorPages.404: "page.txt" says by its name neither .html nor .json/],
    ['      404: big.html\n', /errorPages.404: "big.html" is larger than 256 KiB/],
    ['      404: { html: "." }\n', /errorPages.404.html: "." is not a regular file/],
    ["      404: { html: '<p>{{x}}' }\n", /selvedge.yaml:8:20 gateways.edge.errorPages.404.html: {{x}} is not known/],
    ["      404: { json: '{' }\n", /errorPages.404.json: is no JSON/],
    ['      404: {}\n', /errorPages.404/],
    ['      200: fine.json\n', /must be a status such as 404, or 4xx or 5xx/],
    ['      6xx: fine.json\n', /must be a status such as 404, or 4xx or 5xx/],
  ] as const) {
    const { problems } = await loadConfig(config(pages), { cwd: dir });
    t.match(problems.map(formatProblem).join('\n'), said);
  }
  const { problems, files } = await loadConfig(config('      5xx: fine.json\n'), { cwd: dir });
  t.strictSame(problems.map(formatProblem), []);
  t.ok(files.includes(join(dir, 'fine.json')));
});
