// compress over real sockets: streams that trickle, clients that leave, services that break off, and curl.
import { execFile } from 'node:child_process';
import type { RequestListener } from 'node:http';
import { promisify } from 'node:util';
import { createGunzip, gunzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { edgeTo, run } from './support/gateway.ts';
import { eventually, exchange, httpUpstream, RawClient, statusOf } from './support/sockets.ts';

const curl = promisify(execFile);
const HTML = { 'content-type': 'text/html' };
const GET = 'GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n';

async function edge(t: Test, listener: RequestListener, options: object = {}, plugins: readonly unknown[] = []) {
  const { port } = await httpUpstream(t, listener);
  return run(t, edgeTo([port], { gateway: { plugins: [{ compress: options }, ...plugins] } }));
}

/** What a raw chunked response carries. */
function bodyOf(response: string): Buffer {
  let rest = response.slice(response.indexOf('\r\n\r\n') + 4);
  const parts: Buffer[] = [];
  for (;;) {
    const size = Number.parseInt(rest, 16);
    if (!(size > 0)) return Buffer.concat(parts);
    const start = rest.indexOf('\r\n') + 2;
    parts.push(Buffer.from(rest.slice(start, start + size), 'latin1'));
    rest = rest.slice(start + size + 2);
  }
}

t.test('fetch and curl get back what the service said, of every size', async (t) => {
  const bodies = new Map(
    [0, 1, 1_023, 1_024, 70_000, 3_000_000].map((size) => [`/${size}`, Buffer.alloc(size, 'the same over and over ')]),
  );
  const { url } = await edge(t, (req, res) => {
    const body = bodies.get((req.url as string).replace('/chunked', '')) as Buffer;
    const whole = req.url?.startsWith('/chunked') !== true;
    res.writeHead(200, whole ? { ...HTML, 'content-length': body.length } : HTML);
    if (!whole) res.write(body.subarray(0, 10));
    res.end(whole ? body : body.subarray(10));
  });
  for (const [path, body] of bodies) {
    for (const way of ['', '/chunked']) {
      const response = await fetch(`${url}${way}${path}`, { headers: { 'accept-encoding': 'br' } });
      t.equal(response.headers.get('content-encoding'), body.length >= 1_024 ? 'br' : null, `${way}${path}`);
      t.ok(Buffer.from(await response.arrayBuffer()).equals(body), `${way}${path}`);
    }
  }
  const { stdout } = await curl('curl', ['-s', '--compressed', '-D', '-', `${url}/70000`]);
  t.match(stdout, /content-encoding: (br|zstd|gzip)/i);
  t.ok(stdout.endsWith(String(bodies.get('/70000'))));
  const head = await exchange(
    t,
    Number(new URL(url).port),
    `HEAD /70000 HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n`,
  );
  t.match(head, /content-encoding: gzip/i);
  t.notMatch(head, /content-length/i);
});

t.test('a service that trickles is not held back', async (t) => {
  let more: () => void = () => {};
  const { port } = await edge(
    t,
    (_req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      res.write('data: first\n\n');
      more = () => res.write('data: second\n\n');
    },
    { types: ['text/event-stream'] },
  );
  const client = await RawClient.open(t, port);
  client.send(`${GET}\r\n`);
  const decoder = createGunzip();
  let text = '';
  decoder.on('data', (chunk) => {
    text += chunk;
  });
  let given = 0;
  const decoded = (): string => {
    if (!client.received.includes('\r\n\r\n')) return '';
    const body = bodyOf(client.received);
    if (body.length > given) decoder.write(body.subarray(given));
    given = body.length;
    return text;
  };
  await eventually(() => decoded() === 'data: first\n\n', 'the first event, while the service says no more');
  more();
  await eventually(() => decoded().endsWith('data: second\n\n'), 'the second');
});

t.test('trailers pass', async (t) => {
  const { port } = await edge(t, (req, res) => {
    res.writeHead(200, { ...HTML, ...(req.url === '/announced' ? { trailer: 'x-sum' } : {}) });
    res.write(req.url === '/large' ? 'a'.repeat(5_000) : 'a');
    setImmediate(() => {
      res.addTrailers({ 'x-sum': '6' });
      res.end('b');
    });
  });
  for (const path of ['/small', '/large', '/announced']) {
    const response = await exchange(t, port, `${GET.replace('/', path)}Connection: close\r\n\r\n`);
    t.match(response, /\r\n0\r\nx-sum: 6\r\n\r\n$/i, path);
    if (path === '/large') t.equal(String(gunzipSync(bodyOf(response))), `${'a'.repeat(5_000)}b`);
  }
});

t.test('a service that breaks off is never completed', async (t) => {
  const { port } = await edge(t, (req, res) => {
    res.writeHead(200, { ...HTML, etag: '"a"' });
    res.write(req.url === '/early' ? 'a' : 'a'.repeat(5_000));
    setTimeout(() => res.destroy(), req.url === '/early' ? 1 : 60);
  });
  const late = await exchange(t, port, `${GET}\r\n`);
  t.equal(statusOf(late), 200);
  t.notMatch(late, /\r\n0\r\n/);
  const early = await exchange(t, port, `${GET.replace('/', '/early')}Connection: close\r\n\r\n`);
  t.ok(statusOf(early) === 502 || !early.includes('\r\n0\r\n'));
});

t.test('a client that leaves ends the service and frees its place', async (t) => {
  let gone = 0;
  let hold = true;
  const { port, url } = await edge(
    t,
    (_req, res) => {
      res.writeHead(200, HTML);
      res.on('close', () => {
        gone += 1;
      });
      if (hold) res.write('a'.repeat(5_000));
      else res.end('a'.repeat(5_000));
    },
    { maxActive: 1 },
  );
  const client = await RawClient.open(t, port);
  client.send(`${GET}\r\n`);
  await client.until('\r\n\r\n');
  hold = false;
  const busy = await fetch(url, { headers: { 'accept-encoding': 'gzip' } });
  t.equal(busy.headers.get('content-encoding'), null, 'no more than maxActive at once');
  t.equal(busy.headers.get('vary'), 'Accept-Encoding');
  await busy.text();
  client.socket.destroy();
  await eventually(() => gone === 2, 'the service is let go');
  const free = await fetch(url, { headers: { 'accept-encoding': 'gzip' } });
  t.equal(free.headers.get('content-encoding'), 'gzip');
  await free.text();
});

t.test('a client that takes nothing holds the service back, and is cut in the end', async (t) => {
  let written = 0;
  let letGo = false;
  const { port } = await httpUpstream(t, (_req, res) => {
    res.writeHead(200, HTML);
    res.on('close', () => {
      letGo = true;
    });
    const more = (): void => {
      while (written < 64_000_000) {
        written += 65_536;
        // Nothing that compresses.
        if (!res.write(crypto.getRandomValues(new Uint8Array(65_536)))) {
          res.once('drain', more);
          return;
        }
      }
      res.end();
    };
    more();
  });
  const running = await run(
    t,
    edgeTo([port], { gateway: { plugins: ['compress'] }, route: { timeout: { idle: '300ms' } } }),
  );
  const client = await RawClient.open(t, running.port);
  client.socket.pause();
  client.send(`${GET}\r\n`);
  await eventually(() => letGo, 'the service is let go', 10_000);
  client.socket.resume();
  await client.closed();
  t.ok(written < 64_000_000);
  t.notMatch(client.received, /\r\n0\r\n\r\n$/);
});

t.test('it comes after plugins that read the body, wherever it stands', async (t) => {
  const { url } = await edge(t, (_req, res) => res.writeHead(200, HTML).end('a'.repeat(5_000)), {}, [
    new URL('./support/reading-plugin.ts', import.meta.url).pathname,
  ]);
  const response = await fetch(url, { headers: { 'x-do': 'capitals', 'accept-encoding': 'gzip' } });
  t.equal(response.headers.get('content-encoding'), 'gzip');
  t.equal(await response.text(), 'A'.repeat(5_000));
});
