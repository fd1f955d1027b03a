// transform over real sockets: framing, 100-continue, clients that leave, and the answers of services.
import { Readable } from 'node:stream';
import t from 'tap';
import { edgeTo, run } from './support/gateway.ts';
import { eventually, exchange, httpUpstream, RawClient, statusOf } from './support/sockets.ts';

const JSON_HEAD = 'Host: a\r\nContent-Type: application/json\r\n';

t.test('a request reaches the service changed and framed anew', async (t) => {
  const seen: { body: string; headers: Record<string, unknown> }[] = [];
  const { port } = await httpUpstream(t, (req, res) => {
    let body = '';
    req.on('data', (chunk) => {
      body += chunk;
    });
    req.on('end', () => {
      seen.push({ body, headers: req.headers });
      res.setHeader('content-type', 'application/json').end('{"secret":1,"ok":true}');
    });
  });
  const transform = {
    request: { headers: { set: { 'x-path': '{{path}}' } }, body: { set: { '/via': '{{host}}' } } },
    response: { body: { remove: ['/secret'] } },
    maxBody: '1KiB',
  };
  const { port: edge } = await run(t, edgeTo([port], { gateway: { plugins: [{ transform }] } }));
  const bodyOf = (response: string): string => response.slice(response.lastIndexOf('\r\n\r\n') + 4);

  const plain = await exchange(
    t,
    edge,
    `POST /x HTTP/1.1\r\n${JSON_HEAD}Content-Length: 7\r\nConnection: close\r\n\r\n{"a":1}`,
  );
  t.equal(statusOf(plain), 200);
  t.equal(bodyOf(plain), '{"ok":true}');
  t.match(plain, /^content-length: 11\r/im);
  t.match(seen.pop(), {
    body: '{"a":1,"via":"a"}',
    headers: { 'content-length': '17', 'x-path': '/x', 'transfer-encoding': undefined },
  });

  const client = await RawClient.open(t, edge);
  const first = await client
    .send(`POST /x HTTP/1.1\r\n${JSON_HEAD}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n`)
    .until('HTTP/1.1 100 Continue\r\n\r\n');
  const second = (await client.send('{}').until('{"ok":true}')).slice(first.length);
  t.equal(statusOf(second), 200);
  t.match(seen.pop(), { body: '{"via":"a"}' });
  const chunked = await client
    .send(`POST /x HTTP/1.1\r\n${JSON_HEAD}Transfer-Encoding: chunked\r\n\r\n3\r\n{"b\r\n`)
    .send('4\r\n":2}\r\n0\r\n\r\n')
    .until('"ok":true}');
  t.ok(chunked);
  await eventually(() => seen.length === 1, 'the service has seen it');
  t.match(seen, [{ body: '{"b":2,"via":"a"}' }]);

  for (const [head, body, status] of [
    ['Content-Length: 4\r\n', '{"a"', 400],
    ['Content-Length: 2000\r\n', '{', 413],
    ['Transfer-Encoding: chunked\r\n', `7d0\r\n${' '.repeat(2_000)}\r\n`, 413],
    ['Content-Length: 2\r\nContent-Encoding: br\r\n', '{}', 415],
  ] as const) {
    const response = await exchange(t, edge, `POST /x HTTP/1.1\r\n${JSON_HEAD}${head}Connection: close\r\n\r\n${body}`);
    t.equal(statusOf(response), status, head);
  }
  t.equal(seen.length, 1, 'none of these reached the service');
  const head = await exchange(t, edge, 'HEAD /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
  t.equal(statusOf(head), 200);
  t.notMatch(head, /content-length/i, 'of what GET would answer, nobody knows the length');
});

t.test('a client that leaves inside its body costs the service nothing', async (t) => {
  let requests = 0;
  const { port } = await httpUpstream(t, (_req, res) => {
    requests += 1;
    res.end();
  });
  const { port: edge, selvedge } = await run(
    t,
    edgeTo([port], { gateway: { plugins: [{ transform: { request: { body: { wrap: 'data' } } } }] } }),
  );
  const client = await RawClient.open(t, edge);
  client.send(`POST /x HTTP/1.1\r\n${JSON_HEAD}Content-Length: 100\r\n\r\n{"a":`);
  await eventually(() => selvedge.status.inFlight === 1, 'it is under way');
  client.socket.destroy();
  await eventually(() => selvedge.status.inFlight === 0, 'it is over');
  t.equal(requests, 0);
});

t.test('a client that stops inside its body is answered 408, and what it sends then goes nowhere', async (t) => {
  let requests = 0;
  const { port } = await httpUpstream(t, (_req, res) => {
    requests += 1;
    res.end();
  });
  const { port: edge, selvedge } = await run(
    t,
    edgeTo([port], {
      gateway: { limits: { bodyIdleTimeout: '1s' }, plugins: [{ transform: { request: { body: { wrap: 'data' } } } }] },
    }),
  );
  const client = await RawClient.open(t, edge);
  const answer = await client
    .send(`POST /x HTTP/1.1\r\n${JSON_HEAD}Content-Length: 7\r\n\r\n{"a"`)
    .until('"requestId"');
  t.equal(statusOf(answer), 408);
  client.send(':1}');
  await eventually(() => selvedge.status.inFlight === 0, 'it is over');
  t.equal(requests, 0);
});

t.test('an answer that cannot be changed is not half sent; one that breaks off is 502', async (t) => {
  const { port } = await httpUpstream(t, (req, res) => {
    res.setHeader('content-type', 'application/json');
    if (req.url === '/large') {
      Readable.from(Array.from({ length: 200 }, () => `"${'x'.repeat(10_000)}",`)).pipe(res);
    } else {
      res.write('{"a":');
      setImmediate(() => res.destroy());
    }
  });
  const config = (unreadable: string) =>
    edgeTo([port], { gateway: { plugins: [{ transform: { response: { body: { wrap: 'data' } }, unreadable } }] } });
  const { port: strict } = await run(t, config('fail'));
  const ask = (to: number, path: string) =>
    exchange(t, to, `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
  const large = await ask(strict, '/large');
  t.equal(statusOf(large), 502);
  t.match(large, 'SLV_UPSTREAM_INVALID');
  t.notMatch(large, 'xxx');
  const broken = await ask(strict, '/broken');
  t.equal(statusOf(broken), 502);
  t.match(broken, 'SLV_UPSTREAM_');
  const { port: lax } = await run(t, config('pass'));
  const whole = await ask(lax, '/large');
  t.equal(statusOf(whole), 200);
  t.ok(whole.length > 2_000_000, 'it streams through');
});
