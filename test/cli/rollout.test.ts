// `selvedge rollout`: against an admin API with rollouts, and against none.
import { createServer } from 'node:http';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import { type Inspected, openAdmin } from '../../src/admin/admin.ts';
import { command as rollout } from '../../src/cli/rollout.ts';
import { rolloutText } from '../../src/cli/rollout-text.ts';
import type { Rollout } from '../../src/proxy/rollout.ts';
import { RolloutStore } from '../../src/runtime/rollouts.ts';
import { closedPort } from '../e2e/support/sockets.ts';
import { driver, ExactWheel, policy } from '../proxy/support/rollouts.ts';
import { route } from '../routing/support/fixtures.ts';
import { runCommand } from './support/io.ts';

async function admin(t: Test, routes: readonly string[]) {
  const wheel = new ExactWheel();
  const store = new RolloutStore(wheel, pino({ level: 'silent' }));
  const compiled = new Map<string, Rollout>();
  for (const name of routes) store.of(route(name, { rollout: policy() }), compiled);
  store.adopt(compiled);
  const runtime = { state: 'running', engine: { rollouts: store } } as unknown as Inspected;
  const server = await openAdmin({ host: '127.0.0.1', port: 0 }, runtime, new Registry(), '1.2.3');
  t.teardown(() => server.close());
  const { port } = server.address();
  const dir = t.testdir({});
  const run = (...args: string[]) => runCommand(rollout, [...args, '--admin', `http://127.0.0.1:${port}`], dir);
  return { run, store, wheel, port };
}

t.test('status is readable in a terminal', async (t) => {
  const { run, store, wheel } = await admin(t, ['shop', 'cart']);
  const { requests } = driver(store.get('shop') as Rollout, wheel);
  requests('from', 2_280, { failed: 9, ms: 140 });
  requests('to', 120, { ms: 90 });
  wheel.advance(30_000);
  const { code, stdout, stderr } = await run('status');
  t.equal(
    stdout.replace(/in \d+ s/g, 'in N s'),
    `shop: orders v1 → v2, progressing, step 1 of 4 (5 %, 25 %, 50 %, 100 %), next in N s
  v2 has 5 % and is within the limits
      share  requests  failed     p99
  v1   95 %     2,280   0.4 %  144 ms
  v2    5 %       120   0.0 %   93 ms

cart: orders v1 → v2, progressing, step 1 of 4 (5 %, 25 %, 50 %, 100 %), next in N s
  waits: v2 has had 0 of the 50 requests that a comparison needs
      share  requests  failed  p99
  v1   95 %         0       -    -
  v2    5 %         0       -    -
`,
  );
  t.strictSame([code, stderr], [0, '']);
  const one = await run('status', 'cart');
  t.match(one.stdout, /^cart/);
  t.notMatch(one.stdout, /shop/);
});

t.test('a rollout that is over says so in one line', async (t) => {
  const { store, wheel } = await admin(t, ['shop']);
  const shop = store.get('shop') as Rollout;
  shop.abort();
  t.match(
    rolloutText([store.describe(shop)]),
    /^shop: orders v1 → v2, aborted, step 1 of 4 \(.*\)\n {2}aborted by an operator\n/,
  );
  const described = { ...store.describe(shop), state: 'complete', share: 1 } as const;
  t.match(rolloutText([described]), /^shop: orders v1 → v2, complete\n/);
  const due = { ...described, state: 'progressing', nextStepAt: new Date(1_000).toISOString() } as const;
  t.match(rolloutText([due], 5_000), /, next as soon as it may\n/);
  t.match(rolloutText([due], 1_000 - 3_600_000), /, next in 60 min\n/);
  t.equal(rolloutText([]), 'no route has a rollout\n');
  t.equal(wheel.waiting, 0);
});

t.test('pauses, resumes and aborts; the only rollout needs no name', async (t) => {
  const { run, store } = await admin(t, ['shop']);
  t.match(await run('pause', 'shop'), { code: 0, stdout: /^shop: .*, paused, .*\n {2}paused at 5 % by an operator/ });
  t.equal(store.get('shop')?.state, 'paused');
  t.match(await run('resume'), { code: 0, stdout: /progressing/ });
  t.match(await run('abort'), { code: 0, stdout: /v1 {2}100 %/ });
  t.equal(store.get('shop')?.state, 'aborted');
  t.match(await run('pause'), {
    code: 1,
    stdout: '',
    stderr: 'selvedge rollout: it is aborted: there is nothing to pause\n',
  });
});

t.test('--json is what the admin API says', async (t) => {
  const { run } = await admin(t, ['shop']);
  t.match(JSON.parse((await run('status', '--json')).stdout), { rollouts: [{ route: 'shop', share: 0.05 }] });
  t.match(JSON.parse((await run('abort', '--json')).stdout), {
    rollouts: [{ route: 'shop', share: 0, state: 'aborted' }],
  });
});

t.test('exits 1 when there is no such rollout, 2 when it is not clear which', async (t) => {
  const { run } = await admin(t, ['shop', 'cart']);
  t.match(await run('status', 'shp'), {
    code: 1,
    stderr: 'selvedge rollout: no route "shp" with a rollout is in force (did you mean "shop"?)\n',
  });
  t.match(await run('abort', 'nope'), { code: 1 });
  t.match(await run('abort'), { code: 2, stderr: /say which one: shop, cart/ });
  const none = await admin(t, []);
  t.match(await none.run('status'), { code: 0, stdout: 'no route has a rollout\n' });
  t.match(await none.run('abort'), { code: 1, stderr: /no route with a rollout/ });
});

t.test('wrong usage exits 2', async (t) => {
  const dir = t.testdir({});
  for (const [args, message] of [
    [[], /needs one of status, pause, resume and abort/],
    [['stauts'], /rollout has no "stauts" \(did you mean "status"\?\)/],
    [['status', 'a', 'b'], /no third argument "b"/],
    [['status', '--admin', 'localhost:9901'], /is no URL of an admin API/],
    [['status', '--admin', 'nonsense'], /is no URL of an admin API/],
    [['status', '--admin', 'http://a', '-c', 'b'], /exclude each other/],
    [['status'], /no config here/],
  ] as const) {
    t.match(await runCommand(rollout, args, dir), { code: 2, stdout: '', stderr: message });
  }
});

t.test('the address comes from the config', async (t) => {
  const { port } = await admin(t, ['shop']);
  const config = (admin: string) => `version: 1
admin: ${admin}
gateways: { public: { listeners: [{ name: http, port: 8080 }] } }
routes: [{ name: all, respond: { status: 204 } }]
`;
  const dir = t.testdir({
    'selvedge.yaml': config(`{ port: ${port} }`),
    'everywhere.yaml': config(`{ host: 0.0.0.0, port: ${port} }`),
    'none.yaml': config('false'),
    'any.yaml': config('{ port: 0 }'),
    'wrong.yaml': config('{ prot: 1 }'),
  });
  t.match(await runCommand(rollout, ['status'], dir), { code: 0, stdout: /^shop/ });
  t.match(await runCommand(rollout, ['status', 'shop', '-c', 'everywhere.yaml'], dir), { code: 0, stdout: /^shop/ });
  t.match(await runCommand(rollout, ['status', '-c', 'none.yaml'], dir), { code: 2, stderr: /has no admin API/ });
  t.match(await runCommand(rollout, ['status', '-c', 'any.yaml'], dir), { code: 2, stderr: /name it by --admin/ });
  t.match(await runCommand(rollout, ['status', '-c', 'wrong.yaml'], dir), { code: 1, stderr: /prot/ });
});

t.test('exits 3 when nothing answers, or something else does', async (t) => {
  const dir = t.testdir({});
  const nobody = `http://127.0.0.1:${await closedPort()}`;
  t.match(await runCommand(rollout, ['status', '--admin', nobody], dir), {
    code: 3,
    stdout: '',
    stderr: `selvedge rollout: no admin API answers at ${nobody}: ECONNREFUSED\n`,
  });
  const other = createServer((req, res) => res.end(req.url === '/rollouts' ? '<p>' : '{}')).listen(0, '127.0.0.1');
  await new Promise((resolve) => other.once('listening', resolve));
  t.teardown(() => other.close());
  const { port } = other.address() as { port: number };
  t.match(await runCommand(rollout, ['abort', 'x', '--admin', `http://127.0.0.1:${port}`], dir), { code: 3 });
  const older = createServer((_req, res) => res.writeHead(404).end('{"status":404}')).listen(0, '127.0.0.1');
  await new Promise((resolve) => older.once('listening', resolve));
  t.teardown(() => older.close());
  const found = older.address() as { port: number };
  t.match(await runCommand(rollout, ['status', '--admin', `http://127.0.0.1:${found.port}`], dir), {
    code: 3,
    stderr: /no admin API of Selvedge that knows rollouts/,
  });
});
