// What a request does to a rollout: which version it goes to, and what it counts as when it is over.
import t, { type Test } from 'tap';
import { chooseBackend } from '../../src/proxy/choose-backend.ts';
import type { RequestExchange } from '../../src/proxy/exchange.ts';
import type { Rollout, Version } from '../../src/proxy/rollout.ts';
import { recordOutcome, recordUpgrade } from '../../src/proxy/rollout-outcome.ts';
import { activeRollout, compileBackends, type RouteTarget } from '../../src/proxy/target.ts';
import { backend, route } from '../routing/support/fixtures.ts';
import { policy, seeded } from './support/rollouts.ts';

type Recorded = readonly [version: Version, failed: boolean, durationMs: number | null];

function target(share: number, backends = [backend('orders', { requestHeaders: CHANGE })]) {
  const recorded: Recorded[] = [];
  const rollout = {
    policy: policy(),
    share: () => share,
    record: (...[version, failed, durationMs]: Parameters<Rollout['record']>) =>
      void recorded.push([version, failed, durationMs]),
  } as unknown as Rollout;
  const config = route('shop', { action: { kind: 'forward', backends } });
  const compiled = compileBackends(config, new Map());
  return {
    recorded,
    target: {
      route: config,
      backends: compiled,
      rollout: activeRollout(rollout, compiled),
      services: new Map(),
    } as unknown as RouteTarget,
  };
}

const CHANGE = { set: { 'x-a': '1' }, add: {}, remove: [] };

function exchangeOf(parts: object = {}): RequestExchange {
  return {
    override: null,
    version: null,
    target: null,
    reason: null,
    startedAt: 0,
    res: { statusCode: 200, headersSent: true },
    ...parts,
  } as unknown as RequestExchange;
}

function seedRandom(t: Test): void {
  const { random } = Math;
  Math.random = seeded(5);
  t.teardown(() => {
    Math.random = random;
  });
}

t.test('the share of the rollout divides what goes to its service', async (t) => {
  seedRandom(t);
  for (const share of [0, 0.05, 0.5, 1]) {
    const { target: to } = target(share);
    let moved = 0;
    let mixedUp = 0;
    for (let count = 0; count < 20_000; count++) {
      const exchange = exchangeOf();
      const { config } = chooseBackend(exchange, to);
      if ((config.subset === 'v2') !== (exchange.version === 'to')) mixedUp += 1;
      if (config.subset === 'v2') moved += 1;
    }
    t.equal(mixedUp, 0);
    t.ok(Math.abs(moved / 20_000 - share) < 0.01, `${share}: ${moved}`);
  }
});

t.test('both versions are reached with the changes of the backend', async (t) => {
  const { target: to } = target(1);
  t.match(chooseBackend(exchangeOf(), to), { config: { service: 'orders', subset: 'v2' }, requestHeaders: [CHANGE] });
  const back = target(0);
  t.match(chooseBackend(exchangeOf(), back.target), { config: { subset: 'v1' }, requestHeaders: [CHANGE] });
});

t.test('what goes to another service of the route has no part in it', async (t) => {
  seedRandom(t);
  const { target: both } = target(1, [backend('orders', { weight: 3 }), backend('legacy', { weight: 1 })]);
  const went = new Map<string, number>();
  for (let count = 0; count < 4_000; count++) {
    const exchange = exchangeOf();
    const { service, subset } = chooseBackend(exchange, both).config;
    const key = `${service} ${subset} ${exchange.version}`;
    went.set(key, (went.get(key) ?? 0) + 1);
  }
  t.strictSame([...went.keys()].sort(), ['legacy null null', 'orders v2 to']);
  t.ok(Math.abs((went.get('orders v2 to') ?? 0) / 4_000 - 0.75) < 0.03);
});

t.test('a plugin that asks for a subset gets it, and what becomes of it counts for that version', async (t) => {
  const { target: to } = target(1);
  for (const [override, subset, version] of [
    [{ service: null, subset: 'v1' }, 'v1', 'from'],
    [{ service: null, subset: 'v2' }, 'v2', 'to'],
    [{ service: 'orders', subset: 'v1' }, 'v1', 'from'],
    [{ service: null, subset: 'canary' }, 'canary', null],
    [{ service: 'orders', subset: null }, null, null],
    [{ service: 'legacy', subset: 'v1' }, 'v1', null],
  ] as const) {
    const exchange = exchangeOf({ override });
    t.equal(chooseBackend(exchange, to).config.subset, subset);
    t.equal(exchange.version, version);
  }
  t.match(chooseBackend(exchangeOf({ override: { service: null, subset: 'v1' } }), to), { requestHeaders: [CHANGE] });
});

t.test('what counts as failed: a status of 500 and above, and what Selvedge gave up upstream', async (t) => {
  const cases: readonly (readonly [what: object, failed: boolean | null])[] = [
    [{ res: { statusCode: 200 } }, false],
    [{ res: { statusCode: 302 } }, false],
    [{ res: { statusCode: 404 } }, false],
    [{ res: { statusCode: 429 }, reason: 'rate_limited' }, false],
    [{ res: { statusCode: 413 }, reason: 'body_too_large' }, false],
    [{ res: { statusCode: 500 } }, true],
    [{ res: { statusCode: 503 } }, true],
    [{ res: { statusCode: 502 }, reason: 'upstream_refused' }, true],
    [{ res: { statusCode: 504 }, reason: 'deadline_exceeded' }, true],
    [{ res: { statusCode: 503 }, reason: 'no_endpoint' }, true],
    [{ res: { statusCode: 200, headersSent: true }, reason: 'upstream_incomplete' }, true],
    [{ res: { statusCode: 200, headersSent: true }, reason: 'idle_timeout' }, true],
    [{ res: { statusCode: 503 }, reason: 'draining' }, null],
    [{ res: { statusCode: 200, headersSent: true }, reason: 'draining' }, null],
    [{ res: { statusCode: 200, headersSent: true }, reason: 'client_aborted' }, null],
    [{ res: { statusCode: 200, headersSent: false }, reason: 'client_aborted' }, null],
  ];
  for (const [what, failed] of cases) {
    const { target: to, recorded } = target(1);
    recordOutcome(exchangeOf({ version: 'to', target: to, ...what }), 40);
    t.strictSame(recorded, failed === null ? [] : [['to', failed, 40]], JSON.stringify(what));
  }
});

t.test('a client that leaves after waiting longer than the limit counts as slow, not as failed', async (t) => {
  const { target: to, recorded } = target(1);
  const left = (headersSent: boolean) => ({
    version: 'to',
    target: to,
    reason: 'client_aborted',
    res: { statusCode: 200, headersSent },
  });
  recordOutcome(exchangeOf(left(false)), 501);
  recordOutcome(exchangeOf(left(true)), 60_000);
  t.strictSame(recorded, [['to', false, 501]], 'but not one that left in the middle of the response');
});

t.test('a request counts once, and an upgraded connection when it is open', async (t) => {
  const { target: to, recorded } = target(1);
  const exchange = exchangeOf({ version: 'to', target: to, reason: 'idle_timeout' });
  recordUpgrade(exchange, 30);
  recordOutcome(exchange, 3_600_000);
  recordUpgrade(exchange, 3_600_000);
  recordOutcome(exchangeOf({ target: to }), 30);
  t.strictSame(recorded, [['to', false, null]]);
});
