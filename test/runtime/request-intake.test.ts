import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { connect } from 'node:net';
import t from 'tap';
import type { Code } from '../../src/errors.ts';
import { EXPECT_CONTINUE } from '../../src/runtime/listener-spec.ts';
import { LIMITS, openListener as open } from '../support/open-listener.ts';
import { dial, exchange, RawClient } from '../support/raw-client.ts';

const statusOf = (answer: string): number => Number(answer.slice(9, 12));
const problemOf = (answer: string): { code: string; status: number; requestId: string; title: string } =>
  JSON.parse(answer.slice(answer.lastIndexOf('\r\n\r\n')));

const HOST = 'Host: a\r\n';
const post = (headers: string, body = ''): string => `POST / HTTP/1.1\r\n${HOST}${headers}\r\n\r\n${body}`;
const get = (headers: string): string => `GET / HTTP/1.1\r\n${HOST}${headers}\r\n\r\n`;
const chunked = (body: string): string => post('Transfer-Encoding: chunked', body);

const MALFORMED: Record<string, string> = {
  'Content-Length with Transfer-Encoding': post('Content-Length: 3\r\nTransfer-Encoding: chunked', '0\r\n\r\n'),
  'Transfer-Encoding with Content-Length': post('Transfer-Encoding: chunked\r\nContent-Length: 3', '0\r\n\r\n'),
  'the same Content-Length twice': post('Content-Length: 3\r\nContent-Length: 3', 'abc'),
  'two Content-Lengths': post('Content-Length: 3\r\nContent-Length: 2', 'abc'),
  'Content-Length: +5': post('Content-Length: +5', 'abcde'),
  'Content-Length: -1': post('Content-Length: -1'),
  'Content-Length: 0x5': post('Content-Length: 0x5', 'abcde'),
  'Content-Length: 5,5': post('Content-Length: 5,5', 'abcde'),
  'Content-Length: 5 5': post('Content-Length: 5 5', 'abcde'),
  'an empty Content-Length': post('Content-Length:'),
  'a Content-Length past 64 bit': post('Content-Length: 99999999999999999999'),
  'a folded header': get('X-A: b\r\n c'),
  'a header folded by a tab': get('X-A: b\r\n\tc'),
  'a fold after an empty value': get('X-A:\r\n c'),
  'a fold of nothing': get('X-A: b\r\n '),
  'a folded Transfer-Encoding': post('Transfer-Encoding:\r\n chunked', '0\r\n\r\n'),
  'a folded Content-Length': post('Content-Length:\r\n 3', 'abc'),
  'space before the first header': `GET / HTTP/1.1\r\n X: 1\r\n${HOST}\r\n`,
  'bare LF after the request line': `GET / HTTP/1.1\n${HOST}\r\n`,
  'bare LF after a header': 'GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n',
  'bare LF at the end of the head': 'GET / HTTP/1.1\r\nHost: a\r\n\n',
  'bare LF throughout': 'GET / HTTP/1.1\nHost: a\n\n',
  'bare CR in a header': 'GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n',
  'bare LF after a chunk size': chunked('1\na\r\n0\r\n\r\n'),
  'bare LF after chunk data': chunked('1\r\na\n0\r\n\r\n'),
  'bare LF after the last chunk': chunked('1\r\na\r\n0\n\r\n'),
  'bare LF at the end of the body': chunked('1\r\na\r\n0\r\n\n'),
  'bare LF after a chunk extension': chunked('1;x=y\na\r\n0\r\n\r\n'),
  'bare LF in a quoted chunk extension': chunked('1;x="y\nz"\r\na\r\n0\r\n\r\n'),
  'space after a chunk size': chunked('1 \r\na\r\n0\r\n\r\n'),
  'space before a chunk size': chunked(' 1\r\na\r\n0\r\n\r\n'),
  'chunk size 0x1': chunked('0x1\r\na\r\n0\r\n\r\n'),
  'chunk size +1': chunked('+1\r\na\r\n0\r\n\r\n'),
  'chunk size -1': chunked('-1\r\na\r\n0\r\n\r\n'),
  'chunk size g': chunked('g\r\na\r\n0\r\n\r\n'),
  'an empty chunk size': chunked('\r\na\r\n0\r\n\r\n'),
  'a chunk size past 64 bit': chunked('10000000000000001\r\na\r\n0\r\n\r\n'),
  'a chunk longer than it says': chunked('1\r\nabc\r\n0\r\n\r\n'),
  'a folded trailer': chunked('0\r\nX-T: a\r\n b\r\n\r\n'),
  'bare LF in trailers': chunked('0\r\nX-T: a\nX-U: b\r\n\r\n'),
  'Content-Length as a trailer': chunked('0\r\nContent-Length: 5\r\n\r\n'),
  'space before the colon': get('X-A : b'),
  'a tab before the colon': get('X-A\t: b'),
  'space before the colon of Content-Length': post('Content-Length : 3', 'abc'),
  'space before the colon of Transfer-Encoding': post('Transfer-Encoding : chunked', '0\r\n\r\n'),
  'space in a header name': get('X A: b'),
  'an empty header name': get(': b'),
  'a header without a colon': get('X-A'),
  'a parenthesis in a header name': get('X(: b'),
  'latin1 in a header name': get('X\xe9: b'),
  'NUL in a header name': get('X\0: b'),
  'NUL in a header value': get('X: a\0b'),
  'a control character in a header value': get('X: a\x01b'),
  'DEL in a header value': get('X: a\x7fb'),
  'Transfer-Encoding: chunked, chunked': post('Transfer-Encoding: chunked, chunked', '0\r\n\r\n'),
  'Transfer-Encoding twice': post('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked', '0\r\n\r\n'),
  'Transfer-Encoding: xchunked': post('Transfer-Encoding: xchunked', '0\r\n\r\n'),
  'Transfer-Encoding: gzip, chunked': post('Transfer-Encoding: gzip, chunked', '0\r\n\r\n'),
  'Transfer-Encoding: chunked, gzip': post('Transfer-Encoding: chunked, gzip', '0\r\n\r\n'),
  'Transfer-Encoding: identity': post('Transfer-Encoding: identity', '0\r\n\r\n'),
  'Transfer-Encoding: chunked;q=1': post('Transfer-Encoding: chunked;q=1', '0\r\n\r\n'),
  'an empty Transfer-Encoding': post('Transfer-Encoding:', '0\r\n\r\n'),
  'a vertical tab before chunked': post('Transfer-Encoding: \x0bchunked', '0\r\n\r\n'),
  'Transfer-Encoding in HTTP/1.0': `POST / HTTP/1.0\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  'HTTP/1.1 without Host': 'GET / HTTP/1.1\r\n\r\n',
  'two Hosts': 'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n',
  'one Host twice': 'GET / HTTP/1.1\r\nHost: a\r\nhoST: a\r\n\r\n',
  'two Hosts in HTTP/1.0': 'GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n',
  'an empty Host': 'GET / HTTP/1.1\r\nHost:\r\n\r\n',
  'HTTP/1.2': `GET / HTTP/1.2\r\n${HOST}\r\n`,
  'HTTP/2.0 in words': `GET / HTTP/2.0\r\n${HOST}\r\n`,
  'HTTP/0.9': `GET / HTTP/0.9\r\n${HOST}\r\n`,
  'a request line without a version': 'GET /\r\n\r\n',
  'a lower-case protocol': `GET / http/1.1\r\n${HOST}\r\n`,
  'space after the version': `GET / HTTP/1.1 \r\n${HOST}\r\n`,
  'space in the target': `GET /a b HTTP/1.1\r\n${HOST}\r\n`,
  'a tab for a space': `GET\t/ HTTP/1.1\r\n${HOST}\r\n`,
  'a control character in the target': `GET /a\x01b HTTP/1.1\r\n${HOST}\r\n`,
  'NUL in the target': `GET /a\0b HTTP/1.1\r\n${HOST}\r\n`,
  'latin1 in the target': `GET /a\xffb HTTP/1.1\r\n${HOST}\r\n`,
  'a target without a slash': `GET a HTTP/1.1\r\n${HOST}\r\n`,
  'a method with a colon': `FO:O / HTTP/1.1\r\n${HOST}\r\n`,
  'an unknown method of HTTP/3': `FOO / HTTP/3.0\r\n${HOST}\r\n`,
  'the HTTP/2 preface': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  'a TLS handshake': '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
};

t.test('a method that nobody knows is answered 501, also behind a request in order', async (t) => {
  const { port } = await open(t);
  for (const line of ['FOO / HTTP/1.1', 'get /x?y HTTP/1.1']) {
    const answer = await exchange(port, `${line}\r\n${HOST}\r\n`);
    t.match(problemOf(answer), { status: 501, code: 'SLV_METHOD_UNSUPPORTED' }, line);
    t.match(answer, /\r\nconnection: close\r\n/i, line);
  }
  const second = await exchange(port, `GET / HTTP/1.1\r\n${HOST}\r\nFOO / HTTP/1.1\r\n${HOST}\r\n`);
  t.match(second, /^HTTP\/1\.1 200 [\s\S]*HTTP\/1\.1 501 /);
});

t.test('a malformed request is answered 400 with a problem, and the connection closes', async (t) => {
  const { port, sink } = await open(t);
  await Promise.all(
    Object.entries(MALFORMED).map(async ([name, text]) => {
      const answer = await exchange(port, text);
      t.match(answer, /^HTTP\/1\.1 400 Bad Request\r\n/, name);
      t.match(answer, /\r\ncontent-type: application\/problem\+json\r\n/i, name);
      t.match(answer, /\r\nproxy-status: selvedge; error=http_request_error\r\n/i, name);
      t.match(answer, /\r\nconnection: close\r\n/i, name);
      t.match(problemOf(answer), { status: 400, code: /^SLV_BAD_(REQUEST|HOST)$/, requestId: /.{20}/ }, name);
      t.equal(answer.indexOf('HTTP/1.1', 1), -1, `${name}: one answer`);
    }),
  );
  t.equal(sink.refused.length, Object.keys(MALFORMED).length, 'each is counted once');
  t.same(
    sink.requests.filter((request) => request !== 'POST /'),
    [],
    'only requests whose body turned out malformed were handed on',
  );
});

t.test('what is unusual but well-formed is served', async (t) => {
  const { port } = await open(t);
  const served = {
    'HTTP/1.0 without Host': 'GET / HTTP/1.0\r\n\r\n',
    'an empty line before the request': `\r\nGET / HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`,
    'space around a Content-Length': post('Connection: close\r\nContent-Length:   5  ', 'abcde'),
    'leading zeros of a Content-Length': post('Connection: close\r\nContent-Length: 005', 'abcde'),
    'Transfer-Encoding: CHUNKED': post('Connection: close\r\nTransfer-Encoding: CHUNKED', '1\r\na\r\n0\r\n\r\n'),
    'chunk extensions': post('Connection: close\r\nTransfer-Encoding: chunked', '1;x="y"\r\na\r\n0\r\n\r\n'),
    'latin1 in a header value': get('Connection: close\r\nX: a\xffb'),
    'an empty header value': get('Connection: close\r\nX:'),
  };
  for (const [name, text] of Object.entries(served)) {
    t.match(await exchange(port, text), /^HTTP\/1\.1 200 OK\r\n[\s\S]*served/, name);
  }
});

t.test('a request that exceeds a limit is told which', async (t) => {
  const { port, sink } = await open(t);
  const lines = (count: number): string => Array.from({ length: count }, (_, i) => `X${i}: 1`).join('\r\n');
  const cases: [string, string, number, Code][] = [
    ['a head over headerBytes', get(`X: ${'a'.repeat(9_000)}`), 431, 'SLV_HEADERS_TOO_LARGE'],
    ['many small headers over headerBytes', get(lines(1_500)), 431, 'SLV_HEADERS_TOO_LARGE'],
    ['a header more than headerCount', get(lines(20)), 431, 'SLV_HEADERS_TOO_LARGE'],
    ['far more headers than headerCount', get(lines(400)), 431, 'SLV_HEADERS_TOO_LARGE'],
    ['a target over urlBytes', `GET /${'a'.repeat(1_024)} HTTP/1.1\r\n${HOST}\r\n`, 414, 'SLV_URL_TOO_LONG'],
    ['a target over headerBytes', `GET /${'a'.repeat(9_000)} HTTP/1.1\r\n${HOST}\r\n`, 414, 'SLV_URL_TOO_LONG'],
    ['a target without end', `GET /${'a'.repeat(70_000)}`, 414, 'SLV_URL_TOO_LONG'],
    ['a body longer than can be counted', post('Content-Length: 9223372036854775808'), 413, 'SLV_BODY_TOO_LARGE'],
    ['TRACE', `TRACE / HTTP/1.1\r\n${HOST}\r\n`, 501, 'SLV_METHOD_UNSUPPORTED'],
    ['CONNECT', `CONNECT a:443 HTTP/1.1\r\n${HOST}\r\n`, 501, 'SLV_METHOD_UNSUPPORTED'],
    ['an unknown expectation', get('Expect: the-best'), 417, 'SLV_EXPECTATION_FAILED'],
  ];
  for (const [name, text, status, code] of cases) {
    const answer = await exchange(port, text);
    t.equal(statusOf(answer), status, name);
    t.equal(problemOf(answer).code, code, name);
    t.equal(sink.refused.at(-1), code, name);
  }
  t.same(sink.requests, []);
  t.match(await exchange(port, get(`Connection: close\r\n${lines(18)}`)), /200 OK/, 'headerCount headers are let in');
  t.match(
    await exchange(port, `GET /${'a'.repeat(1_023)} HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`),
    /200 OK/,
    'urlBytes are let in',
  );
});

t.test('a hop hands TRACE on', async (t) => {
  const { port } = await open(t, { role: 'inbound' });
  t.match(await exchange(port, `TRACE / HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`), /200 OK/);
});

t.test(
  'a head that arrives too slowly is answered 408; a connection that says nothing is closed without a word',
  async (t) => {
    const { port, sink } = await open(t, { limits: { ...LIMITS, headerTimeoutMs: 100 } });
    const [slow, silent] = await Promise.all([exchange(port, 'GET / HTTP/1.1\r\nHos'), exchange(port, '')]);
    t.equal(problemOf(slow).code, 'SLV_REQUEST_TIMEOUT');
    t.equal(statusOf(slow), 408);
    t.equal(silent, '');
    t.same(sink.refused, ['SLV_REQUEST_TIMEOUT']);
  },
);

t.test('a malformed request behind another one is refused after the answer to the first', async (t) => {
  const { port, sink } = await open(t);
  let release = (): void => undefined;
  sink.handler = (_req, res) => {
    release = () => res.end('first');
  };
  const answer = exchange(port, `GET /1 HTTP/1.1\r\n${HOST}\r\nGET /2 HTTP/1.1\r\nX : y\r\n\r\n`);
  while (sink.refused.length === 0) await new Promise(setImmediate);
  release();
  t.match(await answer, /^HTTP\/1\.1 200 OK[\s\S]*first *HTTP\/1\.1 400 Bad Request/);
  t.same(sink.requests, ['GET /1']);
});

t.test('what follows `connection: close` is not looked at, and the answer before it goes out', async (t) => {
  const { port, sink } = await open(t);
  sink.handler = (_req, res) => void setImmediate(() => res.end('only'));
  const answer = await exchange(
    port,
    `GET /1 HTTP/1.1\r\n${HOST}Connection: close\r\n\r\nGET /2 HTTP/1.1\r\n${HOST}\r\n`,
  );
  t.match(answer, /^HTTP\/1\.1 200 OK[\s\S]*only$/);
  t.same([sink.requests, sink.refused], [['GET /1'], []]);
});

t.test('nothing behind a request that closes the connection is acted on', async (t) => {
  const { port, sink, listener } = await open(t);
  const more = `GET /2 HTTP/1.1\r\n${HOST}\r\nCONNECT a:1 HTTP/1.1\r\n${HOST}\r\n`;
  const upgrade = get('Connection: upgrade\r\nUpgrade: websocket');
  for (const next of [more, upgrade]) {
    const refused = await exchange(port, `GET /1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n${next}`);
    t.match(refused, /^HTTP\/1\.1 400/);
    t.equal(refused.indexOf('HTTP/1.1', 1), -1);
  }
  t.same([sink.requests, sink.upgrades], [[], []]);
  listener.drain();
  sink.handler = (_req, res) => void setTimeout(() => res.end('only'), 5);
  t.match(await exchange(port, `GET /1 HTTP/1.1\r\n${HOST}\r\n${more}`), /^HTTP\/1\.1 200 OK[\s\S]*only$/);
  t.same(sink.requests, ['GET /1']);
});

t.test('a body that turns out malformed while its response is being sent breaks the response off', async (t) => {
  const { port, sink } = await open(t);
  const started = new Promise<void>((resolve) => {
    sink.handler = (_req, res) => {
      res.write('half');
      resolve();
    };
  });
  const client = dial(port, post('Transfer-Encoding: chunked', '1\r\n'));
  await started;
  await client.until('half');
  client.send('zzzz\r\n');
  const answer = await client.closed();
  t.equal(answer.indexOf('HTTP/1.1', 1), -1, 'no second answer inside the first');
  t.notMatch(answer, /\r\n0\r\n\r\n$/, 'and it is not completed');
});

t.test('pipelined requests are answered in their order', async (t) => {
  const { port, sink } = await open(t);
  sink.handler = (req, res) => void setTimeout(() => res.end(`[${req.url}]`), req.url === '/1' ? 20 : 0);
  const last = `GET /3 HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`;
  const answer = await exchange(port, `GET /1 HTTP/1.1\r\n${HOST}\r\nGET /2 HTTP/1.1\r\n${HOST}\r\n${last}`);
  t.same(answer.match(/\[\/\d\]/g), ['[/1]', '[/2]', '[/3]']);
});

t.test('`Expect: 100-continue` is left to whoever takes the body', async (t) => {
  const { port, sink } = await open(t);
  sink.handler = (req, res) => {
    t.equal((req as { [EXPECT_CONTINUE]?: boolean })[EXPECT_CONTINUE], true);
    res.writeContinue();
    req.resume();
    req.on('end', () => res.end('served'));
  };
  const socket = dial(port, post('Connection: close\r\nExpect: 100-continue\r\nContent-Length: 2'));
  t.equal(await socket.until('\r\n\r\n'), 'HTTP/1.1 100 Continue\r\n\r\n');
  socket.send('ok');
  t.match(await socket.until('served'), /Continue\r\n\r\nHTTP\/1\.1 200 OK/);
});

t.test('a request carries what is known of its connection', async (t) => {
  const { port, sink } = await open(t, { host: '::', key: 'gateway/public/dual' });
  await exchange(port, get('Connection: close'));
  const { connection } = sink;
  t.match(connection, { scheme: 'http', remoteAddress: '127.0.0.1', localPort: port, peer: null, serverName: null });
  t.equal(connection?.listener.key, 'gateway/public/dual');
});

t.test('a websocket offer is an upgrade; h2c, TLS and offers with a body are ordinary requests', async (t) => {
  const { port, sink } = await open(t);
  const offer = (upgrade: string, more = ''): string =>
    `GET /up HTTP/1.1\r\n${HOST}Connection: upgrade${more}\r\nUpgrade: ${upgrade}\r\n\r\n`;
  t.match(await exchange(port, `${offer('websocket')}early`), /^HTTP\/1\.1 101/);
  t.equal(sink.upgrades.length, 1);
  t.match(await exchange(port, offer('WebSocket, other/1')), /^HTTP\/1\.1 101/);

  for (const token of ['h2c', 'H2C', 'websocket, h2c', 'TLS/1.0', 'HTTP/2.0']) {
    t.match(await exchange(port, offer(token, ', close')), /^HTTP\/1\.1 200 OK[\s\S]*served/, token);
  }
  const smuggled = `GET /up HTTP/1.1\r\n${HOST}Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n`;
  t.match(await exchange(port, smuggled), /200 OK/);
  const withBody = `POST /up HTTP/1.1\r\n${HOST}Connection: upgrade, close\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc`;
  t.match(await exchange(port, withBody), /200 OK/);
  t.equal(sink.upgrades.length, 2);
  t.equal(statusOf(await exchange(port, `GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n`)), 400);
});

t.test('an upgrade offer behind a response that is being sent is an ordinary request', async (t) => {
  const { port, sink } = await open(t);
  sink.handler = (req, res) => void setTimeout(() => res.end(`[${req.url}]`), 10);
  const answer = await exchange(
    port,
    `GET /1 HTTP/1.1\r\n${HOST}\r\nGET /2 HTTP/1.1\r\n${HOST}Connection: upgrade, close\r\nUpgrade: websocket\r\n\r\n`,
  );
  t.same(answer.match(/\[\/\d\]/g), ['[/1]', '[/2]']);
});

t.test('no request waits for ever behind an upgrade offer that was not taken', async (t) => {
  const { port } = await open(t);
  const offer = `GET /1 HTTP/1.1\r\n${HOST}Connection: upgrade\r\nUpgrade: h2c\r\n\r\n`;
  const answer = await exchange(port, `${offer}GET /2 HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`);
  t.match(answer, /^HTTP\/1\.1 200 OK\r\n[\s\S]*connection: close\r\n[\s\S]*served/i);
});

t.test('a small answer reaches the client byte for byte', async (t) => {
  const { port, sink } = await open(t);
  const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  const bodies: Record<string, (res: ServerResponse) => void> = {
    '/bytes': (res) => res.end(all),
    '/callback': (res) => res.end(all, () => undefined),
    '/length': (res) => res.writeHead(200, { 'content-length': 256 }).end(all),
    '/latin1-header': (res) => res.writeHead(200, { 'x-name': 'caf\xe9' }).end(all),
    '/view': (res) => res.end(new Uint8Array(all)),
    '/2048': (res) => res.end(Buffer.alloc(2_048, all)),
    '/2049': (res) => res.end(Buffer.alloc(2_049, all)),
    '/empty': (res) => res.end(Buffer.alloc(0)),
    '/parts': (res) => {
      res.write(all.subarray(0, 100));
      res.end(all.subarray(100));
    },
    '/text': (res) => res.end('grüße €'),
  };
  sink.handler = (req, res) => {
    res.shouldKeepAlive = false;
    bodies[req.url as string](res);
  };
  const bodyOf = async (url: string, method = 'GET'): Promise<Buffer> => {
    const answer = await exchange(port, `${method} ${url} HTTP/1.0\r\n\r\n`);
    return Buffer.from(answer.slice(answer.indexOf('\r\n\r\n') + 4), 'latin1');
  };
  for (const url of ['/bytes', '/callback', '/length', '/latin1-header', '/view', '/parts']) {
    t.same(await bodyOf(url), all, url);
  }
  for (const size of [2_048, 2_049]) t.same(await bodyOf(`/${size}`), Buffer.alloc(size, all), `${size} bytes`);
  t.same(await bodyOf('/empty'), Buffer.alloc(0));
  t.same(await bodyOf('/text'), Buffer.from('grüße €'));
  t.same(await bodyOf('/length', 'HEAD'), Buffer.alloc(0), 'HEAD has no body');
  t.match(await exchange(port, 'GET /latin1-header HTTP/1.0\r\n\r\n'), /x-name: caf\xe9\r\n/);
  t.match(await exchange(port, `GET /bytes HTTP/1.1\r\n${HOST}\r\n`), /content-length: 256\r\n/i);
});

t.test('answers without a body, with trailers and with a strict length stay what they are', async (t) => {
  const { port, sink } = await open(t);
  const errors: unknown[] = [];
  sink.handler = (req, res) => {
    res.shouldKeepAlive = false;
    if (req.url === '/204') res.writeHead(204).end(Buffer.from('never'));
    else if (req.url === '/304') res.writeHead(304).end(Buffer.from('never'));
    else if (req.url === '/trailers') {
      res.writeHead(200, { trailer: 'x-sum', 'transfer-encoding': 'chunked' });
      res.addTrailers({ 'x-sum': '1' });
      res.end(Buffer.from([0xff, 0x00, 0x80]));
    } else {
      res.strictContentLength = true;
      res.writeHead(200, { 'content-length': 4 });
      try {
        res.end(Buffer.from([0xff, 0xfe, 0xfd]));
      } catch (error) {
        errors.push(error);
        res.destroy();
      }
    }
  };
  const head = (url: string): string => `GET ${url} HTTP/1.1\r\n${HOST}\r\n`;
  t.match(await exchange(port, head('/204')), /^HTTP\/1\.1 204 No Content\r\n[\s\S]*\r\n\r\n$/);
  t.match(await exchange(port, head('/304')), /^HTTP\/1\.1 304 Not Modified\r\n[\s\S]*\r\n\r\n$/);
  t.ok((await exchange(port, head('/trailers'))).endsWith('\r\n\r\n3\r\n\xff\x00\x80\r\n0\r\nx-sum: 1\r\n\r\n'));
  await exchange(port, head('/strict'));
  t.match(errors, [{ code: 'ERR_HTTP_CONTENT_LENGTH_MISMATCH' }]);
});

t.test('a refused client that goes on sending is cut off', async (t) => {
  const { port, listener } = await open(t);
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const client = new RawClient(socket, 'GET / HTTP/1.1\r\nX : y\r\n\r\n');
  const flood = setInterval(() => socket.write(Buffer.alloc(262_144)), 5);
  t.teardown(() => clearInterval(flood));
  t.match(await client.closed(), /^HTTP\/1\.1 400/);
  while (listener.connections > 0) await new Promise(setImmediate);
});

t.test('what throws behind the listener costs the connection and nothing else', async (t) => {
  const { port, sink } = await open(t);
  const { handler } = sink;
  sink.handler = () => {
    throw new Error('unexpected');
  };
  t.equal(await exchange(port, get('')), '');
  sink.upgrade = () => {
    throw new Error('unexpected');
  };
  t.equal(await exchange(port, get('Connection: upgrade\r\nUpgrade: websocket')), '');
  sink.handler = handler;
  t.match(await exchange(port, get('Connection: close')), /200 OK/);
});

t.test('good, bad and aborted connections leave nothing behind', async (t) => {
  const { port, listener } = await open(t);
  const bad = Object.values(MALFORMED);
  for (let round = 0; round < 10; round++) {
    const kinds = Array.from({ length: 40 }, async (_, i) => {
      if (i % 4 === 0) return exchange(port, get('Connection: close'));
      if (i % 4 === 1) return exchange(port, bad[(round * 10 + i) % bad.length]);
      const aborted = dial(port, i % 4 === 2 ? get('').slice(0, i) : post('Content-Length: 100', 'abc'));
      await once(aborted.socket, 'connect');
      aborted.socket.resetAndDestroy();
      return aborted.closed();
    });
    await Promise.all(kinds);
  }
  while (listener.connections > 0) await new Promise(setImmediate);
  t.equal(listener.connections, 0);
});
