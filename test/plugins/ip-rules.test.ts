// ip-rules: who may pass by address, however the address is written.
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import { SharedStore } from '../../src/runtime/shared.ts';
import { type ChainOptions, testChain } from '../support/chain.ts';

/** The status that each address gets. */
async function statuses(t: Test, rules: Record<string, unknown>, addresses: readonly string[]) {
  const found: Record<string, number> = {};
  for (const clientAddress of addresses) {
    const chain = await testChain([['ip-rules', rules]], { exchange: { clientAddress } });
    t.teardown(() => chain.close());
    const { statusCode } = await chain.inject({ url: '/' });
    t.equal(chain.sent.length, statusCode === 200 ? 1 : 0, 'what is refused reaches no service');
    found[clientAddress] = statusCode;
  }
  return found;
}

t.test('with a deny list everybody else passes', async (t) => {
  const rules = { deny: ['203.0.113.0/24', '2001:db8:bad::/48', '198.51.100.7'] };
  t.strictSame(
    await statuses(t, rules, ['203.0.113.9', '203.0.114.9', '2001:db8:bad::1', '2001:db8::1', '198.51.100.7', '::1']),
    {
      '203.0.113.9': 403,
      '203.0.114.9': 200,
      '2001:db8:bad::1': 403,
      '2001:db8::1': 200,
      '198.51.100.7': 403,
      '::1': 200,
    },
  );
});

t.test('one allowed network closes the door for everybody else, of either family', async (t) => {
  t.strictSame(
    await statuses(t, { allow: ['10.0.0.0/8'] }, ['10.1.2.3', '11.0.0.1', '::1', 'fe80::1', '', 'unknown']),
    {
      '10.1.2.3': 200,
      '11.0.0.1': 403,
      '::1': 403,
      'fe80::1': 403,
      '': 403,
      unknown: 403,
    },
  );
});

t.test('deny comes before allow', async (t) => {
  const rules = { allow: ['10.0.0.0/8'], deny: ['10.9.0.0/16'] };
  t.strictSame(await statuses(t, rules, ['10.1.2.3', '10.9.2.3', '192.0.2.1']), {
    '10.1.2.3': 200,
    '10.9.2.3': 403,
    '192.0.2.1': 403,
  });
});

t.test('an IPv4 address inside IPv6 is that IPv4 address, in rules and requests', async (t) => {
  const mapped = ['::ffff:10.1.2.3', '::FFFF:10.1.2.3', '::ffff:a01:203', '0:0:0:0:0:ffff:10.1.2.3', '10.1.2.3'];
  for (const rule of ['10.0.0.0/8', '::ffff:10.0.0.0/104', '::ffff:a00:0/104'])
    for (const [address, status] of Object.entries(await statuses(t, { deny: [rule] }, mapped)))
      t.equal(status, 403, `${address} by ${rule}`);
  const other = await statuses(t, { deny: ['10.0.0.0/8'] }, ['::10.1.2.3', '::ffff:11.0.0.1']);
  t.strictSame(Object.values(other), [200, 200], 'and no other address is');
});

t.test('says why in log and metric, and takes the metric away with the last chain', async (t) => {
  const registry = new Registry();
  const options: ChainOptions = { registry, store: new SharedStore() };
  const first = await testChain([['ip-rules', { deny: ['192.0.2.1'] }]], options);
  const second = await testChain([['ip-rules', { allow: ['10.0.0.1'] }]], options);
  const third = await testChain([['ip-rules', { allow: ['192.0.2.0/24'] }]], options);
  const refused = await first.inject({ url: '/' });
  t.equal(refused.json().code, 'SLV_FORBIDDEN');
  t.match(first.exchanges[0], { reason: 'forbidden', decidedBy: 'ip-rules' });
  await second.inject({ url: '/' });
  await third.inject({ url: '/' });
  t.equal(third.exchanges[0].decidedBy, null);
  const metrics = await registry.metrics();
  for (const verdict of ['denied', 'not_allowed', 'allowed'])
    t.match(metrics, `selvedge_ip_rules_total{owner="public",verdict="${verdict}"} 1`);
  for (const chain of [first, second, third]) await chain.close();
  t.notMatch(await registry.metrics(), 'selvedge_ip_rules_total');
});

t.test('what cannot be a rule is refused when the config is checked', async (t) => {
  const refused = (rules: Record<string, unknown>, message: RegExp) =>
    t.rejects(testChain([['ip-rules', rules]]), { message });
  await refused({}, /ip-rules: does nothing: it needs "allow", "deny" or both/);
  await refused({ allow: [] }, /ip-rules\.allow: must have at least one item/);
  await refused(
    { deny: ['10.0.0.1'], allow: ['10.0.0.0/33'] },
    /ip-rules\.allow\[0\]: "10\.0\.0\.0\/33" is no address/,
  );
  for (const wrong of ['10.0.0/8', '010.0.0.1', 'fe80::1%eth0', 'example.com', '10.0.0.1-10.0.0.9', '', '*'])
    await refused({ deny: ['10.0.0.1', wrong] }, /ip-rules\.deny\[1\]: ".*" is no address or network/);
  await refused({ allow: ['10.0.0.1'], deny: ['10.0.0.1'] }, /ip-rules\.allow\[0\]: "10\.0\.0\.1" is denied too/);
  await refused({ block: ['10.0.0.1'] }, /unknown key "block"/);
});
