// Plugins that ask who somebody is, at real sockets: however a client writes it, the service hears only what was proven.
import { createHash, scryptSync } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { edgeTo, run } from './support/gateway.ts';
import { freePort } from './support/ports.ts';
import { RunningProcess } from './support/process.ts';
import { eventually, exchange, httpUpstream, statusOf } from './support/sockets.ts';

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const KEY = 'k'.repeat(32);
const keys = [`mobile ${sha256(KEY)}`];

interface Seen {
  readonly url: string;
  /** Names in lower case and values in turn, as they were received. */
  readonly lines: readonly string[];
}

async function edge(t: Test, plugins: readonly unknown[], gateway: object = {}) {
  const seen: Seen[] = [];
  const { port: upstream } = await httpUpstream(t, (req, res) => {
    const lines = req.rawHeaders.map((text, index) => (index % 2 === 0 ? text.toLowerCase() : text));
    seen.push({ url: req.url as string, lines });
    res.end('served');
  });
  const log = join(t.testdir(), 'access.log');
  const accessLog = {
    'access-log': {
      destination: log,
      query: 'full',
      headers: ['x-api-key', 'x-api-client', 'authorization', 'cookie'],
      redact: [],
    },
  };
  const { port } = await run(t, edgeTo([upstream], { gateway: { plugins: [accessLog, ...plugins], ...gateway } }));
  const ask = (headers = '', path = '/') =>
    exchange(t, port, `GET ${path} HTTP/1.1\r\nHost: shop.example.com\r\n${headers}Connection: close\r\n\r\n`);
  const status = async (headers = '', path = '/') => statusOf(await ask(headers, path));
  return { seen, ask, status, log: () => (existsSync(log) ? readFileSync(log, 'utf8') : '') };
}

/** Every value of a header that reached the service, also under a name with `_`, which CGI and WSGI take for the same. */
function received({ lines }: Seen, name: string): string[] {
  return lines.filter((_, index) => index % 2 === 1 && lines[index - 1].replaceAll('_', '-') === name);
}

t.test('an identity that a client makes up never reaches the service, in whatever form', async (t) => {
  const { seen, status } = await edge(t, [{ 'api-key': { keys, optional: true, identityHeader: 'x-api-client' } }]);
  const forged = [
    'x-api-client: root\r\n',
    'X-API-CLIENT: root\r\n',
    'X_Api_Client: root\r\n',
    'x-api_client: root\r\n',
    'x-api-client: root\r\nX-Api-Client: root\r\n',
    'x-api-client: mobile, root\r\n',
    'x-api-client:\r\n',
  ];
  for (const lines of forged) {
    t.equal(await status(lines), 200);
    t.strictSame(received(seen[seen.length - 1], 'x-api-client'), [], JSON.stringify(lines));
    t.equal(await status(`${lines}X-API-Key: ${KEY}\r\n`), 200);
    t.strictSame(received(seen[seen.length - 1], 'x-api-client'), ['mobile'], JSON.stringify(lines));
  }
  t.equal(await status(`X-API-Key: ${KEY}\r\nConnection: x-api-client\r\n`), 200);
  t.strictSame(received(seen[seen.length - 1], 'x-api-client'), ['mobile'], 'nor can it name it away');
});

t.test('a key that is shown twice, joined, or named away opens nothing', async (t) => {
  const { seen, ask, status } = await edge(t, [{ 'api-key': { keys } }]);
  const line = `X-API-Key: ${KEY}\r\n`;
  t.equal(await status(line), 200);
  for (const lines of [
    '',
    `${line}${line}`,
    `${line}x-api-key: wrong\r\n`,
    `x-api-key: wrong\r\n${line}`,
    `X-Api-Key: ${KEY}, ${KEY}\r\n`,
    `X_Api_Key: ${KEY}\r\n`,
    `X-Api-Key: ${KEY}${'k'.repeat(7_000)}\r\n`,
    `${line}Connection: x-api-key\r\n`,
    `X-Api-Key: ${sha256(KEY)}\r\n`,
  ])
    t.equal(await status(lines), 401, JSON.stringify(lines.slice(0, 60)));
  const refused = await ask();
  t.match(refused, /\r\nwww-authenticate: ApiKey header="x-api-key"\r\n/i);
  t.match(refused, /"code":"SLV_UNAUTHORIZED"/);
  const upgrade =
    'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n';
  t.equal(await status(upgrade), 401, 'an upgrade is a request too');
  t.equal(seen.length, 1);
  t.strictSame(received(seen[0], 'x-api-key'), []);
});

t.test('no key is sent on or logged, wherever it came', async (t) => {
  const { seen, status, log } = await edge(t, [{ 'api-key': { keys, query: 'key', cookie: 'key' } }]);
  t.equal(await status('', `/a?x=%20&key=${KEY}&y`), 200);
  t.equal(await status(`Cookie: a=1; key=${KEY}\r\nCookie: b=2\r\n`, '/a'), 200);
  t.equal(await status(`X-Api-Key: ${KEY}\r\n`, `/a?%6Bey=${KEY}`), 401);
  t.equal(await status(`X-Api-Key: ${KEY}\r\nCookie: key=${KEY}\r\n`), 401);
  t.equal(await status('', `/a?key=${KEY}`), 200);
  t.strictSame(
    seen.map(({ url }) => url),
    ['/a?x=%20&y', '/a', '/a'],
  );
  t.strictSame(received(seen[1], 'cookie'), ['a=1; b=2']);
  await eventually(() => log().split('\n').length === 6, 'five lines are written');
  t.notMatch(JSON.stringify(seen), KEY);
  t.notMatch(log(), KEY);
});

t.test('the label is a claim for authorization', async (t) => {
  const plugins = [{ 'api-key': { keys: [...keys, `partner ${sha256('partner')}`] } }];
  const { port: upstream } = await httpUpstream(t, (_req, res) => void res.end('served'));
  const authorization = [
    { name: 'mobile-only', gateway: 'edge', allow: [{ claims: { sub: 'mobile', auth: 'api-key' } }] },
  ];
  const { port } = await run(t, edgeTo([upstream], { gateway: { plugins }, authorization } as never));
  const status = async (key: string) =>
    statusOf(await exchange(t, port, `GET / HTTP/1.1\r\nHost: a\r\nX-Api-Key: ${key}\r\nConnection: close\r\n\r\n`));
  t.equal(await status(KEY), 200);
  t.equal(await status('partner'), 403);
  t.equal(await status('stranger'), 401);
});

/** A gateway as a process of its own, whose plugin reads `list.txt`; `status` asks it with one header line. */
async function gatewayWith(t: Test, list: string, plugin: object) {
  const { port: upstream } = await httpUpstream(t, (_req, res) => void res.end('served'));
  const port = await freePort();
  const dir = t.testdir({ 'list.txt': list });
  const file = join(dir, 'list.txt');
  const running = await RunningProcess.start(t, join(dir, 'selvedge.json'), {
    version: 1,
    admin: false,
    telemetry: { accessLog: false },
    gateways: { edge: { listeners: [{ name: 'http', host: '127.0.0.1', port }], plugins: [plugin] } },
    services: { app: { endpoints: [`127.0.0.1:${upstream}`] } },
    routes: [{ name: 'all', to: 'app' }],
  });
  const status = async (line: string) =>
    statusOf(await exchange(t, port, `GET / HTTP/1.1\r\nHost: a\r\n${line}\r\nConnection: close\r\n\r\n`));
  return {
    running,
    status,
    taken: (text: string) => running.after('config in force', () => writeFileSync(file, text)),
    refused: (act: () => void) => running.after('config rejected: the one in force stays', act),
    file,
  };
}

t.test('an edit of a file of keys is in force without a restart; with a mistake in it the list stays', async (t) => {
  const plugin = { 'api-key': { keys: [`\${file:list.txt}`] } };
  const { running, status, taken, refused, file } = await gatewayWith(t, `mobile ${sha256('one')}\n`, plugin);
  const statuses = async () => [await status('X-Api-Key: one'), await status('X-Api-Key: two')];
  t.strictSame(await statuses(), [200, 401]);
  await taken(`mobile ${sha256('one')}\nsecond ${sha256('two')}\n`);
  t.strictSame(await statuses(), [200, 200]);
  await taken(`second ${sha256('two')}\n`);
  t.strictSame(await statuses(), [401, 200]);
  await refused(() => writeFileSync(file, 'mobile one\n'));
  t.strictSame(await statuses(), [401, 200]);
  await refused(() => rmSync(file));
  t.strictSame(await statuses(), [401, 200]);
  await taken(`mobile ${sha256('one')}\n`);
  t.strictSame(await statuses(), [200, 401]);
  t.notMatch(JSON.stringify(running.lines), 'mobile one', 'what may be a key is not logged');
});

const hashOf = (password: string) => {
  const base64 = (bytes: Buffer) => bytes.toString('base64').replace(/=+$/, '');
  const salt = Buffer.from('sixteen bytes ok');
  return `$scrypt$ln=14,r=8,p=1$${base64(salt)}$${base64(scryptSync(password, salt, 32, { N: 2 ** 14, r: 8, p: 1 }))}`;
};
const basic = (pair: string) => `Authorization: Basic ${Buffer.from(pair).toString('base64')}`;

t.test('who is taken out of a file of users is out at once, however lately the password was right', async (t) => {
  const plugin = { 'basic-auth': { users: [`\${file:list.txt}`] } };
  const [alice, bob] = ['alice', 'bob'].map((name) => `${name}:${hashOf(`of ${name}`)}\n`);
  const { running, status, taken, refused, file } = await gatewayWith(t, `${alice}${bob}`, plugin);
  const statuses = async () => [await status(basic('alice:of alice')), await status(basic('bob:of bob'))];
  t.strictSame(await statuses(), [200, 200]);
  t.strictSame(await statuses(), [200, 200], 'remembered');
  await taken(bob);
  t.strictSame(await statuses(), [401, 200]);
  await refused(() => writeFileSync(file, `${bob}alice:of alice\n`));
  t.strictSame(await statuses(), [401, 200]);
  await taken(`${alice}bob:${hashOf('another')}\n`);
  t.strictSame(await statuses(), [200, 401]);
  t.notMatch(JSON.stringify(running.lines), 'of alice', 'what may be a password is not logged');
});

t.test('a password is neither sent on nor logged, and no client is somebody else by it', async (t) => {
  const users = [`alice:${hashOf('of alice')}`, `bob:${hashOf('of bob')}`];
  const { seen, ask, status, log } = await edge(t, [{ 'basic-auth': { users, identityHeader: 'x-api-client' } }]);
  const [alice, bob] = [basic('alice:of alice'), basic('bob:of bob')];
  for (const forged of ['', 'X-Api-Client: bob\r\n', 'X_API_CLIENT: bob\r\nx-api_client: bob\r\n']) {
    t.equal(await status(`${forged}${alice}\r\n${forged}`), 200);
    t.strictSame(received(seen[seen.length - 1], 'x-api-client'), ['alice'], JSON.stringify(forged));
    t.strictSame(received(seen[seen.length - 1], 'authorization'), []);
  }
  for (const lines of [
    '',
    `${alice}\r\n${bob}\r\n`,
    `${alice}\r\n${alice}\r\n`,
    `Authorization: Bearer x\r\n${alice}\r\n`,
    `${alice}, ${bob.slice('Authorization: '.length)}\r\n`,
    `${alice}\r\nConnection: authorization\r\n`,
    `Proxy-${alice}\r\n`,
    `${basic('alice:of bob')}\r\n`,
    `${basic(`alice:${'x'.repeat(5_000)}`)}\r\n`,
  ])
    t.equal(await status(lines), 401, JSON.stringify(lines.slice(0, 60)));
  t.match(await ask(), /\r\nwww-authenticate: Basic realm="Restricted", charset="UTF-8"\r\n/i);
  t.equal(seen.length, 3);
  await eventually(() => log().split('\n').length === 14, 'thirteen lines are written');
  t.notMatch(log(), alice.slice(-12));
  t.match(log(), '"headers":{"x-api-client":"alice"}');
});

t.test('a body that comes while its password is hashed arrives whole; who leaves meanwhile does no harm', async (t) => {
  const bodies: number[] = [];
  const { port: upstream } = await httpUpstream(t, (req, res) => {
    let bytes = 0;
    req.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
    });
    req.on('end', () => {
      bodies.push(bytes);
      res.end('served');
    });
  });
  const plugin = { 'basic-auth': { users: [`alice:${hashOf('of alice')}`], rememberFor: '0s' } };
  const { port } = await run(t, edgeTo([upstream], { gateway: { plugins: [plugin] } }));
  const post = (line: string, body: string) =>
    `POST / HTTP/1.1\r\nHost: a\r\n${line}\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;
  const body = 'x'.repeat(300_000);
  const answers = await Promise.all(
    Array.from({ length: 4 }, () => exchange(t, port, post(basic('alice:of alice'), body))),
  );
  t.strictSame(answers.map(statusOf), [200, 200, 200, 200]);
  t.equal(statusOf(await exchange(t, port, post(basic('alice:wrong'), body))), 401);
  for (let i = 0; i < 10; i++) {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    socket.write(post(basic('alice:of alice'), 'left'));
    await new Promise((resolve) => setTimeout(resolve, 2));
    socket.destroy();
  }
  t.equal(statusOf(await exchange(t, port, post(basic('alice:of alice'), 'last'))), 200);
  t.strictSame(bodies.slice(0, 4), [300_000, 300_000, 300_000, 300_000]);
  t.equal(bodies.at(-1), 4);
});

const rules = { 'ip-rules': { allow: ['127.0.0.1', '198.51.100.0/24'], deny: ['203.0.113.0/24'] } };

t.test('ip-rules do not go by what a client says of its address', async (t) => {
  const strangers = await edge(t, [rules]);
  t.equal(await strangers.status(), 200);
  for (const header of ['X-Forwarded-For', 'x-forwarded-for', 'Forwarded', 'X-Real-IP', 'True-Client-IP'])
    t.equal(await strangers.status(`${header}: ${header === 'Forwarded' ? 'for=' : ''}203.0.113.9\r\n`), 200, header);
});

t.test('ip-rules go by the address that a trusted proxy states', async (t) => {
  const proxied = await edge(t, [rules], { clientAddress: { trustedProxies: ['127.0.0.0/8'] } });
  t.equal(await proxied.status('X-Forwarded-For: 203.0.113.9\r\n'), 403);
  t.equal(await proxied.status('X-Forwarded-For: 198.51.100.4, 203.0.113.9\r\n'), 403);
  t.equal(await proxied.status('X-Forwarded-For: 203.0.113.9, 198.51.100.4\r\n'), 200);
  t.equal(await proxied.status('X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 198.51.100.4\r\n'), 200);
  t.equal(await proxied.status('X-Forwarded-For: 198.51.100.4\r\nX-Forwarded-For: ::ffff:203.0.113.9\r\n'), 403);
  t.equal(await proxied.status('X-Forwarded-For: 192.0.2.1\r\n'), 403, 'not allowed');
  await eventually(() => proxied.log().includes('"reason":"forbidden","decidedBy":"ip-rules"'), 'the log says why');
});
