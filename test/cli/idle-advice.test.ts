// `selvedge check` beside a running Selvedge: what that one has seen of idle connections becomes a warning about this config, and nothing else does.
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { type AskAdmin, askAdmin } from '../../src/cli/ask-admin.ts';
import { checkCommand } from '../../src/cli/check.ts';
import { runCommand } from './support/io.ts';

const config = (connections = '', rest = '') => `version: 1
gateways: { public: { listeners: [{ name: http, port: 8080 }] } }
services:
  orders:
    endpoints: ["127.0.0.1:3000", "127.0.0.1:3001"]
    ${connections}
routes: [{ name: orders, to: orders }]
${rest}
`;

const SEEN = { service: 'orders', address: '127.0.0.1:3000', dial: '127.0.0.1:3000', upstreamIdleMs: 5_000 };

async function warnings(t: Test, text: string, endpoints: unknown[]): Promise<string> {
  const dir = t.testdir({ 'selvedge.yaml': text });
  const { code, stderr } = await runCommand(
    checkCommand(async () => ({ endpoints })),
    [],
    dir,
  );
  t.equal(code, 0, 'it does not fail the check');
  return stderr;
}

t.test('warns of a pool that keeps connections for longer than the upstream', async (t) => {
  t.equal(
    await warnings(t, config('connections: { idleTimeout: 60s }'), [SEEN]),
    'selvedge.yaml:6:33 warning: services.orders.connections.idleTimeout: 60s is longer than 127.0.0.1:3000 keeps idle ' +
      'connections (5 s, seen by the running Selvedge); ours are closed after 4 s; say "idleTimeout: 4s"\n',
  );
  t.match(
    await warnings(t, config(), [SEEN]),
    /^selvedge\.yaml:5:5 warning: services\.orders\.connections\.idleTimeout: 60s is longer than /,
    'where nothing is written, at the service',
  );
  for (const [idleTimeout, upstreamIdleMs, expected] of [
    ['0s', 5_000, /no limit is longer than .*\(5 s,.* after 4 s; say "idleTimeout: 4s"/],
    ['5s', 5_000, /5s is too close to how long 127\.0\.0\.1:3000 keeps .* say "idleTimeout: 4s"/],
    ['60s', 5_173, /\(5\.2 s,.* after 4\.2 s; say "idleTimeout: 4s"/],
    ['1500ms', 1_000, /1500ms is longer .*\(1 s,.* after 500 ms; say "idleTimeout: 500ms"/],
    ['1s', 1, /\(1 ms,.* after 1 ms; say "idleTimeout: 1ms"/],
  ] as const) {
    const text = config(`connections: { idleTimeout: ${idleTimeout} }`);
    t.match(await warnings(t, text, [{ ...SEEN, upstreamIdleMs }]), expected);
  }
});

t.test('names the endpoint that is the quickest to close, once a service', async (t) => {
  const other = { ...SEEN, address: '127.0.0.1:3001', dial: '127.0.0.1:3001', upstreamIdleMs: 2_500 };
  const text = await warnings(t, config(), [SEEN, other, SEEN]);
  t.match(text, /longer than 127\.0\.0\.1:3001 .* after 1\.5 s; say "idleTimeout: 1500ms"\n$/);
  t.equal(text.split('\n').length, 2);
});

t.test('is silent where there is nothing to say, or somebody else answers', async (t) => {
  t.equal(await warnings(t, config('connections: { idleTimeout: 4s }'), [SEEN]), '', 'soon enough');
  for (const [what, endpoints] of [
    ['unknown', [{ ...SEEN, upstreamIdleMs: null }]],
    ['another service', [{ ...SEEN, service: 'shop' }]],
    ['another address', [{ ...SEEN, address: '127.0.0.1:4000', dial: '127.0.0.1:4000' }]],
    ['dialled by another way', [{ ...SEEN, dial: '10.0.0.1:15001' }]],
    ['an older Selvedge', [{ service: 'orders', address: '127.0.0.1:3000', dial: '127.0.0.1:3000' }]],
    ['nonsense', [null, 1, 'x', [], { ...SEEN, upstreamIdleMs: '5' }, { ...SEEN, upstreamIdleMs: -1 }]],
  ] as const)
    t.equal(await warnings(t, config(), [...endpoints]), '', what);
  const dir = t.testdir({ 'selvedge.yaml': config() });
  for (const page of [null, 'text', 7, [], {}, { endpoints: 'many' }]) {
    t.match(
      await runCommand(
        checkCommand(async () => page),
        [],
        dir,
      ),
      { code: 0, stderr: '' },
    );
  }
});

t.test('asks nobody without an admin address, nor about a config that is wrong', async (t) => {
  const asked: string[] = [];
  const ask: AskAdmin = async ({ host, port }, path) => {
    asked.push(`${host}:${port}${path}`);
    return null;
  };
  for (const text of [config('', 'admin: false'), config('', 'etcd: { url: x }')]) {
    await runCommand(checkCommand(ask), [], t.testdir({ 'selvedge.yaml': text }));
  }
  t.strictSame(asked, []);
  await runCommand(checkCommand(ask), [], t.testdir({ 'selvedge.yaml': config('', 'admin: { port: 9911 }') }));
  t.strictSame(asked, ['127.0.0.1:9911/endpoints']);
});

t.test('asking', async (t) => {
  const serve = async (listener: RequestListener) => {
    const server = createServer(listener);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.teardown(() => {
      server.closeAllConnections();
      server.close();
    });
    return (server.address() as AddressInfo).port;
  };

  t.test('gives the page', async (t) => {
    const port = await serve((request, response) => response.end(JSON.stringify([request.method, request.url])));
    t.strictSame(await askAdmin({ host: '127.0.0.1', port }, '/endpoints'), ['GET', '/endpoints']);
  });

  t.test('gives up on silence, errors, other formats, endless pages and connections that break', async (t) => {
    const unused = await serve(() => undefined);
    for (const [what, listener] of [
      ['silence', () => undefined],
      ['404', (_, response) => response.writeHead(404).end('{}')],
      ['no JSON', (_, response) => response.end('<html>')],
      ['breaks off', (_, response) => response.write('{', () => response.destroy())],
      ['endless', (_, response) => response.write(Buffer.alloc(5 * 1024 * 1024, ' '))],
    ] satisfies [string, RequestListener][]) {
      t.equal(await askAdmin({ host: '127.0.0.1', port: await serve(listener) }, '/'), null, what);
    }
    t.equal(await askAdmin({ host: '127.0.0.1', port: 1 }, '/'), null, 'nobody');
    t.equal(await askAdmin({ host: '0.0.0.0', port: unused }, '/'), null, 'not on loopback');
    t.equal(await askAdmin({ host: '127.example.test', port: unused }, '/'), null, 'a name that looks like it');
    t.equal(await askAdmin({ host: '127.0.0.1', port: 0 }, '/'), null, 'no fixed port');
  });
});
