// `selvedge check` beside a running Selvedge: what that one could not renew becomes a warning about this config.
import t, { type Test } from 'tap';
import type { AskAdmin } from '../../src/cli/ask-admin.ts';
import { checkCommand } from '../../src/cli/check.ts';
import { runCommand } from './support/io.ts';

const config = (mtls = 'strict', rest = '') => `version: 1
mesh: { trustDomain: shop.internal, mtls: ${mtls} }
services:
  orders:
    endpoints: [{ address: "127.0.0.1:3000", hop: "127.0.0.1:15001" }]
    internal: { inbound: { port: 15001 } }
${rest}
`;

async function check(t: Test, text: string, page: unknown) {
  const asked: string[] = [];
  const ask: AskAdmin = async (_admin, path) => {
    asked.push(path);
    return path === '/identity' ? page : null;
  };
  const { code, stderr } = await runCommand(checkCommand(ask), [], t.testdir({ 'selvedge.yaml': text }));
  t.equal(code, 0, 'it does not fail the check');
  return { stderr, asked };
}

t.test('what could not be renewed is a warning', async (t) => {
  const warnings = ['spiffe://shop.internal/service/orders expires in 3 h and could not be renewed: no such host'];
  const { stderr } = await check(t, config(), { trustDomain: 'shop.internal', warnings });
  t.equal(stderr, `selvedge.yaml:2:7 warning: mesh.identity: ${warnings[0]} (seen by the running Selvedge)\n`);
});

t.test('is silent where all is well, or somebody else answers', async (t) => {
  const warnings = ['w'];
  for (const page of [
    null,
    'text',
    { warnings },
    { trustDomain: 'shop.internal', warnings: [] },
    { trustDomain: 'shop.internal', warnings: 'w' },
    { trustDomain: 'shop.internal', warnings: [1, null] },
    { trustDomain: 'other.internal', warnings },
  ]) {
    t.equal((await check(t, config(), page)).stderr, '', JSON.stringify(page));
  }
});

t.test('asks only about a mesh that needs certificates', async (t) => {
  t.notOk((await check(t, config('off'), null)).asked.includes('/identity'));
  t.notOk((await check(t, config('strict', 'admin: false'), null)).asked.includes('/identity'));
  t.ok((await check(t, config('permissive'), null)).asked.includes('/identity'));
});
