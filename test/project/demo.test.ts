// `npm start`: what the README promises of the demo, on whatever ports are free here.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import t, { type Test } from 'tap';
import { WebSocket } from 'ws';

const root = join(import.meta.dirname, '../..');

type Demo = ChildProcessByStdio<null, Readable, null>;

/** Starts the demo; resolves once it has said what runs where. */
async function start(
  t: Test,
  args: readonly string[] = [],
  ready = /Ctrl-C/,
): Promise<{ demo: Demo; said: () => string }> {
  // The test runner hooks itself in by NODE_OPTIONS, whatever `env` the spawn is given.
  const command = ['-u', 'NODE_OPTIONS', process.execPath, 'demo/start.ts', ...args];
  const demo = spawn('env', command, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => demo.kill('SIGKILL'));
  let output = '';
  await new Promise<void>((resolve, reject) => {
    demo.once('exit', (code) => reject(new Error(`ended with ${code}: ${output}`)));
    demo.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (ready.test(output)) resolve();
    });
  });
  return { demo, said: () => output };
}

async function stop(demo: Demo, signal: NodeJS.Signals): Promise<unknown> {
  const exit = once(demo, 'exit');
  demo.kill(signal);
  const [code] = await exit;
  return code;
}

t.test('the demo', async (t) => {
  // Some other program has the usual port.
  const squatter = createServer().listen(8080, '0.0.0.0');
  await Promise.race([once(squatter, 'listening'), once(squatter, 'error')]);
  t.teardown(() => squatter.close());

  const { demo, said } = await start(t);
  const output = said();
  const edge = /http:\/\/localhost:(\d+)/.exec(output)?.[0] as string;

  await t.test('says aloud that it uses another port', async (t) => {
    t.match(output, /Port 8080 is in use: EDGE_PORT is \d+/);
    t.not(new URL(edge).port, '8080');
  });

  await t.test('prints four lines to try, and each of them works', async (t) => {
    const lines = output.split('\n').filter((line) => /^\s+curl /.test(line));
    t.equal(lines.length, 4);
    for (const line of lines) {
      const url = /https?:\/\/\S+/.exec(line)?.[0] as string;
      const header = /-H '([^:]+): ([^']+)'/.exec(line);
      const headers: Record<string, string> = header === null ? {} : { [header[1]]: header[2] };
      const response = await fetch(url, { headers });
      t.equal(response.status, 200, line.trim());
      await response.body?.cancel();
    }
  });

  await t.test('answers through edge, hop, orders, its hop and the hop of inventory', async (t) => {
    const response = await fetch(`${edge}/orders/1`);
    t.match(await response.json(), { id: '1', item: 'tea', inStock: 12 });
    t.equal(response.headers.get('cache-control'), 'no-store', 'the header that the route sets');
  });

  await t.test('a header chooses the version', async (t) => {
    for (let count = 0; count < 20; count += 1) {
      const response = await fetch(`${edge}/orders/1`, { headers: { 'x-version': 'v2' } });
      t.match(await response.json(), { version: 'v2', ready: true });
    }
  });

  await t.test('without it most orders come from v1', async (t) => {
    const versions = await Promise.all(
      Array.from(
        { length: 100 },
        async () => ((await (await fetch(`${edge}/orders/2`)).json()) as { version: string }).version,
      ),
    );
    const v1 = versions.filter((version) => version === 'v1').length;
    // 90 % of 100; fewer than 60 happens once in 10^14 runs.
    t.ok(v1 > 60, `${v1} of 100`);
    t.ok(versions.every((version) => version === 'v1' || version === 'v2'));
  });

  await t.test('rewrites, redirects and answers by itself', async (t) => {
    t.match(await (await fetch(`${edge}/api/stock/cups`)).json(), { item: 'cups', inStock: 4 });
    const moved = await fetch(`${edge}/shop/cups?size=2`, { redirect: 'manual' });
    t.equal(moved.status, 301);
    t.equal(new URL(moved.headers.get('location') as string, edge).href, `${edge}/cups?size=2`);
    t.match(await (await fetch(`${edge}/robots.txt`)).text(), 'Disallow: /orders');
    t.match(await (await fetch(`${edge}/`)).text(), '<h1>The shop</h1>');
  });

  await t.test('a problem that the demo itself makes is the service’s own answer', async (t) => {
    const response = await fetch(`${edge}/orders/404`);
    t.equal(response.status, 404);
    t.match(await response.json(), { error: 'no order 404' });
  });

  await t.test('carries a WebSocket, and ends it when it stops', async (t) => {
    const socket = new WebSocket(`${edge.replace('http', 'ws')}/ws`);
    await once(socket, 'open');
    socket.send('hello');
    const [data] = await once(socket, 'message');
    t.equal(String(data), 'hello');

    const closed = once(socket, 'close');
    t.equal(await stop(demo, 'SIGTERM'), 0);
    await closed;
    await t.rejects(fetch(edge), 'nothing is left behind');
  });
});

t.test('Ctrl-C drains and exits 0, although npm and the terminal both deliver it', async (t) => {
  const { demo, said } = await start(t);
  demo.kill('SIGINT');
  t.equal(await stop(demo, 'SIGINT'), 0);
  t.match(said(), 'Stopped.');
});

t.test('`npm start -- -c FILE` runs that config', async (t) => {
  const config = join(
    t.testdir({
      'own.yaml': `version: 1
admin: false
gateways: { own: { listeners: [{ name: http, host: 127.0.0.1, port: 0 }] } }
routes: [{ name: all, respond: { body: mine } }]
`,
    }),
    'own.yaml',
  );
  const { demo } = await start(t, ['-c', config], /in force/);
  t.equal(await stop(demo, 'SIGINT'), 0);
});
