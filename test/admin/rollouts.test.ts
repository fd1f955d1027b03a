// The part of the admin API that changes something: what it answers, and whom it does not listen to.
import { pino } from 'pino';
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import { buildAdmin, type Inspected } from '../../src/admin/admin.ts';
import type { Rollout } from '../../src/proxy/rollout.ts';
import { RolloutStore } from '../../src/runtime/rollouts.ts';
import { driver, ExactWheel, policy } from '../proxy/support/rollouts.ts';
import { route } from '../routing/support/fixtures.ts';

function admin(t: Test, routes: readonly string[] = ['shop']) {
  const wheel = new ExactWheel();
  const store = new RolloutStore(wheel, pino({ level: 'silent' }));
  const compiled = new Map<string, Rollout>();
  for (const name of routes) store.of(route(name, { rollout: policy() }), compiled);
  store.adopt(compiled);
  const runtime = { state: 'running', engine: { rollouts: store } } as unknown as Inspected;
  const app = buildAdmin({ host: '127.0.0.1', port: 9901 }, runtime, new Registry(), '1.2.3');
  t.teardown(() => app.close());
  const host = 'localhost:9901';
  const allowed = { host, 'x-selvedge-admin': '1' };
  return {
    wheel,
    get: (url: string) => app.inject({ method: 'GET', url, headers: { host } }),
    post: (url: string, headers: Record<string, string> = allowed, remoteAddress = '127.0.0.1', payload?: string) =>
      app.inject({ method: 'POST', url, headers, remoteAddress, payload }),
    options: (url: string, headers: Record<string, string>) => app.inject({ method: 'OPTIONS', url, headers }),
    rollout: store.get(routes[0]) as Rollout,
    allowed,
  };
}

t.test('shows how every rollout stands, with what both versions did', async (t) => {
  const { get, wheel, rollout } = admin(t, ['shop', 'cart']);
  const { requests } = driver(rollout, wheel);
  requests('from', 1_000, { failed: 5 });
  requests('to', 60);
  const { rollouts } = (await get('/rollouts')).json();
  t.match(rollouts, [
    {
      route: 'shop',
      service: 'orders',
      state: 'progressing',
      step: 1,
      steps: [0.05, 0.25, 0.5, 1],
      share: 0.05,
      reason: 'moving orders from v1 to v2 begins',
      since: /^\d{4}-/,
      nextStepAt: /^\d{4}-/,
      from: { version: 'v1', requests: 1_000, errorRate: 0.005, p99Ms: Number },
      to: { version: 'v2', requests: 60, errorRate: 0, p99Ms: Number },
      abortOn: { errorRate: 0.02, p99Ms: 500, minRequests: 50 },
    },
    { route: 'cart', to: { requests: 0, errorRate: null, p99Ms: null } },
  ]);
});

t.test('pauses, resumes and aborts, and answers how it stands then', async (t) => {
  const { post, rollout } = admin(t);
  for (const [action, state] of [
    ['pause', 'paused'],
    ['resume', 'progressing'],
    ['abort', 'aborted'],
    ['resume', 'progressing'],
  ] as const) {
    const response = await post(`/rollouts/shop/${action}`);
    t.match([response.statusCode, response.json()], [200, { route: 'shop', state }]);
    t.equal(rollout.state, state);
  }
});

t.test('says what it does not have, and what makes no sense', async (t) => {
  const { post, get, rollout } = admin(t, ['a/b c']);
  t.match((await post('/rollouts/nope/pause')).json(), { status: 404, detail: /no route "nope" with a rollout/ });
  t.match((await post('/rollouts/a%2Fb%20c/restart')).json(), { status: 404, detail: /paused, resumed and aborted/ });
  t.equal((await post('/rollouts/a%2Fb%20c/abort')).statusCode, 200, 'a name is one segment, whatever is in it');
  t.match((await post('/rollouts/a%2Fb%20c/pause')).json(), { status: 409, detail: /is aborted/ });
  t.equal((await get('/rollouts/a%2Fb%20c/resume')).statusCode, 404, 'a GET changes nothing');
  t.equal((await post('/rollouts')).statusCode, 405);
  t.equal((await post('/rollouts/constructor/pause')).statusCode, 404);
  t.equal(rollout.state, 'aborted');
});

t.test('a page in a browser changes nothing: neither by a form, nor by fetch, nor after a preflight', async (t) => {
  const { post, options, rollout, allowed } = admin(t);
  const page = 'https://evil.example';
  const form = { host: allowed.host, origin: page, 'content-type': 'application/x-www-form-urlencoded' };
  const refused = async (headers: Record<string, string>, payload?: string) =>
    (await post('/rollouts/shop/abort', headers, '127.0.0.1', payload)).statusCode;
  t.equal(await refused(form, 'x-selvedge-admin=1'), 415);
  t.equal(await refused({ ...form, 'content-type': 'text/plain' }, 'x'), 403);
  t.equal(await refused({ host: allowed.host }), 403, 'no header');
  t.equal(await refused({ ...allowed, 'x-selvedge-admin': 'true' }), 403);
  for (const origin of [page, 'null', 'http://localhost:3000', 'http://localhost', 'nonsense']) {
    t.equal(await refused({ ...allowed, origin }), 403, origin);
  }
  t.equal(
    await refused({ ...allowed, host: 'evil.example:9901', origin: 'http://evil.example:9901' }),
    421,
    'rebinding',
  );
  const preflight = await options('/rollouts/shop/abort', {
    host: allowed.host,
    origin: page,
    'access-control-request-method': 'POST',
    'access-control-request-headers': 'x-selvedge-admin',
  });
  t.equal(preflight.headers['access-control-allow-origin'], undefined);
  t.ok(preflight.statusCode >= 400);
  t.equal(rollout.state, 'progressing');
  t.equal(await refused({ ...allowed, origin: 'http://localhost:9901' }), 200, 'a page of its own may');
});

t.test('changes come from this machine alone, also where the admin server listens on other addresses', async (t) => {
  const { post, rollout, allowed } = admin(t);
  for (const address of ['10.0.0.7', '::ffff:10.0.0.7', '2001:db8::1']) {
    const response = await post('/rollouts/shop/abort', allowed, address);
    t.match([response.statusCode, response.json()], [403, { code: 'SLV_FORBIDDEN', detail: /loopback/ }], address);
  }
  t.equal(rollout.state, 'progressing');
  for (const address of ['::1', '::ffff:127.0.0.1', '127.9.9.9']) {
    t.equal((await post('/rollouts/shop/abort', allowed, address)).statusCode, 200, address);
  }
});
