import { createHash, randomBytes } from 'node:crypto';
import { get, request } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import t from 'tap';
import { edgeTo, run } from './support/gateway.ts';
import { closedPort, eventually, exchange, httpUpstream, RawClient, rawUpstream, statusOf } from './support/sockets.ts';

t.test('a request arrives with forwarding headers, without hop-by-hop headers, and with its own Host', async (t) => {
  const seen: Record<string, unknown>[] = [];
  const { port } = await httpUpstream(t, (req, res) => {
    seen.push({ ...req.headers });
    res
      .setHeader('keep-alive', 'timeout=9')
      .setHeader('x-private', 'p')
      .setHeader('connection', 'keep-alive, x-private');
    res.end('hello');
  });
  const edge = await run(t, edgeTo([port]));
  const response = await exchange(
    t,
    edge.port,
    'GET /a/../b?q=%20x HTTP/1.1\r\nHost: shop.example.com\r\nConnection: keep-alive, x-drop, content-length\r\nX-Drop: 1\r\nKeep-Alive: 5\r\nTE: trailers, deflate\r\n' +
      'Proxy-Authorization: Basic x\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Selvedge-Timeout-Ms: 1\r\nX-Forwarded-Client-Cert: evil\r\nX-Keep: yes\r\n\r\n',
  );
  t.equal(statusOf(response), 200);
  t.match(response, /\r\n\r\nhello$/);
  t.notMatch(response.toLowerCase(), 'x-private');
  t.notMatch(response, /timeout=9/);
  const [headers] = seen;
  t.match(headers, {
    host: 'shop.example.com',
    'x-forwarded-for': '127.0.0.1',
    'x-forwarded-proto': 'http',
    'x-forwarded-host': 'shop.example.com',
    'x-forwarded-port': String(edge.port),
    via: '1.1 selvedge',
    te: 'trailers',
    'x-keep': 'yes',
  });
  for (const gone of [
    'x-drop',
    'proxy-authorization',
    'forwarded',
    'x-forwarded-client-cert',
    'x-selvedge-timeout-ms',
    'keep-alive',
  ]) {
    t.notOk(gone in headers, `${gone} does not pass`);
  }
});

t.test('bodies stream both ways and arrive byte for byte', async (t) => {
  const { port } = await httpUpstream(t, (req, res) => {
    res.writeHead(200, { 'content-type': 'application/octet-stream' });
    req.pipe(res);
  });
  const edge = await run(t, edgeTo([port]));
  const block = randomBytes(1 << 20);
  const sent = createHash('sha256');
  const source = function* (): Generator<Buffer> {
    for (let i = 0; i < 64; i++) {
      sent.update(block);
      yield block;
    }
  };
  const received = createHash('sha256');
  const call = request(`${edge.url}/echo`, { method: 'POST' });
  const answered = new Promise<void>((resolve, reject) => {
    call.on('error', reject);
    call.on('response', (response) => {
      response
        .on('data', (chunk) => received.update(chunk))
        .on('end', resolve)
        .on('error', reject);
    });
  });
  await pipeline(Readable.from(source()), call);
  await answered;
  t.equal(received.digest('hex'), sent.digest('hex'));
});

t.test('a slow reader holds the upstream back instead of filling memory', async (t) => {
  let sent = 0;
  const { port } = await httpUpstream(t, (_req, res) => {
    const chunk = Buffer.alloc(65_536);
    const more = (): void => {
      while (sent < 512 << 20) {
        sent += chunk.length;
        if (!res.write(chunk)) {
          res.once('drain', more);
          return;
        }
      }
      res.end();
    };
    more();
  });
  const edge = await run(t, edgeTo([port]));
  const client = await RawClient.open(t, edge.port);
  client.socket.pause();
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  let before = -1;
  await eventually(() => {
    const still = sent === before && sent > 0;
    before = sent;
    return still;
  }, 'the upstream stands still');
  t.ok(sent < 64 << 20, `${sent} bytes left the upstream while nobody read`);
});

t.test('trailers pass', async (t) => {
  const { port } = await httpUpstream(t, (_req, res) => {
    res.writeHead(200, { 'content-type': 'application/grpc', trailer: 'grpc-status' });
    res.write('data');
    res.addTrailers({ 'grpc-status': '0', 'x-end': 'yes' });
    res.end();
  });
  const edge = await run(t, edgeTo([port]));
  const trailers = await new Promise((resolve, reject) => {
    get(`${edge.url}/`, (response) => {
      response.resume().on('end', () => resolve(response.trailers));
    }).on('error', reject);
  });
  t.same(trailers, { 'grpc-status': '0', 'x-end': 'yes' });
});

t.test('informational responses pass, and 100 Continue comes from the upstream', async (t) => {
  const { port } = await rawUpstream(t, (socket, head) => {
    if (/expect: 100-continue/i.test(head)) {
      socket.write('HTTP/1.1 100 Continue\r\n\r\n');
      socket.once('data', (body) => {
        socket.write(`HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
      });
    } else
      socket.write(
        'HTTP/1.1 103 Early Hints\r\nlink: </s.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n\r\nok',
      );
  });
  const edge = await run(t, edgeTo([port]));
  const hints = await exchange(t, edge.port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  t.match(hints, /^HTTP\/1\.1 103 Early Hints\r\nlink: <\/s\.css>; rel=preload\r\n\r\nHTTP\/1\.1 200/);
  const client = await RawClient.open(t, edge.port);
  client.send('POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n');
  t.match(await client.until((text) => text.includes('\r\n\r\n')), /^HTTP\/1\.1 100 Continue/);
  client.send('body');
  t.match(await client.until((text) => text.endsWith('body')), /HTTP\/1\.1 200 OK[\s\S]*body$/);
});

t.test('an upload that the upstream refuses by Expect is never sent', async (t) => {
  const heads: string[] = [];
  const { port } = await rawUpstream(t, (socket, head) => {
    heads.push(head);
    socket.write('HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nno');
  });
  const edge = await run(t, edgeTo([port]));
  const client = await RawClient.open(t, edge.port);
  client.send('POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 400\r\n\r\n');
  const response = await client.until((text) => text.endsWith('no'));
  t.equal(statusOf(response), 403);
  t.notMatch(response, /100 Continue/);
  t.match(heads[0], /\r\n\r\n$/);
});

t.test('the client leaving closes the upstream at once', async (t) => {
  for (const phase of ['waiting', 'streaming', 'uploading']) {
    let closed = false;
    let started = false;
    const { port } = await rawUpstream(t, (socket) => {
      started = true;
      socket.on('close', () => {
        closed = true;
      });
      if (phase === 'streaming') socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n');
    });
    const edge = await run(t, edgeTo([port]));
    const client = await RawClient.open(t, edge.port);
    client.send(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${phase === 'uploading' ? 10 : 0}\r\n\r\n`);
    await eventually(() => started && (phase !== 'streaming' || client.received.includes('hello')), `${phase} begins`);
    client.socket.destroy();
    await eventually(() => closed, `the upstream of a client that left while ${phase} is closed`);
    await eventually(() => edge.selvedge.status.inFlight === 0, 'nothing is in flight');
  }
  t.pass();
});

t.test('the client leaving a queue gives up its place, and the request is never sent', async (t) => {
  const waiting: [string | undefined, () => void][] = [];
  const { port } = await httpUpstream(t, (req, res) => waiting.push([req.url, () => res.end('ok')]));
  const edge = await run(t, edgeTo([port], { service: { connections: { max: 1, pending: 10 } } }));
  const [first, second, third] = await Promise.all([1, 2, 3].map(() => RawClient.open(t, edge.port)));
  first.send('GET /1 HTTP/1.1\r\nHost: a\r\n\r\n');
  await eventually(() => waiting.length === 1, 'the only connection is taken');
  second.send('GET /2 HTTP/1.1\r\nHost: a\r\n\r\n');
  await eventually(() => edge.selvedge.status.inFlight === 2, 'the second waits');
  third.send('GET /3 HTTP/1.1\r\nHost: a\r\n\r\n');
  await eventually(() => edge.selvedge.status.inFlight === 3, 'the third waits');
  second.socket.destroy();
  await eventually(() => edge.selvedge.status.inFlight === 2, 'the second is over');
  waiting[0][1]();
  await eventually(() => waiting.length === 2, 'the next in the queue is sent');
  t.equal(waiting[1][0], '/3');
  waiting[1][1]();
  t.match(await third.until((text) => text.endsWith('ok')), /^HTTP\/1\.1 200/);
});

t.test(
  'the client leaving while the upstream is being connected ends the attempt; a connect timeout is 504',
  async (t) => {
    // A server that accepts and never answers the TLS handshake, which is a part of connecting.
    const { port, sockets } = await rawUpstream(t, () => undefined);
    const edge = await run(t, edgeTo([port], { service: { tls: true } }));
    const client = await RawClient.open(t, edge.port);
    client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await eventually(() => sockets.size === 1, 'the attempt begins');
    client.socket.destroy();
    await eventually(() => sockets.size === 0 && edge.selvedge.status.inFlight === 0, 'the attempt is ended');
    const timed = await run(t, edgeTo([port], { service: { tls: true, connections: { connectTimeout: '100ms' } } }));
    const late = await exchange(t, timed.port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    t.equal(statusOf(late), 504);
    t.match(late, /SLV_CONNECT_TIMEOUT/);
  },
);

t.test('an upstream that breaks off mid-body breaks the response off too', async (t) => {
  const responses = {
    chunked: 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n',
    declared: 'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello',
  };
  for (const [framing, head] of Object.entries(responses)) {
    const { port } = await rawUpstream(t, (socket) => {
      socket.write(head, () => setTimeout(() => socket.destroy(), 20));
    });
    const edge = await run(t, edgeTo([port]));
    const client = await RawClient.open(t, edge.port);
    const received = await client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n').closed();
    t.match(received, /hello/, framing);
    t.notMatch(received, /0\r\n\r\n$/, `${framing}: no regular end`);
  }
});

t.test('what the upstream does wrong is a problem with its own code', async (t) => {
  const cases: [string, string, number, string][] = [
    ['bad status line', 'HTTP/1.1 2000 OK\r\n\r\n', 502, 'SLV_UPSTREAM_INVALID'],
    ['not HTTP', 'SSH-2.0-OpenSSH\r\n\r\n', 502, 'SLV_UPSTREAM_INVALID'],
    [
      'length and chunked',
      'HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello',
      502,
      'SLV_UPSTREAM_INVALID',
    ],
    [
      'two lengths',
      'HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!',
      502,
      'SLV_UPSTREAM_INVALID',
    ],
    ['endless head', `HTTP/1.1 200 OK\r\nx: ${'a'.repeat(70_000)}\r\n\r\n`, 502, 'SLV_UPSTREAM_HEADERS_TOO_LARGE'],
    ['endless interim responses', 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(200), 502, 'SLV_UPSTREAM_INVALID'],
    [
      'switching protocols unasked',
      'HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n',
      502,
      'SLV_UPSTREAM_INVALID',
    ],
  ];
  for (const [name, bytes, status, code] of cases) {
    const { port } = await rawUpstream(t, (socket) => socket.write(bytes, 'latin1'));
    const edge = await run(t, edgeTo([port]));
    const response = await exchange(t, edge.port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    t.equal(statusOf(response), status, name);
    t.match(response, `"code":"${code}"`, name);
    t.match(response, /\r\nproxy-status: selvedge; error=[a-z_]+\r\n/, name);
    t.match(response, /\r\ncontent-type: application\/problem\+json\r\n/, name);
  }
});

t.test('refused and reset connections', async (t) => {
  const refused = await run(t, edgeTo([await closedPort()]));
  const response = await exchange(t, refused.port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  t.equal(statusOf(response), 502);
  t.match(response, /SLV_UPSTREAM_REFUSED/);
  let tries = 0;
  const { port } = await rawUpstream(t, (socket) => {
    tries++;
    socket.destroy();
  });
  const reset = await run(t, edgeTo([port]));
  t.match(
    await exchange(t, reset.port, 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx'),
    /SLV_UPSTREAM_RESET/,
  );
  t.equal(tries, 1, 'what may have been acted on is not sent again');
});

t.test('a 503 of the upstream passes once and is not retried', async (t) => {
  let hits = 0;
  const { port } = await httpUpstream(t, (_req, res) => {
    hits++;
    res.writeHead(503, { 'retry-after': '5' }).end('busy');
  });
  const edge = await run(t, edgeTo([port]));
  const response = await fetch(edge.url);
  t.equal(response.status, 503);
  t.equal(await response.text(), 'busy');
  t.equal(hits, 1);
});

t.test('a refused endpoint costs nothing when another one is up', async (t) => {
  const { port } = await httpUpstream(t, (_req, res) => res.end('ok'));
  const edge = await run(t, edgeTo([await closedPort(), port]));
  const answers = await Promise.all(Array.from({ length: 40 }, async () => (await fetch(edge.url)).status));
  t.ok(answers.every((status) => status === 200));
});

t.test('timeouts by phase are 504 and say which', async (t) => {
  const { port, sockets } = await rawUpstream(t, (socket, head) => {
    if (head.startsWith('GET /idle'))
      socket.write('HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n');
  });
  const edge = await run(t, edgeTo([port], { route: { timeout: { request: '150ms', idle: '150ms' } } }));
  const late = await exchange(t, edge.port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  t.equal(statusOf(late), 504);
  t.match(late, /SLV_UPSTREAM_TIMEOUT/);
  const client = await RawClient.open(t, edge.port);
  const idle = await client.send('GET /idle HTTP/1.1\r\nHost: a\r\n\r\n').closed();
  t.match(idle, /hello\r\n$/, 'the stream that fell silent is cut, not completed');
  await eventually(() => sockets.size === 0, 'upstream connections are closed');
  const tried = await run(t, edgeTo([port], { route: { timeout: { request: '5s', perTry: '150ms' } } }));
  t.match(await exchange(t, tried.port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'), /504[\s\S]*SLV_TRY_TIMEOUT/);
});

t.test('bodies over the limit are 413, declared or chunked', async (t) => {
  let arrived = 0;
  const { port } = await httpUpstream(t, (req, res) => {
    req.on('data', (chunk) => {
      arrived += chunk.length;
    });
    req.on('end', () => res.end('ok'));
    req.on('error', () => undefined);
  });
  const edge = await run(t, edgeTo([port], { route: { bodyBytes: '1KiB' } }));
  const declared = await exchange(
    t,
    edge.port,
    `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n${'x'.repeat(2000)}`,
  );
  t.equal(statusOf(declared), 413);
  t.match(declared, /SLV_BODY_TOO_LARGE/);
  t.equal(arrived, 0);
  const client = await RawClient.open(t, edge.port);
  client.send('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n');
  client.send(`400\r\n${'x'.repeat(1024)}\r\n`).send('1\r\nx\r\n');
  t.equal(statusOf(await client.closed()), 413);
  const allowed = await fetch(edge.url, { method: 'POST', body: 'x'.repeat(1024) });
  t.equal(allowed.status, 200);
});

t.test('an early answer reaches a client that is still uploading', async (t) => {
  const { port } = await rawUpstream(t, (socket) => {
    socket.end(
      'HTTP/1.1 401 Unauthorized\r\ncontent-type: text/plain\r\ncontent-length: 4\r\nconnection: close\r\n\r\nnope',
    );
  });
  const edge = await run(t, edgeTo([port]));
  const client = await RawClient.open(t, edge.port);
  client.send(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n${'x'.repeat(100_000)}`);
  const response = await client.until((text) => text.endsWith('nope'));
  t.equal(statusOf(response), 401);
  t.match(response, /connection: close/i);
  await eventually(() => edge.selvedge.status.inFlight === 0, 'nothing is in flight');
});

t.test('pipelined requests are answered in order', async (t) => {
  const { port } = await httpUpstream(t, (req, res) => setTimeout(() => res.end(req.url), req.url === '/1' ? 30 : 0));
  const edge = await run(t, edgeTo([port]));
  const client = await RawClient.open(t, edge.port);
  client.send(['/1', '/2', '/3'].map((path) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`).join(''));
  const received = await client.until((text) => text.includes('/3'));
  t.ok(received.indexOf('/1') < received.indexOf('/2') && received.indexOf('/2') < received.indexOf('/3'));
});

t.test('HEAD, 204 and 304 have no body and keep their headers', async (t) => {
  const { port } = await httpUpstream(t, (req, res) => {
    if (req.url === '/204') res.writeHead(204).end();
    else if (req.url === '/304') res.writeHead(304, { etag: '"x"' }).end();
    else res.writeHead(200, { 'content-length': '5' }).end(req.method === 'HEAD' ? undefined : 'hello');
  });
  const edge = await run(t, edgeTo([port]));
  const client = await RawClient.open(t, edge.port);
  client.send(
    'HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET /204 HTTP/1.1\r\nHost: a\r\n\r\nGET /304 HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n',
  );
  const received = await client.until((text) => text.endsWith('hello'));
  t.match(
    received,
    /^HTTP\/1\.1 200 OK\r\n[\s\S]*content-length: 5\r\n[\s\S]*HTTP\/1\.1 204[\s\S]*HTTP\/1\.1 304[\s\S]*etag: "x"[\s\S]*HTTP\/1\.1 200/i,
  );
  t.equal(received.match(/hello/g)?.length, 1);
});
