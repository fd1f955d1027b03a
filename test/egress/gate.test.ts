// The gate as a whole: what is looked up, what is on trial, and where calls go that are let through.
import { Registry } from 'prom-client';
import t from 'tap';
import type { Egress, EgressRule } from '../../src/config/model.ts';
import { Destinations, MAX_DESTINATIONS } from '../../src/egress/destinations.ts';
import { countEgress, decideEgress, egressCounter } from '../../src/egress/gate.ts';
import { compileEgress, type EgressCall } from '../../src/egress/policy.ts';
import type { Endpoint } from '../../src/upstream/endpoint.ts';
import { fakeWheel } from '../support/fake-clock.ts';

const at = { file: 'c.yaml', line: 1, column: 1 };

function policyOf(changes: Partial<Egress>) {
  return compileEgress({ default: 'deny', audit: false, deny: [], allow: [], ...changes });
}

function rule(changes: Partial<EgressRule>): EgressRule {
  return {
    name: 'rule',
    at,
    from: null,
    hosts: [],
    ports: [],
    cidrs: [],
    methods: [],
    paths: [],
    tls: true,
    ...changes,
  };
}

function call(host: string): EgressCall {
  return { from: 'cart', host, port: 80, http: { method: 'GET', path: '/', ambiguous: false } };
}

function names(known: Record<string, readonly string[]>) {
  const asked: string[] = [];
  return {
    asked,
    async resolve(host: string) {
      asked.push(host);
      return known[host] ?? [];
    },
  };
}

t.test('a name that is denied anyway is not looked up; on trial it has to be', async (t) => {
  const known = names({ 'a.test': ['1.1.1.1'] });
  t.match(await decideEgress(policyOf({}), known, call('a.test')), {
    verdict: 'denied',
    policy: 'egress.default',
    addresses: [],
  });
  t.strictSame(known.asked, []);
  t.match(await decideEgress(policyOf({ audit: true }), known, call('a.test')), {
    verdict: 'audit_denied',
    policy: 'egress.default',
    addresses: ['1.1.1.1'],
  });
});

t.test('a trial lets public and private addresses through, never loopback, link-local or metadata', async (t) => {
  const known = names({
    'mixed.test': ['10.0.0.1', '127.0.0.1', '169.254.169.254', '8.8.8.8'],
    'loopback.test': ['127.0.0.1', '::1'],
    'listed.test': ['127.0.0.1'],
  });
  const policy = policyOf({ audit: true, allow: [rule({ hosts: ['listed.test'], cidrs: ['127.0.0.0/8'] })] });
  t.match(await decideEgress(policy, known, call('mixed.test')), {
    verdict: 'audit_denied',
    addresses: ['10.0.0.1', '8.8.8.8'],
  });
  t.match(await decideEgress(policy, known, call('loopback.test')), {
    verdict: 'denied',
    policy: 'egress.addresses',
    addresses: [],
  });
  t.match(await decideEgress(policy, known, call('listed.test')), { verdict: 'allowed', addresses: ['127.0.0.1'] });
});

t.test('the answer of a lookup is judged, so a name that turns to loopback turns to denied', async (t) => {
  const known: Record<string, readonly string[]> = { 'a.test': ['1.1.1.1'] };
  const policy = policyOf({ allow: [rule({ hosts: ['a.test'] })] });
  t.match(await decideEgress(policy, names(known), call('a.test')), { verdict: 'allowed', addresses: ['1.1.1.1'] });
  known['a.test'] = ['127.0.0.1'];
  t.match(await decideEgress(policy, names(known), call('a.test')), { verdict: 'denied', policy: 'egress.addresses' });
  known['a.test'] = ['127.0.0.1', '1.1.1.1'];
  t.match(await decideEgress(policy, names(known), call('a.test')), { verdict: 'allowed', addresses: ['1.1.1.1'] });
});

t.test('verdicts are counted by hop and rule, on one counter a registry', async (t) => {
  const registry = new Registry();
  const counter = egressCounter(registry);
  t.equal(egressCounter(registry), counter);
  const decision = await decideEgress(policyOf({ default: 'allow' }), names({ a: ['1.1.1.1'] }), call('a'));
  countEgress(counter, 'cart', decision);
  t.match(
    await registry.metrics(),
    /selvedge_egress_total\{owner="cart",policy="egress.default",verdict="allowed"\} 1/,
  );
});

t.test('a destination is one host and port at its addresses, and the one unused longest goes first', async (t) => {
  const { wheel } = fakeWheel();
  const closed: string[] = [];
  const destinations = new Destinations({
    wheel,
    idOf: (name) => name,
    makeTransport: ({ address }: Endpoint) => ({
      dispatch: () => true,
      close: async () => void closed.push(address),
      destroy: () => undefined,
      stats: { connections: 0, idle: 0, active: 0, pending: 0, resent: 0, upstreamIdleMs: null },
    }),
  });
  const first = destinations.service('a.test', 80, ['1.1.1.1', '2606::1']);
  t.strictSame(
    first.endpoints.map(({ address }) => address),
    ['1.1.1.1:80', '[2606::1]:80'],
  );
  t.equal(destinations.service('a.test', 80, ['1.1.1.1', '2606::1']), first);
  t.not(destinations.service('b.test', 80, ['1.1.1.1', '2606::1']), first, 'another host shares no connection');
  t.not(destinations.service('a.test', 81, ['1.1.1.1', '2606::1']), first);
  t.not(destinations.service('a.test', 80, ['1.1.1.1']), first, 'other addresses');
  for (const endpoint of first.endpoints) endpoint.dispatch({} as never, {}, null);
  for (let index = 0; destinations.size < MAX_DESTINATIONS; index++)
    destinations.service(`${index}.test`, 80, ['1.1.1.1']);
  t.strictSame(closed, []);
  t.equal(destinations.size, MAX_DESTINATIONS);
  destinations.service('last.test', 80, ['1.1.1.1']);
  t.equal(destinations.size, MAX_DESTINATIONS);
  t.strictSame(closed, ['1.1.1.1:80', '[2606::1]:80']);
});
