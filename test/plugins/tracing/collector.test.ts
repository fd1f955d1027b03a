// The request to the collector, against real servers that fail in every way.
import { readFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTls } from 'node:https';
import { type AddressInfo, createServer as createTcp, type Server, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { collectorHeaderProblem, tracesUrl } from '../../../src/http/otlp.ts';
import { collector } from '../../../src/plugins/tracing/collector.ts';
import { closedPort } from '../../e2e/support/sockets.ts';
import { TestCa } from '../../support/tls-fixture.ts';

async function listen(t: Test, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

async function asked(t: Test, listener: RequestListener, timeoutMs = 2_000) {
  const port = await listen(t, createServer(listener));
  const post = collector(new URL(`http://127.0.0.1:${port}/v1/traces`), {}, timeoutMs);
  t.teardown(() => post.close());
  return post.send('{"resourceSpans":[]}');
}

t.test('a batch arrives whole, with the headers that were asked for, on one kept connection', async (t) => {
  const seen: { url: string; method: string; headers: Record<string, unknown>; body: string; port: number }[] = [];
  const port = await listen(
    t,
    createServer(async (request, response) => {
      let body = '';
      for await (const chunk of request) body += chunk;
      const { url, method, headers, socket } = request;
      seen.push({ url: String(url), method: String(method), headers, body, port: socket.remotePort ?? 0 });
      response.end('{}');
    }),
  );
  const post = collector(new URL(`http://127.0.0.1:${port}/v1/traces`), { authorization: 'Bearer x', 'x-a': 'b' });
  t.teardown(() => post.close());
  const taken = { error: null, rejected: 0, again: false, afterMs: 0 };
  t.same(await post.send('{"a":"ü"}'), taken);
  t.same(await post.send('{}'), taken);
  t.match(seen[0], {
    url: '/v1/traces',
    method: 'POST',
    body: '{"a":"ü"}',
    headers: { authorization: 'Bearer x', 'x-a': 'b', 'content-type': 'application/json', 'content-length': '10' },
  });
  t.equal(seen[1].port, seen[0].port);
});

t.test('what another try may mend is told from what it cannot', async (t) => {
  for (const status of [429, 502, 503, 504]) {
    const answer = await asked(t, (_request, response) => response.writeHead(status).end());
    t.match(answer, { error: { message: `the collector answered ${status}` }, again: true });
  }
  for (const status of [301, 307, 400, 401, 404, 413, 500]) {
    const location = 'http://127.0.0.1:1/';
    const answer = await asked(t, (_request, response) => response.writeHead(status, { location }).end('no'));
    t.match(answer, { error: { message: `the collector answered ${status}` }, again: false });
  }
});

t.test('Retry-After is read', async (t) => {
  const answer = await asked(t, (_request, response) => response.writeHead(503, { 'retry-after': '7' }).end());
  t.equal(answer.afterMs, 7_000);
});

t.test('spans that were left out are counted; what cannot be read says nothing', async (t) => {
  const answered = async (body: string) => (await asked(t, (_request, response) => response.end(body))).rejected;
  t.equal(await answered('{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}'), 3);
  t.equal(await answered('{"partialSuccess":{"rejectedSpans":2}}'), 2);
  for (const body of ['', 'ok', 'null', '[]', '{"partialSuccess":null}', '{"partialSuccess":{"rejectedSpans":"-1"}}'])
    t.equal(await answered(body), 0, body);
});

t.test('a collector that hangs, cuts, floods or talks nonsense costs a failed try', async (t) => {
  t.match(await asked(t, () => {}, 50), { error: { message: 'no answer within 50 ms' }, again: true });
  const slow: RequestListener = (_request, response) => void response.writeHead(200).write('{');
  t.match(await asked(t, slow, 50), { error: { message: 'no answer within 50 ms' }, again: true });
  t.match(await asked(t, ({ socket }) => void socket.destroy()), { error: { code: 'ECONNRESET' }, again: true });
  const cut: RequestListener = ({ socket }, response) => {
    response.writeHead(200, { 'content-length': 10 }).write('{', () => socket.destroy());
  };
  t.match(await asked(t, cut), { error: Error, again: true });
  const flood: RequestListener = (_request, response) => void response.end(Buffer.alloc(100_000));
  t.match(await asked(t, flood), { error: { message: 'the answer is larger than 65536 bytes' }, again: true });
  const nonsense = await listen(
    t,
    createTcp((socket) => socket.end('what?\r\n\r\n')),
  );
  t.match(await collector(new URL(`http://127.0.0.1:${nonsense}/`), {}).send('{}'), { error: Error, again: true });
  const nobody = collector(new URL(`http://127.0.0.1:${await closedPort()}/`), {});
  t.match(await nobody.send('{}'), { error: { code: 'ECONNREFUSED' }, again: true });
});

t.test('a collector with a certificate of nobody we know gets no spans', async (t) => {
  const { cert, key } = new TestCa(t).issue({ name: 'otel', altNames: ['IP:127.0.0.1'] });
  let requests = 0;
  const server = createTls({ cert: readFileSync(cert), key: readFileSync(key) }, (_request, response) => {
    requests++;
    response.end();
  });
  const port = await listen(t, server);
  const post = collector(new URL(`https://127.0.0.1:${port}/v1/traces`), {});
  t.teardown(() => post.close());
  t.match(await post.send('{}'), { error: Error, again: true });
  t.equal(requests, 0);
});

t.test('closing ends what is under way at once', async (t) => {
  const port = await listen(t, createServer());
  const post = collector(new URL(`http://127.0.0.1:${port}/`), {});
  const answer = post.send('{}');
  post.close();
  t.match(await answer, { error: { message: 'closed before it was answered' } });
});

t.test('an address stands for its /v1/traces', async (t) => {
  const urls = {
    'http://127.0.0.1:4318': 'http://127.0.0.1:4318/v1/traces',
    'https://otel.example.com/': 'https://otel.example.com/v1/traces',
    'https://otel.example.com/tenant': 'https://otel.example.com/tenant/v1/traces',
    'http://[::1]:4318/v1/traces/': 'http://[::1]:4318/v1/traces',
  };
  for (const [written, url] of Object.entries(urls)) t.equal(tracesUrl(written)?.href, url);
  for (const bad of [
    '',
    'localhost:4318',
    'ftp://a',
    'http://u:p@a',
    'http://u@a',
    'http://a?x',
    'http://a#x',
    'http://',
  ])
    t.equal(tracesUrl(bad), null, bad);
});

t.test('a header that cannot be sent is found while the config loads, and its value is not told', async (t) => {
  t.equal(collectorHeaderProblem('authorization', 'Bearer x'), null);
  for (const [name, value] of [
    ['a b', 'secret'],
    ['Content-Type', 'secret'],
    ['x-a', 'secret\nx: y'],
  ]) {
    const problem = collectorHeaderProblem(name, value);
    t.type(problem, 'string');
    t.notMatch(problem, /secret/);
  }
});
