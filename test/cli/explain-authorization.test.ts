// `selvedge explain` where policies are in force: what each says of the request on its way.
import t, { type Test } from 'tap';
import { EXIT } from '../../src/cli/command.ts';
import { command } from '../../src/cli/explain.ts';
import { runCommand } from './support/io.ts';

const config = (policies: string, mtls = 'strict') => `version: 1
mesh: { trustDomain: shop.internal, mtls: ${mtls} }
gateways: { public: { listeners: [{ name: http, port: 8080 }] } }
services:
  cart:
    endpoints: ["127.0.0.1:3000"]
    internal: { app: "127.0.0.1:3000", inbound: { port: 15001 }, outbound: { port: 15002 } }
  stock:
    endpoints: [{ address: "127.0.0.1:3001", hop: "127.0.0.1:15011" }]
    internal: { inbound: { port: 15011 } }
routes:
  - { name: stock, match: [{ path: /api }], to: stock, rewrite: { prefix: / } }
  - { name: cart, match: [{ path: /cart }], to: cart }
authorization:
${policies}
`;
const READERS =
  '  - { name: readers, service: stock, allow: [{ from: [service/cart, gateway/public], paths: [/tea] }] }';

async function policiesOf(t: Test, text: string, ...args: string[]): Promise<string[]> {
  const { code, stdout, stderr } = await runCommand(command, args, t.testdir({ 'selvedge.yaml': text }));
  t.equal(code, EXIT.good, stderr);
  return stdout.split('\n').filter((line) => line.startsWith('policies'));
}

t.test('the service is asked for the path that it gets, of the caller that this listener is', async (t) => {
  const text = config(READERS);
  t.strictSame(await policiesOf(t, text, 'GET', 'http://shop.test/api/tea?x=1'), [
    'policies    service stock, called as spiffe://shop.internal/gateway/public: allowed by readers',
  ]);
  t.strictSame(await policiesOf(t, text, 'GET', 'http://shop.test/api/milk'), [
    'policies    service stock, called as spiffe://shop.internal/gateway/public: denied by default deny of service stock',
  ]);
  t.strictSame(await policiesOf(t, text, 'GET', 'http://stock/tea', '--internal', 'cart'), [
    'policies    service stock, called as spiffe://shop.internal/service/cart: allowed by readers',
  ]);
  t.strictSame(await policiesOf(t, config(READERS, 'off'), 'GET', 'http://shop.test/api/tea'), [
    'policies    service stock, called without an identity: denied by default deny of service stock',
  ]);
});

t.test('a gateway is asked first; what has no policy or no hop says nothing', async (t) => {
  const text = config(
    `  - { name: no-tea, gateway: public, audit: true, deny: [{ paths: [/api/tea], hosts: [shop.test] }] }\n${READERS}`,
  );
  t.strictSame(await policiesOf(t, text, 'GET', 'http://shop.test:8080/api/tea'), [
    'policies    gateway public, called without an identity: allowed; without audit it would be denied by no-tea',
    'policies    service stock, called as spiffe://shop.internal/gateway/public: allowed by readers',
  ]);
  t.strictSame(await policiesOf(t, config(READERS), 'GET', 'http://shop.test/cart'), []);
});
