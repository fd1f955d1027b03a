// The east-west journey with real sockets: edge, hop, application, hop, application, in every way that an application can call.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import t, { type Test } from 'tap';
import { type Running, run } from './support/gateway.ts';
import { freePort } from './support/ports.ts';
import { eventually, exchange, httpUpstream, RawClient, statusOf } from './support/sockets.ts';

interface Seen {
  readonly app: string;
  readonly url: string;
  readonly headers: Record<string, string>;
}

/** Says who it is and what arrived. */
async function echo(t: Test, app: string): Promise<number> {
  const { port } = await httpUpstream(t, (req, res) => {
    res.setHeader('content-type', 'application/json');
    res.end(JSON.stringify({ app, url: req.url, headers: req.headers }));
  });
  return port;
}

interface Mesh extends Running {
  /** Ports of listeners by key: `inbound/orders`, `outbound/orders`, `outbound/orders/stock`. */
  readonly ports: Readonly<Record<string, number>>;
  /** Port of the application behind the hop of stock. */
  readonly stock: number;
}

/**
 * gateway -> hop of orders (two versions) -> hop of stock (one application). The application `orders` asks `stock` what it was asked,
 * the way that the request's path names: by Host at the outbound port, or at the local port of stock.
 */
async function mesh(
  t: Test,
  extra: { readonly routes?: readonly object[]; readonly stock?: object } = {},
): Promise<Mesh> {
  const [ordersIn, ordersOut, stockIn, stockLocal] = await Promise.all([
    freePort(),
    freePort(),
    freePort(),
    freePort(),
  ]);
  const stock = await echo(t, 'stock');
  const version = (name: string) =>
    httpUpstream(t, (req, res) => {
      const headers: Record<string, string> = {};
      for (const key of [
        'x-forwarded-for',
        'x-forwarded-proto',
        'x-forwarded-host',
        'x-forwarded-port',
        'via',
        'x-request-id',
      ]) {
        if (req.headers[key] !== undefined) headers[key] = String(req.headers[key]);
      }
      const [, how] = (req.url as string).split('/');
      const target =
        how === 'local'
          ? { port: stockLocal, path: '/deep' }
          : { port: ordersOut, path: '/deep', headers: { host: 'stock' } };
      if (how !== 'local' && how !== 'host') {
        res.end(JSON.stringify({ app: name, url: req.url, headers: req.headers }));
        return;
      }
      get({ ...target, headers: { ...headers, ...target.headers } }, (inner) => {
        res.writeHead(inner.statusCode as number, { 'content-type': 'application/json', 'x-version': name });
        inner.pipe(res);
      }).on('error', () => res.writeHead(599).end());
    });
  const [v1, v2] = await Promise.all([version('v1'), version('v2')]);
  const running = await run(t, {
    version: 1,
    admin: false,
    telemetry: { accessLog: false },
    mesh: { mtls: 'off' },
    gateways: { edge: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] } },
    services: {
      orders: {
        endpoints: [
          { address: `127.0.0.1:${v1.port}`, hop: `127.0.0.1:${ordersIn}`, labels: { version: 'v1' } },
          { address: `127.0.0.1:${v2.port}`, hop: `127.0.0.1:${ordersIn}`, labels: { version: 'v2' } },
        ],
        subsets: { v1: { version: 'v1' }, v2: { version: 'v2' } },
        internal: {
          inbound: { host: '127.0.0.1', port: ordersIn },
          outbound: { host: '127.0.0.1', port: ordersOut, ports: { stock: `127.0.0.1:${stockLocal}` } },
        },
      },
      stock: {
        endpoints: [{ address: `127.0.0.1:${stock}`, hop: `127.0.0.1:${stockIn}` }],
        internal: { inbound: { host: '127.0.0.1', port: stockIn }, outbound: { host: '127.0.0.1', port: 0 } },
        ...extra.stock,
      },
    },
    routes: [
      { name: 'all', to: 'orders' },
      { name: 'one', match: [{ path: '/v1' }], to: { service: 'orders', subset: 'v1' } },
      { name: 'two', match: [{ path: '/v2' }], to: { service: 'orders', subset: 'v2' } },
      ...(extra.routes ?? []),
    ],
  } as never);
  const ports = Object.fromEntries(Object.entries(running.selvedge.addresses()).map(([key, { port }]) => [key, port]));
  return { ...running, ports, stock };
}

async function json(url: string, headers: Record<string, string> = {}): Promise<Seen> {
  const response = await fetch(url, { headers });
  t.equal(response.status, 200, url);
  return (await response.json()) as Seen;
}

/** Runs a program; its output, or an error with what it said. */
function output(command: string, args: readonly string[], env: Record<string, string> = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(
      command,
      args,
      { env: { ...process.env, NO_PROXY: '', no_proxy: '', ...env }, timeout: 15_000 },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else reject(new Error(`${command}: ${error.message}\n${stderr}`));
      },
    );
  });
}

function has(command: string): Promise<boolean> {
  return output(command, ['--version']).then(
    () => true,
    () => false,
  );
}

t.test('a call crosses edge, hop, application, hop, application, and says so in Via', async (t) => {
  const { url } = await mesh(t);
  for (const how of ['host', 'local']) {
    const seen = await json(`${url}/${how}`, {
      'x-forwarded-for': '6.6.6.6',
      'x-selvedge-endpoint': '10.0.0.1:1',
      'x-selvedge-attempt': '9',
    });
    t.equal(seen.app, 'stock', how);
    t.equal(seen.url, '/deep');
    t.match(
      seen.headers,
      {
        'x-forwarded-for': '127.0.0.1',
        'x-forwarded-proto': 'http',
        'x-forwarded-host': new URL(url).host,
        'x-forwarded-port': new URL(url).port,
      },
      `${how}: what the edge said arrives unchanged`,
    );
    t.equal(
      seen.headers.via,
      '1.1 selvedge, 1.1 selvedge, 1.1 selvedge, 1.1 selvedge',
      `${how}: edge, inbound, outbound, inbound`,
    );
    const own = Object.keys(seen.headers).filter((name) => name.startsWith('x-selvedge-'));
    t.equal(seen.headers['x-selvedge-path'], '2;outbound/orders,inbound/stock', `${how}: since the last application`);
    t.same(
      own,
      ['x-selvedge-path', 'x-selvedge-timeout-ms'],
      `${how}: of what hops tell each other the deadline reaches the application, for its own calls, and the way`,
    );
  }
});

t.test('two applications behind one hop: each subset reaches its own, and both share what names none', async (t) => {
  const { url } = await mesh(t);
  for (const version of ['v1', 'v2']) {
    const seen = await Promise.all(Array.from({ length: 20 }, () => json(`${url}/${version}`)));
    t.ok(
      seen.every(({ app }) => app === version),
      `20 of 20 reach ${version}`,
    );
  }
  const shared = await Promise.all(Array.from({ length: 60 }, () => json(`${url}/any`)));
  t.same([...new Set(shared.map(({ app }) => app))].sort(), ['v1', 'v2']);
});

t.test('a hop sends nobody elsewhere: neither by x-selvedge-endpoint of a stranger nor past a subset', async (t) => {
  const elsewhere = await echo(t, 'elsewhere');
  const { ports, url } = await mesh(t);
  const stranger = { 'x-selvedge-endpoint': `127.0.0.1:${elsewhere}` };
  for (const base of [url, `http://127.0.0.1:${ports['inbound/orders']}`]) {
    const { app } = await json(`${base}/any`, stranger);
    t.match(app, /^v[12]$/, `${base} keeps to its own applications`);
  }
});

t.test('a service that the mesh does not know is 404 at the outbound side, whatever way it is asked for', async (t) => {
  const { ports } = await mesh(t);
  const out = ports['outbound/orders'];
  for (const request of [
    'GET / HTTP/1.1\r\nHost: nobody\r\n\r\n',
    'GET http://nobody/x HTTP/1.1\r\nHost: nobody\r\n\r\n',
    'GET http://nobody:8080/x HTTP/1.1\r\nHost: stock\r\n\r\n',
  ]) {
    const response = await exchange(t, out, request);
    t.equal(statusOf(response), 404, request.slice(0, 30));
    t.match(response, /"code":"SLV_SERVICE_NOT_FOUND"/);
  }
});

t.test(
  'an address in Host leads to the service that has it, as the address of the endpoint or of its hop',
  async (t) => {
    const { ports, stock } = await mesh(t);
    for (const address of [`127.0.0.1:${stock}`, `127.0.0.1:${ports['inbound/stock']}`]) {
      const response = await exchange(t, ports['outbound/orders'], `GET /x HTTP/1.1\r\nHost: ${address}\r\n\r\n`);
      t.match(response, /"app":"stock"/);
      t.match(response, `"host":"${address}"`, 'and stays as it is');
      t.match(response, /"via":"1.1 selvedge, 1.1 selvedge"/, 'through both hops');
    }
    const other = await exchange(t, ports['outbound/orders'], 'GET /x HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n');
    t.match(other, /"code":"SLV_SERVICE_NOT_FOUND"/);
  },
);

t.test(
  'absolute-form at the outbound side is routed by its authority, and the application gets origin form',
  async (t) => {
    const { ports } = await mesh(t);
    const response = await exchange(
      t,
      ports['outbound/orders'],
      'GET http://stock/a/b?c=d HTTP/1.1\r\nHost: something.else\r\n\r\n',
    );
    t.match(response, /"app":"stock","url":"\/a\/b\?c=d"/);
    t.match(response, /"host":"stock"/, 'the authority is the Host (RFC 9112 section 3.2.2)');
    t.match(
      await exchange(t, ports['outbound/orders'], 'GET http://stock:80/x HTTP/1.1\r\nHost: stock:80\r\n\r\n'),
      /"app":"stock"/,
    );
    t.match(
      await exchange(t, ports['outbound/orders/stock'], 'GET /x HTTP/1.1\r\nHost: whatever.example.com\r\n\r\n'),
      /"app":"stock"/,
      'a local port leads to one service whatever Host says',
    );
  },
);

t.test('HTTP clients that know a proxy reach a service by its name: curl, Node, Python', async (t) => {
  const { ports } = await mesh(t);
  const proxy = `http://127.0.0.1:${ports['outbound/orders']}`;
  const expected = { app: 'stock', url: '/by-name?x=1' };
  if (await has('curl'))
    t.match(JSON.parse(await output('curl', ['-sS', '-x', proxy, 'http://stock/by-name?x=1'])), expected, 'curl -x');
  else t.comment('curl is not installed');
  const node = "require('node:http').get('http://stock/by-name?x=1', (res) => res.pipe(process.stdout))";
  const supported = Number(process.versions.node.split('.')[0]) >= 25;
  if (supported)
    t.match(
      JSON.parse(
        await output(process.execPath, ['-e', node], { NODE_USE_ENV_PROXY: '1', HTTP_PROXY: proxy, http_proxy: proxy }),
      ),
      expected,
      'node http.get',
    );
  else t.comment('http.get of this Node knows no proxy');
  const python =
    "import urllib.request, sys; sys.stdout.write(urllib.request.urlopen('http://stock/by-name?x=1').read().decode())";
  if (await has('python3'))
    t.match(JSON.parse(await output('python3', ['-c', python], { http_proxy: proxy })), expected, 'Python urllib');
  else t.comment('python3 is not installed');
});

t.test('routes of the mesh shape calls at the caller: rewritten, answered, changed', async (t) => {
  const { ports } = await mesh(t, {
    routes: [
      { name: 'stock-all', internal: ['stock'], to: 'stock', requestHeaders: { set: { 'x-from': 'mesh' } } },
      { name: 'stock-old', internal: ['stock'], match: [{ path: '/old' }], to: 'stock', rewrite: { prefix: '/new' } },
      { name: 'stock-no', internal: ['stock'], match: [{ path: '/no' }], respond: { status: 403, body: 'not here' } },
    ],
  });
  const ask = (path: string) => exchange(t, ports['outbound/orders'], `GET ${path} HTTP/1.1\r\nHost: stock\r\n\r\n`);
  t.match(await ask('/old/x'), /"url":"\/new\/x"/);
  t.match(await ask('/x'), /"x-from":"mesh"/);
  t.match(await ask('/no'), /^HTTP\/1\.1 403 [\s\S]*not here$/);
});

t.test('a deadline travels from hop to hop, never longer, and strangers cannot set it at the edge', async (t) => {
  const heads: IncomingMessage[] = [];
  const { port } = await httpUpstream(t, (req) => heads.push(req));
  const { ports, url } = await mesh(t, {
    stock: { endpoints: [`127.0.0.1:${port}`], internal: undefined },
    routes: [{ name: 'slow', match: [{ path: '/slow' }], to: 'stock', timeout: { request: '300ms' } }],
  });
  const inner = await exchange(
    t,
    ports['outbound/orders'],
    'GET / HTTP/1.1\r\nHost: stock\r\nX-Selvedge-Timeout-Ms: 150\r\n\r\n',
  );
  t.match(inner, /^HTTP\/1\.1 504 [\s\S]*SLV_DEADLINE_EXCEEDED/);
  const left = Number(heads[0].headers['x-selvedge-timeout-ms']);
  t.ok(left > 0 && left <= 150, `${left} ms are left of 150`);
  const edge = await fetch(`${url}/slow`, { headers: { 'x-selvedge-timeout-ms': '600000' } });
  t.equal(edge.status, 504);
  t.match(await edge.json(), { code: 'SLV_UPSTREAM_TIMEOUT' });
});

t.test('a WebSocket crosses the whole mesh, and its end does too', async (t) => {
  const { port, server } = await httpUpstream(t, (_req, res) => res.end());
  let closed = false;
  server.on('upgrade', (_req, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhello');
    socket.on('data', (chunk) => socket.write(`echo ${chunk}`));
    socket.on('end', () => socket.end());
    socket.on('error', () => undefined);
    socket.on('close', () => {
      closed = true;
    });
  });
  const hop = await freePort();
  const { port: edge, selvedge } = await mesh(t, {
    stock: {
      endpoints: [{ address: `127.0.0.1:${port}`, hop: `127.0.0.1:${hop}` }],
      internal: { inbound: { host: '127.0.0.1', port: hop } },
    },
    routes: [{ name: 'socket', match: [{ path: '/ws' }], to: 'stock' }],
  });
  const client = await RawClient.open(t, edge);
  client.send('GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  await client.until((text) => text.endsWith('hello'));
  t.match(await client.send('ping').until((text) => text.endsWith('ping')), /echo ping$/);
  t.equal(selvedge.status.inFlight, 2, 'once at the edge, once at the hop');
  client.socket.destroy();
  await eventually(() => closed && selvedge.status.inFlight === 0, 'all three parts are closed');
});

t.test('one process a role: the edge and each hop run apart from the same file', async (t) => {
  const app = await echo(t, 'stock');
  const [edge, hop] = await Promise.all([freePort(), freePort()]);
  const config = {
    version: 1,
    admin: false,
    telemetry: { accessLog: false },
    mesh: { mtls: 'off' },
    drain: { grace: '0s', timeout: '1s' },
    gateways: { edge: { listeners: [{ name: 'http', host: '127.0.0.1', port: edge }] } },
    services: {
      stock: {
        endpoints: [{ address: `127.0.0.1:${app}`, hop: `127.0.0.1:${hop}` }],
        internal: { inbound: { host: '127.0.0.1', port: hop } },
      },
    },
    routes: [{ name: 'all', to: 'stock' }],
  };
  const file = `${t.testdir({ 'selvedge.json': JSON.stringify(config) })}/selvedge.json`;
  const main = new URL('../../src/main.ts', import.meta.url).pathname;
  const start = async (...role: string[]): Promise<ChildProcess> => {
    const child = spawn(process.execPath, [main, 'run', '-c', file, ...role], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => child.kill('SIGKILL'));
    let text = '';
    child.stdout?.on('data', (chunk) => {
      text += chunk;
    });
    await eventually(() => text.includes('config in force'), `${role.join(' ')} is up`, 15_000);
    return child;
  };
  const [, hopProcess] = await Promise.all([start('--gateway', 'edge'), start('--internal', 'stock')]);
  const seen = await json(`http://127.0.0.1:${edge}/x`);
  t.equal(seen.headers.via, '1.1 selvedge, 1.1 selvedge');
  const gone = once(hopProcess, 'exit');
  hopProcess.kill('SIGTERM');
  t.same(await gone, [0, null]);
  t.equal((await fetch(`http://127.0.0.1:${edge}/x`)).status, 502, 'the edge runs on without it');
});
