// cache over real sockets: many at once, whoever leaves, services that break off, compress before it, and curl.
import { execFile } from 'node:child_process';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { edgeTo, run } from './support/gateway.ts';
import { eventually, exchange, httpUpstream, RawClient, statusOf } from './support/sockets.ts';

const curl = promisify(execFile);

async function edge(
  t: Test,
  listener: RequestListener,
  options: object = {},
  plugins: readonly unknown[] = [],
  route = {},
) {
  const asked: IncomingMessage[] = [];
  const { port } = await httpUpstream(t, (req, res) => {
    asked.push(req);
    listener(req, res);
  });
  const running = await run(t, edgeTo([port], { gateway: { plugins: [...plugins, { cache: options }] }, route }));
  return { ...running, asked };
}

t.test('curl gets it from memory, whole, also by HEAD and when it has it already', async (t) => {
  const body = 'x'.repeat(200_000);
  const { url, asked } = await edge(t, (_req, res) => {
    res.writeHead(200, { 'cache-control': 'max-age=60', etag: '"a"', connection: 'x-hop', 'x-hop': '1' }).end(body);
  });
  const ask = async (...more: string[]) => (await curl('curl', ['-s', '-D', '-', ...more, `${url}/a`])).stdout;
  t.match(await ask(), /cache-status: selvedge; fwd=miss; fwd-status=200; stored/i);
  const hit = await ask();
  t.match(hit, /cache-status: selvedge; hit; ttl=/i);
  t.match(hit, /\r\nage: \d+\r\n/i);
  t.match(hit, /content-length: 200000\r\n/i);
  t.notMatch(hit, /x-hop/);
  t.ok(hit.endsWith(body));
  t.match(await ask('-I'), /content-length: 200000\r\n/i);
  t.match(await ask('-H', 'If-None-Match: "a"'), /^HTTP\/1.1 304/);
  t.equal(asked.length, 1);
});

t.test('many who ask for the same at once are one request', async (t) => {
  const waiting: ServerResponse[] = [];
  const { url, asked } = await edge(t, (_req, res) => {
    waiting.push(res);
  });
  const all = Array.from({ length: 20 }, () =>
    fetch(url).then(async (r) => [r.headers.get('cache-status'), await r.text()]),
  );
  await eventually(() => waiting.length === 1, 'one comes');
  waiting[0].writeHead(200, { 'cache-control': 'max-age=60' }).write('be');
  setTimeout(() => waiting[0].end('gun'), 30);
  const answers = await Promise.all(all);
  t.ok(answers.every(([, text]) => text === 'begun'));
  t.ok(answers.some(([status]) => status === 'selvedge; fwd=miss; collapsed'));
  t.equal(asked.length, 1);
});

t.test('what turns out not to be shared goes to each by itself, at once', async (t) => {
  const waiting: ServerResponse[] = [];
  const { url, asked } = await edge(t, (_req, res) => {
    waiting.push(res);
  });
  const all = Array.from({ length: 10 }, () => fetch(url).then((r) => r.text()));
  await eventually(() => waiting.length === 1, 'one comes');
  waiting[0].writeHead(200, { 'cache-control': 'private' }).flushHeaders();
  await eventually(() => waiting.length === 10, 'the others come while the first is not done');
  waiting.forEach((res, i) => {
    res.end(`${i}`);
  });
  t.equal(new Set(await Promise.all(all)).size, 10);
  const more = [fetch(url), fetch(url)];
  await eventually(() => asked.length === 12, 'nobody waits the next time');
  for (const res of waiting.slice(10)) res.end();
  await Promise.all(more);
});

t.test('the first who leaves hands over to the next, with one request at a time', async (t) => {
  const waiting: ServerResponse[] = [];
  const { url, port } = await edge(t, (_req, res) => {
    waiting.push(res);
  });
  const first = await RawClient.open(t, port);
  first.send('GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n'.replace('PORT', `${port}`));
  await eventually(() => waiting.length === 1, 'it comes');
  const leaver = await RawClient.open(t, port);
  leaver.send(`GET / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
  const others = [1, 2, 3].map(() => fetch(url).then((r) => r.text()));
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(waiting.length, 1);
  leaver.socket.destroy();
  first.socket.destroy();
  await eventually(() => waiting.length === 2, 'the next fetches');
  waiting[1].writeHead(200, { 'cache-control': 'max-age=60' }).end('whole');
  t.strictSame(await Promise.all(others), ['whole', 'whole', 'whole']);
  t.ok(waiting.length <= 3, 'nor does everyone');
});

t.test('who waits too long goes by itself', async (t) => {
  const waiting: ServerResponse[] = [];
  const { url } = await edge(
    t,
    (_req, res) => {
      waiting.push(res);
      if (waiting.length > 1) res.writeHead(200, { 'cache-control': 'max-age=60' }).end('own');
    },
    { collapse: '50ms' },
  );
  const first = fetch(url).then((r) => r.text());
  await eventually(() => waiting.length === 1, 'it comes');
  t.equal(await (await fetch(url)).text(), 'own');
  waiting[0].end('late');
  t.equal(await first, 'late');
});

t.test('an answer that breaks off or grows too large is not kept, and loses nothing', async (t) => {
  let times = 0;
  const { url, port } = await edge(
    t,
    (req, res) => {
      times += 1;
      res.writeHead(200, { 'cache-control': 'max-age=60' });
      if (req.url === '/large') {
        res.write('x'.repeat(600));
        setImmediate(() => res.end('y'.repeat(600)));
      } else {
        res.write('begun');
        setTimeout(() => res.destroy(), 20);
      }
    },
    { maxEntryBytes: 1_000 },
  );
  for (let i = 1; i <= 2; i++) {
    t.equal((await (await fetch(`${url}/large`)).text()).length, 1_200);
    t.equal(times, i);
  }
  for (let i = 3; i <= 4; i++) {
    const broken = await exchange(t, port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    t.notMatch(broken, /\r\n0\r\n/);
    t.equal(times, i);
  }
});

t.test('compress before it: one plain copy, each client by its own coding', async (t) => {
  const { url, asked } = await edge(
    t,
    (_req, res) =>
      res
        .writeHead(200, { 'content-type': 'text/plain', 'cache-control': 'max-age=60', etag: '"a"' })
        .end('a'.repeat(5_000)),
    {},
    [{ compress: { upstream: 'identity' } }],
  );
  for (const [accepted, coding] of [
    ['gzip', 'gzip'],
    ['br', 'br'],
    ['identity', null],
  ] as const) {
    const answer = await fetch(url, { headers: { 'accept-encoding': accepted } });
    t.equal(answer.headers.get('content-encoding'), coding);
    t.equal(answer.headers.get('etag'), coding === null ? '"a"' : 'W/"a"');
    t.equal((await answer.text()).length, 5_000);
  }
  t.equal(asked.length, 1);
});

t.test('what the gateway knows to be the same is one, and what a stranger claims changes nothing', async (t) => {
  const { port, asked } = await edge(t, (req, res) => {
    res.writeHead(200, { 'cache-control': 'max-age=60' }).end(`${req.headers['x-forwarded-host']} ${req.url}`);
  });
  const get = (target: string, headers = '') =>
    exchange(t, port, `GET ${target} HTTP/1.1\r\nHost: shop.example\r\n${headers}Connection: close\r\n\r\n`);
  t.match(
    await get(
      '/a/%7euser',
      'X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\nForwarded: host=evil.example\r\n',
    ),
    /shop\.example \/a\/~user/,
  );
  t.match(await get('/a/x/../~user'), /shop\.example \/a\/~user/);
  t.match(await get('//a/./~user'), /shop\.example \/a\/~user/);
  t.equal(asked.length, 1);
});

t.test(
  'who was let in by a key is never answered from what another got, and who was not is not answered at all',
  async (t) => {
    const { port, asked } = await edge(
      t,
      (_req, res) => res.writeHead(200, { 'cache-control': 'public, max-age=60' }).end('secret'),
      {},
      [{ 'api-key': { keys: ['a ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'] } }],
    );
    const get = (headers: string) =>
      exchange(t, port, `GET /x.css HTTP/1.1\r\nHost: a\r\n${headers}Connection: close\r\n\r\n`);
    for (let i = 1; i <= 2; i++) {
      t.equal(statusOf(await get('X-Api-Key: abc\r\n')), 200);
      t.equal(asked.length, i);
    }
    t.equal(statusOf(await get('')), 401);
  },
);

t.test('a stale answer is renewed behind the back, by a request of its own', async (t) => {
  let nth = 0;
  const { url } = await edge(t, (req, res) => {
    nth += 1;
    const control = nth === 1 ? 'max-age=0, stale-while-revalidate=60' : 'max-age=60';
    if (nth > 1) t.equal(req.headers['if-none-match'], '"1"');
    res.writeHead(200, { 'cache-control': control, etag: `"${nth}"` }).end(`${nth}`);
  });
  t.equal(await (await fetch(url)).text(), '1');
  t.equal(await (await fetch(url)).text(), '1');
  await eventually(() => nth === 2, 'the service is asked again');
  let last = '1';
  while (last === '1') last = await (await fetch(url)).text();
  t.equal(last, '2');
  t.equal(nth, 2);
});
