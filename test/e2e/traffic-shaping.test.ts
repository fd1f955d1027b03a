// Plugins for services that fail, between real clients and real services: fault, mirror, circuit-breaker.
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { request, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import { createSelvedge } from '../../src/index.ts';
import { edgeTo, run } from './support/gateway.ts';
import { closedPort, eventually, exchange, httpUpstream, RawClient, rawUpstream, statusOf } from './support/sockets.ts';

const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';

const post = (body: string): string => `POST /in HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

/** The service `app`, and `next` beside it that gets copies. */
function mirrored(app: number, next: number | string, target: Record<string, unknown> = {}) {
  return edgeTo([app], {
    services: {
      app: { endpoints: [`127.0.0.1:${app}`] },
      next: { endpoints: [typeof next === 'string' ? next : `127.0.0.1:${next}`] },
    },
    route: { plugins: [{ mirror: { to: [{ service: 'next', ...target }] } }] },
  });
}

interface Seen {
  readonly method: string;
  readonly body: string;
  readonly headers: Record<string, unknown>;
}

/** A service that reads whatever it gets and answers `ok`. */
async function reading(t: Test, answer: (response: ServerResponse) => void = (response) => response.end('ok')) {
  const seen: Seen[] = [];
  const { port } = await httpUpstream(t, (req, res) => {
    const chunks: Buffer[] = [];
    req.on('data', (chunk) => chunks.push(chunk));
    req.on('end', () => {
      seen.push({ method: req.method as string, body: Buffer.concat(chunks).toString(), headers: { ...req.headers } });
      answer(res);
    });
  });
  return { port, seen };
}

t.test('a fault is answered as a problem that says what it is', async (t) => {
  const { port, seen } = await reading(t);
  const edge = await run(t, edgeTo([port], { route: { plugins: [{ fault: { abort: { status: 429 } } }] } }));
  const response = await exchange(t, edge.port, GET);
  t.equal(statusOf(response), 429);
  t.match(response, /proxy-status: selvedge; error=proxy_internal_response/i);
  t.match(response, /"code":"SLV_FAULT_INJECTED"/);
  t.equal(seen.length, 0);
});

t.test('a delay ends with its client, upgrade or not', async (t) => {
  const { port, seen } = await reading(t);
  const edge = await run(t, edgeTo([port], { route: { plugins: [{ fault: { delay: { time: '1h' } } }] } }));
  const upgrade = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
  for (const head of [GET, upgrade]) {
    const client = (await RawClient.open(t, edge.port)).send(head);
    await eventually(() => edge.selvedge.status.inFlight === 1, 'it waits');
    client.socket.destroy();
    await eventually(() => edge.selvedge.status.inFlight === 0, 'it is over');
  }
  t.equal(seen.length, 0);
});

t.test('a delayed request goes on with its body', async (t) => {
  const { port, seen } = await reading(t);
  const edge = await run(t, edgeTo([port], { route: { plugins: [{ fault: { delay: { time: '30ms' } } }] } }));
  t.equal(statusOf(await exchange(t, edge.port, post('hello'))), 200);
  t.match(seen, [{ method: 'POST', body: 'hello' }]);
});

t.test('a mirror gets the same request, with its mark', async (t) => {
  const app = await reading(t);
  const next = await reading(t, (response) => response.writeHead(500).end('never seen'));
  const edge = await run(t, mirrored(app.port, next.port));
  const client = await RawClient.open(t, edge.port);
  for (let i = 1; i <= 2; i++) {
    client.send(post('hello'));
    await client.until((received) => received.split('ok').length === i + 1);
  }
  client.send('POST /in HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n');
  await client.until((received) => received.split('ok').length === 4);
  await eventually(() => next.seen.length === 3, 'the copies arrive');
  t.strictSame(
    next.seen.map(({ body }) => body),
    ['hello', 'hello', 'abc'],
  );
  t.match(next.seen[0].headers, { host: 'a', 'x-selvedge-mirror': 'app', 'content-length': '5' });
  t.match(app.seen, [{ body: 'hello' }, { body: 'hello' }, { body: 'abc' }]);
  t.notOk('x-selvedge-mirror' in app.seen[0].headers);
  t.notMatch(client.received, /never seen/);
});

t.test('whatever a mirror does, requests do not notice', async (t) => {
  const app = await reading(t);
  const hanging = await rawUpstream(t, () => {});
  const endless = await rawUpstream(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n');
    const more = (): void => {
      while (!socket.destroyed && socket.write(Buffer.alloc(65_536)));
    };
    socket.on('drain', more);
    more();
  });
  const breaking = await rawUpstream(t, (socket) => socket.destroy());
  for (const next of [`127.0.0.1:${await closedPort()}`, hanging.port, endless.port, breaking.port]) {
    const edge = await run(t, mirrored(app.port, next));
    for (const message of [GET, post('hello')]) {
      t.equal(statusOf(await exchange(t, edge.port, message)), 200, `${next}`);
    }
    await eventually(() => edge.selvedge.status.inFlight === 0, 'a copy that hangs is no request under way');
  }
  await eventually(() => endless.sockets.size === 0, 'an answer without end is broken off');
});

t.test('a body far beyond what is kept for copies arrives whole, and no copy does', async (t) => {
  const received = createHash('sha256');
  const { port } = await httpUpstream(t, (req, res) => {
    req.on('data', (chunk) => received.update(chunk)).on('end', () => res.end('ok'));
  });
  const next = await reading(t);
  const edge = await run(t, mirrored(port, next.port, { bufferBytes: '16KiB' }));
  const sent = createHash('sha256');
  const call = request(`${edge.url}/in`, { method: 'PUT' });
  const answered = new Promise<number>((resolve, reject) => {
    call.on('error', reject).on('response', (response) => {
      response.resume().on('end', () => resolve(response.statusCode as number));
    });
  });
  for (let i = 0; i < 32; i++) {
    const block = randomBytes(1 << 20);
    sent.update(block);
    if (!call.write(block)) await new Promise((resolve) => call.once('drain', resolve));
  }
  call.end();
  t.equal(await answered, 200);
  t.equal(received.digest('hex'), sent.digest('hex'));
  t.equal(next.seen.length, 0);
});

t.test('an answer before the end of an upload passes, and the connection serves the next request', async (t) => {
  let requests = 0;
  const { port } = await httpUpstream(t, (_req, res) => {
    requests += 1;
    res.end(`answer ${requests}`);
  });
  const next = await reading(t);
  const edge = await run(t, mirrored(port, next.port));
  const client = await RawClient.open(t, edge.port);
  client.send('POST /in HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello');
  await client.until('answer 1');
  client.send(`world${GET}`);
  await client.until('answer 2');
  await eventually(() => next.seen.length === 1, 'the copy of the second');
  t.match(next.seen, [{ method: 'GET' }]);
});

t.test('a client that leaves in the middle of its upload leaves no copy', async (t) => {
  const app = await httpUpstream(t, (req, res) => void req.resume().on('end', () => res.end()));
  const next = await reading(t);
  const edge = await run(t, mirrored(app.port, next.port));
  const client = await RawClient.open(t, edge.port);
  client.send('POST /in HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello');
  await eventually(() => edge.selvedge.status.inFlight === 1, 'it is under way');
  client.socket.destroy();
  await eventually(() => edge.selvedge.status.inFlight === 0, 'it is over');
  t.equal((await fetch(edge.url, { method: 'HEAD' })).status, 200);
  await eventually(() => next.seen.length === 1, 'the copy of the second');
  t.match(next.seen, [{ method: 'HEAD' }]);
});

t.test('a circuit opens on failures, stays open over a reload, and closes when the service is back', async (t) => {
  let status = 500;
  let asked = 0;
  const { port } = await httpUpstream(t, (_req, res) => {
    asked += 1;
    res.writeHead(status).end('own');
  });
  const plugins = [{ 'circuit-breaker': { failureRate: '50%', minRequests: 3, openFor: '300ms' } }];
  const registry = new Registry();
  const config = join(t.testdir(), 'selvedge.json');
  writeFileSync(config, JSON.stringify(edgeTo([port], { route: { plugins } })));
  const selvedge = await createSelvedge({ config, logger: false, registry, watch: false });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  const edge = Object.values(selvedge.addresses())[0];
  const ask = () => exchange(t, edge.port, GET);

  for (let i = 0; i < 3; i++) t.match(await ask(), /own/);
  const refused = await ask();
  t.equal(statusOf(refused), 503);
  t.match(refused, /retry-after: 1\r\n/i);
  t.match(refused, /"code":"SLV_CIRCUIT_OPEN"/);
  t.match(refused, /proxy-status: selvedge; error=destination_unavailable/i);
  t.equal(asked, 3);
  t.match(await registry.metrics(), 'selvedge_circuit_open{service="app"} 1');

  writeFileSync(config, JSON.stringify(edgeTo([port], { route: { plugins: [...plugins, 'response-headers'] } })));
  t.match(await selvedge.reload(), { applied: true });
  t.match(await registry.metrics(), 'selvedge_circuit_open{service="app"} 1', 'another chain, the same breaker');

  status = 200;
  let answer = '';
  while (statusOf(answer) !== 200) {
    answer = await ask();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  t.match(answer, /own/);
  t.equal(asked, 4, 'one request found out');
  t.match(await registry.metrics(), 'selvedge_circuit_open{service="app"} 0');
});

t.test('clients that leave open no circuit, and give their places back', async (t) => {
  const held: ServerResponse[] = [];
  const { port } = await httpUpstream(t, (req, res) => {
    if (req.url === '/held') held.push(res);
    else res.end('ok');
  });
  const plugins = [{ 'circuit-breaker': { failureRate: '1%', minRequests: 1, requests: 2 } }];
  const edge = await run(t, edgeTo([port], { route: { plugins } }));
  const clients = await Promise.all([1, 2].map(() => RawClient.open(t, edge.port)));
  for (const client of clients) client.send('GET /held HTTP/1.1\r\nHost: a\r\n\r\n');
  await eventually(() => held.length === 2, 'both are under way');
  const refused = await exchange(t, edge.port, GET);
  t.equal(statusOf(refused), 503);
  t.match(refused, /"code":"SLV_REQUEST_LIMIT"/);
  for (const client of clients) client.socket.destroy();
  await eventually(() => edge.selvedge.status.inFlight === 0, 'both are gone');
  t.equal(statusOf(await exchange(t, edge.port, GET)), 200);
});
