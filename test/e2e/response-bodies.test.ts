// Plugins that read or replace the service's answer, over real sockets: whole or not, fast or slow, and whoever leaves first.
import type { RequestListener } from 'node:http';
import t, { type Test } from 'tap';
import { edgeTo, run } from './support/gateway.ts';
import { eventually, exchange, httpUpstream, RawClient, statusOf } from './support/sockets.ts';

const reading = new URL('./support/reading-plugin.ts', import.meta.url).pathname;

async function edge(t: Test, listener: RequestListener) {
  const { port, server } = await httpUpstream(t, listener);
  const running = await run(t, edgeTo([port], { gateway: { plugins: [reading] } }));
  return { ...running, server };
}

t.test('a body within the bound is read whole, a larger one goes on from its first byte', async (t) => {
  const large = Buffer.alloc(3_000_000, 'abcdefg');
  const { url } = await edge(t, async (req, res) => {
    if (req.url === '/small') res.end('small');
    else if (req.url === '/empty') res.end();
    else if (req.url === '/pieces') {
      for (let i = 0; i < 10; i++) {
        res.write(`${i}`);
        await new Promise((next) => setImmediate(next));
      }
      res.end();
    } else res.end(large);
  });
  const small = await fetch(`${url}/small`);
  t.equal(small.headers.get('x-read'), 'whole 5');
  t.equal(await small.text(), 'small');
  const empty = await fetch(`${url}/empty`);
  t.equal(empty.headers.get('x-read'), 'whole 0');
  const pieces = await fetch(`${url}/pieces`);
  t.equal(pieces.headers.get('x-read'), 'whole 10');
  t.equal(await pieces.text(), '0123456789');
  const big = await fetch(`${url}/large`);
  t.equal(big.headers.get('x-read'), 'larger');
  t.ok(Buffer.from(await big.arrayBuffer()).equals(large));
});

t.test('trailers pass a body that was read and one that was changed', async (t) => {
  const { port } = await edge(t, (_req, res) => {
    res.setHeader('trailer', 'x-sum').write('abc');
    setImmediate(() => {
      res.addTrailers({ 'x-sum': '6' });
      res.end('def');
    });
  });
  const changed = await exchange(t, port, 'GET / HTTP/1.1\r\nHost: a\r\nX-Do: capitals\r\nConnection: close\r\n\r\n');
  t.match(changed, /ABC/);
  t.match(changed, /\r\n0\r\nx-sum: 6\r\n/i);
});

t.test('a body with trailers that is read whole goes without them, and says so', async (t) => {
  const { port } = await edge(t, (_req, res) => {
    res.setHeader('trailer', 'x-sum').write('abc');
    res.addTrailers({ 'x-sum': '6' });
    setImmediate(() => res.end('def'));
  });
  const read = await exchange(t, port, 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
  t.equal(statusOf(read), 200);
  t.match(read, /content-length: 6\r\n/i);
  t.notMatch(read, /trailer/i);
});

t.test('a service that breaks off before the bound is answered 502, without the headers of its answer', async (t) => {
  const { port } = await edge(t, (_req, res) => {
    res.writeHead(200, { 'content-length': '500', 'content-encoding': 'gzip', etag: '"a"' });
    res.write('begun');
    setTimeout(() => res.destroy(), 20);
  });
  const response = await exchange(t, port, 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
  t.equal(statusOf(response), 502);
  t.match(response, /SLV_UPSTREAM/);
  t.notMatch(response, /content-encoding|etag/i);
});

t.test('a service that breaks off later breaks the client off: nobody takes it for whole', async (t) => {
  const { port } = await edge(t, (_req, res) => {
    res.write('begun');
    setTimeout(() => res.destroy(), 20);
  });
  const response = await exchange(t, port, 'GET / HTTP/1.1\r\nHost: a\r\nX-Do: capitals\r\n\r\n');
  t.match(response, /BEGUN/);
  t.notMatch(response, /\r\n0\r\n/);
});

t.test('a client that leaves ends the service, while the body is read and while it is changed', async (t) => {
  let came = 0;
  let gone = 0;
  const { port } = await edge(t, (_req, res) => {
    came += 1;
    res.on('close', () => {
      gone += 1;
    });
    res.write('begun');
  });
  for (const what of ['read', 'capitals']) {
    const before = gone;
    const client = await RawClient.open(t, port);
    client.send(`GET / HTTP/1.1\r\nHost: a\r\nX-Do: ${what}\r\n\r\n`);
    if (what === 'capitals') await client.until('BEGUN');
    else await eventually(() => came === before + 1, 'the request arrives');
    client.socket.destroy();
    await eventually(() => gone === before + 1, what);
  }
});

t.test('a client that takes nothing holds the service back', async (t) => {
  let written = 0;
  const { port } = await edge(t, (_req, res) => {
    const chunk = Buffer.alloc(65_536, 'a');
    const more = (): void => {
      while (written < 256_000_000) {
        written += chunk.length;
        if (!res.write(chunk)) {
          res.once('drain', more);
          return;
        }
      }
      res.end();
    };
    more();
  });
  const client = await RawClient.open(t, port);
  client.socket.pause();
  client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Do: capitals\r\n\r\n');
  let last = -1;
  let still = 0;
  await eventually(() => {
    still = written > 0 && written === last ? still + 1 : 0;
    last = written;
    return still === 20;
  }, 'the service stands still');
  t.ok(written < 64_000_000);
});
