// Servers and clients that others wrote, with Selvedge between them: nginx, Python, Go and curl.
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  createReadStream,
  createWriteStream,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { get, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import t, { type Test } from 'tap';
import { edgeTo, run } from './support/gateway.ts';
import { freePort } from './support/ports.ts';
import { eventually, exchange, RawClient, statusOf } from './support/sockets.ts';

const LARGE_BYTES = 256 << 20;

/** The first line that a program prints: its port. */
async function portOf(t: Test, child: ChildProcess): Promise<number> {
  t.teardown(() => child.kill('SIGKILL'));
  let text = '';
  child.stdout?.on('data', (chunk) => {
    text += chunk;
  });
  await eventually(() => /\d+\n/.test(text), 'the server says its port', 10_000);
  return Number.parseInt(text, 10);
}

function installed(command: string, ...args: string[]): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Why a test cannot run on this machine. CI has every server: there a missing one fails its test. */
function missing(command: string, ...args: string[]): string | false {
  return process.env.CI !== undefined || installed(command, ...args) ? false : `${command} is not installed`;
}

function curl(...args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { timeout: 20_000, maxBuffer: 64 << 20, env: { ...process.env, http_proxy: '', HTTP_PROXY: '' } };
    execFile('curl', ['-sS', '--max-time', '15', ...args], options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`curl ${args.join(' ')}: ${error.message}\n${stderr}`));
    });
  });
}

function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-e2e-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function sha256(source: AsyncIterable<unknown>): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of source) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Serves `dir`, compresses text, takes PUT. */
async function nginx(t: Test, dir: string): Promise<number> {
  const port = await freePort();
  const config = join(dir, 'nginx.conf');
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${dir}/${name};`)
    .join(' ');
  writeFileSync(
    config,
    `daemon off; master_process off; worker_processes 1; pid ${dir}/nginx.pid; error_log ${dir}/error.log;
     events { worker_connections 256; }
     http {
       ${paths} access_log off; types { text/plain txt; } default_type application/octet-stream; client_max_body_size 0;
       server {
         listen 127.0.0.1:${port}; root ${dir}; gzip on; gzip_types text/plain; gzip_min_length 100; gzip_proxied any; gzip_vary on;
         keepalive_requests 5;
         location /put/ { dav_methods PUT; create_full_put_path on; }
         location = /connection { return 200 "$connection\\n"; }
         location = /host { return 200 "$host $http_via\\n"; }
       }
     }`,
  );
  const child = spawn('nginx', ['-p', dir, '-c', config], { stdio: ['ignore', 'ignore', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  let failure = '';
  child.stderr?.on('data', (chunk) => {
    failure += chunk;
  });
  child.on('exit', (code) => {
    failure ||= `nginx ended with ${code}`;
  });
  for (let tries = 0; tries < 200; tries++) {
    if (
      await fetch(`http://127.0.0.1:${port}/connection`).then(
        (response) => response.ok,
        () => false,
      )
    )
      return port;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(`nginx does not answer: ${failure}`);
}

t.test('nginx', { skip: missing('nginx', '-v') }, async (t) => {
  const dir = folder(t);
  writeFileSync(join(dir, 'text.txt'), 'selvedge '.repeat(1_000));
  writeFileSync(join(dir, 'small.bin'), randomBytes(10_000));
  const block = randomBytes(1 << 20);
  const large = join(dir, 'large.bin');
  const blocks = function* (): Generator<Buffer> {
    for (let i = 0; i < LARGE_BYTES / block.length; i++)
      yield Buffer.concat([Buffer.from(`${i} `.padEnd(16)), block.subarray(16)]);
  };
  await pipeline(Readable.from(blocks()), createWriteStream(large));
  const edge = await run(t, edgeTo([await nginx(t, dir)]));

  t.test('a file of 256 MiB arrives byte for byte, at constant memory', async (t) => {
    const before = process.memoryUsage().rss;
    let peak = 0;
    const timer = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage().rss);
    }, 20);
    t.teardown(() => clearInterval(timer));
    const received = new Promise<string>((resolve, reject) => {
      get(`${edge.url}/large.bin`, (response) => {
        t.equal(response.headers['content-length'], String(LARGE_BYTES));
        sha256(response).then(resolve, reject);
      }).on('error', reject);
    });
    t.equal(await received, await sha256(createReadStream(large)));
    t.ok(peak - before < 128 << 20, `memory grew by ${((peak - before) / 1048576).toFixed(0)} MiB`);
  });

  t.test("ranges, ETags and conditions are the upstream's affair", async (t) => {
    const whole = readFileSync(join(dir, 'small.bin'));
    const part = await fetch(`${edge.url}/small.bin`, { headers: { range: 'bytes=100-199' } });
    t.equal(part.status, 206);
    t.equal(part.headers.get('content-range'), 'bytes 100-199/10000');
    t.ok(whole.subarray(100, 200).equals(Buffer.from(await part.arrayBuffer())));
    const etag = part.headers.get('etag') as string;
    const same = await fetch(`${edge.url}/small.bin`, { headers: { 'if-none-match': etag } });
    t.equal(same.status, 304);
    t.equal(same.headers.get('etag'), etag);
    t.equal(await same.text(), '');
    t.equal((await fetch(`${edge.url}/small.bin`, { headers: { range: 'bytes=20000-' } })).status, 416);
  });

  t.test('what came compressed goes on compressed, untouched', async (t) => {
    const raw = await exchange(t, edge.port, 'GET /text.txt HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n');
    t.match(raw, /\r\ncontent-encoding: gzip\r\n/i);
    t.match(raw, /\r\nvary: accept-encoding\r\n/i);
    const text = await (await fetch(`${edge.url}/text.txt`, { headers: { 'accept-encoding': 'gzip' } })).text();
    t.equal(text, 'selvedge '.repeat(1_000));
    const plain = await exchange(t, edge.port, 'GET /text.txt HTTP/1.1\r\nHost: a\r\n\r\n');
    t.notMatch(plain, /content-encoding/i);
  });

  t.test('connections are kept and used again, also when nginx closes one after its fifth request', async (t) => {
    const numbers: number[] = [];
    for (let i = 0; i < 40; i++) numbers.push(Number(await (await fetch(`${edge.url}/connection`)).text()));
    t.ok(
      numbers.every((number) => number > 0),
      'every request was served',
    );
    const used = new Set(numbers).size;
    t.ok(used >= 8 && used <= 20, `40 requests took ${used} connections`);
    const many = await Promise.all(
      Array.from({ length: 200 }, async () => (await fetch(`${edge.url}/connection`)).status),
    );
    t.ok(
      many.every((status) => status === 200),
      'at once, too',
    );
  });

  t.test('HTTP/1.0 clients, with Host and without', async (t) => {
    const client = await RawClient.open(t, edge.port);
    t.equal(statusOf(await client.send('GET /host HTTP/1.0\r\n\r\n').closed()), 200);
    const named = await RawClient.open(t, edge.port);
    t.match(await named.send('GET /host HTTP/1.0\r\nHost: shop.test\r\n\r\n').closed(), /shop\.test 1\.0 selvedge/);
  });

  t.test('curl', { skip: missing('curl', '--version') }, async (t) => {
    t.match(await curl('--http1.0', '-i', `${edge.url}/text.txt`), /^HTTP\/1\.[01] 200 [\s\S]*selvedge $/);
    t.match(await curl('-I', `${edge.url}/text.txt`), /^HTTP\/1\.1 200 OK\r\n[\s\S]*content-length: 9000\r\n/i);
    t.equal(await curl('--compressed', `${edge.url}/text.txt`), 'selvedge '.repeat(1_000));
    const source = join(dir, 'upload.bin');
    writeFileSync(source, randomBytes(3 << 20));
    const sent = readFileSync(source);
    for (const [name, ...args] of [
      ['declared'],
      ['chunked', '-H', 'Transfer-Encoding: chunked'],
      ['expected', '-H', 'Expect: 100-continue'],
    ]) {
      const said = await curl('-v', '--stderr', '-', ...args, '-T', source, `${edge.url}/put/${name}`);
      t.match(said, /< HTTP\/1\.1 20[14]/, name);
      if (name === 'expected') t.match(said, /< HTTP\/1\.1 100 Continue/, 'nginx asks for the body, and curl hears it');
      t.ok(readFileSync(join(dir, 'put', name)).equals(sent), `${name}: byte for byte`);
    }
    t.equal(await curl('-o', '/dev/null', '-w', '%{http_code}', '--path-as-is', `${edge.url}/a/../text.txt`), '200');
    const twice = await curl(
      '-w',
      '%{num_connects} ',
      '-o',
      '/dev/null',
      '-o',
      '/dev/null',
      `${edge.url}/text.txt`,
      `${edge.url}/text.txt`,
    );
    t.equal(twice, '1 0 ', 'the connection to the edge is kept');
  });

  t.test('a large upload streams through', async (t) => {
    const call = request(`${edge.url}/put/large`, { method: 'PUT', headers: { 'content-length': LARGE_BYTES / 4 } });
    const answered = new Promise<number>((resolve, reject) => {
      call.on('error', reject).on('response', (response) => resolve(response.resume().statusCode as number));
    });
    await pipeline(createReadStream(large, { end: LARGE_BYTES / 4 - 1 }), call);
    t.equal(await answered, 201);
    t.equal(statSync(join(dir, 'put', 'large')).size, LARGE_BYTES / 4);
    t.equal(
      await sha256(createReadStream(join(dir, 'put', 'large'))),
      await sha256(createReadStream(large, { end: LARGE_BYTES / 4 - 1 })),
    );
  });
});

/** The times at which each event arrived are told apart by the turns of the event loop in which they came. */
async function events(url: string): Promise<string[]> {
  const pieces: string[] = [];
  const response = await fetch(url);
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) pieces.push(Buffer.from(chunk).toString());
  return pieces;
}

t.test('Python', { skip: missing('python3', '--version') }, async (t) => {
  const dir = folder(t);
  writeFileSync(join(dir, 'index.html'), '<p>hello</p>');
  const script = new URL('./support/server.py', import.meta.url).pathname;
  const port = await portOf(t, spawn('python3', [script, dir], { stdio: ['ignore', 'pipe', 'inherit'] }));
  const edge = await run(t, edgeTo([port]));

  t.test(
    "HTTP/1.0 responses that end with the connection are whole, and the client's connection is kept",
    async (t) => {
      const client = await RawClient.open(t, edge.port);
      client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
      t.match(await client.until((text) => text.includes('</p>')), /^HTTP\/1\.1 200 OK\r\n/);
      client.send('GET /none HTTP/1.1\r\nHost: a\r\n\r\n');
      t.match(await client.until((text) => text.includes('HTTP/1.1 404')), /HTTP\/1\.1 404/);
    },
  );

  t.test('events arrive one by one', async (t) => {
    t.same(await events(`${edge.url}/events`), ['data: 0\n\n', 'data: 1\n\n', 'data: 2\n\n']);
  });

  t.test('a body without end of its own goes both ways', async (t) => {
    const sent = randomBytes(2 << 20);
    const response = await fetch(`${edge.url}/`, { method: 'POST', body: sent });
    t.ok(sent.equals(Buffer.from(await response.arrayBuffer())));
  });

  t.test('a server that says nothing about keep-alive is asked as often as one likes', async (t) => {
    const statuses: number[] = [];
    for (let i = 0; i < 20; i++) statuses.push((await fetch(`${edge.url}/11`)).status);
    t.ok(statuses.every((status) => status === 200));
  });
});

/** Compiling Go's net/http for the first time takes half a minute, which is not ours to spend. */
function noGo(): string | false {
  if (process.env.CI !== undefined) return false;
  if (!installed('go', 'version')) return 'go is not installed';
  const stale = execFileSync('go', ['list', '-f', '{{.Stale}}', 'net/http'], { encoding: 'utf8' }).trim();
  return stale === 'true' ? 'net/http of Go is not compiled yet: run `go build net/http` once' : false;
}

t.test('Go', { skip: noGo() }, async (t) => {
  const binary = join(folder(t), 'server');
  execFileSync('go', ['build', '-o', binary, new URL('./support/server.go', import.meta.url).pathname], {
    env: { ...process.env, GO111MODULE: 'off' },
  });
  const port = await portOf(t, spawn(binary, { stdio: ['ignore', 'pipe', 'inherit'] }));
  const edge = await run(t, edgeTo([port]));

  t.test('trailers pass both ways', async (t) => {
    const client = await RawClient.open(t, edge.port);
    client.send(
      'POST /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Request-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Request-Sum: 7\r\n\r\n',
    );
    t.match(await client.until((text) => text.includes('X-Sum: 1\r\n\r\n')), /3 7\r\n0\r\nX-Sum: 1\r\n\r\n$/i);
  });

  t.test('early hints pass', async (t) => {
    const received = await exchange(t, edge.port, 'GET /hints HTTP/1.1\r\nHost: a\r\n\r\n');
    t.match(received, /^HTTP\/1\.1 103 Early Hints\r\nlink: <\/s\.css>; rel=preload\r\n\r\nHTTP\/1\.1 200/i);
  });

  t.test('events arrive one by one', async (t) => {
    t.same(await events(`${edge.url}/events`), ['data: 0\n\n', 'data: 1\n\n', 'data: 2\n\n']);
  });

  t.test('a protocol that nobody has heard of is upgraded to', async (t) => {
    const client = await RawClient.open(t, edge.port);
    client.send('GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
    t.match(await client.until((text) => text.includes('\r\n\r\n')), /^HTTP\/1\.1 101 /);
    t.match(await client.send('anything').until((text) => text.endsWith('anything')), /anything$/);
  });
});
