// What a gateway says at the edge over real sockets: preflights and marked answers, careful headers, and 503 while it has too much to do.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { RequestListener } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { createSelvedge } from '../../src/index.ts';
import { TestCa } from '../support/tls-fixture.ts';
import { edgeTo, run } from './support/gateway.ts';
import { eventually, exchange, httpUpstream, RawClient, statusOf } from './support/sockets.ts';

const APP = 'https://app.example.com';
const CORS = { cors: { origins: [APP, 'https://*.partner.example'], credentials: true } };

/** Values of a header in a raw response, in order. */
function values(response: string, name: string): string[] {
  const head = response.slice(0, response.indexOf('\r\n\r\n'));
  return [...head.matchAll(new RegExp(`^${name}: (.*)$`, 'gim'))].map(([, value]) => value.trim());
}

async function edge(t: Test, plugins: readonly unknown[], listener: RequestListener, overrides: object = {}) {
  const { port } = await httpUpstream(t, listener);
  return run(t, edgeTo([port], { gateway: { plugins }, ...overrides }));
}

t.test('a preflight is answered though its route takes no OPTIONS, and its connection goes on', async (t) => {
  const seen: string[] = [];
  const { port } = await edge(
    t,
    [CORS],
    (req, res) => {
      seen.push(`${req.method}`);
      res.setHeader('access-control-allow-origin', '*').setHeader('vary', 'accept-encoding').end('put');
    },
    { route: { match: [{ path: '/orders', methods: ['PUT'] }] } },
  );
  const client = await RawClient.open(t, port);
  const preflight = `OPTIONS /orders HTTP/1.1\r\nHost: a\r\nOrigin: ${APP}\r\nAccess-Control-Request-Method: PUT\r\nContent-Length: 4\r\n\r\nbody`;
  const first = await client.send(preflight).until('\r\n\r\n');
  t.equal(statusOf(first), 204);
  t.strictSame(values(first, 'access-control-allow-origin'), [APP]);
  t.strictSame(values(first, 'access-control-allow-credentials'), ['true']);
  t.strictSame(values(first, 'vary'), ['Origin']);
  t.strictSame(values(first, 'content-length'), []);
  t.strictSame(seen, []);

  const put = `PUT /orders HTTP/1.1\r\nHost: a\r\nOrigin: https://a.partner.example\r\nContent-Length: 0\r\n\r\n`;
  const second = (await client.send(put).until('\r\n\r\nput')).slice(first.length);
  t.equal(statusOf(second), 200);
  t.strictSame(values(second, 'access-control-allow-origin'), ['https://a.partner.example']);
  t.strictSame(values(second, 'vary'), ['accept-encoding, Origin']);
  t.strictSame(seen, ['PUT']);
});

t.test(
  'a stranger gets no mark, in preflights and in answers; a page may read the errors of the gateway',
  async (t) => {
    const routed = { 'response-headers': { set: { 'x-routed': 'yes' } } };
    const { port } = await edge(
      t,
      [CORS, routed],
      (_req, res) => res.setHeader('access-control-allow-origin', '*').end(),
      {
        route: { match: [{ path: '/orders' }] },
      },
    );
    const ask = (line: string, origin: string) =>
      exchange(
        t,
        port,
        `${line} HTTP/1.1\r\nHost: a\r\nOrigin: ${origin}\r\nAccess-Control-Request-Method: PUT\r\n\r\n`,
      );
    for (const line of ['OPTIONS /orders', 'GET /orders']) {
      const response = await ask(line, 'https://evil.example');
      t.equal(statusOf(response), line.startsWith('GET') ? 200 : 403);
      t.strictSame(values(response, 'access-control-allow-origin'), []);
      t.strictSame(values(response, 'vary'), ['Origin']);
    }
    t.strictSame(values(await ask('GET /orders', APP), 'x-routed'), ['yes']);
    const missing = await ask('GET /nowhere', APP);
    t.strictSame(values(missing, 'x-routed'), ['yes'], 'response-headers of the gateway too');
    t.equal(statusOf(missing), 404);
    t.strictSame(values(missing, 'access-control-allow-origin'), [APP]);
  },
);

t.test('an upgrade passes both plugins', async (t) => {
  const { port, server } = await httpUpstream(t, (_req, res) => res.end());
  server.on('upgrade', (_req, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello');
    socket.on('error', () => undefined).on('end', () => socket.end());
  });
  const running = await run(t, edgeTo([port], { gateway: { plugins: [CORS, 'security-headers'] } }));
  const client = await RawClient.open(t, running.port);
  const upgrade = `GET / HTTP/1.1\r\nHost: a\r\nOrigin: ${APP}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`;
  t.equal(statusOf(await client.send(upgrade).until('hello')), 101);
});

t.test('careful headers are on answers of the service, errors and redirects; HSTS over https alone', async (t) => {
  const ca = new TestCa(t);
  const { cert, key } = ca.issue({ name: 'shop.test', altNames: ['DNS:shop.test'] });
  const { port } = await httpUpstream(t, (_req, res) => res.setHeader('server', 'nginx').end('ok'));
  const { selvedge } = await run(
    t,
    edgeTo([port], {
      gateways: {
        edge: {
          listeners: [
            { name: 'http', host: '127.0.0.1', port: 0 },
            { name: 'https', host: '127.0.0.1', port: 0, tls: { certificates: [{ cert, key }] } },
          ],
          plugins: ['security-headers'],
        },
      },
      routes: [
        { name: 'app', match: [{ path: '/app' }], to: 'app' },
        { name: 'old', match: [{ path: '/old' }], redirect: { path: '/app' } },
      ],
    } as never),
  );
  const plain = selvedge.addresses()['gateway/edge/http'].port;
  const secure = selvedge.addresses()['gateway/edge/https'].port;
  const overTls = (path: string): Promise<Record<string, unknown>> =>
    new Promise((resolve, reject) => {
      const options = { host: '127.0.0.1', port: secure, path, servername: 'shop.test', ca: readFileSync(ca.cert) };
      httpsRequest({ ...options, headers: { host: 'shop.test' }, agent: false }, (response) => {
        response.resume().on('end', () => resolve({ status: response.statusCode, ...response.headers }));
      })
        .on('error', reject)
        .end();
    });
  const usual = {
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'SAMEORIGIN',
    'content-security-policy': "frame-ancestors 'self'",
    'referrer-policy': 'strict-origin-when-cross-origin',
    server: undefined,
  };
  for (const [path, status] of [
    ['/app', 200],
    ['/old', 301],
    ['/nowhere', 404],
  ] as const) {
    t.match(await overTls(path), { status, ...usual, 'strict-transport-security': 'max-age=31536000' });
    const response = await exchange(t, plain, `GET ${path} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n`);
    t.equal(statusOf(response), status);
    t.strictSame(values(response, 'x-content-type-options'), ['nosniff']);
    t.strictSame(values(response, 'strict-transport-security'), []);
  }
});

/** Keeps the event loop from turning in time until the returned function is called. */
function beBusy(): () => void {
  let busy = true;
  const work = (): void => {
    if (!busy) return;
    const until = performance.now() + 120;
    while (performance.now() < until);
    setImmediate(work);
  };
  work();
  return () => {
    busy = false;
  };
}

t.test(
  'every gateway sheds while its process has too much to do, and serves again; the admin server always does',
  async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'selvedge-shed-'));
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    const log = join(dir, 'access.log');
    const { port } = await httpUpstream(t, (_req, res) => res.end('ok'));
    const limits = { maxEventLoopDelay: '50ms', retryAfter: '3s' };
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    const before = timers();
    const selvedge = await createSelvedge({
      logger: false,
      config: {
        ...edgeTo([port]),
        admin: { host: '127.0.0.1', port: 0 },
        gateways: {
          edge: {
            listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }],
            plugins: [{ 'load-shedding': limits }, { 'access-log': { destination: log } }],
          },
        },
        routes: [
          { name: 'app', to: 'app' },
          {
            name: 'late',
            match: [{ path: '/late' }],
            plugins: [{ 'load-shedding': { ...limits, priority: 'low' } }],
            to: 'app',
          },
          { name: 'always', match: [{ path: '/always' }], plugins: [{ 'load-shedding': false }], to: 'app' },
        ],
      } as never,
    });
    await selvedge.start();
    const edgePort = selvedge.addresses()['gateway/edge/http'].port;
    const get = (path: string) => exchange(t, edgePort, `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    const admin = (path: string) => fetch(`http://127.0.0.1:${selvedge.adminAddress()?.port}${path}`);
    t.equal(statusOf(await get('/')), 200);

    const rest = beBusy();
    let shed = '';
    for (const giveUpAt = performance.now() + 20_000; statusOf(shed) !== 503 && performance.now() < giveUpAt; )
      shed = await get('/');
    t.equal(statusOf(shed), 503);
    t.strictSame(values(shed, 'retry-after'), ['3']);
    t.match(shed, '"code":"SLV_OVERLOADED"');
    t.equal(statusOf(await get('/late')), 503);
    t.equal(statusOf(await get('/always')), 200, 'switched off for this route');
    for (const path of ['/livez', '/readyz']) t.equal((await admin(path)).status, 200, path);
    const metrics = await (await admin('/metrics')).text();
    t.match(metrics, /selvedge_shed_total\{owner="edge",route="app",priority="normal",reason="event_loop_delay"\} \d+/);
    t.match(metrics, /selvedge_shed_total\{owner="edge",route="late",priority="low",reason="event_loop_delay"\} 1/);
    t.match(metrics, /selvedge_requests_total\{[^}]*route="late"[^}]*code="503",reason="overloaded"\} 1/);
    t.match(metrics, /selvedge_event_loop_delay_seconds 0\.\d+/);
    rest();

    let served = '';
    for (const giveUpAt = performance.now() + 10_000; statusOf(served) !== 200 && performance.now() < giveUpAt; ) {
      served = await get('/');
      await new Promise((next) => setTimeout(next, 50));
    }
    t.equal(statusOf(served), 200, 'as soon as it has caught up');
    await selvedge.close({ timeoutMs: 0 });
    t.match(readFileSync(log, 'utf8'), /"status":503,"reason":"overloaded","route":"late"/);
    await eventually(() => timers() <= before, 'no timer is left of it');
  },
);

t.test('a calm gateway with the defaults sheds nothing', async (t) => {
  const { port } = await edge(t, [], (_req, res) => res.end('ok'));
  const statuses = new Set<number>();
  for (const until = performance.now() + 1_500; performance.now() < until; )
    statuses.add(statusOf(await exchange(t, port, 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')));
  t.strictSame([...statuses], [200]);
});
