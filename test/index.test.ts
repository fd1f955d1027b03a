import { createServer } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import {
  ConfigError,
  type ConfigInput,
  createSelvedge,
  defineConfig,
  formatProblem,
  RoleError,
  type Selvedge,
  type SelvedgeOptions,
} from '../src/index.ts';
import { closedPort, eventually, httpUpstream, RawClient } from './e2e/support/sockets.ts';

const HANDSHAKE =
  'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

function shop(changes: Partial<ConfigInput> = {}): ConfigInput {
  return defineConfig({
    version: 1,
    admin: false,
    telemetry: { accessLog: false },
    gateways: { edge: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] } },
    routes: [{ name: 'all', respond: { status: 200, body: 'ok' } }],
    ...changes,
  });
}

async function create(t: Test, options: Partial<SelvedgeOptions> = {}): Promise<Selvedge> {
  const selvedge = await createSelvedge({ config: shop(), logger: false, ...options });
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  return selvedge;
}

function portOf(selvedge: Selvedge, key = 'gateway/edge/http'): number {
  return selvedge.addresses()[key].port;
}

/** An upstream that answers when it is told to. */
async function slowUpstream(t: Test) {
  const waiting: (() => void)[] = [];
  const upstream = await httpUpstream(t, (_req, res) => void waiting.push(() => res.end('slow answer')));
  upstream.server.on('upgrade', (_req, socket) => {
    socket.on('error', () => {});
    socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n');
  });
  return { ...upstream, waiting };
}

function forwarding(port: number, changes: Partial<ConfigInput> = {}): ConfigInput {
  return shop({
    services: { app: { endpoints: [`127.0.0.1:${port}`] } },
    routes: [{ name: 'all', to: [{ service: 'app' }] }],
    ...changes,
  } as Partial<ConfigInput>);
}

t.test('serves a config object, tells where, and is gone after close', async (t) => {
  const selvedge = await create(t);
  t.match(selvedge.status, { state: 'idle', revision: 0, loadedAt: null });
  t.same(selvedge.addresses(), {});
  await selvedge.start();
  t.match(selvedge.status, { state: 'running', revision: 1, lastRejected: null, inFlight: 0 });
  const url = `http://127.0.0.1:${portOf(selvedge)}`;
  t.equal(await (await fetch(url)).text(), 'ok');
  t.equal(selvedge.adminAddress(), null);
  await t.rejects(selvedge.start(), /cannot start: already running/);
  await selvedge.close();
  t.equal(selvedge.status.state, 'stopped');
  await t.rejects(fetch(url));
  await t.rejects(selvedge.reload(), /cannot reload: stopped/);
  await selvedge.close();
});

t.test('several run side by side in one process', async (t) => {
  const [one, two] = [await create(t), await create(t)];
  await Promise.all([one.start(), two.start()]);
  await one.close();
  t.equal(await (await fetch(`http://127.0.0.1:${portOf(two)}`)).text(), 'ok');
});

t.test('a config with errors does not start, and the error carries all of them', async (t) => {
  const config = shop({
    routes: [
      { name: 'a', to: [{ service: 'ordrs' }] },
      { name: 'b', to: [{ service: 'nobody' }] },
    ],
  } as Partial<ConfigInput>);
  const selvedge = await create(t, { config });
  const error = (await selvedge.start().catch((error) => error)) as ConfigError;
  t.type(error, ConfigError);
  t.match(error.problems.map(formatProblem).join('\n'), /"ordrs"[\s\S]*"nobody"/);
  t.equal(error.message, error.problems.map(formatProblem).join('\n'));
  t.equal(selvedge.status.state, 'stopped');
});

t.test('a file that is not there is a config with an error', async (t) => {
  const selvedge = await create(t, { config: join(t.testdir({}), 'none.yaml') });
  await t.rejects(selvedge.start(), { name: 'ConfigError', message: /none\.yaml/ });
});

t.test('a taken port stops the start, and what was bound already is let go', async (t) => {
  const blocker = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => blocker.once('listening', resolve));
  t.teardown(() => blocker.close());
  const { port: taken } = blocker.address() as { port: number };
  const free = await closedPort();
  const listener = (name: string, port: number) => ({ name, host: '127.0.0.1', port });
  for (const config of [
    shop({ gateways: { edge: { listeners: [listener('free', free), listener('taken', taken)] } } }),
    shop({ gateways: { edge: { listeners: [listener('free', free)] } }, admin: { host: '127.0.0.1', port: taken } }),
  ]) {
    const selvedge = await create(t, { config });
    await t.rejects(selvedge.start(), {
      name: 'ConfigError',
      message: /cannot listen on 127\.0\.0\.1:\d+: the port is taken/,
    });
    const again = createServer();
    await new Promise<void>((resolve, reject) => again.once('error', reject).listen(free, '127.0.0.1', resolve));
    await new Promise((resolve) => again.close(resolve));
  }
});

t.test('runs the roles that it is told, and says which ones there are when there is none', async (t) => {
  const config = {
    ...shop({ mesh: { mtls: 'off' } } as Partial<ConfigInput>),
    services: {
      orders: { endpoints: ['127.0.0.1:1'], internal: { inbound: { host: '127.0.0.1', port: 0 }, app: '127.0.0.1:1' } },
      plain: { endpoints: ['127.0.0.1:2'] },
    },
  } as ConfigInput;
  const keys = async (roles: SelvedgeOptions['roles']): Promise<string[]> => {
    const selvedge = await create(t, { config, roles });
    await selvedge.start();
    return Object.keys(selvedge.addresses());
  };
  t.same(await keys(undefined), ['gateway/edge/http', 'inbound/orders']);
  t.same(await keys({ gateways: ['edge'] }), ['gateway/edge/http']);
  t.same(await keys({ internal: ['orders'] }), ['inbound/orders']);
  const refused = async (roles: SelvedgeOptions['roles']) => (await create(t, { config, roles })).start();
  await t.rejects(refused({ gateways: ['egde'] }), {
    name: 'RoleError',
    message: 'no gateway "egde" (did you mean "edge"?)',
  });
  await t.rejects(refused({ gateways: ['public'] }), { message: 'no gateway "public" (there are: edge)' });
  await t.rejects(refused({ internal: ['plain'] }), { message: /service "plain" has no hop/ });
  t.type(await refused({ gateways: ['x'], internal: ['y'] }).catch((error) => error), RoleError);
  await t.rejects(refused({ gateways: [], internal: [] }), { name: 'ConfigError', message: /nothing to run/ });
});

t.test('environment variables come from `env`', async (t) => {
  const selvedge = await create(t, {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the config fills it in
    config: shop({ routes: [{ name: 'all', respond: { status: 200, body: 'hello ${WHO}' } }] }),
    env: { WHO: 'world' },
  });
  await selvedge.start();
  t.equal(await (await fetch(`http://127.0.0.1:${portOf(selvedge)}`)).text(), 'hello world');
});

t.test('close lets a request in flight end, and accepts nothing meanwhile', async (t) => {
  const { port, waiting } = await slowUpstream(t);
  const selvedge = await create(t, { config: forwarding(port) });
  await selvedge.start();
  const url = `http://127.0.0.1:${portOf(selvedge)}`;
  const kept = await RawClient.open(t, portOf(selvedge));
  kept.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await eventually(() => waiting.length === 1, 'the request arrives');
  const closing = selvedge.close();
  await eventually(() => Object.keys(selvedge.addresses()).length === 0, 'the listener is closed');
  await t.rejects(fetch(url));
  t.equal(selvedge.status.state, 'draining');
  waiting[0]();
  const received = await kept.closed();
  await closing;
  t.match(received, /^HTTP\/1\.1 200 OK\r\n[\s\S]*connection: close\r\n[\s\S]*slow answer$/i);
  t.equal(kept.ended, 'end', 'and the connection ends in good order');
  t.equal(selvedge.status.inFlight, 0);
});

t.test('close cuts what does not end in time, upgraded connections included', async (t) => {
  const { port, waiting } = await slowUpstream(t);
  const selvedge = await create(t, { config: forwarding(port) });
  await selvedge.start();
  const [request, socket] = [await RawClient.open(t, portOf(selvedge)), await RawClient.open(t, portOf(selvedge))];
  request.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  socket.send(HANDSHAKE);
  await socket.until((received) => received.includes('101'));
  await eventually(() => waiting.length === 1, 'the request arrives');
  t.equal(selvedge.status.inFlight, 2);
  await selvedge.close({ timeoutMs: 20 });
  await Promise.all([request.closed(), socket.closed()]);
  t.notMatch(request.received, /200 OK/);
  t.equal(selvedge.status.inFlight, 0);
});

t.test('in the grace time readiness fails while requests are served; asking again without one ends it', async (t) => {
  const selvedge = await create(t, {
    config: shop({
      admin: { host: '127.0.0.1', port: 0 },
      drain: { grace: '1h', timeout: '1s' },
    } as Partial<ConfigInput>),
  });
  await selvedge.start();
  const ready = `http://127.0.0.1:${selvedge.adminAddress()!.port}/readyz`;
  t.equal((await fetch(ready)).status, 200);
  const closing = selvedge.close({ graceMs: 'config' });
  await eventually(() => selvedge.status.state === 'draining', 'draining');
  t.match(await (await fetch(ready)).json(), { status: 'not ready', reasons: ['draining'] });
  const served = await fetch(`http://127.0.0.1:${portOf(selvedge)}`);
  t.equal(await served.text(), 'ok');
  await selvedge.close();
  await closing;
  await t.rejects(fetch(ready));
});

t.test('a close during the start ends in a stop', async (t) => {
  const selvedge = await create(t);
  const starting = selvedge.start();
  await selvedge.close();
  await starting;
  t.equal(selvedge.status.state, 'stopped');
  t.same(selvedge.addresses(), {});
});

t.test('a reload that is under way when it closes changes nothing any more', async (t) => {
  const selvedge = await create(t, { config: shop({ admin: { host: '127.0.0.1', port: 0 } }) });
  await selvedge.start();
  const reloading = selvedge.reload();
  await selvedge.close();
  t.equal((await reloading).revision <= 2, true);
  t.equal(selvedge.adminAddress(), null);
  t.same(selvedge.addresses(), {});
});

t.test('starting and closing again and again leaves nothing open', async (t) => {
  const before = process.getActiveResourcesInfo().filter((kind) => kind.startsWith('TCPServer')).length;
  for (let round = 0; round < 5; round++) {
    const selvedge = await createSelvedge({ config: shop({ admin: { host: '127.0.0.1', port: 0 } }), logger: false });
    await selvedge.start();
    await (await fetch(`http://127.0.0.1:${portOf(selvedge)}`)).text();
    await selvedge.close();
  }
  await eventually(
    () => process.getActiveResourcesInfo().filter((kind) => kind.startsWith('TCPServer')).length <= before,
    'every server is closed',
  );
  t.pass();
});
