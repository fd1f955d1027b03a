// The authorization plugin in a chain: when it asks, what clients and operators learn of the answer.
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import { SharedStore } from '../../src/runtime/shared.ts';
import { allow, audit, deny } from '../policies/support/authorization.ts';
import { type ChainOptions, testChain } from '../support/chain.ts';

const NO_DELETES = deny('no-deletes', { methods: ['DELETE'] });
const ADMINS = allow('admins', { claims: [{ name: 'role', kind: 'exact', value: 'admin' }] });

async function chainOf(t: Test, policies: readonly object[], options: ChainOptions = {}) {
  const chain = await testChain([['authorization', { target: 'service orders', policies }]], options);
  t.teardown(() => chain.close());
  return chain;
}

t.test('a request that is denied is answered 403 and never sent', async (t) => {
  const chain = await chainOf(t, [NO_DELETES]);
  const response = await chain.inject({ method: 'DELETE', url: '/orders/1' });
  t.equal(response.statusCode, 403);
  t.match(response.json(), { code: 'SLV_FORBIDDEN' });
  t.notMatch(response.body, 'no-deletes', 'clients do not learn which policy it was');
  t.equal(chain.sent.length, 0);
  t.match(chain.exchanges[0], { reason: 'forbidden', authorization: { verdict: 'denied', policy: 'no-deletes' } });
});

t.test('a request that is allowed goes on', async (t) => {
  const chain = await chainOf(t, [NO_DELETES, ADMINS], { user: { role: ['admin'] } });
  t.equal((await chain.inject({ url: '/orders' })).statusCode, 200);
  t.match(chain.exchanges[0].authorization, { verdict: 'allowed', policy: 'admins' });
});

t.test('under audit a request goes on, and what would have become of it is recorded', async (t) => {
  const chain = await chainOf(t, [audit(ADMINS)]);
  t.equal((await chain.inject({ url: '/orders' })).statusCode, 200);
  t.match(chain.exchanges[0].authorization, { verdict: 'audit_denied', policy: 'default deny of service orders' });
});

t.test('claims that a plugin further down the list verifies are there', async (t) => {
  const verifier = new URL('./support/verifier.ts', import.meta.url).pathname;
  const chain = await testChain([['authorization', { target: 'service orders', policies: [ADMINS] }], [verifier]]);
  t.teardown(() => chain.close());
  t.equal((await chain.inject({ url: '/', headers: { authorization: 'admin' } })).statusCode, 200);
  t.equal((await chain.inject({ url: '/', headers: { authorization: 'user' } })).statusCode, 403);
});

t.test('the path that is judged is the one that is routed and sent, not the one in the URL', async (t) => {
  const policies = [deny('no-admin', { paths: [{ kind: 'prefix', value: '/admin' }] })];
  const chain = await chainOf(t, policies, { exchange: { path: '/admin/x' } });
  t.equal((await chain.inject({ url: '/public' })).statusCode, 403);
});

t.test('a request that no route takes keeps the answer it has', async (t) => {
  const chain = await chainOf(t, [allow('nobody')], { exchange: { route: null } });
  t.equal((await chain.inject({ url: '/' })).statusCode, 200);
  t.equal(chain.exchanges[0].authorization, null);
});

t.test('verdicts are counted by names of the config alone', async (t) => {
  const registry = new Registry();
  const chain = await chainOf(
    t,
    [NO_DELETES, ADMINS, audit(deny('old', { headers: [{ name: 'x-old', kind: 'present', value: '' }] }))],
    {
      registry,
      user: { role: 'admin' },
    },
  );
  for (let i = 0; i < 3; i++) await chain.inject({ url: '/' });
  await chain.inject({ method: 'DELETE', url: '/a' });
  await chain.inject({ url: '/b', headers: { 'x-old': '1' } });
  const text = await registry.metrics();
  t.strictSame(
    text.split('\n').filter((line) => line.startsWith('selvedge_authorization_total')),
    [
      'selvedge_authorization_total{target="service orders",policy="admins",verdict="allowed"} 3',
      'selvedge_authorization_total{target="service orders",policy="no-deletes",verdict="denied"} 1',
      'selvedge_authorization_total{target="service orders",policy="old",verdict="audit_denied"} 1',
    ],
  );
});

t.test('counters go on over a reload, and leave with the last chain', async (t) => {
  const registry = new Registry();
  const store = new SharedStore();
  const use = ['authorization', { target: 'service orders', policies: [NO_DELETES] }] as const;
  const before = await testChain([use], { registry, store });
  await before.inject({ method: 'DELETE', url: '/' });
  const after = await testChain([use], { registry, store });
  await before.close();
  await after.inject({ method: 'DELETE', url: '/' });
  t.match(await registry.metrics(), /policy="no-deletes",verdict="denied"\} 2/);
  await after.close();
  t.equal(registry.getSingleMetric('selvedge_authorization_total'), undefined);
});
