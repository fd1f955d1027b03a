// Several workers as processes of their own: one port, one count, one config, and a death that costs only what the dead one held.
import { Agent, get, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { RunningProcess } from './support/process.ts';
import { closedPort, eventually, httpUpstream } from './support/sockets.ts';

interface Health {
  readonly status: string;
  readonly inFlight: number;
  readonly workers: readonly { readonly worker: number; readonly pid: number | null; readonly state: string }[];
}

interface Fleet {
  readonly running: RunningProcess;
  readonly url: string;
  /** A page of the admin API. */
  page(path: string): Promise<string>;
  health(): Promise<Health>;
  pids(): Promise<number[]>;
  edit(changes: object): Promise<void>;
  spoil(changes: object): Promise<void>;
}

async function start(t: Test, changes: object = {}): Promise<Fleet> {
  const [port, admin] = [await closedPort(), await closedPort()];
  const config = {
    version: 1,
    workers: 2,
    admin: { port: admin },
    drain: { grace: '0s', timeout: '5s' },
    telemetry: { accessLog: false },
    gateways: { edge: { listeners: [{ name: 'http', host: '127.0.0.1', port }] } },
    routes: [{ name: 'all', respond: { status: 200, body: 'one' } }],
    ...changes,
  };
  const file = join(t.testdir({}), 'selvedge.yaml');
  const running = await RunningProcess.start(t, file, config);
  const page = async (path: string) => (await fetch(`http://127.0.0.1:${admin}${path}`)).text();
  const health = async () => JSON.parse(await page('/readyz')) as Health;
  const pids = async () => (await health()).workers.flatMap(({ pid }) => pid ?? []);
  return {
    running,
    url: `http://127.0.0.1:${port}`,
    page,
    health,
    pids,
    edit: (next) => running.edit({ ...config, ...next }),
    spoil: (next) => running.spoil({ ...config, ...next }),
  };
}

/** One request on a connection of its own, or of the agent's. */
function ask(url: string, agent: Agent | false = false): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const sent = get(url, { agent }, (response: IncomingMessage) => {
      let body = '';
      response.on('data', (chunk) => {
        body += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      response.on('error', reject);
    });
    sent.on('error', reject);
  });
}

/** Resolves when nobody accepts connections any more. */
async function refused(url: string): Promise<void> {
  const opens = () =>
    new Promise<boolean>((resolve) => {
      const socket = connect(Number(new URL(url).port), '127.0.0.1', () => resolve(true));
      socket.on('error', () => resolve(false));
      socket.on('connect', () => socket.destroy());
    });
  while (await opens()) await new Promise((resolve) => setTimeout(resolve, 5));
}

function alive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

function sample(metrics: string, name: string): number {
  const lines = metrics.split('\n').filter((line) => line.startsWith(name));
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

t.test('one count: 64 connections at once are granted exactly what the limit says, by both workers', async (t) => {
  const limit = { 'rate-limit': { max: 500, window: '1h' } };
  const { url, page } = await start(t, {
    routes: [{ name: 'all', plugins: [limit], respond: { status: 200, body: 'ok' } }],
  });
  const agents = Array.from({ length: 64 }, () => new Agent({ keepAlive: true, maxSockets: 1 }));
  t.teardown(() => {
    for (const agent of agents) agent.destroy();
  });
  const answers = await Promise.all(
    agents.flatMap((agent) => Array.from({ length: 16 }, async () => (await ask(url, agent)).status)),
  );
  t.equal(answers.filter((status) => status === 200).length, 500);
  t.equal(answers.filter((status) => status === 429).length, 64 * 16 - 500);
  const metrics = await page('/metrics');
  t.equal(sample(metrics, 'selvedge_requests_total'), 64 * 16, 'their metrics are sums');
  t.equal(sample(metrics, 'selvedge_rate_limited_total'), 64 * 16 - 500);
  t.equal(sample(metrics, 'selvedge_connections'), 64);
  t.equal(sample(metrics, 'selvedge_rate_limit_store_failures_total'), 0);
});

t.test('a worker that is killed takes only what it held along, and another one takes its place', async (t) => {
  const held = new Set<() => void>();
  const { port } = await httpUpstream(t, (req, res) => {
    if (req.url === '/slow') held.add(() => res.end('late'));
    else res.end('ok');
  });
  const { url, running, health, pids, page } = await start(t, {
    services: { app: { endpoints: [`127.0.0.1:${port}`] } },
    routes: [{ name: 'all', to: [{ service: 'app' }] }],
  });
  const slow = Array.from({ length: 24 }, () =>
    ask(`${url}/slow`).then(
      () => 'answered',
      () => 'broken',
    ),
  );
  await eventually(() => held.size === 24, 'all of them wait for the service');
  const [victim, survivor] = await pids();
  let failures = 0;
  let load = true;
  const others = (async () => {
    while (load) if ((await ask(url).catch(() => null))?.status !== 200) failures++;
  })();
  await running.after('worker serves', () => process.kill(victim, 'SIGKILL'));
  for (const end of held) end();
  const outcomes = await Promise.all(slow);
  load = false;
  await others;
  const { workers } = await health();
  t.ok(workers.every(({ state }) => state === 'serving'));
  t.ok(
    workers.some(({ pid }) => pid === survivor),
    'the other one is as it was',
  );
  t.notOk(workers.some(({ pid }) => pid === victim));
  t.ok(outcomes.includes('answered'), 'requests in the other one ended well');
  t.ok(failures <= 1, 'a request at a time: only one can have been in the worker that died');
  t.equal(sample(await page('/metrics'), 'selvedge_worker_restarts_total'), 1);
});

t.test('a config is in force in all workers or in none', async (t) => {
  const { url, running, edit, spoil, page } = await start(t);
  const bodies = async () =>
    new Set((await Promise.all(Array.from({ length: 16 }, () => ask(url)))).map((a) => a.body));
  await edit({ routes: [{ name: 'all', respond: { status: 200, body: 'two' } }] });
  t.strictSame([...(await bodies())], ['two']);
  const plugin = new URL('./support/once-plugin.ts', import.meta.url).pathname;
  const once = { [plugin]: { file: join(t.testdirName, 'once') } };
  await spoil({ routes: [{ name: 'all', plugins: [once], respond: { status: 200, body: 'three' } }] });
  t.ok(running.lines.some(({ msg }) => msg.includes('not in a second worker')));
  t.strictSame([...(await bodies())], ['two'], 'nothing has changed');
  t.match(JSON.parse(await page('/config')), { revision: 2 });
  await edit({ routes: [{ name: 'all', respond: { status: 200, body: 'four' } }] });
  t.strictSame([...(await bodies())], ['four']);
});

t.test('SIGTERM lets what is in flight end in all of them', async (t) => {
  const held = new Set<() => void>();
  const { port } = await httpUpstream(t, (_req, res) => held.add(() => res.end('late')));
  const { url, running, pids } = await start(t, {
    services: { app: { endpoints: [`127.0.0.1:${port}`] } },
    routes: [{ name: 'all', to: [{ service: 'app' }] }],
  });
  const slow = Array.from({ length: 12 }, () => ask(url));
  await eventually(() => held.size === 12, 'all of them are in flight');
  const workers = await pids();
  await running.after('draining', () => running.child.kill('SIGTERM'));
  await refused(url);
  for (const end of held) end();
  t.ok((await Promise.all(slow)).every(({ status, body }) => status === 200 && body === 'late'));
  t.strictSame(await running.exit, { code: 0, signal: null });
  t.notOk(workers.some(alive));
});

t.test('workers whose supervisor is gone finish what they have and end', async (t) => {
  const held = new Set<() => void>();
  const { port } = await httpUpstream(t, (_req, res) => held.add(() => res.end('late')));
  const { url, running, pids } = await start(t, {
    services: { app: { endpoints: [`127.0.0.1:${port}`] } },
    routes: [{ name: 'all', to: [{ service: 'app' }] }],
  });
  const slow = ask(url);
  await eventually(() => held.size === 1, 'it is in flight');
  const workers = await pids();
  running.child.kill('SIGKILL');
  await refused(url);
  for (const end of held) end();
  t.equal((await slow).body, 'late');
  await eventually(() => !workers.some(alive), 'no worker is left', 10_000);
  t.pass();
});
