import { createServer } from 'node:http';
import { connect } from 'node:net';
import { Counter, Registry } from 'prom-client';
import t, { type Test } from 'tap';
import { buildAdmin, type Inspected, openAdmin } from '../../src/admin/admin.ts';
import { namesThisHost } from '../../src/admin/host-check.ts';
import { type ConfigInput, createSelvedge } from '../../src/index.ts';
import type { Answers } from '../../src/runtime/engine.ts';

const AT = new Date('2026-11-21T12:00:00Z');

function inspected(changes: Partial<Record<keyof Inspected, unknown>> = {}, answers: Partial<Answers> = {}): Inspected {
  const all = {
    health: { reasons: [], warnings: [], inFlight: 2 },
    services: [{ name: 'orders', endpoints: [{ address: '10.0.0.5:3000', inFlight: 2 }] }],
    routes: [{ name: 'all' }],
    identity: null,
    seen: [],
    ...answers,
  };
  return {
    state: 'running',
    revision: 3,
    loadedAt: AT,
    lastRejected: null,
    loaded: { provenance: { effective: () => ({ version: 1 }) } },
    addresses: () => ({ 'gateway/public/http': { host: '0.0.0.0', port: 8080 } }),
    engine: { ask: async (about: keyof Answers) => all[about], rollouts: { all: () => [] } },
    ...changes,
  } as unknown as Inspected;
}

function admin(t: Test, runtime: Inspected = inspected(), host = '127.0.0.1', registry = new Registry()) {
  const app = buildAdmin({ host, port: 9901 }, runtime, registry, '1.2.3');
  t.teardown(() => app.close());
  return (url: string, options: { method?: 'GET' | 'POST' | 'HEAD'; host?: string } = {}) =>
    app.inject({ method: options.method ?? 'GET', url, headers: { host: options.host ?? 'localhost:9901' } });
}

t.test('lists its pages, and each of them answers', async (t) => {
  const get = admin(t);
  const { selvedge, pages } = (await get('/')).json();
  t.equal(selvedge, '1.2.3');
  for (const page of Object.keys(pages)) {
    const response = await get(page);
    t.equal(response.statusCode, 200, page);
    t.equal(response.headers['cache-control'], 'no-store', page);
  }
  t.equal((await get('/livez', { method: 'HEAD' })).statusCode, 200);
});

t.test('is ready while a config is in force, and says why not', async (t) => {
  const ready = await admin(t)('/readyz');
  t.match([ready.statusCode, ready.json()], [200, { status: 'ready', reasons: [], inFlight: 2 }]);
  for (const [changes, reason] of [
    [{ state: 'draining' }, 'draining'],
    [{ state: 'starting', engine: null }, 'no config is in force yet'],
    [{ revision: 0 }, 'no config is in force yet'],
  ] as const) {
    const get = admin(t, inspected(changes));
    const response = await get('/readyz');
    t.match([response.statusCode, response.json()], [503, { status: 'not ready', reasons: [reason] }]);
    t.equal((await get('/livez')).statusCode, 200, 'but alive');
  }
});

t.test('is not ready for whatever reason there is, and passes warnings on', async (t) => {
  const health = { reasons: ['service "orders" has not been checked yet'], warnings: ['not renewed'], inFlight: 0 };
  const response = await admin(t, inspected({}, { health }))('/readyz');
  t.strictSame([response.statusCode, response.json()], [503, { status: 'not ready', ...health }]);
});

t.test('tells of its workers, where there are several', async (t) => {
  const workers = [{ worker: 1, pid: 7, state: 'serving', restarts: 2 }] as const;
  const health = { reasons: [], warnings: [], inFlight: 1, workers };
  t.strictSame((await admin(t, inspected({}, { health }))('/readyz')).json(), { status: 'ready', ...health });
});

t.test('shows its certificates in the mesh, or that it has none', async (t) => {
  const nothing = { trustDomain: null, trusted: [], certificates: [], warnings: [] };
  t.strictSame((await admin(t)('/identity')).json(), nothing);
  const identity = { ...nothing, trustDomain: 'shop.internal', trusted: ['shop.internal'] };
  t.strictSame((await admin(t, inspected({}, { identity }))('/identity')).json(), identity);
});

t.test('shows what is in force and what was rejected', async (t) => {
  const problems = [
    { severity: 'error', place: { file: 'shop.yaml', line: 4, column: 2 }, path: 'routes[0]', message: 'is wrong' },
  ];
  const get = admin(t, inspected({ lastRejected: { at: AT, reason: 'SIGHUP', problems } }));
  t.match((await get('/config')).json(), {
    revision: 3,
    loadedAt: AT.toJSON(),
    listening: { 'gateway/public/http': { port: 8080 } },
    config: { version: 1 },
    lastRejected: { at: AT.toJSON(), reason: 'SIGHUP', problems: [{ text: 'shop.yaml:4:2 routes[0]: is wrong' }] },
  });
  t.same((await get('/routes')).json(), { routes: [{ name: 'all' }] });
  t.match((await get('/services')).json(), { services: [{ name: 'orders', endpoints: [{ inFlight: 2 }] }] });
  t.match((await get('/endpoints')).json(), { endpoints: [{ service: 'orders', address: '10.0.0.5:3000' }] });
});

t.test('metrics are the registry, in Prometheus text', async (t) => {
  const registry = new Registry();
  new Counter({ name: 'seen_total', help: 'x', registers: [registry] }).inc(4);
  const response = await admin(t, inspected(), '127.0.0.1', registry)('/metrics');
  t.match(response.headers['content-type'], /^text\/plain; version=0\.0\.4/);
  t.match(response.body, /^seen_total 4$/m);
});

t.test('answers only GET, and only what it has', async (t) => {
  const get = admin(t);
  const post = await get('/config', { method: 'POST' });
  t.match([post.statusCode, post.headers.allow], [405, 'GET, HEAD']);
  const unknown = await get('/secrets');
  t.match([unknown.statusCode, unknown.headers['content-type']], [404, 'application/problem+json']);
  t.equal((await get('/__proto__')).statusCode, 404);
});

t.test('a host that is not this machine is refused, whatever is asked', async (t) => {
  const get = admin(t);
  for (const host of [
    'evil.example',
    'evil.example:9901',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    'evil@localhost',
    '10.0.0.9',
  ]) {
    for (const page of ['/config', '/livez', '/none']) {
      const response = await get(page, { host });
      t.match([response.statusCode, response.json().code], [421, 'SLV_MISDIRECTED'], `${host} ${page}`);
      t.notMatch(response.body, /revision|alive/);
    }
  }
});

t.test('names of this machine: localhost, loopback, the address that was dialled, the configured name', async (t) => {
  const cases: readonly (readonly [string, string, string, boolean])[] = [
    ['localhost', '127.0.0.1', '127.0.0.1', true],
    ['LOCALHOST:9901', '127.0.0.1', '127.0.0.1', true],
    ['localhost.:9901', '127.0.0.1', '127.0.0.1', true],
    ['shop.localhost', '127.0.0.1', '127.0.0.1', true],
    ['127.0.0.1:9901', '127.0.0.1', '127.0.0.1', true],
    ['127.1.2.3', '127.0.0.1', '127.0.0.1', true],
    ['[::1]:9901', '::1', '::1', true],
    ['10.1.2.3:9901', '0.0.0.0', '10.1.2.3', true],
    ['10.1.2.3', '::', '::ffff:10.1.2.3', true],
    ['10.1.2.4', '0.0.0.0', '10.1.2.3', false],
    ['admin.internal', 'admin.internal', '10.1.2.3', true],
    ['0.0.0.0', '0.0.0.0', '127.0.0.1', true],
    ['127.0.0.1.nip.io', '0.0.0.0', '127.0.0.1', false],
    ['localhost localhost', '127.0.0.1', '127.0.0.1', false],
    ['[::1', '::1', '::1', false],
  ];
  for (const [header, configured, local, expected] of cases) {
    t.equal(namesThisHost(header, configured, local), expected, header);
  }
  t.equal(namesThisHost(undefined, '127.0.0.1', '127.0.0.1'), false);
});

t.test('opens where it is told, closes with open connections, and rejects when the port is taken', async (t) => {
  const server = await openAdmin({ host: '127.0.0.1', port: 0 }, inspected(), new Registry(), '1.2.3');
  const { port } = server.address();
  t.equal((await fetch(`http://127.0.0.1:${port}/readyz`)).status, 200);
  await t.rejects(openAdmin({ host: '127.0.0.1', port }, inspected(), new Registry(), '1.2.3'), { code: 'EADDRINUSE' });
  const idle = connect(port, '127.0.0.1');
  idle.on('error', () => {});
  await new Promise((resolve) => idle.once('connect', resolve));
  const ended = new Promise((resolve) => idle.once('close', resolve));
  await server.close();
  await ended;
});

t.test('of a running Selvedge: routes, endpoints, metrics, and no secret in the config', async (t) => {
  const upstream = createServer((_req, res) => res.end('ok')).listen(0, '127.0.0.1');
  await new Promise((resolve) => upstream.once('listening', resolve));
  t.teardown(() => upstream.close());
  const address = `127.0.0.1:${(upstream.address() as { port: number }).port}`;
  const config = {
    version: 1,
    admin: { port: 0 },
    telemetry: { accessLog: false },
    gateways: { edge: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] } },
    services: { app: { endpoints: [address] } },
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the config fills it in
    routes: [{ name: 'app', to: [{ service: 'app' }], requestHeaders: { set: { 'x-key': '${UPSTREAM_TOKEN}' } } }],
  } as ConfigInput;
  const selvedge = await createSelvedge({ config, logger: false, env: { UPSTREAM_TOKEN: 'hunter2' } });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  const edge = `http://127.0.0.1:${selvedge.addresses()['gateway/edge/http'].port}`;
  const base = `http://127.0.0.1:${selvedge.adminAddress()!.port}`;
  const page = async (path: string): Promise<string> => (await fetch(base + path)).text();
  t.equal((await fetch(edge)).status, 200);
  const shown = await page('/config');
  t.match(shown, /"x-key":"\[redacted\]"/);
  t.notMatch(shown, /hunter2/);
  t.match(JSON.parse(await page('/routes')), {
    routes: [{ listener: 'gateway/edge/http', name: 'app', action: 'forward' }],
  });
  t.match(JSON.parse(await page('/endpoints')), { endpoints: [{ service: 'app', address, connections: 1 }] });
  const metrics = await page('/metrics');
  t.match(metrics, /^selvedge_connections\{listener="gateway\/edge\/http"\} 1$/m);
  t.match(metrics, /^selvedge_info\{version="\d+\.\d+\.\d+[^"]*"\} 1$/m);
  t.match(metrics, /^selvedge_config_revision 1$/m);
  t.match(metrics, /^selvedge_requests_total\{.*code="200".*\} 1$/m);
});
