// rate-limit over real sockets: exact under concurrency, across connections and reloads, and what is under way ends with its client. With Redis, several gateways count as one.
import { Agent, request } from 'node:http';
import { connect } from 'node:net';
import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { createSelvedge } from '../../src/index.ts';
import { NO_REDIS, RedisServer } from '../support/redis-server.ts';
import { edgeTo, run } from './support/gateway.ts';
import { eventually, exchange, httpUpstream, RawClient, statusOf } from './support/sockets.ts';

const WHO = fileURLToPath(new URL('../plugins/support/who.ts', import.meta.url));

const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';

const limited = (port: number, options: object, more: Parameters<typeof edgeTo>[1] = {}) =>
  edgeTo([port], { route: { plugins: [{ 'rate-limit': options }] }, ...more });

const ok = (t: Test) => httpUpstream(t, (_req, res) => res.end('ok'));

/** Statuses of `times` requests over each of `connections` at once. */
async function storm(t: Test, port: number, connections: number, times: number): Promise<number[]> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  t.teardown(() => agent.destroy());
  const one = (): Promise<number> =>
    new Promise((resolve, reject) => {
      const sent = request({ host: '127.0.0.1', port, agent }, (res) => {
        res.resume();
        res.on('end', () => resolve(res.statusCode as number));
      });
      sent.on('error', reject);
      sent.end();
    });
  const loops = Array.from({ length: connections }, async () => {
    const statuses: number[] = [];
    for (let i = 0; i < times; i++) statuses.push(await one());
    return statuses;
  });
  return (await Promise.all(loops)).flat();
}

t.test('a client over its limit gets a problem with everything that it needs to know', async (t) => {
  const { port } = await ok(t);
  const edge = await run(t, limited(port, { max: 1, window: '1m', headers: 'both' }));
  const first = await exchange(t, edge.port, GET);
  t.equal(statusOf(first), 200);
  t.match(first, /ratelimit: "1-per-1m";r=0;t=60\r\n/i);
  const refused = await exchange(t, edge.port, GET);
  t.equal(statusOf(refused), 429);
  for (const part of [
    /retry-after: 60\r\n/i,
    /ratelimit-policy: "1-per-1m";q=1;w=60\r\n/i,
    /x-ratelimit-remaining: 0\r\n/i,
    /content-type: application\/problem\+json/i,
    /proxy-status: selvedge; error=http_request_denied/i,
    /"title":"Too many requests","status":429,"code":"SLV_RATE_LIMITED"/,
  ])
    t.match(refused, part);
});

for (const algorithm of ['fixed-window', 'token-bucket']) {
  t.test(`${algorithm}: 64 connections at once get exactly what is granted`, async (t) => {
    let reached = 0;
    const { port } = await httpUpstream(t, (_req, res) => {
      reached++;
      res.end('ok');
    });
    const edge = await run(t, limited(port, { max: 100, window: '1h', algorithm }));
    const statuses = await storm(t, edge.port, 64, 10);
    t.equal(statuses.filter((status) => status === 200).length, 100);
    t.equal(statuses.filter((status) => status === 429).length, 540);
    t.equal(reached, 100);
  });
}

t.test('a window ends', async (t) => {
  const { port } = await ok(t);
  const edge = await run(t, limited(port, { max: 1, window: '300ms' }));
  t.equal(statusOf(await exchange(t, edge.port, GET)), 200);
  t.equal(statusOf(await exchange(t, edge.port, GET)), 429);
  await new Promise((resolve) => setTimeout(resolve, 320));
  t.equal(statusOf(await exchange(t, edge.port, GET)), 200);
});

t.test('a reload that changes something else keeps the counts; routes with the same limit share them', async (t) => {
  const { port } = await ok(t);
  const edge = await run(t, limited(port, { max: 3, window: '1h' }));
  for (let i = 0; i < 2; i++) t.equal(statusOf(await exchange(t, edge.port, GET)), 200);
  const plugins = [{ 'rate-limit': { max: 3, window: '1h' } }];
  await edge.selvedge.reload(
    edgeTo([port], {
      routes: [
        { name: 'app', to: 'app', plugins, timeout: { request: '3s' } },
        { name: 'other', match: [{ path: '/other' }], to: 'app', plugins: ['request-id', ...plugins] },
      ],
    } as never) as never,
  );
  t.equal(statusOf(await exchange(t, edge.port, 'GET /other HTTP/1.1\r\nHost: a\r\n\r\n')), 200);
  t.equal(statusOf(await exchange(t, edge.port, GET)), 429);
  t.equal(statusOf(await exchange(t, edge.port, 'GET /other HTTP/1.1\r\nHost: a\r\n\r\n')), 429);
});

t.test('a limit of the gateway counts over all of its routes', async (t) => {
  const { port } = await ok(t);
  const edge = await run(
    t,
    edgeTo([port], {
      gateway: { plugins: [{ 'rate-limit': { max: 2, window: '1h' } }] },
      routes: [
        { name: 'app', to: 'app' },
        { name: 'b', match: [{ path: '/b' }], to: 'app', plugins: [{ 'response-headers': { set: { x: '1' } } }] },
        { name: 'free', match: [{ path: '/free' }], to: 'app', plugins: [{ 'rate-limit': false }] },
      ],
    } as never),
  );
  const get = async (path: string) => statusOf(await exchange(t, edge.port, `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`));
  t.strictSame(
    [await get('/'), await get('/b'), await get('/b'), await get('/'), await get('/free')],
    [200, 200, 429, 429, 200],
  );
});

t.test('behind a proxy that is trusted each client has its own count', async (t) => {
  const { port } = await ok(t);
  const options = { gateway: { clientAddress: { trustedProxies: ['127.0.0.1'] } } };
  const edge = await run(t, limited(port, { max: 1, window: '1h' }, options));
  const get = async (address: string) =>
    statusOf(await exchange(t, edge.port, `GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: ${address}\r\n\r\n`));
  t.strictSame(
    [await get('192.0.2.1'), await get('192.0.2.1'), await get('2001:db8::1'), await get('2001:db8::2')],
    [200, 429, 200, 429],
  );
});

t.test('a refused upload is answered at once, whatever of its body is still to come', async (t) => {
  const { port } = await ok(t);
  const edge = await run(t, limited(port, { max: 1, window: '1h' }));
  await exchange(t, edge.port, GET);
  const client = (await RawClient.open(t, edge.port)).send(
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc',
  );
  t.equal(statusOf(await client.until((text) => text.includes('SLV_RATE_LIMITED'))), 429);
});

t.test('gRPC clients are told RESOURCE_EXHAUSTED', async (t) => {
  const { port } = await ok(t);
  const edge = await run(t, limited(port, { max: 1, window: '1h' }));
  await exchange(t, edge.port, GET);
  const call = 'POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n';
  const answer = await exchange(t, edge.port, call);
  t.match(answer, /^HTTP\/1\.1 200 /);
  t.match(answer, /grpc-status: 8\r\n/i);
});

t.test('upgrades are limited like anything else', async (t) => {
  const { port } = await ok(t);
  const edge = await run(t, limited(port, { max: 1, window: '1h' }));
  await exchange(t, edge.port, GET);
  const upgrade = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
  t.equal(statusOf(await exchange(t, edge.port, upgrade)), 429);
});

t.test('what is under way is held until it is over, however it ends', async (t) => {
  const bodies: PassThrough[] = [];
  const { port, server } = await httpUpstream(t, (_req, res) => {
    const body = new PassThrough();
    bodies.push(body);
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    res.write('a');
    body.on('end', () => res.end());
    body.resume();
  });
  server.on('upgrade', (_req, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    socket.on('error', () => {});
    socket.on('end', () => socket.end()).resume();
  });
  const edge = await run(t, limited(port, { inFlight: 2 }));
  const busy = async () => statusOf(await exchange(t, edge.port, GET)) === 429;
  const free = async (what: string) => {
    for (let tries = 0; await busyFor(edge.port); tries++) if (tries > 200) throw new Error(`never free: ${what}`);
  };
  const stream = async () => {
    const client = (await RawClient.open(t, edge.port)).send(GET);
    await client.until((text) => text.includes('200 OK'));
    return client;
  };
  const [first, second] = [await stream(), await stream()];
  t.equal(await busy(), true);
  bodies[0].end();
  await free('an answer that ends');
  first.socket.destroy();
  const third = await stream();
  t.equal(await busy(), true);
  third.socket.destroy();
  await free('a client that leaves');
  const upgraded = connect(edge.port, '127.0.0.1');
  upgraded.on('error', () => {});
  upgraded.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  await new Promise((resolve) => upgraded.once('data', resolve));
  t.equal(await busy(), true, 'a connection that was upgraded counts while it is open');
  upgraded.destroy();
  await free('an upgraded connection');
  second.socket.destroy();
  await eventually(() => edge.selvedge.status.inFlight === 0, 'all is over');
  const rest = [await stream(), await stream()];
  t.equal(await busy(), true, 'exactly two again');
  for (const { socket } of rest) socket.destroy();

  /** Whether one more is refused; one that is not is ended at once. */
  async function busyFor(edgePort: number): Promise<boolean> {
    const client = (await RawClient.open(t, edgePort)).send(GET);
    const status = statusOf(await client.until((text) => /^HTTP\/1\.1 \d{3}/.test(text)));
    const before = edge.selvedge.status.inFlight;
    client.socket.destroy();
    if (status !== 429) await eventually(() => edge.selvedge.status.inFlight < before, 'the trial is over');
    return status === 429;
  }
});

t.test('a client that leaves while its claims are verified holds nothing', async (t) => {
  const { port } = await ok(t);
  const plugins = [WHO, { 'rate-limit': { inFlight: 1, key: { claim: 'realm.sub' } } }];
  const edge = await run(t, edgeTo([port], { route: { plugins } }));
  const slow = 'GET / HTTP/1.1\r\nHost: a\r\nX-User: ann\r\nX-Slow: 100\r\n\r\n';
  const client = (await RawClient.open(t, edge.port)).send(slow);
  await eventually(() => edge.selvedge.status.inFlight === 1, 'it waits');
  client.socket.destroy();
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.equal(statusOf(await exchange(t, edge.port, slow)), 200);
  t.equal(statusOf(await exchange(t, edge.port, slow)), 200);
});

t.test('what a client says of its own plan or cost is not believed', async (t) => {
  const seen: unknown[] = [];
  const { port } = await httpUpstream(t, (req, res) => {
    seen.push(req.headers['x-plan'], req.headers['x-cost']);
    res.end('ok');
  });
  const plans = { by: { header: 'x-plan' }, sizes: { gold: { max: 1_000 } } };
  const edge = await run(t, limited(port, { max: 2, window: '1h', plans, cost: { header: 'x-cost' } }));
  const statuses: number[] = [];
  for (const lie of [
    'X-Plan: gold',
    'x-plan: gold\r\nX-PLAN: gold',
    'x_plan: gold',
    'X-Cost: 0',
    'Connection: x-cost\r\nx-cost: 0',
  ]) {
    const answer = await exchange(t, edge.port, `GET / HTTP/1.1\r\nHost: a\r\n${lie}\r\n\r\n`);
    statuses.push(statusOf(answer));
    t.match(answer, /ratelimit-policy: "requests-per-1h";q=2;w=3600\r\n/i);
  }
  t.strictSame(statuses, [200, 200, 429, 429, 429]);
  t.strictSame(seen, [undefined, undefined, undefined, undefined], 'two of five, and the service hears no lie');
});

for (const shared of [false, true])
  t.test(
    `a service says what its answer cost, ${shared ? 'in Redis' : 'in memory'}`,
    { skip: shared && NO_REDIS },
    async (t) => {
      const { port } = await httpUpstream(t, (_req, res) => res.writeHead(200, { 'X-Query-Cost': '40' }).end('ok'));
      const options = shared ? { redis: { url: (await RedisServer.start(t)).url, timeout: '5s' } } : {};
      const limit = {
        max: 100,
        window: '1h',
        cost: { responseHeader: 'x-query-cost', max: 50 },
        ...(shared ? { shared } : {}),
      };
      const edge = await run(t, limited(port, limit, options));
      const left: (string | undefined)[] = [];
      for (let i = 0; i < 4; i++) left.push(/r=(\d+);/.exec(await exchange(t, edge.port, GET))?.[1]);
      t.strictSame(left, ['99', '59', '19', '0']);
      t.equal(statusOf(await exchange(t, edge.port, GET)), 429);
    },
  );

t.test('two gateways with one Redis grant exactly what one would', { skip: NO_REDIS }, async (t) => {
  const [{ port }, redis] = [await ok(t), await RedisServer.start(t)];
  const options = { redis: { url: redis.url, timeout: '5s' } };
  const limit = { max: 100, window: '1h', shared: true };
  const [one, two] = [await run(t, limited(port, limit, options)), await run(t, limited(port, limit, options))];
  const statuses = (await Promise.all([storm(t, one.port, 32, 8), storm(t, two.port, 32, 8)])).flat();
  t.equal(statuses.filter((status) => status === 200).length, 100);
  t.equal(statuses.filter((status) => status === 429).length, 412);
});

t.test(
  'never more under way than allowed, in one process or over two with one Redis',
  { skip: NO_REDIS },
  async (t) => {
    const redis = await RedisServer.start(t);
    let [now, most] = [0, 0];
    const { port } = await httpUpstream(t, (_req, res) => {
      most = Math.max(most, ++now);
      setTimeout(() => {
        now--;
        res.end('ok');
      }, 20);
    });
    const options = { redis: { url: redis.url, timeout: '5s' } };
    for (const shared of [false, true]) {
      const limit = { inFlight: 7, key: 'route', ...(shared ? { shared } : {}) };
      const edges = await Promise.all(
        Array.from({ length: shared ? 2 : 1 }, () => run(t, limited(port, limit, shared ? options : {}))),
      );
      most = 0;
      const asked = edges.map((edge) => storm(t, edge.port, 64 / edges.length, 10));
      const statuses = (await Promise.all(asked)).flat();
      t.equal(most, 7, shared ? 'two gateways' : 'one gateway');
      t.strictSame([...new Set(statuses)].sort(), [200, 429]);
    }
  },
);

t.test(
  'a gateway starts without its Redis, lets requests through meanwhile and then counts',
  { skip: NO_REDIS },
  async (t) => {
    const [{ port }, redis] = [await ok(t), await RedisServer.start(t)];
    await redis.stop();
    const edge = await run(t, limited(port, { max: 1, window: '1h', shared: true }, { redis: { url: redis.url } }));
    for (let i = 0; i < 3; i++) t.equal(statusOf(await exchange(t, edge.port, GET)), 200);
    await redis.start();
    for (let tries = 0; statusOf(await exchange(t, edge.port, GET)) !== 429; tries++) {
      if (tries > 200) throw new Error('it never counted');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  },
);

t.test('what the config says of Redis is checked', async (t) => {
  const shared = { max: 1, window: '1h', shared: true };
  for (const [options, config, message] of [
    [shared, {}, /shared: needs "redis: \{ url \}" at the top of the config/],
    [shared, { redis: { url: 'http://127.0.0.1' } }, /redis\.url: must be a redis:\/\/ or rediss:\/\/ URL/],
    [shared, { redis: { url: 'redis://127.0.0.1', timeout: '1h' } }, /redis\.timeout: must be 1ms to 10s/],
  ] as const)
    await t.rejects(
      createSelvedge({ config: limited(1, options, config as never), logger: false }).then((made) => made.start()),
      { message },
    );
});
