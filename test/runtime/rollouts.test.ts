// Rollouts across reloads, in a store alone and in a whole data plane with sockets.
import { pino } from 'pino';
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import { resolveConfig } from '../../src/config/load.ts';
import type { Config, RolloutPolicy } from '../../src/config/model.ts';
import { type ConfigInput, createSelvedge } from '../../src/index.ts';
import { builtins } from '../../src/plugins/index.ts';
import type { Rollout } from '../../src/proxy/rollout.ts';
import { Installation } from '../../src/runtime/installation.ts';
import { rolesOf } from '../../src/runtime/roles.ts';
import { registerRolloutMetrics } from '../../src/runtime/rollout-metrics.ts';
import { RolloutStore } from '../../src/runtime/rollouts.ts';
import { httpUpstream } from '../e2e/support/sockets.ts';
import { driver, ExactWheel, policy } from '../proxy/support/rollouts.ts';
import { route } from '../routing/support/fixtures.ts';

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

function makeStore() {
  const wheel = new ExactWheel();
  const lines: Line[] = [];
  const store = new RolloutStore(wheel, pino({}, { write: (line) => void lines.push(JSON.parse(line)) }));
  /** As a reload does: compiles the routes, and puts the outcome in force unless it is to fail. */
  const reload = (
    routes: Readonly<Record<string, RolloutPolicy | null>>,
    fails = false,
  ): ReadonlyMap<string, Rollout> => {
    const compiled = new Map<string, Rollout>();
    for (const [name, rollout] of Object.entries(routes)) {
      store.of(route(name, { rollout }), compiled);
      store.of(route(name, { rollout }), compiled);
    }
    if (!fails) store.adopt(compiled);
    return compiled;
  };
  return { wheel, lines, store, reload };
}

function requestsOf(store: RolloutStore, name: string, wheel: ExactWheel) {
  return driver(store.get(name) as Rollout, wheel).requests;
}

t.test('the state survives a reload that leaves the rollout as it is, wherever it stands in the file', async (t) => {
  const { wheel, store, reload } = makeStore();
  reload({ shop: policy() });
  requestsOf(store, 'shop', wheel)('to', 60);
  wheel.advance(121_000);
  t.match(store.describe(store.get('shop') as Rollout), { step: 2, share: 0.25 });
  reload({ shop: policy({ at: { file: 'other.yaml', line: 99, column: 1 } }), other: null });
  t.match(store.describe(store.get('shop') as Rollout), { step: 2, share: 0.25, state: 'progressing' });
  store.get('shop')?.abort();
  reload({ shop: policy() });
  t.match(store.describe(store.get('shop') as Rollout), { state: 'aborted', share: 0 });
  t.equal(wheel.waiting, 0);
});

t.test('a rollout whose own config changes begins again; one that is gone ends', async (t) => {
  const { wheel, store, reload } = makeStore();
  reload({ shop: policy(), cart: policy() });
  store.get('shop')?.abort();
  reload({ shop: policy({ to: 'v3' }), cart: policy() });
  t.match(store.describe(store.get('shop') as Rollout), { state: 'progressing', step: 1, to: { version: 'v3' } });
  reload({ shop: null });
  t.strictSame([store.all(), store.get('cart'), store.aborts('shop'), wheel.waiting], [[], null, 0, 0]);
});

t.test('a reload that is refused changes nothing: what it would have begun has not begun', async (t) => {
  const { wheel, lines, store, reload } = makeStore();
  reload({ shop: policy() });
  requestsOf(store, 'shop', wheel)('to', 60);
  wheel.advance(121_000);
  const told = lines.length;
  reload({ shop: policy({ to: 'v3' }), cart: policy() }, true);
  t.match(store.describe(store.get('shop') as Rollout), { step: 2, to: { version: 'v2' } });
  t.equal(store.get('cart'), null);
  t.strictSame([lines.length, wheel.waiting], [told, 1]);
});

t.test('a route in several listeners has one rollout', async (t) => {
  const { lines, store, reload } = makeStore();
  const compiled = reload({ shop: policy() });
  t.equal(compiled.size, 1);
  t.equal(store.all().length, 1);
  t.equal(lines.length, 1, 'begun once');
});

t.test('every transition is logged with its reason and the figures of both versions', async (t) => {
  const { wheel, lines, store, reload } = makeStore();
  reload({ shop: policy() });
  const requests = requestsOf(store, 'shop', wheel);
  requests('from', 1_000, { failed: 2 });
  requests('to', 60);
  wheel.advance(121_000);
  requests('from', 1_000, { failed: 2 });
  requests('to', 100, { failed: 100 });
  t.match(lines, [
    {
      level: 30,
      route: 'shop',
      share: 0.05,
      msg: 'rollout of route "shop" started: moving orders from v1 to v2 begins',
    },
    {
      level: 30,
      share: 0.25,
      msg: 'rollout of route "shop" advanced: v2 goes to 25 %',
      from: { version: 'v1', requests: 1_000, errorRate: 0.002 },
      to: { version: 'v2', requests: 60, errorRate: 0 },
    },
    {
      level: 40,
      state: 'aborted',
      share: 0,
      msg: /^rollout of route "shop" aborted: v2 failed 100\.0 % of 50 requests, v1 0\.2 % of 1,000, limit 2 %$/,
      to: { version: 'v2', requests: 50, errorRate: 1 },
    },
  ]);
  t.equal(lines.length, 3);
});

t.test('metrics have the share, the state and the aborts of every rollout in force', async (t) => {
  const { store, reload } = makeStore();
  const registry = new Registry();
  registerRolloutMetrics(registry, store);
  reload({ shop: policy(), cart: policy({ steps: [0.5, 1] }) });
  store.get('shop')?.abort();
  const scraped = async (): Promise<string> => registry.metrics();
  t.match(await scraped(), /^selvedge_rollout_share\{route="shop"\} 0$/m);
  t.match(await scraped(), /^selvedge_rollout_share\{route="cart"\} 0\.5$/m);
  t.match(await scraped(), /^selvedge_rollout_state\{route="shop",state="aborted"\} 1$/m);
  t.match(await scraped(), /^selvedge_rollout_state\{route="shop",state="progressing"\} 0$/m);
  t.match(await scraped(), /^selvedge_rollout_state\{route="cart",state="progressing"\} 1$/m);
  t.match(await scraped(), /^selvedge_rollout_aborted_total\{route="shop"\} 1$/m);
  t.match(await scraped(), /^selvedge_rollout_aborted_total\{route="cart"\} 0$/m);
  reload({ cart: policy({ steps: [0.5, 1] }) });
  t.notMatch(await scraped(), /route="shop"/);
});

t.test('times are those of the wall clock', async (t) => {
  const { wheel, store, reload } = makeStore();
  reload({ shop: policy() });
  wheel.advance(100_000);
  const { since, nextStepAt } = store.describe(store.get('shop') as Rollout);
  const near = (time: string | null, expected: number) => Math.abs(Date.parse(time ?? '') - expected) < 60_000;
  t.ok(near(since, Date.now() - 100_000), since);
  t.ok(near(nextStepAt, Date.now() + 20_000), String(nextStepAt));
});

/** Two gateways in front of `app`, whose versions answer what the test says; `rollout` is set on the route by hand. */
async function install(t: Test, versions: { v1: number; v2: number }) {
  const input = {
    version: 1,
    admin: false,
    telemetry: { accessLog: false },
    gateways: {
      edge: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] },
      back: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] },
    },
    services: {
      app: {
        // What v2 did is the rollout's to judge here.
        outlierDetection: false,
        endpoints: [
          { address: `127.0.0.1:${versions.v1}`, labels: { version: 'v1' } },
          { address: `127.0.0.1:${versions.v2}`, labels: { version: 'v2' } },
        ],
        subsets: { v1: { version: 'v1' }, v2: { version: 'v2' } },
      },
    },
    routes: [
      {
        name: 'app',
        to: [{ service: 'app', requestHeaders: { set: { 'x-from': 'backend' } } }],
        plugins: [{ 'header-routing': { rules: [{ header: 'x-want', to: { subset: 'v1' } }] } }],
      },
    ],
  } as unknown as ConfigInput;
  const { config, problems } = await resolveConfig(input, { env: {} });
  if (config === null) throw new Error(JSON.stringify(problems));
  const logger = pino({ level: 'silent' });
  const installation = new Installation({
    roles: rolesOf(undefined, undefined),
    builtins,
    logger,
    registry: new Registry(),
    openAdmin: () => Promise.reject(new Error('none')),
  });
  t.teardown(() => installation.close());
  const put = async (rollout: RolloutPolicy | null): Promise<void> => {
    const routes = (config as Config).routes.map((route) => ({ ...route, rollout }));
    const { applied, problems } = await installation.install({ ...(config as Config), routes });
    if (!applied) throw new Error(JSON.stringify(problems));
  };
  const url = (gateway: string) =>
    `http://127.0.0.1:${installation.listeners.addresses()[`gateway/${gateway}/http`].port}`;
  return { installation, put, url };
}

async function version(t: Test, name: string, answer: { status: number; seen: string[] }): Promise<number> {
  const { port } = await httpUpstream(t, (req, res) => {
    answer.seen.push(String(req.headers['x-from']));
    res.writeHead(answer.status).end(name);
  });
  return port;
}

t.test('in a data plane: v2 gets its share, fails, and gets nothing from then on, through reloads too', async (t) => {
  const one = { status: 200, seen: [] as string[] };
  const two = { status: 200, seen: [] as string[] };
  const { installation, put, url } = await install(t, {
    v1: await version(t, 'v1', one),
    v2: await version(t, 'v2', two),
  });
  const moving = policy({ service: 'app', steps: [0.5], abortOn: { errorRate: 0.1, p99Ms: null, minRequests: 20 } });
  await put(moving);
  const rollout = installation.rollouts.get('app') as Rollout;
  const request = async (gateway = 'edge', headers: Record<string, string> = {}) => {
    const response = await fetch(url(gateway), { headers });
    await response.arrayBuffer();
    return response.status;
  };
  for (let count = 0; count < 200; count++) await request(count % 2 === 0 ? 'edge' : 'back');
  t.ok(one.seen.length > 50 && two.seen.length > 50, `${one.seen.length} and ${two.seen.length}`);
  t.ok(
    [...one.seen, ...two.seen].every((from) => from === 'backend'),
    'both change the request as the backend says',
  );
  await installation.dataPlane.whenIdle();
  t.match(
    { from: rollout.status().from.requests, to: rollout.status().to.requests },
    { from: one.seen.length, to: two.seen.length },
    'each request counts once, whichever listener took it',
  );

  await put(moving);
  t.equal(installation.rollouts.get('app'), rollout);
  two.status = 503;
  for (let count = 0; count < 500 && rollout.state === 'progressing'; count++) await request();
  t.match(rollout.status(), { state: 'aborted', share: 0, reason: /^v2 failed/ });
  await put(moving);
  const before = two.seen.length;
  for (let count = 0; count < 50; count++) t.equal(await request(), 200);
  t.equal(two.seen.length, before, 'v1 answers everything');

  two.status = 200;
  await put({ ...moving, everyMs: 60_000, steps: [1] });
  for (let count = 0; count < 10; count++) await request();
  t.equal(two.seen.length, before + 10, 'another rollout, another attempt');
  for (let count = 0; count < 5; count++) await request('edge', { 'x-want': 'yes' });
  await installation.dataPlane.whenIdle();
  t.equal(two.seen.length, before + 10, 'what a plugin asks for wins');
  t.match(installation.rollouts.get('app')?.status(), { from: { requests: 5 }, to: { requests: 10 } });

  await put(null);
  t.strictSame(installation.rollouts.all(), []);
  for (let count = 0; count < 40; count++) await request();
  t.ok(two.seen.length > before + 10, 'without a rollout both are endpoints like any other');
});

t.test('a whole Selvedge has the metrics from its start', async (t) => {
  const selvedge = await createSelvedge({
    config: {
      version: 1,
      admin: false,
      gateways: { edge: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] } },
      routes: [{ name: 'all', respond: { status: 204 } }],
    } as ConfigInput,
    logger: false,
  });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  t.match(await selvedge.registry.metrics(), /# TYPE selvedge_rollout_aborted_total counter/);
});
