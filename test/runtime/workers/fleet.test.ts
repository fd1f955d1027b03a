// The supervisor on workers that are scripts: who is asked what, and what becomes of those who fail.
import { pino } from 'pino';
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import { resolveConfig } from '../../../src/config/load.ts';
import type { Config } from '../../../src/config/model.ts';
import type { Problem } from '../../../src/config/problem.ts';
import { rolesOf } from '../../../src/runtime/roles.ts';
import type { Handlers } from '../../../src/runtime/workers/channel.ts';
import { Fleet } from '../../../src/runtime/workers/fleet.ts';
import { FakeChild } from './support/fake-child.ts';

async function configOf(body: string, port = 8080): Promise<Config> {
  const input = {
    version: 1,
    workers: 2,
    admin: false,
    gateways: { edge: { listeners: [{ name: 'http', host: '127.0.0.1', port }] } },
    routes: [{ name: 'all', respond: { status: 200, body } }],
  };
  const { config, problems } = await resolveConfig(input as never, { env: {} });
  if (config === null) throw new Error(JSON.stringify(problems));
  return config;
}

const WRONG: Problem = { severity: 'error', place: null, path: '', message: 'cannot' };

/** `script` of the nth process that is started, from 0. */
function fleet(t: Test, script: (nth: number) => object = () => ({})) {
  const children: FakeChild[] = [];
  const sockets: { port: number; closed: boolean }[] = [];
  const lines: { msg: string; worker?: number; restartInMs?: number }[] = [];
  const registry = new Registry();
  const made = new Fleet(2, {
    roles: rolesOf(undefined, undefined),
    builtins: new Map(),
    logger: pino({}, { write: (line) => void lines.push(JSON.parse(line)) }),
    registry,
    openAdmin: () => Promise.reject(new Error('none')),
    services: new Map(),
    secret: Buffer.alloc(32, 7),
    openSocket: async (host, port) => {
      const socket = { port, closed: false };
      sockets.push(socket);
      return { address: { host, port }, handle: { port }, close: () => Object.assign(socket, { closed: true }) };
    },
    fork: () => {
      const child = new FakeChild(100 + children.length, script(children.length) as Handlers);
      children.push(child);
      return child;
    },
  });
  t.teardown(() => made.close());
  const heard = (about: string) => children.map((child) => child.heard.filter(([what]) => what === about).length);
  const until = async (condition: () => boolean) => {
    while (!condition()) await new Promise((resolve) => setImmediate(resolve));
  };
  return { fleet: made, children, sockets, lines, registry, heard, until };
}

t.test('each worker is told its roles and the secret, prepares the config, and then all of them have it', async (t) => {
  const { fleet: made, children } = fleet(t);
  const config = await configOf('one');
  t.strictSame(await made.install(config), { applied: true, problems: [] });
  t.equal(children.length, 2);
  for (const { heard } of children) {
    t.strictSame(
      heard.map(([about]) => about).filter((about) => about !== 'fewest'),
      ['begin', 'prepare', 'commit'],
    );
    t.match(heard[0][1], { roles: { gateways: 'all', internal: 'all' } });
    t.match(heard[1][1], { admin: null, routes: [{ name: 'all' }] });
  }
  t.equal(made.revision, 1);
  t.strictSame(made.addresses(), { 'gateway/edge/http': { host: '127.0.0.1', port: 8080 } });
});

t.test('a socket is handed to whoever asks for one of the config', async (t) => {
  const { fleet: made, children } = fleet(t);
  await made.install(await configOf('one'));
  const of = { key: 'gateway/edge/http', host: '127.0.0.1', port: 8080 };
  t.strictSame(await children[1].channel.ask('socket', of), { port: 8080 });
  await t.rejects(children[1].channel.ask('socket', { ...of, port: 9 }), /no socket was opened/);
});

t.test('what one of them cannot serve is in force in none', async (t) => {
  let wrong = false;
  const {
    fleet: made,
    heard,
    sockets,
  } = fleet(t, (nth) => (nth === 1 ? { prepare: () => (wrong ? [WRONG] : []) } : {}));
  await made.install(await configOf('one'));
  wrong = true;
  t.strictSame(await made.install(await configOf('two', 9090)), { applied: false, problems: [WRONG] });
  t.strictSame(heard('abandon'), [1, 1]);
  t.strictSame(heard('commit'), [1, 1]);
  t.equal(made.revision, 1);
  t.strictSame(sockets, [
    { port: 8080, closed: false },
    { port: 9090, closed: true },
  ]);
});

t.test('what all of them say is said once; nobody is left when the first config fails', async (t) => {
  const { fleet: made, children } = fleet(t, () => ({ prepare: () => [WRONG] }));
  t.strictSame(await made.install(await configOf('one')), { applied: false, problems: [WRONG] });
  t.ok(children.every(({ heard }) => heard.some(([about]) => about === 'close')));
  t.equal(made.revision, 0);
});

t.test('one that dies while it prepares leaves the old config in force, and is followed by another one', async (t) => {
  let dies = false;
  const {
    fleet: made,
    children,
    heard,
    until,
    lines,
  } = fleet(t, (nth) =>
    nth === 0
      ? {
          prepare: () => {
            if (dies) children[0].exit(1, null);
            return [];
          },
        }
      : {},
  );
  const first = await configOf('one');
  await made.install(first);
  dies = true;
  const { applied, problems } = await made.install(await configOf('two'));
  t.equal(applied, false);
  t.match(problems, [{ message: /^worker 1: the other process has ended/ }]);
  await until(() => lines.some(({ msg }) => msg === 'worker serves'));
  t.strictSame(heard('commit'), [1, 1, 1]);
  const [, config] = children[2].heard.find(([about]) => about === 'prepare') as [string, Config];
  t.match(JSON.stringify(config.routes[0]), /"one"/);
});

t.test('one that ends is started again at once, with what is in force, and it is counted', async (t) => {
  const { fleet: made, children, registry, lines, until } = fleet(t);
  await made.install(await configOf('one'));
  children[0].exit(null, 'SIGKILL');
  await until(() => lines.some(({ msg }) => msg === 'worker serves'));
  t.equal(children.length, 3);
  t.match(
    lines.find(({ msg }) => msg.startsWith('a worker ended')),
    { worker: 1, pid: 100, signal: 'SIGKILL', restartInMs: 0 },
  );
  t.match(await registry.getSingleMetric('selvedge_worker_restarts_total')?.get(), { values: [{ value: 1 }] });
  t.match((await made.ask('health')).workers, [
    { worker: 1, pid: 102, state: 'serving', restarts: 1 },
    { worker: 2, pid: 101, state: 'serving', restarts: 0 },
  ]);
  children[2].exit(1, null);
  await until(() => lines.filter(({ msg }) => msg.startsWith('a worker ended')).length === 2);
  t.match(lines.at(-1), { worker: 1, code: 1, restartInMs: 250 }, 'the next time it waits');
});

t.test('one that cannot put in force what it prepared is replaced', async (t) => {
  const fails = () => {
    throw new Error('torn');
  };
  const { fleet: made, children, until, lines } = fleet(t, (nth) => (nth === 0 ? { commit: fails } : {}));
  t.equal((await made.install(await configOf('one'))).applied, true);
  await until(() => lines.some(({ msg }) => msg === 'worker serves'));
  t.strictSame(children[0].killed, ['SIGKILL']);
  t.match(
    lines.find(({ msg }) => msg.startsWith('a worker ended')),
    { killed: 'torn' },
  );
});

t.test('an edit brings those back who wait for their turn', async (t) => {
  let crashes = true;
  const {
    fleet: made,
    children,
    until,
    lines,
  } = fleet(t, (nth) => (nth < 2 ? {} : { prepare: () => (crashes ? [WRONG] : []) }));
  await made.install(await configOf('one'));
  children[0].exit(1, null);
  await until(() => lines.filter(({ msg }) => msg.startsWith('a worker ended')).length === 2);
  t.match(lines.at(-1), { restartInMs: 250, killed: 'it cannot serve the config in force' });
  crashes = false;
  t.equal((await made.install(await configOf('two'))).applied, true);
  t.match((await made.ask('health')).workers, [{ state: 'serving' }, { state: 'serving' }]);
});

t.test('drains all of them, frees the ports, and starts nobody any more', async (t) => {
  const { fleet: made, children, heard, sockets } = fleet(t);
  await made.install(await configOf('one'));
  await made.drain(1_000);
  t.strictSame(heard('drain'), [1, 1]);
  t.ok(sockets.every(({ closed }) => closed));
  children[0].exit(1, null);
  await made.close();
  t.equal(children.length, 2);
  t.strictSame(await made.install(await configOf('two')), { applied: false, problems: [] });
});
