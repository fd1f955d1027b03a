// A plain listener that sends everybody to https, over real sockets; and the same behind a load balancer that ends TLS.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { loadConfig } from '../../src/config/load.ts';
import { formatProblem } from '../../src/config/problem.ts';
import { TestCa } from '../support/tls-fixture.ts';
import { edgeTo, run } from './support/gateway.ts';
import { exchange, httpUpstream, RawClient, statusOf } from './support/sockets.ts';

function header(response: string, name: string): string | undefined {
  return new RegExp(`^${name}: (.*?)\r?$`, 'im').exec(response.slice(0, response.indexOf('\r\n\r\n')))?.[1];
}

t.test('every request on the listener is sent to the https one; hosts of nobody are not', async (t) => {
  const ca = new TestCa(t);
  const pair = ca.issue({ name: 'shop.test', altNames: ['DNS:shop.test'] });
  const { port } = await httpUpstream(t, (_req, res) => res.end('served'));
  const https = { name: 'https', host: '127.0.0.1', port: 0, tls: { certificates: [pair] } };
  const config = (routes: readonly object[]) =>
    edgeTo([port], {
      gateways: {
        edge: {
          listeners: [{ name: 'http', host: '127.0.0.1', port: 0, redirect: { scheme: 'https', port: 8443 } }, https],
          plugins: ['security-headers'],
        },
      },
      routes,
    } as never);
  const shop = { name: 'shop', hosts: ['shop.test', '*.shop.test'], to: 'app' };
  const { port: plain, selvedge } = await run(t, config([shop]));
  const ask = (line: string, headers = 'Host: shop.test\r\n', body = '') =>
    exchange(t, plain, `${line} HTTP/1.1\r\n${headers}Connection: close\r\n\r\n${body}`);

  const cases: [string, string, number, string?][] = [
    ['GET /a/../b?x=%0d%0aSet-Cookie:y', 'Host: shop.test\r\n', 301, 'https://shop.test:8443/b?x=%0d%0aSet-Cookie:y'],
    ['HEAD /', 'Host: SHOP.test.:8080\r\n', 301, 'https://shop.test:8443/'],
    ['POST /orders', 'Host: a.b.shop.test\r\nContent-Length: 0\r\n', 308, 'https://a.b.shop.test:8443/orders'],
    ['GET //evil.example/x', 'Host: shop.test\r\n', 301, 'https://shop.test:8443/evil.example/x'],
    ['GET /a%2Fb', 'Host: shop.test\r\n', 301, 'https://shop.test:8443/a%2Fb'],
    ['GET http://shop.test/abs', 'Host: shop.test\r\n', 301, 'https://shop.test:8443/abs'],
    ['GET /ws', 'Host: shop.test\r\nUpgrade: websocket\r\nConnection: upgrade\r\n', 301, 'https://shop.test:8443/ws'],
    ['GET /', 'Host: evil.example\r\n', 404],
    ['GET /', 'Host: xshop.test\r\n', 404],
    ['GET /', 'Host: a@evil.example\r\n', 400],
    ['GET /', 'Host: shop.test\r\nHost: evil.example\r\n', 400],
    ['GET http://evil.example/', 'Host: shop.test\r\n', 400],
    ['GET /a%00', 'Host: shop.test\r\n', 400],
  ];
  for (const [line, headers, status, location] of cases) {
    const response = await ask(line, headers);
    t.equal(statusOf(response), status, `${line} ${headers}`);
    t.equal(header(response, 'location'), location, line);
    t.equal(header(response, 'strict-transport-security'), undefined);
    t.equal(
      header(response, 'x-content-type-options'),
      status === 400 && headers.split('Host').length > 2 ? undefined : 'nosniff',
      'the chain applies',
    );
  }
  const old = await exchange(t, plain, 'GET / HTTP/1.0\r\n\r\n');
  t.equal(statusOf(old), 400, 'nobody knows which host');

  // A body that nobody reads does not hold up what follows.
  const client = await RawClient.open(t, plain);
  const first = await client
    .send('POST /x HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 4\r\n\r\nbody')
    .until('\r\n\r\n');
  t.equal(statusOf(first), 308);
  const second = (await client.send('GET /y HTTP/1.1\r\nHost: shop.test\r\n\r\n').until('/y\r\n')).slice(first.length);
  t.equal(statusOf(second), 301);

  await selvedge.close({ timeoutMs: 0 });
  const any = await run(t, config([{ name: 'any', to: 'app' }, shop]));
  const response = await exchange(t, any.port, 'GET /z HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n');
  t.equal(header(response, 'location'), 'https://[::1]:8443/z', 'a route without hosts takes any');
});

t.test('behind a load balancer: its word counts, and no one else’s', async (t) => {
  const seen: string[] = [];
  const { port } = await httpUpstream(t, (req, res) => {
    seen.push(`${req.url}`);
    res.end('served');
  });
  const gateway = {
    clientAddress: { trustedProxies: ['127.0.0.1'] },
    plugins: [{ 'https-redirect': { except: ['/healthz'] } }],
  };
  const { port: plain } = await run(t, edgeTo([port], { gateway }));
  const ask = (path: string, headers = '') =>
    exchange(t, plain, `GET ${path} HTTP/1.1\r\nHost: shop.test\r\n${headers}Connection: close\r\n\r\n`);
  t.equal(header(await ask('/a?b'), 'location'), 'https://shop.test/a?b');
  t.equal(statusOf(await ask('/healthz')), 200);
  const secure = await ask('/b', 'X-Forwarded-Proto: https\r\n');
  t.equal(statusOf(secure), 200);
  t.equal(header(secure, 'strict-transport-security'), 'max-age=31536000');
  t.strictSame(seen, ['/healthz', '/b']);
});

t.test('what check says of it', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-redirect-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const ca = new TestCa(t);
  const { cert, key } = ca.issue({ name: 'shop.test', altNames: ['DNS:shop.test'] });
  const tls = `tls: { certificates: [{ cert: ${cert}, key: ${key} }] }`;
  const problems = async (...listeners: string[]) => {
    const file = join(dir, 'selvedge.yaml');
    const list = listeners.map((listener) => `      - { ${listener} }\n`).join('');
    writeFileSync(
      file,
      `version: 1\ngateways:\n  edge:\n    listeners:\n${list}services: { app: { endpoints: ['127.0.0.1:1'] } }\nroutes: [{ name: app, to: app }]\n`,
    );
    const { problems, config } = await loadConfig(file, { cwd: dir });
    const said = problems.map(formatProblem).filter((line) => !line.includes('expires on'));
    return { said, redirect: config?.gateways[0].listeners[0].redirect };
  };
  const http = 'name: http, port: 8080, redirect: https';
  t.strictSame(await problems(http, `name: https, port: 8443, ${tls}`), { said: [], redirect: { port: 8443 } });
  t.strictSame(
    await problems(`name: http, port: 1, redirect: { port: 443, scheme: https }`, `name: s, port: 2, ${tls}`),
    {
      said: [],
      redirect: { port: 443 },
    },
  );
  t.match((await problems(http, 'name: plain, port: 81')).said, [
    /^selvedge.yaml:5:\d+ warning: gateways.edge.listeners\[0\].redirect: no listener of this gateway has "tls"/,
  ]);
  t.match((await problems(http)).said.join('\n'), /routes\[0\]: takes no request: every listener that serves it/);
  t.match((await problems(`${http}, ${tls}`)).said, [/redirect: this listener has "tls"/]);
  t.match((await problems(http, `name: https, port: 0, ${tls}`)).said, [
    /listeners\[0\].redirect: listener "https" takes any free port: say by "port" where clients reach it/,
  ]);
  t.match((await problems('name: http, port: 1, redirect: http')).said, [/redirect/]);
});
