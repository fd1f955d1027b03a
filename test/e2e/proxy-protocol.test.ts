// A load balancer that passes connections on: who the client is, for everything behind the listener.
import { execFile, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type ConfigInput, createSelvedge } from '../../src/index.ts';
import { binaryHeader, tcp4, tcp6 } from '../support/proxy-header.ts';
import { TestCa } from '../support/tls-fixture.ts';
import { edgeTo, run } from './support/gateway.ts';
import { freePort } from './support/ports.ts';
import { eventually, httpUpstream, RawClient, statusOf } from './support/sockets.ts';

const FROM = ['x-forwarded-for', 'x-forwarded-port', 'x-forwarded-proto'] as const;

/** Answers with what it was told of the client. */
async function telling(t: Test): Promise<number> {
  const { port } = await httpUpstream(t, (req, res) => {
    res.end(JSON.stringify(Object.fromEntries(FROM.map((name) => [name, req.headers[name]]))));
  });
  return port;
}

const gateway = (more: object = {}, rest: object = {}) => ({
  gateway: { clientAddress: { trustedProxies: ['127.0.0.0/8'], proxyProtocol: true, ...more }, ...rest },
});

async function ask(t: Test, port: number, header: string | Buffer, headers = ''): Promise<string> {
  const client = await RawClient.open(t, port);
  client.socket.write(header);
  return client.send(`GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${headers}\r\n`).closed();
}

const told = (answer: string) => JSON.parse(answer.slice(answer.indexOf('{'), answer.lastIndexOf('}') + 1));
const v1 = (source: string): string => `PROXY TCP4 ${source} 192.0.2.1 40000 8443\r\n`;

t.test('the address of the header is that of the client everywhere', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-proxy-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const log = join(dir, 'access.ndjson');
  const plugins = [
    { 'access-log': { destination: log } },
    { 'ip-rules': { deny: ['203.0.113.66/32', '2001:db8:bad::/48'] } },
    { 'rate-limit': { max: 2, window: '1m' } },
  ];
  const edge = await run(t, edgeTo([await telling(t)], gateway({}, { plugins })));
  const first = await ask(t, edge.port, v1('203.0.113.7'), 'X-Forwarded-For: 10.9.9.9\r\nX-Forwarded-Port: 1\r\n');
  t.same(told(first), { 'x-forwarded-for': '203.0.113.7', 'x-forwarded-port': '8443', 'x-forwarded-proto': 'http' });
  const v6 = binaryHeader(0x21, 0x21, tcp6('20010db8000000000000000000000009', 8443));
  t.equal(told(await ask(t, edge.port, v6))['x-forwarded-for'], '2001:db8::9');
  t.equal(statusOf(await ask(t, edge.port, v1('203.0.113.66'))), 403);
  t.equal(statusOf(await ask(t, edge.port, binaryHeader(0x21, 0x21, tcp6('20010db80bad00000000000000000009')))), 403);
  t.equal(statusOf(await ask(t, edge.port, v1('203.0.113.7'))), 200);
  t.equal(statusOf(await ask(t, edge.port, v1('203.0.113.7'))), 429);
  t.equal(statusOf(await ask(t, edge.port, binaryHeader(0x21, 0x11, tcp4('203.0.113.8')))), 200, 'each has its own');
  await eventually(() => readFileSync(log, 'utf8').split('\n').length > 7, 'the log is written');
  const clients = new Set(
    readFileSync(log, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).clientAddress),
  );
  t.same(clients, new Set(['203.0.113.7', '2001:db8::9', '203.0.113.66', '2001:db8:bad::9', '203.0.113.8']));
});

t.test(
  'a forwarding header counts when the address of the PROXY header is a trusted proxy, and not otherwise',
  async (t) => {
    const upstream = await telling(t);
    const config = (more: object = {}) =>
      edgeTo([upstream], gateway({ trustedProxies: ['127.0.0.0/8', '198.51.100.0/24'], ...more }));
    const [walking, counting] = [await run(t, config()), await run(t, config({ hops: 1 }))];
    const list = 'X-Forwarded-For: 10.9.9.9, 203.0.113.7\r\n';
    for (const { port } of [walking, counting]) {
      const cdn = told(await ask(t, port, v1('198.51.100.1'), list));
      t.equal(cdn['x-forwarded-for'], '10.9.9.9, 203.0.113.7, 198.51.100.1');
      t.equal(told(await ask(t, port, v1('203.0.113.9'), list))['x-forwarded-for'], '203.0.113.9');
      for (const unnamed of [
        'PROXY UNKNOWN\r\n',
        binaryHeader(0x20, 0, Buffer.alloc(0)),
        binaryHeader(0x21, 0, Buffer.alloc(0)),
      ])
        t.equal(
          told(await ask(t, port, unnamed, list))['x-forwarded-for'],
          '127.0.0.1',
          'who names nobody speaks for nobody',
        );
    }
  },
);

t.test('what is refused is counted by its reason', async (t) => {
  const config = edgeTo([await telling(t)], {
    admin: { host: '127.0.0.1', port: 0 },
    ...gateway({}, { limits: { connectionsPerClient: 1 } }),
  } as never);
  const selvedge = await createSelvedge({ config: config as ConfigInput, logger: false });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  const { port } = selvedge.addresses()['gateway/edge/http'];
  t.equal(await ask(t, port, ''), '');
  t.equal(await ask(t, port, 'PROXY TCP4 a b c d\r\n'), '');
  const holding = await RawClient.open(t, port);
  await holding.send(`${v1('203.0.113.7')}GET / HTTP/1.1\r\nHost: a\r\n\r\n`).until('}');
  t.equal(await ask(t, port, v1('203.0.113.7')), '');
  t.equal(statusOf(await ask(t, port, v1('203.0.113.8'))), 200);
  const metrics = await (await fetch(`http://127.0.0.1:${selvedge.adminAddress()?.port}/metrics`)).text();
  t.match(metrics, /selvedge_rejected_requests_total\{[^}]*code="SLV_PROXY_HEADER"\} 2/);
  t.match(metrics, /selvedge_rejected_requests_total\{[^}]*code="SLV_CLIENT_CONNECTION_LIMIT"\} 1/);
});

t.test('an upgrade is passed on with it', async (t) => {
  const { port, server } = await httpUpstream(t, (_req, res) => void res.end());
  server.on('upgrade', ({ headers }, socket) =>
    socket.end(
      `HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\nx-from: ${headers[FROM[0]]}\r\n\r\n`,
    ),
  );
  const edge = await run(t, edgeTo([port], gateway()));
  const client = await RawClient.open(t, edge.port);
  client.send(`${v1('203.0.113.7')}GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`);
  t.match(await client.until('x-from'), /^HTTP\/1\.1 101 [\s\S]*x-from: 203\.0\.113\.7\r\n/);
});

function installed(command: string): boolean {
  try {
    execFileSync(command, ['-v'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** CI has it: there a missing one fails its test. */
const missing = process.env.CI !== undefined || installed('haproxy') ? false : 'haproxy is not installed';

/** Passes TCP connections on: one frontend for each, with its `server` options. */
async function haproxy(
  t: Test,
  backends: readonly { readonly port: number; readonly options: string }[],
): Promise<number[]> {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-haproxy-'));
  const ports: number[] = [];
  let text = 'defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n';
  for (const { port, options } of backends) {
    const front = await freePort();
    ports.push(front);
    text += `listen l${front}\n  bind 127.0.0.1:${front}\n  source 127.0.0.1\n  server edge 127.0.0.1:${port} ${options}\n`;
  }
  writeFileSync(join(dir, 'haproxy.cfg'), text);
  const child = spawn('haproxy', ['-db', '-q', '-f', join(dir, 'haproxy.cfg')], { stdio: 'ignore' });
  t.teardown(() => {
    child.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  });
  for (const port of ports) {
    let up = false;
    const look = (): void => {
      const probe = connect(port, '127.0.0.1', () => {
        up = true;
        probe.destroy();
      }).on('error', () => setTimeout(look, 20));
    };
    look();
    await eventually(() => up, 'haproxy listens', 10_000);
  }
  return ports;
}

t.test(
  'HAProxy passes connections on, plain and TLS, by version 1 and 2, with its own health checks',
  { skip: missing },
  async (t) => {
    const ca = new TestCa(t);
    const listeners = [
      { name: 'http', host: '127.0.0.1', port: 0 },
      {
        name: 'https',
        host: '127.0.0.1',
        port: 0,
        tls: { certificates: [ca.issue({ name: 'a', altNames: ['DNS:a.test'] })] },
      },
    ];
    const edge = await run(t, edgeTo([await telling(t)], gateway({}, { listeners })));
    const { port } = edge.selvedge.addresses()['gateway/edge/http'];
    const { port: secure } = edge.selvedge.addresses()['gateway/edge/https'];
    const checked = 'check inter 100ms fall 1 rise 1';
    const [one, two, sni, bare, tls] = await haproxy(t, [
      { port, options: `send-proxy ${checked}` },
      { port, options: `send-proxy-v2 ${checked}` },
      { port, options: 'send-proxy-v2-ssl-cn proxy-v2-options ssl,cert-cn,crc32c,unique-id,authority' },
      { port, options: '' },
      { port: secure, options: `send-proxy-v2 ${checked}` },
    ]);
    await new Promise((resolve) => setTimeout(resolve, 500));
    const fetched = async (through: number): Promise<Record<string, string>> => {
      const client = connect({ port: through, host: '127.0.0.1', localAddress: '127.0.0.77' });
      const raw = new RawClient(client, 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
      return told(await raw.closed());
    };
    for (const through of [one, two, sni]) {
      const { 'x-forwarded-for': from, 'x-forwarded-port': to } = await fetched(through);
      t.equal(from, '127.0.0.77');
      t.equal(to, String(through));
    }
    await t.rejects(fetched(bare), 'it sends no header, and is not served');
    const answer = await new Promise<string>((resolve, reject) => {
      request(
        {
          port: tls,
          host: '127.0.0.1',
          localAddress: '127.0.0.78',
          servername: 'a.test',
          headers: { host: 'a.test' },
          ca: ca.pem,
        },
        (res) => {
          let body = '';
          res.on('data', (chunk) => {
            body += chunk;
          });
          res.on('end', () => resolve(body));
        },
      )
        .on('error', reject)
        .end();
    });
    t.same(told(answer), {
      'x-forwarded-for': '127.0.0.78',
      'x-forwarded-port': String(tls),
      'x-forwarded-proto': 'https',
    });
  },
);

t.test('curl speaks version 1', async (t) => {
  const edge = await run(t, edgeTo([await telling(t)], gateway()));
  const args = [
    '-sS',
    '--max-time',
    '10',
    '--noproxy',
    '*',
    '--haproxy-protocol',
    '--interface',
    '127.0.0.79',
    edge.url,
  ];
  const body = await new Promise<string>((resolve, reject) => {
    execFile('curl', args, (error, stdout) => (error === null ? resolve(stdout) : reject(error)));
  });
  t.match(told(body), { 'x-forwarded-for': '127.0.0.79', 'x-forwarded-port': String(edge.port) });
});
