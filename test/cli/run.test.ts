import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { eventually, httpUpstream, RawClient } from '../e2e/support/sockets.ts';
import { SelvedgeProcess } from './support/process.ts';

const EDGE = 'gateway/edge/http';

function configText(changes: object = {}): string {
  return JSON.stringify({
    version: 1,
    admin: false,
    drain: { grace: '0s' },
    telemetry: { accessLog: false },
    gateways: { edge: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] } },
    routes: [{ name: 'all', respond: { status: 200, body: 'ok' } }],
    ...changes,
  });
}

function write(t: Test, changes: object = {}): string {
  return join(t.testdir({ 'selvedge.yaml': configText(changes) }), 'selvedge.yaml');
}

async function slowUpstream(t: Test) {
  const waiting: (() => void)[] = [];
  const { port } = await httpUpstream(t, (_req, res) => void waiting.push(() => res.end('slow answer')));
  const forwarding = {
    services: { app: { endpoints: [`127.0.0.1:${port}`] } },
    routes: [{ name: 'all', to: [{ service: 'app' }] }],
  };
  return { waiting, forwarding };
}

t.test('SIGTERM lets a slow request finish, then exits 0; the log is whole', async (t) => {
  const { waiting, forwarding } = await slowUpstream(t);
  const run = new SelvedgeProcess(t, ['run', '-c', write(t, { ...forwarding, telemetry: {} })]);
  const client = await RawClient.open(t, await run.port(EDGE));
  client.send('GET /slow HTTP/1.1\r\nHost: a\r\n\r\n');
  await eventually(() => waiting.length === 1, 'the request arrives');
  run.signal('SIGTERM');
  await run.says('draining');
  waiting[0]();
  t.match(await client.closed(), /^HTTP\/1\.1 200 OK[\s\S]*slow answer$/);
  t.equal(await run.ended, 0);
  t.match(
    run.lines.find(({ msg }) => msg === 'request'),
    { path: '/slow', status: 200 },
    'the access line of the last request too',
  );
  t.equal(run.stderr, '');
});

t.test('a second SIGTERM ends it at once', async (t) => {
  const { waiting, forwarding } = await slowUpstream(t);
  const run = new SelvedgeProcess(t, ['run', '-c', write(t, { ...forwarding, drain: { grace: '1h', timeout: '1h' } })]);
  const client = await RawClient.open(t, await run.port(EDGE));
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await eventually(() => waiting.length === 1, 'the request arrives');
  run.signal('SIGTERM');
  await run.says('draining');
  run.signal('SIGTERM');
  t.equal(await run.ended, 143);
  t.match(run.lines.at(-1)?.msg, /second signal/);
});

t.test('SIGINT drains without the grace time, SIGHUP reloads', async (t) => {
  const path = write(t, { drain: { grace: '1h' } });
  const run = new SelvedgeProcess(t, ['run', '-c', path]);
  await run.port(EDGE);
  run.signal('SIGHUP');
  await eventually(() => run.lines.some(({ revision }) => revision === 2), 'the reload');
  t.match(
    run.lines.find(({ revision }) => revision === 2),
    { reason: 'SIGHUP' },
  );
  run.signal('SIGINT');
  t.equal(await run.ended, 0);
});

t.test('an edit that breaks the config is logged and not applied; SIGTERM still exits 0', async (t) => {
  const path = write(t);
  const run = new SelvedgeProcess(t, ['run', '-c', path]);
  const port = await run.port(EDGE);
  writeFileSync(path, configText({ routes: [{ name: 'all', to: [{ service: 'nobody' }] }] }));
  await run.says(/no service "nobody"/);
  await run.says('config rejected: the one in force stays');
  t.equal(await (await fetch(`http://127.0.0.1:${port}`)).text(), 'ok');
  run.signal('SIGTERM');
  t.equal(await run.ended, 0);
});

t.test('a plugin whose detached work fails costs a log line and a count, not the process', async (t) => {
  const dir = t.testdir({
    'selvedge.yaml': configText({
      admin: { port: 0 },
      routes: [{ name: 'all', plugins: ['./broken.mjs'], respond: { status: 200, body: 'ok' } }],
    }),
    'broken.mjs': `
      import { definePlugin } from 'selvedge/plugin';
      export default definePlugin({ name: 'broken' }, async (app) => {
        app.addHook('onRequest', async (request) => {
          setTimeout(() => { throw new Error('in a timer'); });
          Promise.reject(new Error('in a promise'));
        });
      });`,
  });
  const run = new SelvedgeProcess(t, ['run'], { cwd: dir });
  const edge = await run.port(EDGE);
  const admin = await run.port('admin');
  for (let round = 0; round < 3; round++) t.equal((await fetch(`http://127.0.0.1:${edge}`)).status, 200);
  await eventually(() => run.lines.filter(({ level }) => level === 50).length === 6, 'all of them are logged');
  t.match(
    run.lines
      .filter(({ level }) => level === 50)
      .map(({ err }) => (err as { stack: string }).stack)
      .join(),
    /in a timer\n +at [\s\S]*broken\.mjs/,
  );
  const metrics = await (await fetch(`http://127.0.0.1:${admin}/metrics`)).text();
  t.match(metrics, /^selvedge_unhandled_errors_total\{source="exception"\} 3$/m);
  t.match(metrics, /^selvedge_unhandled_errors_total\{source="rejection"\} 3$/m);
  t.match(metrics, /^process_resident_memory_bytes /m, 'and the process itself is measured');
  run.signal('SIGTERM');
  t.equal(await run.ended, 0);
});

t.test('what cannot start exits 3 with every problem on stderr', async (t) => {
  const blocker = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => blocker.once('listening', resolve));
  t.teardown(() => blocker.close());
  const { port } = blocker.address() as { port: number };
  const dir = t.testdir({
    'broken.yaml': configText({
      routes: [
        { name: 'a', to: [{ service: 'x' }] },
        { name: 'b', to: [{ service: 'y' }] },
      ],
    }),
    'taken.yaml': configText({ gateways: { edge: { listeners: [{ name: 'http', host: '127.0.0.1', port }] } } }),
    'admin.yaml': configText({ admin: { host: '127.0.0.1', port } }),
    'idle.yaml': configText({ gateways: { edge: { listeners: [] } } }),
  });
  const outcome = async (file: string) => {
    const run = new SelvedgeProcess(t, ['run', '-c', file], { cwd: dir });
    return { code: await run.ended, stderr: run.stderr };
  };
  const [broken, taken, admin, idle, missing] = await Promise.all(
    ['broken.yaml', 'taken.yaml', 'admin.yaml', 'idle.yaml', 'missing.yaml'].map(outcome),
  );
  t.match(broken, {
    code: 3,
    stderr:
      /^broken\.yaml:1:\d+ routes\[0\]\.to\[0\]\.service: no service "x"[\s\S]*\nbroken\.yaml:1:\d+ routes\[1\]\.to\[0\]\.service: no service "y"/,
  });
  t.match(taken, {
    code: 3,
    stderr: new RegExp(
      `^taken\\.yaml:1:\\d+ listener ${EDGE} cannot listen on 127\\.0\\.0\\.1:${port}: the port is taken`,
    ),
  });
  t.match(admin, {
    code: 3,
    stderr:
      /^admin\.yaml:1:\d+ admin\.port: cannot listen on .*: the port is taken; set admin\.port .* or admin: false/,
  });
  t.match(idle, { code: 3, stderr: /listener|nothing to run/ });
  t.match(missing, { code: 3, stderr: /missing\.yaml/ });
});

t.test('wrong usage exits 2 and says what would be right', async (t) => {
  const dir = t.testdir({ 'selvedge.yaml': configText() });
  const empty = join(dir, '..');
  const outcome = async (args: readonly string[], cwd = dir) => {
    const run = new SelvedgeProcess(t, args, { cwd });
    return { code: await run.ended, stderr: run.stderr };
  };
  const [role, none, argument] = await Promise.all([
    outcome(['run', '--gateway', 'egde']),
    outcome(['run'], empty),
    outcome(['run', 'selvedge.yaml']),
  ]);
  t.match(role, { code: 2, stderr: /no gateway "egde" \(did you mean "edge"\?\)/ });
  t.match(none, { code: 2, stderr: /no config here/ });
  t.match(argument, { code: 2, stderr: /-c/ });
});
