// docs/writing-a-plugin.md and docs/plugins/ say what is true: the very example runs, and the tables list every option there is.
import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Registry } from 'prom-client';
import t from 'tap';
import { SharedStore } from '../../src/runtime/shared.ts';
import { sentValues, testChain } from '../support/chain.ts';
import { optionTables } from '../support/option-tables.ts';

const root = join(import.meta.dirname, '../..');
const page = readFileSync(join(root, 'docs/writing-a-plugin.md'), 'utf8');
const example = join(root, 'docs/examples/tenant.ts');

// The command line does the same for plugin files anywhere on disk.
const own = new Map([
  ['selvedge', 'src/index.ts'],
  ['selvedge/plugin', 'src/plugin.ts'],
]);
const hooks = registerHooks({
  resolve(specifier, context, next) {
    const module = own.get(specifier);
    return module === undefined
      ? next(specifier, context)
      : { url: pathToFileURL(join(root, module)).href, shortCircuit: true };
  },
});
t.teardown(() => hooks.deregister());

t.test('the page shows the examples as they are', async (t) => {
  for (const name of ['tenant.ts', 'try-tenant.ts', 'careful.ts', 'by-tenant.ts']) {
    const source = readFileSync(join(root, 'docs/examples', name), 'utf8');
    t.ok(page.includes(`\`\`\`ts\n${source}\`\`\``), name);
  }
});

t.test('the trial of the page runs through: its assertions hold against a real gateway and service', async () => {
  await import(pathToFileURL(join(root, 'docs/examples/try-tenant.ts')).href);
});

t.test('the example', async (t) => {
  t.test('lets a known tenant through and tells the service', async (t) => {
    const chain = await testChain([[example, { allow: ['acme'] }]]);
    t.teardown(() => chain.close());
    const response = await chain.inject({ url: '/', headers: { 'x-tenant': 'acme', 'x-tenant-verified': 'forged' } });
    t.equal(response.statusCode, 200);
    t.strictSame(sentValues(chain.sent[0], 'x-tenant-verified'), ['acme']);
    t.match(sentValues(chain.sent[0], 'x-sent-at')[0], /^\d{4}-.*Z$/);
  });

  t.test('refuses anybody else, who then never reaches the service', async (t) => {
    const chain = await testChain([[example, { allow: ['acme'] }]]);
    t.teardown(() => chain.close());
    for (const headers of [{}, { 'x-tenant': 'evil' }, { 'x-tenant': 'constructor' }]) {
      const response = await chain.inject({ url: '/', headers });
      t.equal(response.statusCode, 403);
      t.equal(response.json().code, 'SLV_FORBIDDEN');
    }
    t.equal(chain.sent.length, 0);
  });

  t.test('counts in one metric for all chains, and takes it away with the last', async (t) => {
    const registry = new Registry();
    const store = new SharedStore();
    const first = await testChain([[example, { allow: ['acme'] }]], { registry, store });
    const second = await testChain([[example, { allow: ['acme'], header: 'x-org' }]], { registry, store });
    await first.inject({ url: '/', headers: { 'x-tenant': 'acme' } });
    await second.inject({ url: '/', headers: { 'x-org': 'acme' } });
    t.match(await registry.metrics(), 'tenant_requests_total{tenant="acme"} 2');
    await first.close();
    t.match(await registry.metrics(), 'tenant_requests_total{tenant="acme"} 2');
    await second.close();
    t.notMatch(await registry.metrics(), 'tenant_requests_total');
  });

  t.test('has its options checked', async (t) => {
    await t.rejects(testChain([[example, { alow: ['acme'] }]]), {
      message: /"allow" is missing\n.*unknown key "alow" \(did you mean "allow"\?\)/,
    });
    await t.rejects(testChain([[example, { allow: [] }]]), { message: /allow: must have at least one item/ });
  });
});

t.test('the example of keys has each tenant charged for itself', async (t) => {
  const store = new SharedStore();
  const registry = new Registry();
  const limit = { max: 1, window: '1h', key: { plugin: 'tenant' } };
  const status = async (host: string) => {
    const plugins = [
      ['rate-limit', limit],
      [join(root, 'docs/examples/by-tenant.ts'), { domain: 'example.com' }],
    ] as const;
    const chain = await testChain(plugins, { store, registry, exchange: { host } });
    t.teardown(() => chain.close());
    return (await chain.inject({ url: '/' })).statusCode;
  };
  t.equal(await status('acme.example.com'), 200);
  t.equal(await status('globex.example.com'), 200);
  t.equal(await status('acme.example.com'), 429);
  t.equal(await status('elsewhere.example.net'), 200, 'no tenant: by address');
  t.equal(await status('example.com'), 429);
});

t.test('the example of policies says how requests are sent, and sends one of its own', async (t) => {
  const chain = await testChain([[join(root, 'docs/examples/careful.ts'), { audit: 'audit' }]]);
  t.teardown(() => chain.close());
  t.match(chain.policies.retry, { attempts: 1 });
  await chain.inject({ url: '/' });
  t.equal(chain.exchanges[0].policies, null);
  t.equal(chain.own.length, 0);
  await chain.inject({ url: '/', headers: { 'x-delicate': '1' } });
  t.match(chain.exchanges[1].policies?.retry, { attempts: 0 });
  t.match(chain.own, [{ service: 'audit', subset: null, request: { method: 'POST', path: '/delicate' } }]);
  for (let i = 0; i < 100; i++) await chain.inject({ url: '/', headers: { 'x-delicate': '1' } });
  t.equal(chain.own.length, 100, 'bounded');
  chain.own[0].handler.onResponseError?.(null, new Error('no'));
  await chain.inject({ url: '/', headers: { 'x-delicate': '1' } });
  t.equal(chain.own.length, 101);
});

t.test(
  'every built-in plugin has a page that lists its options with their defaults, and the index leads there',
  async (t) => {
    const pages = join(root, 'docs/plugins');
    const index = readFileSync(join(pages, 'README.md'), 'utf8');
    for (const [name, table] of await optionTables()) {
      const page = readFileSync(join(pages, `${name}.md`), 'utf8');
      if (!page.startsWith(`# ${name}\n`)) t.fail(`docs/plugins/${name}.md does not begin with its name`);
      else if (!page.includes(table)) t.fail(`docs/plugins/${name}.md has no such table:\n${table}`);
      else if (!page.includes('```yaml')) t.fail(`docs/plugins/${name}.md has no example`);
      else t.match(index, `[\`${name}\`](${name}.md)`);
    }
  },
);
