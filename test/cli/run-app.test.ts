import { execFileSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { appEnvironment } from '../../src/cli/app.ts';
import { freePort } from '../e2e/support/ports.ts';
import { eventually, httpUpstream } from '../e2e/support/sockets.ts';
import { SelvedgeProcess } from './support/process.ts';

type Answer = (req: IncomingMessage, res: ServerResponse) => void;

const HOP = { host: '127.0.0.1', port: 15002 };
/** Of whatever environment the tests run in: what these would say is not for the application. */
const NO_PROXIES = { HTTP_PROXY: '', http_proxy: '', NO_PROXY: '', no_proxy: '', NODE_USE_ENV_PROXY: '' };

interface Setup {
  readonly dir: string;
  /** Requests that have reached `stock`. */
  readonly asked: string[];
  run(app: readonly string[], env?: NodeJS.ProcessEnv): SelvedgeProcess;
}

/** The hop of `orders`, whose application may call `stock`, which has no hop of its own. */
async function setup(t: Test, changes: { readonly answer?: Answer; readonly drain?: object } = {}): Promise<Setup> {
  const asked: string[] = [];
  const answer = changes.answer ?? ((_req, res) => res.end('from stock'));
  const { port } = await httpUpstream(t, (req, res) => {
    asked.push(`${req.headers.host}${req.url}`);
    answer(req, res);
  });
  const [inbound, app, other] = [await freePort(), await freePort(), await freePort()];
  const config = {
    version: 1,
    admin: false,
    drain: { grace: '0s', timeout: '20s', ...changes.drain },
    telemetry: { accessLog: false },
    mesh: { mtls: 'off' },
    services: {
      orders: {
        endpoints: [{ address: `127.0.0.1:${app}`, hop: `127.0.0.1:${inbound}` }],
        internal: { inbound: { host: '127.0.0.1', port: inbound }, outbound: { host: '127.0.0.1', port: 0 } },
      },
      stock: { endpoints: [`127.0.0.1:${port}`] },
      closed: {
        endpoints: [{ address: `127.0.0.1:${port}`, hop: `127.0.0.1:${other}` }],
        internal: { inbound: { host: '127.0.0.1', port: other } },
      },
    },
  };
  const dir = t.testdir({ 'selvedge.yaml': JSON.stringify(config) });
  const run = (words: readonly string[], env: NodeJS.ProcessEnv = {}) =>
    new SelvedgeProcess(t, ['run', '--internal', 'orders', '--', ...words], {
      cwd: dir,
      env: { ...NO_PROXIES, ...env },
    });
  return { dir, asked, run };
}

/** An application that tells what it does on stderr, which it shares with Selvedge. */
function node(code: string, program = process.execPath): string[] {
  return [program, '-e', `const say = (text) => process.stderr.write(text + '\\n');\n${code}`];
}

/** A service that says `term` and goes on until it is told what to do next. */
const STUBBORN = `
  process.on('SIGTERM', () => say('term'));
  process.on('SIGINT', () => say('int'));
  process.on('SIGUSR2', () => say('usr2'));
  setInterval(() => {}, 1000);
  say('up ' + process.pid);`;

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function pidOf(run: SelvedgeProcess): Promise<number> {
  await eventually(() => /^up \d+$/m.test(run.stderr), 'the application is up', 20_000);
  return Number(/^up (\d+)$/m.exec(run.stderr)?.[1]);
}

/** Where this machine has it. */
function found(program: string): string | null {
  try {
    return execFileSync('which', [program], { encoding: 'utf8' }).trim();
  } catch {
    return null;
  }
}

t.test('APP does not get what was set for the hop alone', async (t) => {
  const added = {
    MALLOC_ARENA_MAX: '1',
    MALLOC_TOP_PAD_: '16384',
    SELVEDGE_MALLOC: 'MALLOC_ARENA_MAX MALLOC_TOP_PAD_',
  };
  const env = appEnvironment({ ...added, MALLOC_TRIM_THRESHOLD_: '1' }, HOP);
  t.same(
    Object.keys(env).filter((name) => name.includes('MALLOC')),
    ['MALLOC_TRIM_THRESHOLD_'],
    'what the user has set stays',
  );
});

t.test('the environment leads plain HTTP to the hop and leaves everything else as it was', async (t) => {
  t.same(appEnvironment({ PATH: '/bin', HTTPS_PROXY: 'http://egress:3128', HTTP_PROXY: 'http://old:1' }, HOP), {
    PATH: '/bin',
    HTTPS_PROXY: 'http://egress:3128',
    HTTP_PROXY: 'http://127.0.0.1:15002',
    http_proxy: 'http://127.0.0.1:15002',
    NO_PROXY: 'localhost,127.0.0.1,::1,[::1]',
    no_proxy: 'localhost,127.0.0.1,::1,[::1]',
    NODE_USE_ENV_PROXY: '1',
  });
  const excluded = (env: Record<string, string>) => appEnvironment(env, HOP).no_proxy;
  t.equal(
    excluded({ NO_PROXY: 'a.test, localhost', no_proxy: 'b.test' }),
    'a.test,localhost,b.test,127.0.0.1,::1,[::1]',
    'both spellings count, once each',
  );
  t.equal(excluded({ no_proxy: '*' }), '*', 'everything, which means so only where it stands alone');
  const proxy = (host: string) => appEnvironment({}, { ...HOP, host }).HTTP_PROXY;
  t.equal(proxy('0.0.0.0'), 'http://127.0.0.1:15002', 'nobody connects to a wildcard');
  t.equal(proxy('::'), 'http://[::1]:15002');
  t.equal(proxy('10.1.2.3'), 'http://10.1.2.3:15002');
});

t.test('an application calls a service by its name without knowing of the mesh', async (t) => {
  const systemNode = found('node');
  const python = found('python3');
  const curl = found('curl');
  const clients: [string, string[] | null][] = [
    [
      'http.get of the Node that Selvedge runs on',
      node("require('http').get('http://stock/a', (res) => res.on('data', (data) => say('got ' + data)))"),
    ],
    [
      'fetch of the Node that Selvedge runs on',
      node("fetch('http://stock/a').then((res) => res.text()).then((text) => say('got ' + text))"),
    ],
    [
      'Python urllib',
      python && [
        python,
        '-c',
        "import sys, urllib.request as u; sys.stderr.write('got ' + u.urlopen('http://stock/a').read().decode() + '\\n')",
      ],
    ],
    ['curl', curl && ['sh', '-c', `echo "got $(${curl} -sS http://stock/a)" >&2`]],
    [
      // Node before 22.21 knows no proxy from the environment: its application asks the proxy by itself.
      'http.request of any Node, by the proxy that the environment names',
      systemNode &&
        node(
          `const { hostname, port } = new URL(process.env.HTTP_PROXY);
           require('http').get({ hostname, port, path: '/a', headers: { host: 'stock' } }, (res) => res.on('data', (data) => say('got ' + data)))`,
          systemNode,
        ),
    ],
  ].map(([name, words]) => [name as string, words === null ? null : (words as string[])]);
  for (const [name, words] of clients) {
    if (words === null) {
      t.comment(`${name}: not on this machine`);
      continue;
    }
    const { run, asked } = await setup(t);
    const running = run(words);
    t.equal(await running.ended, 0, `${name} ends well, and Selvedge with it`);
    t.match(running.stderr, /^got from stock$/m, name);
    t.same(asked, ['stock/a'], name);
  }
});

t.test('what runs on the same machine is called directly', async (t) => {
  const { run, asked } = await setup(t);
  const { port } = await httpUpstream(t, (_req, res) => res.end('neighbour'));
  const ask = `fetch('http://127.0.0.1:${port}/').then((res) => res.text()).then((text) => say('got ' + text))`;
  const running = run(node(ask));
  t.equal(await running.ended, 0);
  t.match(running.stderr, /got neighbour/);
  t.same(asked, []);
});

t.test('it ends as its application does, after a drain', async (t) => {
  const { run } = await setup(t);
  const seven = run(node('process.exit(7)'));
  t.equal(await seven.ended, 7);
  t.match(seven.lines.map(({ msg }) => msg).join('\n'), /the application has ended: draining/);
  const killed = run(node("process.kill(process.pid, 'SIGKILL')"));
  t.equal(await killed.ended, 128 + 9);
});

t.test('an application that cannot be started is 127 or 126, as in a shell, and says which', async (t) => {
  const { run, dir } = await setup(t);
  const plain = join(dir, 'not-executable');
  writeFileSync(plain, 'x');
  chmodSync(plain, 0o644);
  const missing = run(['no-such-program', '--flag']);
  t.equal(await missing.ended, 127);
  t.match(missing.stderr, /cannot start "no-such-program": there is no such command/);
  const denied = run([plain]);
  t.equal(await denied.ended, 126);
  t.match(denied.stderr, /cannot start ".*not-executable": .*EACCES/);
  t.equal(await run([join(plain, 'x')]).ended, 127, 'a path through a file');
});

t.test('SIGTERM: the application first, and its last calls still go through the hop', async (t) => {
  const { run, asked } = await setup(t);
  const running = run(
    node(`
      process.on('SIGTERM', () => {
        say('term');
        setTimeout(() => fetch('http://stock/last').then((res) => res.text()).then((text) => {
          say('last call: ' + text);
          process.exit(5);
        }), 300);
      });
      setInterval(() => {}, 1000);
      say('up ' + process.pid);`),
  );
  const pid = await pidOf(running);
  running.signal('SIGTERM');
  t.equal(await running.ended, 5, 'the exit code of the application');
  t.match(running.stderr, /^term\nlast call: from stock$/m);
  t.same(asked, ['stock/last']);
  t.notOk(isAlive(pid));
});

t.test('readiness time comes before the application is told; one that ends meanwhile cuts it short', async (t) => {
  const { run } = await setup(t, { drain: { grace: '1h' } });
  const running = run(node(STUBBORN));
  const pid = await pidOf(running);
  running.signal('SIGTERM');
  await running.says('draining');
  process.kill(pid, 'SIGKILL');
  t.equal(await running.ended, 137);
  t.notMatch(running.stderr, /term/, 'it was not told within the grace');
});

t.test('an application that does not end within drain.timeout is killed', async (t) => {
  const { run } = await setup(t, { drain: { timeout: '300ms' } });
  const running = run(node(STUBBORN));
  const pid = await pidOf(running);
  running.signal('SIGINT');
  t.equal(await running.ended, 137);
  t.match(running.stderr, /^int$/m, 'SIGINT is passed on as SIGINT, without a grace');
  t.notOk(isAlive(pid));
});

t.test('a second SIGTERM ends both at once', async (t) => {
  const { run } = await setup(t, { drain: { timeout: '1h' } });
  const running = run(node(STUBBORN));
  const pid = await pidOf(running);
  running.signal('SIGTERM');
  await eventually(() => /^term$/m.test(running.stderr), 'the application was told');
  running.signal('SIGTERM');
  t.equal(await running.ended, 143);
  await eventually(() => !isAlive(pid), 'the application is gone too');
});

t.test('SIGHUP reloads and does not reach the application, SIGUSR2 does', async (t) => {
  const { run } = await setup(t);
  const running = run(node(`${STUBBORN}\nprocess.on('SIGHUP', () => say('hup'));`));
  const pid = await pidOf(running);
  running.signal('SIGHUP');
  await eventually(() => running.lines.some(({ revision }) => revision === 2), 'the reload');
  running.signal('SIGUSR2');
  await eventually(() => /^usr2$/m.test(running.stderr), 'SIGUSR2 is passed on');
  t.notMatch(running.stderr, /hup/);
  process.kill(pid, 'SIGKILL');
  t.equal(await running.ended, 137);
});

t.test('wrong usage says what would be right, and starts nothing', async (t) => {
  const { dir } = await setup(t);
  const outcome = async (...args: string[]) => {
    const run = new SelvedgeProcess(t, ['run', ...args, '--', 'sh', '-c', 'echo started >&2'], { cwd: dir });
    return { code: await run.ended, stderr: run.stderr };
  };
  const none = await outcome();
  const two = await outcome('--internal', 'orders', '--internal', 'closed');
  const closed = await outcome('--internal', 'closed');
  t.match(none, { code: 2, stderr: /exactly one --internal.*none is given/ });
  t.match(two, { code: 2, stderr: /exactly one --internal.*2 are given/ });
  t.match(closed, { code: 2, stderr: /the hop of "closed" has no outbound side.*internal\.outbound/ });
  for (const { stderr } of [none, two, closed]) t.notMatch(stderr, /started/);
});
