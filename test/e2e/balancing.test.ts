// Sticky sessions, consistent hashing, health checks and what hops tell each other, over real sockets.
import { createServer } from 'node:http';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { type ConfigInput, createSelvedge } from '../../src/index.ts';
import { edgeTo, run } from './support/gateway.ts';
import { freePort } from './support/ports.ts';
import { closedPort, eventually, httpUpstream } from './support/sockets.ts';

/** Each says who it is. */
async function named(t: Test, ...names: string[]): Promise<number[]> {
  const made = names.map((name) =>
    httpUpstream(t, (req, res) => {
      res.setHeader('x-app', name);
      res.end(JSON.stringify(req.headers));
    }),
  );
  return (await Promise.all(made)).map(({ port }) => port);
}

async function ask(url: string, headers: Record<string, string> = {}) {
  const response = await fetch(url, { headers });
  const text = await response.text();
  const cookie = response.headers.get('set-cookie');
  return { status: response.status, app: response.headers.get('x-app'), cookie, text, json: () => JSON.parse(text) };
}

t.test('a session cookie leads back to the endpoint that set it', async (t) => {
  const ports = await named(t, 'a', 'b', 'c');
  const session = { cookie: 'slv', maxAge: '1h', secret: 'a secret of 32 characters, or so' };
  const config = (which: readonly number[]): ConfigInput => edgeTo(which, { route: { session } });
  const edge = await run(t, config(ports));
  const first = await ask(edge.url);
  t.match(first.cookie, /^slv=[\w-]{22}; Path=\/; Max-Age=3600; HttpOnly; SameSite=Lax$/);
  const [pair] = first.cookie!.split(';');
  for (let n = 0; n < 8; n++) {
    const again = await ask(edge.url, { cookie: `theme=dark; ${pair}` });
    t.equal(again.app, first.app);
    t.equal(again.cookie, null, 'and is not set again');
  }

  t.test('also in another process with the same secret and the endpoints in another order', async (t) => {
    const other = await run(t, config(ports.toReversed()));
    t.equal((await ask(other.url, { cookie: pair })).app, first.app);
  });

  t.test('a client whose endpoint is gone gets another one, and a new cookie', async (t) => {
    const left = ports.filter((_, index) => ['a', 'b', 'c'][index] !== first.app);
    const other = await run(t, config(left));
    const moved = await ask(other.url, { cookie: pair });
    t.equal(moved.status, 200);
    t.not(moved.app, first.app);
    t.match(moved.cookie, /^slv=/);
  });

  t.test('a made-up cookie leads nowhere in particular, and is replaced', async (t) => {
    const forged = await ask(edge.url, { cookie: `slv=${Buffer.from(`127.0.0.1:${ports[0]}`).toString('base64url')}` });
    t.match(forged.cookie, /^slv=[\w-]{22};/);
    const other = await run(
      t,
      edgeTo(ports, { route: { session: { ...session, secret: 'another secret, long enough' } } }),
    );
    t.match((await ask(other.url, { cookie: pair })).cookie, /^slv=/, 'as is one of another secret');
  });
});

t.test('a session by header, and consistent hashing by header, keep equal values together', async (t) => {
  const ports = await named(t, 'a', 'b', 'c');
  for (const [what, overrides] of [
    ['session', { route: { session: { header: 'x-user' } } }],
    ['ring-hash', { service: { loadBalancing: { 'ring-hash': { header: 'x-user' } } } }],
    ['maglev', { service: { loadBalancing: { maglev: { cookie: 'user' } } } }],
    ['maglev by query', { service: { loadBalancing: { maglev: { query: 'user' } } } }],
  ] as const) {
    const edge = await run(t, edgeTo(ports, overrides));
    const seen = new Set<string | null>();
    // The chance that one of three gets nobody is one in a few million.
    for (let user = 0; user < 40; user++) {
      const send = () => ask(`${edge.url}/?user=${user}`, { 'x-user': `u${user}`, cookie: `user=${user}` });
      const { app } = await send();
      seen.add(app);
      for (let n = 0; n < 3; n++) t.equal((await send()).app, app, `${what}: user ${user}`);
    }
    t.equal(seen.size, 3, `${what}: every endpoint has its users`);
  }
});

t.test('an endpoint that refuses is left after five failures, and the log says what was tried', async (t) => {
  const [port] = await named(t, 'a');
  const lines: string[] = [];
  const dead = await closedPort();
  const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) });
  const selvedge = await createSelvedge({
    config: edgeTo([dead, port], { service: { loadBalancing: 'round-robin' } }),
    logger,
  });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  const url = `http://127.0.0.1:${selvedge.addresses()['gateway/edge/http'].port}/`;
  for (let n = 0; n < 14; n++) t.equal((await ask(url)).status, 200);
  const metrics = await selvedge.registry.metrics();
  t.match(
    metrics,
    new RegExp(`selvedge_ejections_total{service="app",endpoint="127.0.0.1:${dead}",cause="consecutive_failures"} 1`),
  );
  t.match(metrics, new RegExp(`selvedge_endpoint_healthy{service="app",endpoint="127.0.0.1:${dead}"} 0`));
  t.match(metrics, new RegExp(`selvedge_endpoint_healthy{service="app",endpoint="127.0.0.1:${port}"} 1`));
  t.match(metrics, /selvedge_retries_total{service="app",reason="upstream_refused",result="retried"} 5/);
  t.match(
    metrics,
    new RegExp(
      `selvedge_upstream_attempts_total{service="app",endpoint="127.0.0.1:${dead}",outcome="upstream_refused"} 5`,
    ),
  );
  t.ok(lines.some((line) => JSON.parse(line).msg === 'endpoint ejected'));
});

t.test('health checks', async (t) => {
  t.test('their first result precedes readiness, and an endpoint that is down gets nothing', async (t) => {
    let release = (): void => {};
    const asked = new Promise<void>((resolve) => {
      release = resolve;
    });
    const paths: string[] = [];
    const { port: slow } = await httpUpstream(t, (req, res) => {
      if (req.url === '/healthz') void asked.then(() => res.end('fine'));
      else {
        paths.push(req.url as string);
        res.setHeader('x-app', 'slow').end();
      }
    });
    const { port: bad } = await httpUpstream(t, (req, res) => {
      if (req.url !== '/healthz') paths.push(`bad ${req.url}`);
      res.writeHead(req.url === '/healthz' ? 500 : 200).end();
    });
    const admin = { host: '127.0.0.1', port: 0 };
    const healthCheck = { http: { path: '/healthz' }, interval: '10s', timeout: '9s' };
    const edge = await run(t, edgeTo([slow, bad], { admin, service: { healthCheck } }));
    const adminUrl = `http://127.0.0.1:${edge.selvedge.adminAddress()!.port}`;
    const ready = async () =>
      (await fetch(`${adminUrl}/readyz`)).json() as Promise<{ status: string; reasons: string[] }>;
    t.same((await ready()).reasons, ['service "app" has not been checked yet']);
    release();
    while ((await ready()).status !== 'ready') await new Promise((resolve) => setTimeout(resolve, 5));
    for (let n = 0; n < 6; n++) t.equal((await ask(edge.url)).app, 'slow');
    t.notOk(paths.some((path) => path.startsWith('bad')));
    const { endpoints } = (await (await fetch(`${adminUrl}/endpoints`)).json()) as { endpoints: { health: string }[] };
    t.same(
      endpoints.map(({ health }) => health),
      ['healthy', 'unhealthy'],
    );
  });

  t.test('with every endpoint down the answer is 503 at once', async (t) => {
    const { port } = await httpUpstream(t, (_req, res) => res.writeHead(500).end());
    const edge = await run(t, edgeTo([port], { service: { healthCheck: { http: {}, interval: '10s' } } }));
    let answer = await ask(edge.url);
    for (let n = 0; n < 100 && answer.status !== 503; n++) answer = await ask(edge.url);
    t.equal(answer.status, 503);
    t.match(answer.text, /SLV_NO_ENDPOINT/);
  });
});

t.test('a request waits for the only instance while it restarts', async (t) => {
  const port = await freePort();
  const edge = await run(t, edgeTo([port], { service: { connections: { waitForEndpoint: '10s' } } }));
  const waiting = [ask(edge.url), ask(edge.url), ask(edge.url)];
  await new Promise((resolve) => setTimeout(resolve, 150));
  const server = createServer((_req, res) => res.setHeader('x-app', 'back').end());
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  t.same(
    (await Promise.all(waiting)).map(({ status, app }) => [status, app]),
    [
      [200, 'back'],
      [200, 'back'],
      [200, 'back'],
    ],
  );
});

t.test('between hops', async (t) => {
  const seen: Record<string, string>[] = [];
  let calls = 0;
  const { port: app } = await httpUpstream(t, (req, res) => {
    calls += 1;
    seen.push(req.headers as Record<string, string>);
    res.writeHead(req.url === '/503' ? 503 : 200).end();
  });
  const inbound = await freePort();
  const edge = await run(t, {
    version: 1,
    admin: false,
    telemetry: { accessLog: false },
    mesh: { mtls: 'off' },
    gateways: { edge: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] } },
    services: {
      orders: {
        endpoints: [{ address: `127.0.0.1:${app}`, hop: `127.0.0.1:${inbound}` }],
        internal: { inbound: { host: '127.0.0.1', port: inbound } },
        outlierDetection: false,
      },
    },
    routes: [
      { name: 'orders', to: 'orders', timeout: { request: '3s' }, retry: { attempts: 2, on: ['gateway-error'] } },
    ],
  });

  t.test('the deadline travels and shrinks, for gRPC in its own header too', async (t) => {
    await ask(edge.url, { 'grpc-timeout': '10S' });
    const { 'x-selvedge-timeout-ms': left, 'grpc-timeout': grpc } = seen.at(-1)!;
    t.ok(Number(left) > 1_000 && Number(left) <= 3_000, `${left} ms are left`);
    t.match(grpc, /^\d+m$/);
    t.ok(Number(grpc.slice(0, -1)) <= 3_000, grpc);
  });

  t.test('only the outermost retries', async (t) => {
    calls = 0;
    const { status } = await ask(`${edge.url}/503`);
    t.equal(status, 503);
    t.equal(calls, 3, 'one try and two retries, not nine');
  });
});

t.test('over connections.requests the answer comes at once', async (t) => {
  const held: (() => void)[] = [];
  const { port } = await httpUpstream(t, (_req, res) => void held.push(() => res.end()));
  const edge = await run(t, edgeTo([port], { service: { connections: { requests: 2 } } }));
  const under = [ask(edge.url), ask(edge.url)];
  await eventually(() => held.length === 2, 'two are under way');
  const third = await fetch(edge.url);
  t.equal(third.status, 503);
  t.equal(third.headers.get('retry-after'), '1');
  t.match(await third.text(), /SLV_REQUEST_LIMIT/);
  for (const finish of held) finish();
  t.same(
    (await Promise.all(under)).map(({ status }) => status),
    [200, 200],
  );
});
