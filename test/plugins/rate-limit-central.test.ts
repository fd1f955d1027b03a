// Limits of several workers: counted in one place, whoever asks, and given back by whoever ends.
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import type { Central, CentralService } from '../../src/plugin.ts';
import { type Granted, rateLimitService } from '../../src/plugins/rate-limit/central-service.ts';
import { type ChainOptions, type TestChain, testChain } from '../support/chain.ts';
import { FakeClock } from '../support/fake-clock.ts';

/** How the supervisor behaves towards one worker. */
interface Behaviour {
  failing?: boolean;
  /** Answers are late: the request has given up. */
  late?: boolean;
}

function centralOf(service: CentralService, worker: number, how: Behaviour = {}): Central {
  return {
    async ask(_name, question, options) {
      const opening = !Array.isArray(question);
      if (how.failing === true && !opening) throw new Error('the supervisor did not answer within 100 ms');
      const answer = service.ask(worker, question);
      if (how.late !== true || opening) return answer;
      options?.onLate?.(answer);
      throw new Error('the supervisor did not answer within 100 ms');
    },
    tell: (_name, message) => service.tell(worker, message),
  };
}

async function chainOf(
  t: Test,
  options: Record<string, unknown>,
  central: Central,
  more: ChainOptions = {},
): Promise<TestChain> {
  const chain = await testChain([['rate-limit', options]], { central, ...more });
  t.teardown(() => chain.close());
  return chain;
}

async function ask(chain: TestChain): Promise<number> {
  return (await chain.inject({ url: '/' })).statusCode;
}

t.test('workers count together, exactly', async (t) => {
  for (const algorithm of ['fixed-window', 'token-bucket']) {
    const service = rateLimitService(() => 0);
    const limit = { max: 100, window: '1h', algorithm };
    const chains = await Promise.all([1, 2, 3].map((worker) => chainOf(t, limit, centralOf(service, worker))));
    const statuses = await Promise.all(Array.from({ length: 64 * 6 }, (_, i) => ask(chains[i % 3])));
    t.equal(statuses.filter((status) => status === 200).length, 100, algorithm);
    t.equal(statuses.filter((status) => status === 429).length, 64 * 6 - 100, algorithm);
  }
});

t.test('a supervisor that does not answer is a store that fails: as onStoreFailure says', async (t) => {
  const how: Behaviour = {};
  const registry = new Registry();
  const central = centralOf(rateLimitService(), 1, how);
  const lenient = await chainOf(t, { max: 1, window: '1h' }, central, { registry });
  const strict = await chainOf(t, { max: 1, window: '1h', onStoreFailure: 'deny' }, central);
  how.failing = true;
  t.equal(await ask(lenient), 200);
  t.equal(await ask(lenient), 200);
  const refused = await strict.inject({ url: '/' });
  t.equal(refused.statusCode, 503);
  t.match(await registry.getSingleMetric('selvedge_rate_limit_store_failures_total')?.get(), {
    values: [{ labels: { result: 'allow' }, value: 2 }],
  });
});

t.test('what was granted too late is given back', async (t) => {
  const service = rateLimitService(() => 0);
  const how: Behaviour = { late: true };
  for (const limit of [{ max: 1, window: '1h' }, { inFlight: 1 }]) {
    const chain = await chainOf(t, limit, centralOf(service, 1, how));
    how.late = true;
    t.equal(await ask(chain), 200, 'nobody counted it');
    how.late = false;
    t.equal(await ask(chain), 200, 'and nothing was taken by it');
  }
});

t.test('places of a worker that ended are free, and no others', async (t) => {
  const service = rateLimitService();
  const open = (worker: number) => service.ask(worker, { open: 'places', identity: 'a' }) as number;
  const limit = open(1);
  t.equal(open(2), limit, 'the same limit');
  const enter = (worker: number) => (service.ask(worker, ['enter', limit, 'key', 3]) as Granted)[0];
  t.strictSame([enter(1), enter(1), enter(2), enter(2)], [true, true, true, false]);
  service.gone(1);
  t.strictSame([enter(2), enter(2), enter(2)], [true, true, false]);
  service.tell(2, ['leave', limit, 'key']);
  service.tell(1, ['leave', limit, 'key']);
  t.strictSame([enter(2), enter(2)], [true, false], 'who is gone leaves nothing once more');
});

t.test('counts outlive a worker that is started again, and end when nobody has the limit', async (t) => {
  const clock = new FakeClock();
  const service = rateLimitService(() => clock.now());
  const opening = { open: 'accounts', identity: 'a', maxKeys: 1_000 } as const;
  const quota = { algorithm: 'fixed-window', capacity: 1, periodMs: 1_000 } as const;
  const open = () => service.ask(1, { ...opening, quota }) as number;
  const limit = open();
  const take = () => (service.ask(1, ['take', limit, 'key', 1]) as Granted)[0];
  t.strictSame([take(), take()], [true, false]);
  service.gone(1);
  t.equal(open(), limit);
  t.equal(take(), false);
  t.throws(() => service.ask(1, ['take', limit + 1, 'key', 1]), /not open/);
  const places = service.ask(1, { open: 'places', identity: 'a' }) as number;
  t.throws(() => service.ask(1, ['take', places, 'key', 1]), /no accounts/);
});
