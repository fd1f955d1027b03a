// What clients send that they should not, and what they may send that few do: every answer with its code, and the connection kept or closed.
import t, { type Test } from 'tap';
import { edgeTo, run } from './support/gateway.ts';
import { eventually, exchange, httpUpstream, RawClient, rawUpstream, statusOf } from './support/sockets.ts';

const HOST = 'Host: a\r\n';
const HANDSHAKE = `GET /ws HTTP/1.1\r\n${HOST}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`;

/** Answers with what arrived, as JSON. */
async function mirror(t: Test): Promise<number> {
  const { port } = await httpUpstream(t, (req, res) => {
    let bytes = 0;
    req.on('error', () => undefined);
    req.on('data', (chunk) => {
      bytes += chunk.length;
    });
    req.on('end', () => {
      const { url, method, headers, rawHeaders, trailers } = req;
      res.setHeader('content-type', 'application/json');
      res.end(JSON.stringify({ url, method, headers, rawHeaders, bytes, trailers }));
    });
  });
  return port;
}

interface Parsed {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** The last response among what came back. */
function parse(received: string): Parsed {
  const start = received.lastIndexOf('HTTP/1.1 ');
  const end = received.indexOf('\r\n\r\n', start);
  const [line, ...lines] = received.slice(start, end).split('\r\n');
  const headers = Object.fromEntries(
    lines.map((text) => [text.slice(0, text.indexOf(':')).toLowerCase(), text.slice(text.indexOf(':') + 1).trim()]),
  );
  return { status: Number(line.split(' ')[1]), headers, body: received.slice(end + 4) };
}

function parseJson(received: string) {
  const { body, headers } = parse(received);
  return JSON.parse(headers['transfer-encoding'] === 'chunked' ? body.replace(/^[^{]*|[^}]*$/g, '') : body);
}

/** An error of ours: status, code, one request id in header and body, Proxy-Status, nothing cached. */
function isProblem(t: Test, received: string, status: number, code: string, name: string): void {
  const { headers, body, ...rest } = parse(received);
  t.equal(rest.status, status, `${name}: ${status}`);
  t.equal(headers['content-type'], 'application/problem+json', `${name}: a problem`);
  const problem = JSON.parse(body);
  t.equal(problem.code, code, `${name}: ${code}`);
  t.equal(problem.status, status, `${name}: the body says the status too`);
  t.type(problem.requestId, 'string', `${name}: a request id`);
  if (headers['x-request-id'] !== undefined)
    t.equal(headers['x-request-id'], problem.requestId, `${name}: one request id`);
  t.match(headers['proxy-status'], /^selvedge; error=[a-z_]+$/, `${name}: Proxy-Status`);
  t.equal(headers['cache-control'], 'no-store', `${name}: not to be cached`);
}

/** True when the connection takes another request. */
async function stillServes(client: RawClient): Promise<boolean> {
  const before = client.received.length;
  client.send(`GET /alive HTTP/1.1\r\n${HOST}\r\n`);
  const received = await client.until((text) => text.slice(before).includes('/alive'));
  return received.slice(before).startsWith('HTTP/1.1 200');
}

t.test('what no client should send is refused with its code, and the connection closes', async (t) => {
  const edge = await run(t, edgeTo([await mirror(t)]));
  const long = (length: number): string => 'x'.repeat(length);
  const cases: readonly (readonly [name: string, bytes: string, status: number, code: string])[] = [
    ['HTTP/2.0', `GET / HTTP/2.0\r\n${HOST}\r\n`, 400, 'SLV_BAD_REQUEST'],
    ['an HTTP/2 preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400, 'SLV_BAD_REQUEST'],
    ['HTTP/1.2', `GET / HTTP/1.2\r\n${HOST}\r\n`, 400, 'SLV_BAD_REQUEST'],
    ['no Host', 'GET / HTTP/1.1\r\n\r\n', 400, 'SLV_BAD_HOST'],
    ['an empty Host', 'GET / HTTP/1.1\r\nHost: \r\n\r\n', 400, 'SLV_BAD_HOST'],
    ['two Hosts', `GET / HTTP/1.1\r\n${HOST}Host: b\r\n\r\n`, 400, 'SLV_BAD_HOST'],
    ['one Host twice', `GET / HTTP/1.1\r\n${HOST}${HOST}\r\n`, 400, 'SLV_BAD_HOST'],
    ['two Hosts of HTTP/1.0', `GET / HTTP/1.0\r\n${HOST}Host: b\r\n\r\n`, 400, 'SLV_BAD_HOST'],
    [
      'length and chunked',
      `POST / HTTP/1.1\r\n${HOST}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      400,
      'SLV_BAD_REQUEST',
    ],
    [
      'chunked and length',
      `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n`,
      400,
      'SLV_BAD_REQUEST',
    ],
    [
      'two lengths',
      `POST / HTTP/1.1\r\n${HOST}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd`,
      400,
      'SLV_BAD_REQUEST',
    ],
    [
      'one length twice',
      `POST / HTTP/1.1\r\n${HOST}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc`,
      400,
      'SLV_BAD_REQUEST',
    ],
    ['a list of lengths', `POST / HTTP/1.1\r\n${HOST}Content-Length: 3, 3\r\n\r\nabc`, 400, 'SLV_BAD_REQUEST'],
    ['a negative length', `POST / HTTP/1.1\r\n${HOST}Content-Length: -1\r\n\r\n`, 400, 'SLV_BAD_REQUEST'],
    ['a signed length', `POST / HTTP/1.1\r\n${HOST}Content-Length: +3\r\n\r\nabc`, 400, 'SLV_BAD_REQUEST'],
    [
      'an endless length',
      `POST / HTTP/1.1\r\n${HOST}Content-Length: 99999999999999999999\r\n\r\nabc`,
      400,
      'SLV_BAD_REQUEST',
    ],
    [
      'gzip, chunked',
      `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
      400,
      'SLV_BAD_REQUEST',
    ],
    [
      'chunked twice',
      `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      400,
      'SLV_BAD_REQUEST',
    ],
    ['xchunked', `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`, 400, 'SLV_BAD_REQUEST'],
    [
      'chunked of HTTP/1.0',
      `POST / HTTP/1.0\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      400,
      'SLV_BAD_REQUEST',
    ],
    ['a folded line', `GET / HTTP/1.1\r\n${HOST}X: a\r\n b\r\n\r\n`, 400, 'SLV_BAD_REQUEST'],
    ['bare LF', 'GET / HTTP/1.1\nHost: a\n\n', 400, 'SLV_BAD_REQUEST'],
    ['a bare CR in a value', `GET / HTTP/1.1\r\n${HOST}X: a\rb\r\n\r\n`, 400, 'SLV_BAD_REQUEST'],
    ['a space before the colon', `GET / HTTP/1.1\r\n${HOST}X : a\r\n\r\n`, 400, 'SLV_BAD_REQUEST'],
    ['NUL in a value', `GET / HTTP/1.1\r\n${HOST}X: a\0b\r\n\r\n`, 400, 'SLV_BAD_REQUEST'],
    ['a control character in a value', `GET / HTTP/1.1\r\n${HOST}X: a\x01b\r\n\r\n`, 400, 'SLV_BAD_REQUEST'],
    ['no header name', `GET / HTTP/1.1\r\n${HOST}: a\r\n\r\n`, 400, 'SLV_BAD_REQUEST'],
    [
      'a broken chunk size',
      `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\nzz\r\n`,
      400,
      'SLV_BAD_REQUEST',
    ],
    [
      'a chunk extension without end',
      `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n1;${long(20_000)}\r\n`,
      413,
      'SLV_BODY_TOO_LARGE',
    ],
    ['a long target', `GET /${long(9_000)} HTTP/1.1\r\n${HOST}\r\n`, 414, 'SLV_URL_TOO_LONG'],
    ['an endless target', `GET /${long(90_000)} HTTP/1.1\r\n${HOST}\r\n`, 414, 'SLV_URL_TOO_LONG'],
    ['a large header', `GET / HTTP/1.1\r\n${HOST}X: ${long(40_000)}\r\n\r\n`, 431, 'SLV_HEADERS_TOO_LARGE'],
    ['many headers', `GET / HTTP/1.1\r\n${HOST}${'X: a\r\n'.repeat(150)}\r\n`, 431, 'SLV_HEADERS_TOO_LARGE'],
    [
      'an unknown expectation',
      `POST / HTTP/1.1\r\n${HOST}Expect: 200-maybe\r\nContent-Length: 2\r\n\r\nab`,
      417,
      'SLV_EXPECTATION_FAILED',
    ],
    ['TRACE', `TRACE / HTTP/1.1\r\n${HOST}\r\n`, 501, 'SLV_METHOD_UNSUPPORTED'],
    ['CONNECT', `CONNECT a:80 HTTP/1.1\r\n${HOST}\r\n`, 501, 'SLV_METHOD_UNSUPPORTED'],
  ];
  for (const [name, bytes, status, code] of cases) {
    const client = await RawClient.open(t, edge.port);
    const received = await client.send(bytes).closed();
    isProblem(t, received, status, code, name);
    t.match(received, /\r\nconnection: close\r\n/i, `${name}: says that it closes`);
    t.equal(received.match(/HTTP\/1\.1 /g)?.length, 1, `${name}: one answer`);
  }
  await eventually(() => edge.selvedge.status.inFlight === 0, 'nothing is in flight');
});

t.test('a request that is merely wrong is refused with its code, and the connection goes on', async (t) => {
  const edge = await run(t, edgeTo([await mirror(t)]));
  const cases: readonly (readonly [bytes: string, code: string])[] = [
    [`GET /a%2Fb HTTP/1.1\r\n${HOST}\r\n`, 'SLV_BAD_PATH'],
    [`GET /a%5cb HTTP/1.1\r\n${HOST}\r\n`, 'SLV_BAD_PATH'],
    [`GET /a\\b HTTP/1.1\r\n${HOST}\r\n`, 'SLV_BAD_PATH'],
    [`GET /a%00 HTTP/1.1\r\n${HOST}\r\n`, 'SLV_BAD_PATH'],
    [`GET /a%zz HTTP/1.1\r\n${HOST}\r\n`, 'SLV_BAD_PATH'],
    [`GET /a% HTTP/1.1\r\n${HOST}\r\n`, 'SLV_BAD_PATH'],
    [`GET /a#b HTTP/1.1\r\n${HOST}\r\n`, 'SLV_BAD_PATH'],
    [`GET http://u@a/x HTTP/1.1\r\n${HOST}\r\n`, 'SLV_BAD_PATH'],
    [`GET ftp://a/x HTTP/1.1\r\n${HOST}\r\n`, 'SLV_BAD_PATH'],
    [`GET http://b/x HTTP/1.1\r\n${HOST}\r\n`, 'SLV_BAD_HOST'],
    ['GET / HTTP/1.1\r\nHost: a b\r\n\r\n', 'SLV_BAD_HOST'],
    ['GET / HTTP/1.1\r\nHost: a/b\r\n\r\n', 'SLV_BAD_HOST'],
    ['GET / HTTP/1.1\r\nHost: a,b\r\n\r\n', 'SLV_BAD_HOST'],
    ['GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n', 'SLV_BAD_HOST'],
    ['GET / HTTP/1.1\r\nHost: u@a\r\n\r\n', 'SLV_BAD_HOST'],
    [`POST /a%2Fb HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\nhello`, 'SLV_BAD_PATH'],
  ];
  for (const [bytes, code] of cases) {
    const name = bytes.slice(0, bytes.indexOf('\r\n\r\n')).replace('\r\n', ' | ');
    const client = await RawClient.open(t, edge.port);
    const received = await client.send(bytes).until((text) => text.endsWith('}'));
    isProblem(t, received, 400, code, name);
    t.type(parse(received).headers['x-request-id'], 'string', `${name}: the id is a header too`);
    t.ok(await stillServes(client), `${name}: the connection goes on`);
    client.socket.destroy();
  }
});

t.test('encoded slashes pass where the route keeps them, NUL and broken escapes nowhere', async (t) => {
  const port = await mirror(t);
  const routes = [
    { name: 'all', to: 'app' },
    { name: 'keep', match: [{ path: '/keep' }], to: 'app', encodedSlashes: 'keep' },
  ];
  const edge = await run(t, edgeTo([port], { routes } as never));
  const ask = (target: string): Promise<string> => exchange(t, edge.port, `GET ${target} HTTP/1.1\r\n${HOST}\r\n`);
  t.equal(parseJson(await ask('/keep/a%2fb%5Cc?x=%2f')).url, '/keep/a%2Fb%5Cc?x=%2f');
  t.equal(parseJson(await ask('/other/../keep/%7Ea%2Fb')).url, '/keep/~a%2Fb', 'what is matched is what is sent');
  t.equal(statusOf(await ask('/keep/../other/a%2fb')), 400);
  t.equal(statusOf(await ask('/keep/a%00')), 400);
  t.equal(statusOf(await ask('/keep/a%2')), 400);
});

t.test('absolute-form requests are routed by their authority', async (t) => {
  const port = await mirror(t);
  const routes = [
    { name: 'all', to: 'app' },
    { name: 'shop', hosts: ['shop.test'], respond: { status: 200, body: 'shop' } },
  ];
  const edge = await run(t, edgeTo([port], { routes } as never));
  t.match(await exchange(t, edge.port, 'GET http://shop.test/x HTTP/1.1\r\nHost: shop.test\r\n\r\n'), /shop$/);
  t.match(await exchange(t, edge.port, 'GET http://SHOP.test.:80 HTTP/1.1\r\nHost: shop.test\r\n\r\n'), /shop$/);
  const seen = parseJson(
    await exchange(t, edge.port, 'GET HTTP://other.test:81/x?y HTTP/1.1\r\nHost: other.test:81\r\n\r\n'),
  );
  t.match(seen, { url: '/x?y', headers: { host: 'other.test:81' } }, 'the upstream gets origin form');
});

t.test('HTTP/1.0 clients are served: without Host, and kept alive when they ask', async (t) => {
  const edge = await run(t, edgeTo([await mirror(t)]));
  const plain = await RawClient.open(t, edge.port);
  const response = await plain.send('GET /old HTTP/1.0\r\n\r\n').closed();
  t.equal(statusOf(response), 200);
  const { headers } = parseJson(response);
  t.match(headers, { via: '1.0 selvedge', 'x-forwarded-for': '127.0.0.1' });
  t.ok(headers.host.length > 0, 'the upstream gets a Host');
  t.notOk('x-forwarded-host' in headers, 'nothing is said of a host that was not asked for');
  const kept = await RawClient.open(t, edge.port);
  kept.send(`GET /1 HTTP/1.0\r\n${HOST}Connection: keep-alive\r\n\r\n`);
  t.match(await kept.until((text) => text.endsWith('}')), /\r\nconnection: keep-alive\r\n/i);
  t.ok(await stillServes(kept));
});

t.test('an HTTP/1.0 client gets no chunks and no interim response', async (t) => {
  const { port } = await rawUpstream(t, (socket) => {
    socket.write(
      'HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n',
    );
    setTimeout(() => socket.end('5\r\nworld\r\n0\r\n\r\n'), 20);
  });
  const edge = await run(t, edgeTo([port]));
  const client = await RawClient.open(t, edge.port);
  const received = await client.send(`GET / HTTP/1.0\r\n${HOST}Connection: keep-alive\r\n\r\n`).closed();
  t.match(received, /^HTTP\/1\.1 200 OK\r\n/);
  t.notMatch(received, /transfer-encoding/i);
  t.match(received, /\r\n\r\nhelloworld$/, 'the body ends with the connection');
});

t.test('Connection: close is honoured', async (t) => {
  const edge = await run(t, edgeTo([await mirror(t)]));
  const client = await RawClient.open(t, edge.port);
  const received = await client
    .send(`GET / HTTP/1.1\r\n${HOST}Connection: close\r\n\r\nGET /never HTTP/1.1\r\n${HOST}\r\n`)
    .closed();
  t.match(received, /\r\nconnection: close\r\n/i);
  t.equal(received.match(/HTTP\/1\.1 /g)?.length, 1, 'what follows is no request');
});

t.test('among pipelined requests a refused one has its place, and a malformed one ends the row', async (t) => {
  const edge = await run(t, edgeTo([await mirror(t)]));
  const client = await RawClient.open(t, edge.port);
  const requests = ['GET /1', 'GET /a%2Fb', 'POST /2'].map(
    (line) => `${line} HTTP/1.1\r\n${HOST}${line.startsWith('POST') ? 'Content-Length: 2\r\n' : ''}\r\n`,
  );
  const received = await client.send(`${requests.join('')}okBROKEN\r\n\r\nGET /3 HTTP/1.1\r\n${HOST}\r\n`).closed();
  t.same(received.match(/HTTP\/1\.1 \d+|"url":"[^"]*"|SLV_[A-Z_]+/g), [
    'HTTP/1.1 200',
    '"url":"/1"',
    'HTTP/1.1 400',
    'SLV_BAD_PATH',
    'HTTP/1.1 200',
    '"url":"/2"',
    'HTTP/1.1 400',
    'SLV_BAD_REQUEST',
  ]);
});

t.test('a head that does not arrive in time is 408', async (t) => {
  const edge = await run(t, edgeTo([await mirror(t)], { listener: { limits: { headerTimeout: '300ms' } } }));
  const client = await RawClient.open(t, edge.port);
  isProblem(t, await client.send('GET / HTTP/1.1\r\nHost:').closed(), 408, 'SLV_REQUEST_TIMEOUT', 'half a head');
});

t.test('a body that stops or drips is 408, a steady slow one goes through', async (t) => {
  const port = await mirror(t);
  const limits = { bodyIdleTimeout: '6s', bodyMinRate: '100B/s' };
  const [stopping, dripping] = await Promise.all([
    run(t, edgeTo([port], { listener: { limits: { bodyIdleTimeout: '1s' } } })),
    run(t, edgeTo([port], { listener: { limits } })),
  ]);
  const upload = async (to: number, total: number, chunk: number, everyMs: number): Promise<string> => {
    const client = await RawClient.open(t, to);
    client.send(`POST / HTTP/1.1\r\n${HOST}Content-Length: ${total}\r\n\r\n`);
    let sent = 0;
    const timer = setInterval(() => {
      if (sent >= total || client.ended !== null) {
        clearInterval(timer);
        return;
      }
      client.send('x'.repeat(Math.min(chunk, total - sent)));
      sent += chunk;
    }, everyMs);
    t.teardown(() => clearInterval(timer));
    return client.until((text) => text.includes('}'));
  };
  const stopped = await RawClient.open(t, stopping.port);
  stopped.send(`POST / HTTP/1.1\r\n${HOST}Content-Length: 10\r\n\r\nabc`);
  const [stop, drip, steady] = await Promise.all([
    stopped.closed(),
    upload(dripping.port, 1_000, 1, 100),
    upload(dripping.port, 1_300, 20, 100),
  ]);
  isProblem(t, stop, 408, 'SLV_REQUEST_TIMEOUT', 'a body that stops');
  t.match(stop, /\r\nconnection: close\r\n/i, 'nobody waits for the rest');
  isProblem(t, drip, 408, 'SLV_REQUEST_TIMEOUT', 'a byte now and then');
  t.equal(parseJson(steady).bytes, 1_300, '200 bytes a second, longer than any grace');
});

t.test('a body over the limit is 413: declared, chunked, expected, or with an offer to upgrade', async (t) => {
  let begun = 0;
  const { port } = await httpUpstream(t, (req, res) => {
    begun++;
    req
      .resume()
      .on('error', () => undefined)
      .on('end', () => res.end('ok'));
  });
  const edge = await run(t, edgeTo([port], { listener: { limits: { bodyBytes: '1KiB' } } }));
  const declared = 'Content-Length: 1000000\r\n';
  for (const [name, head] of [
    ['declared', declared],
    ['expected', `Expect: 100-continue\r\n${declared}`],
    ['upgrade', `Connection: Upgrade\r\nUpgrade: websocket\r\n${declared}`],
  ]) {
    const received = await exchange(t, edge.port, `POST / HTTP/1.1\r\n${HOST}${head}\r\n`);
    isProblem(t, received, 413, 'SLV_BODY_TOO_LARGE', name);
    t.match(received, /\r\nconnection: close\r\n/i, `${name}: the rest is not wanted`);
    t.notMatch(received, /100 Continue/, name);
  }
  t.equal(begun, 0, 'none of them reached the upstream');
  const chunked = await RawClient.open(t, edge.port);
  chunked.send(`POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n`);
  isProblem(t, await chunked.send(`401\r\n${'x'.repeat(0x401)}\r\n`).closed(), 413, 'SLV_BODY_TOO_LARGE', 'chunked');
  const whole = await exchange(
    t,
    edge.port,
    `POST / HTTP/1.1\r\n${HOST}Content-Length: 1024\r\n\r\n${'x'.repeat(1024)}`,
  );
  t.equal(statusOf(whole), 200, 'as much as allowed passes');
});

t.test(
  'an answer that does not need the body: the rest of it is bounded, and small ones cost no connection',
  async (t) => {
    const routes = [
      { name: 'all', to: 'app' },
      { name: 'no', match: [{ path: '/no' }], respond: { status: 404, body: 'no' } },
    ];
    const edge = await run(t, edgeTo([await mirror(t)], { routes } as never));
    const small = await RawClient.open(t, edge.port);
    small.send(`POST /no HTTP/1.1\r\n${HOST}Content-Length: 20000\r\n\r\nhalf`);
    await small.until((text) => text.endsWith('no'));
    small.send('x'.repeat(19_996));
    t.ok(await stillServes(small), 'the next request follows');
    const endless = await RawClient.open(t, edge.port);
    endless.send(`POST /no HTTP/1.1\r\n${HOST}Content-Length: 1000000000\r\n\r\n`);
    const drip = setInterval(() => endless.send('x'), 100);
    t.teardown(() => clearInterval(drip));
    t.match(await endless.closed(), /\r\nconnection: close\r\n[\s\S]*no$/i);
    await eventually(
      () => endless.socket.destroyed || endless.ended === 'reset',
      'the connection is cut although bytes still come',
    );
  },
);

t.test(
  'when the response is over before the upload, the connection takes another request once all has come',
  async (t) => {
    const { port } = await rawUpstream(t, (socket, head) => {
      if (head.startsWith('GET')) socket.end('HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n/alive');
      else {
        socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n');
        setTimeout(() => socket.write('1\r\nb\r\n0\r\n\r\n'), 20);
      }
    });
    const edge = await run(t, edgeTo([port]));
    const client = await RawClient.open(t, edge.port);
    client.send(`POST / HTTP/1.1\r\n${HOST}Content-Length: 200000\r\n\r\n${'x'.repeat(1_000)}`);
    await client.until((text) => text.endsWith('0\r\n\r\n'));
    client.send('x'.repeat(199_000));
    t.ok(await stillServes(client));
  },
);

t.test('a gRPC client gets the mapped status without a body', async (t) => {
  const edge = await run(t, edgeTo([await mirror(t)]));
  const grpc = `${HOST}Content-Type: application/grpc+proto\r\nTE: trailers\r\nContent-Length: 0\r\n`;
  for (const [path, extra, status, message] of [
    ['/a%2Fb', '', '13', 'The request path is not acceptable'],
    ['/', 'grpc-timeout: 0m\r\n', '4', 'The deadline of the request has passed'],
  ]) {
    const {
      status: http,
      headers,
      body,
    } = parse(await exchange(t, edge.port, `POST ${path} HTTP/1.1\r\n${grpc}${extra}\r\n`));
    t.equal(http, 200);
    t.match(headers, { 'content-type': 'application/grpc', 'grpc-status': status, 'grpc-message': message });
    t.equal(body, '');
  }
});

t.test('errors to HEAD have no body, and the connection stays in step', async (t) => {
  const edge = await run(t, edgeTo([await mirror(t)]));
  const client = await RawClient.open(t, edge.port);
  client.send(`HEAD /a%2Fb HTTP/1.1\r\n${HOST}\r\n`);
  const received = await client.until((text) => text.includes('\r\n\r\n'));
  t.match(received, /^HTTP\/1\.1 400 [\s\S]*\r\ncontent-type: application\/problem\+json\r\n/i);
  t.match(received, /\r\n\r\n$/);
  t.ok(await stillServes(client));
});

t.test('grpc-timeout ends the wait and travels, x-selvedge-timeout-ms of a stranger counts for nothing', async (t) => {
  const heads: string[] = [];
  const { port, sockets } = await rawUpstream(t, (_socket, head) => heads.push(head));
  const edge = await run(t, edgeTo([port], { route: { timeout: { request: '400ms' } } }));
  const grpc = await exchange(
    t,
    edge.port,
    `POST / HTTP/1.1\r\n${HOST}Content-Type: application/grpc\r\ngrpc-timeout: 100m\r\nContent-Length: 0\r\n\r\n`,
  );
  t.equal(parse(grpc).headers['grpc-status'], '4');
  t.match(heads[0], /\r\ngrpc-timeout: \d+m\r\n/i, 'the upstream knows how long it is waited for');
  isProblem(
    t,
    await exchange(t, edge.port, `GET / HTTP/1.1\r\n${HOST}X-Selvedge-Timeout-Ms: 1\r\n\r\n`),
    504,
    'SLV_UPSTREAM_TIMEOUT',
    'a stranger',
  );
  t.notMatch(heads[1], /x-selvedge/i);
  await eventually(() => sockets.size === 0, 'nothing is waited for any more');
});

t.test('request trailers pass, TE passes as trailers alone', async (t) => {
  const edge = await run(t, edgeTo([await mirror(t)]));
  const seen = parseJson(
    await exchange(
      t,
      edge.port,
      `POST / HTTP/1.1\r\n${HOST}TE: deflate, trailers;q=0.5\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-sum: 1\r\nauthorization: 9\r\n\r\n`,
    ),
  );
  t.match(seen, { bytes: 2, trailers: { 'x-sum': '1' }, headers: { te: 'trailers', trailer: 'x-sum' } });
  t.notOk('authorization' in seen.trailers, 'credentials have no place in trailers');
  t.notOk('te' in parseJson(await exchange(t, edge.port, `GET / HTTP/1.1\r\n${HOST}TE: gzip\r\n\r\n`)).headers);
});

t.test('Expect: 100-continue without a body, of HTTP/1.0, and twice over', async (t) => {
  const edge = await run(t, edgeTo([await mirror(t)]));
  const empty = await exchange(t, edge.port, `GET / HTTP/1.1\r\n${HOST}Expect: 100-continue\r\n\r\n`);
  t.equal(parse(empty).status, 200);
  const old = await RawClient.open(t, edge.port);
  const received = await old
    .send(`POST / HTTP/1.0\r\n${HOST}Expect: 100-continue\r\nContent-Length: 2\r\n\r\nab`)
    .closed();
  t.match(received, /^HTTP\/1\.1 200/, 'an HTTP/1.0 client gets no interim response');
  const client = await RawClient.open(t, edge.port);
  for (const round of [1, 2]) {
    const before = client.received.length;
    client.send(`POST / HTTP/1.1\r\n${HOST}Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n`);
    await client.until((text) => text.slice(before).includes('100 Continue\r\n\r\n'));
    const answered = await client.send('ab').until((text) => text.endsWith('}'));
    t.match(
      answered.slice(before),
      /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK/,
      `request ${round} on this connection`,
    );
  }
});

t.test('every method that Node knows passes, with or without a body', async (t) => {
  const edge = await run(t, edgeTo([await mirror(t)]));
  for (const method of ['PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND', 'QUERY', 'M-SEARCH', 'GET']) {
    const seen = parseJson(await exchange(t, edge.port, `${method} /m HTTP/1.1\r\n${HOST}Content-Length: 2\r\n\r\nab`));
    t.match(seen, { method, url: '/m', bytes: 2 });
  }
});

t.test('a client that closes while an upgrade waits takes the upstream with it', async (t) => {
  for (const how of ['end', 'destroy', 'resetAndDestroy'] as const) {
    let asked = false;
    const { port, sockets } = await rawUpstream(t, () => {
      asked = true;
    });
    const edge = await run(t, edgeTo([port]));
    const client = await RawClient.open(t, edge.port);
    client.send(HANDSHAKE);
    await eventually(() => asked, 'the upstream was asked');
    client.socket[how]();
    await eventually(() => sockets.size === 0 && edge.selvedge.status.inFlight === 0, `${how}: the upstream is let go`);
  }
  t.pass();
});

t.test('what a client sends right behind its handshake reaches the upstream after the 101', async (t) => {
  const { port } = await rawUpstream(t, (socket) => {
    setTimeout(() => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n');
      socket.on('data', (chunk) => socket.write(`got ${chunk}`));
    }, 30);
  });
  const edge = await run(t, edgeTo([port]));
  const client = await RawClient.open(t, edge.port);
  client.send(HANDSHAKE);
  await new Promise((resolve) => setImmediate(resolve));
  client.send('early');
  t.match(await client.until((text) => text.includes('early')), /got early$/);
  client.send('later');
  t.match(await client.until((text) => text.includes('later')), /got later$/, 'and so does what comes later');
});

t.test('a client that has sent all and closed its side still gets the answer that is ready', async (t) => {
  const edge = await run(
    t,
    edgeTo([await mirror(t)], { route: { to: undefined, respond: { status: 200, body: 'ready' } } }),
  );
  for (const [bytes, pattern] of [
    [`GET / HTTP/1.1\r\n${HOST}\r\n`, /^HTTP\/1\.1 200 [\s\S]*ready$/],
    [`GET /a%2Fb HTTP/1.1\r\n${HOST}\r\n`, /^HTTP\/1\.1 400 [\s\S]*SLV_BAD_PATH/],
    ['BROKEN\r\n\r\n', /^HTTP\/1\.1 400 [\s\S]*SLV_BAD_REQUEST/],
  ] as const) {
    const client = await RawClient.open(t, edge.port);
    client.socket.end(bytes);
    t.match(await client.closed(), pattern);
  }
});

t.test(
  'a client that takes nothing of its answers is cut after the idle time, whether they stream or are complete',
  async (t) => {
    const { port } = await httpUpstream(t, (_req, res) => res.end(Buffer.alloc(16 << 20)));
    const routes = [
      { name: 'stream', to: 'app', timeout: { idle: '500ms' } },
      {
        name: 'whole',
        match: [{ path: '/whole' }],
        respond: { status: 200, body: 'x'.repeat(200_000) },
        timeout: { idle: '500ms' },
      },
    ];
    const edge = await run(t, edgeTo([port], { routes } as never));
    for (const [path, times] of [
      ['/', 1],
      ['/whole', 100],
    ] as const) {
      const client = await RawClient.open(t, edge.port);
      client.socket.pause();
      client.send(`GET ${path} HTTP/1.1\r\n${HOST}\r\n`.repeat(times));
      await eventually(() => edge.selvedge.status.inFlight > 0, `${path}: something is in flight`);
      await eventually(() => edge.selvedge.status.inFlight === 0, `${path}: nothing is in flight any more`);
    }
    t.pass();
  },
);
