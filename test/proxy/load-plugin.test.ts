// From a name in a config to a plugin with checked options, and everything that can be wrong on that way.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import type { Config, PluginUse } from '../../src/config/model.ts';
import { formatProblem } from '../../src/config/problem.ts';
import { DESCRIPTION, definePlugin, Type } from '../../src/plugin.ts';
import { builtins } from '../../src/plugins/index.ts';
import { checkPlugins, loadPlugins } from '../../src/proxy/load-plugin.ts';
import { backend } from '../routing/support/fixtures.ts';

const folder = realpathSync(mkdtempSync(join(tmpdir(), 'selvedge-load-plugin-')));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

const contract = pathToFileURL(join(import.meta.dirname, '../../src/plugin.ts')).href;
const good = (name: string): string =>
  `import { definePlugin, Type } from ${JSON.stringify(contract)};
export default definePlugin({ name: ${JSON.stringify(name)}, options: Type.Object({ allow: Type.Array(Type.String()), max: Type.Integer({ default: 3 }) }) }, async () => {});\n`;

/** Writes a file below the test's folder and returns its path. */
function file(path: string, content: string): string {
  const full = join(folder, path);
  mkdirSync(dirname(full), { recursive: true });
  writeFileSync(full, content);
  return full;
}

let line = 0;
function use(name: string, options: Record<string, unknown> = {}): PluginUse {
  const written = name.startsWith(folder) ? `.${name.slice(folder.length)}` : name;
  return { name, written, options, at: { file: 'selvedge.yaml', line: ++line, column: 9 }, baseDir: folder };
}

async function load(...uses: PluginUse[]) {
  const { loaded, problems } = await loadPlugins(uses, builtins);
  return { loaded: uses.map((one) => loaded.get(one)), messages: problems.map(formatProblem) };
}

const problemOf = async (name: string, options?: Record<string, unknown>): Promise<string> =>
  (await load(use(name, options))).messages.join('\n');

t.test('a built-in comes by its name, with defaults filled in and frozen', async (t) => {
  const written = Object.freeze({ trust: true });
  const { loaded, messages } = await load(use('request-id', written));
  t.strictSame(messages, []);
  t.match(loaded[0], {
    name: 'request-id',
    identity: 'request-id',
    options: { header: 'x-request-id', trust: true, response: true },
  });
  t.ok(Object.isFrozen(loaded[0]?.options));
  t.strictSame(written, { trust: true }, 'what the config wrote is left alone');
});

t.test('a file comes by its path, TypeScript and JavaScript, ES module and CommonJS', async (t) => {
  const paths = [
    file('a.ts', `${good('typescript')}const unused: number = 1; void unused;`),
    file('b.mjs', good('javascript')),
    file('c/package.json', '{"type":"commonjs"}') &&
      file('c/c.js', 'module.exports = async () => {}; module.exports[Symbol.for("skip-override")] = true;'),
    file(
      'd.cjs',
      'const plugin = async () => {}; plugin[Symbol.for("skip-override")] = true; exports.__esModule = true; exports.default = plugin;',
    ),
  ];
  const { loaded, messages } = await load(...paths.map((path, index) => use(path, index < 2 ? { allow: [] } : {})));
  t.strictSame(messages, []);
  t.strictSame(
    loaded.map((plugin) => plugin?.name),
    ['typescript', 'javascript', './c/c.js', './d.cjs'],
  );
  t.strictSame(loaded[0]?.options, { allow: [], max: 3 });
  t.ok(loaded[0]?.identity.startsWith(pathToFileURL(paths[0]).href));
});

t.test('a package comes from the node_modules above the config, also when it has no CommonJS entry', async (t) => {
  const plain =
    'const plugin = async () => {}; plugin[Symbol.for("skip-override")] = true; plugin[Symbol.for("fastify.display-name")] = "shown";';
  file('node_modules/one/package.json', '{"name":"one","main":"./main.js"}');
  file('node_modules/one/main.js', `${plain} module.exports = plugin;`);
  file(
    'node_modules/@scope/two/package.json',
    '{"name":"@scope/two","type":"module","exports":{".":{"types":"./x.d.ts","import":"./two.js"},"./deep":{"node":{"import":"./deep.js"}}}}',
  );
  file('node_modules/@scope/two/two.js', `${plain} export default plugin;`);
  file('node_modules/@scope/two/deep.js', `${plain} export default plugin;`);
  const { loaded, messages } = await load(use('one', { anything: [1] }), use('@scope/two'), use('@scope/two/deep'));
  t.strictSame(messages, []);
  t.match(loaded, [
    { name: 'shown', options: { anything: [1] }, identity: /one\/main\.js$/ },
    { name: 'shown', identity: /two\.js$/ },
    { identity: /deep\.js$/ },
  ]);
});

t.test('an edited file is imported anew and has another identity; an unchanged one is the same plugin', async (t) => {
  const path = file('edited.mjs', good('before'));
  const first = (await load(use(path, { allow: [] }))).loaded[0];
  const same = (await load(use(path, { allow: [] }))).loaded[0];
  t.equal(same?.identity, first?.identity);
  t.equal(same?.plugin, first?.plugin);
  file('edited.mjs', good('after'));
  const edited = (await load(use(path, { allow: [] }))).loaded[0];
  t.equal(edited?.name, 'after');
  t.not(edited?.identity, first?.identity);
});

t.test('what cannot be found says so, with the built-in that was meant', async (t) => {
  t.equal(
    await problemOf('request-ids'),
    `selvedge.yaml:${line}:9 request-ids: plugin "request-ids" cannot be loaded: it is neither a built-in plugin nor a package installed above ${folder} (did you mean "request-id"?)`,
  );
  t.match(await problemOf(join(folder, 'absent.ts')), /plugin "\.\/absent\.ts" cannot be loaded: there is no file /);
  file('dir/index.js', '');
  t.match(await problemOf(join(folder, 'dir')), /is a folder: name the module file in it/);
});

t.test('what cannot be imported says why and where', async (t) => {
  t.match(
    await problemOf(file('syntax.mjs', 'export default {\n  a: ;\n};')),
    /cannot be imported: Unexpected token ';' \(syntax\.mjs:2\)/,
  );
  t.match(
    await problemOf(file('throws.ts', 'type A = 1;\n\n  throw new Error("no database\\nat all");')),
    /cannot be imported: no database \(throws\.ts:3:9\)/,
  );
  t.match(
    await problemOf(file('imports.mjs', 'import "not-there";')),
    /cannot be imported: Cannot find package 'not-there'/,
  );
  t.match(await problemOf(file('throws-text.mjs', 'throw "text";')), /cannot be imported: text$/);
  t.match(await problemOf(file('enum.ts', 'enum A { B }\nexport default A;')), /cannot be imported: .*enum/i);
  t.match(await problemOf(file('data.txt', '')), /a plugin is a \.js, \.mjs, \.cjs or \.ts module, not \.txt/);
  file('node_modules/typed/package.json', '{"name":"typed","main":"./main.ts"}');
  file('node_modules/typed/main.ts', 'export default 1;');
  t.match(
    await problemOf('typed'),
    /Node does not load TypeScript from node_modules: the package has to publish JavaScript/,
  );
});

t.test('without type stripping, a TypeScript plugin is refused with what to do', async (t) => {
  const loader = pathToFileURL(join(import.meta.dirname, '../../src/proxy/plugin-module.ts')).href;
  const path = file('typed.ts', 'export default 1;');
  // The loader itself is TypeScript too, so it is imported first and stripping is simulated to be off by the error that Node 20 gives.
  const script = `import { registerHooks } from 'node:module';
    const { importPlugin } = await import(${JSON.stringify(loader)});
    registerHooks({ load(url, context, next) {
      if (!url.includes('typed.ts')) return next(url, context);
      throw Object.assign(new TypeError('Unknown file extension ".ts" for ' + url), { code: 'ERR_UNKNOWN_FILE_EXTENSION' });
    } });
    await importPlugin(${JSON.stringify(path)}, '/').catch((error) => console.log(error.message));`;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  t.match(stdout, /^Node \S+ cannot load TypeScript: use Node 22\.18 or later, or name the compiled \.js file/);
});

t.test('what is not a plugin is refused with what to do', async (t) => {
  t.match(
    await problemOf(file('none.mjs', 'export const plugin = 1;')),
    /has no default export: write "export default definePlugin/,
  );
  t.match(
    await problemOf(file('object.mjs', 'export default { register() {} };')),
    /must export a function by default, not a value of type object/,
  );
  t.match(await problemOf(file('null.mjs', 'export default null;')), /must export a function by default, not null/);
  t.match(
    await problemOf(file('bare.mjs', 'export default async (app) => {};')),
    /would be inert: .* wrap it in definePlugin of "selvedge\/plugin" or in fastify-plugin/,
  );
});

t.test('every problem of every plugin is reported at once, each at its own place', async (t) => {
  const tenant = file('tenant.mjs', good('tenant'));
  line = 0;
  const { messages, loaded } = await load(
    use(tenant, { alow: ['x'], max: 'many' }),
    use('body-limit', { max: '1MiB' }),
    use(tenant, { allow: [1, 'x', null] }),
    use('metrcs'),
  );
  t.match(messages, [
    /^selvedge\.yaml:1:9 \.\/tenant\.mjs: "allow" is missing$/,
    /^selvedge\.yaml:1:9 \.\/tenant\.mjs\.alow: unknown key "alow" \(did you mean "allow"\?\)$/,
    /^selvedge\.yaml:1:9 \.\/tenant\.mjs\.max: must be a whole number, not "many"$/,
    /^selvedge\.yaml:3:9 \.\/tenant\.mjs\.allow\[0\]: must be text, not 1/,
    /^selvedge\.yaml:3:9 \.\/tenant\.mjs\.allow\[2\]: must be text, not nothing$/,
    /^selvedge\.yaml:4:9 metrcs: .*\(did you mean "metrics"\?\)$/,
  ]);
  t.equal(messages.length, 6);
  t.strictSame(
    loaded.map((plugin) => plugin?.name),
    [undefined, 'body-limit', undefined, undefined],
  );
});

t.test('a plugin without a schema takes no options, unless it is nobody of ours', async (t) => {
  const path = file(
    'plain.mjs',
    `import { definePlugin } from ${JSON.stringify(contract)}; export default definePlugin({ name: 'plain' }, async () => {});`,
  );
  t.match(await problemOf(path, { a: 1 }), /plugin "\.\/plain\.mjs" takes no options/);
  t.equal(await problemOf(path), '');
});

t.test('a check of options that throws, or a schema that is none, is a problem and no crash', async (t) => {
  const module = (description: string) =>
    `import { definePlugin, Type } from ${JSON.stringify(contract)}; export default definePlugin(${description}, async () => {});`;
  t.match(
    await problemOf(
      file('check.mjs', module("{ name: 'c', options: Type.Object({}), check() { throw new Error('broken check') } }")),
    ),
    /failed to check its options: broken check/,
  );
  t.match(
    await problemOf(file('schema.mjs', module("{ name: 's', options: { type: 'nonsense' } }"))),
    /failed to check its options: /,
  );
});

t.test('unknown keys are refused at every depth, but not where a schema allows more or joins several', async (t) => {
  const options = Type.Object({
    deep: Type.Optional(Type.Array(Type.Object({ a: Type.Optional(Type.String()) }))),
    open: Type.Optional(Type.Object({}, { additionalProperties: true })),
    both: Type.Optional(Type.Intersect([Type.Object({ a: Type.String() }), Type.Object({ b: Type.String() })])),
    map: Type.Optional(Type.Record(Type.String(), Type.String())),
  });
  const own = new Map([['own', async () => ({ default: definePlugin({ name: 'own', options }, async () => {}) })]]);
  const check = async (written: Record<string, unknown>) =>
    (await loadPlugins([use('own', written)], own)).problems.map(({ path, message }) => `${path}: ${message}`);
  t.strictSame(await check({ deep: [{ a: 'x' }], open: { any: 1 }, both: { a: '1', b: '2' }, map: { any: 'x' } }), []);
  t.strictSame(await check({ deep: [{ zzz: 'x' }] }), ['own.deep[0].zzz: unknown key "zzz"']);
  t.strictSame(await check(JSON.parse('{"__proto__":{"a":1}}')), ['own.__proto__: unknown key "__proto__"']);
});

t.test('options that are functions or class instances reach the plugin as they are', async (t) => {
  const at = new Date();
  const key = () => 'x';
  const path = file(
    'any.mjs',
    'const plugin = async () => {}; plugin[Symbol.for("skip-override")] = true; export default plugin;',
  );
  const { loaded } = await load(use(path, { key, nested: [{ at }] }));
  const options = loaded[0]?.options as { key: unknown; nested: { at: unknown }[] };
  t.equal(options.key, key);
  t.equal(options.nested[0].at, at);
});

t.test('the identity headers that a plugin vouches for come with it', async (t) => {
  const options = Type.Object({ header: Type.String() });
  const plugin = definePlugin({ name: 'own', options, identityHeaders: ({ header }) => [header] }, async () => {});
  t.equal(plugin[DESCRIPTION].name, 'own');
  const own = new Map([['own', async () => ({ default: plugin })]]);
  const one = use('own', { header: 'X-User' });
  t.strictSame((await loadPlugins([one], own)).loaded.get(one)?.identityHeaders, ['x-user']);
});

t.test('checkPlugins holds the services and subsets that options name against the config', async (t) => {
  const routing = (to: Record<string, string>): PluginUse => use('header-routing', { rules: [{ header: 'x', to }] });
  const at = { file: 'selvedge.yaml', line: 1, column: 1 };
  const config = (gateway: PluginUse[], route: PluginUse[], service: PluginUse[] = []) =>
    ({
      gateways: [{ name: 'public', plugins: gateway, listeners: [] }],
      services: [
        { name: 'orders', subsets: { v1: {}, v2: {} }, plugins: service },
        { name: 'web', subsets: {}, plugins: [] },
      ],
      routes: [
        {
          name: 'r',
          plugins: [...route, { off: 'cors', at }],
          action: { kind: 'forward', backends: [backend('orders')] },
        },
      ],
    }) as unknown as Config;
  const check = async (...lists: Parameters<typeof config>) =>
    (await checkPlugins(config(...lists), builtins)).map(formatProblem);

  t.strictSame(
    await check(
      [routing({ service: 'orders', subset: 'v2' })],
      [routing({ subset: 'v2' })],
      [routing({ subset: 'v1' })],
    ),
    [],
  );
  t.match(await check([routing({ service: 'ordrs' })], []), [
    /rules\[0\]\.to: no service "ordrs" \(did you mean "orders"\?\)$/,
  ]);
  t.match(await check([], [routing({ service: 'web', subset: 'v2' })]), [
    /rules\[0\]\.to: service "web" has no subset "v2"$/,
  ]);
  t.match(await check([], [routing({ subset: 'v3' })]), [
    /rules\[0\]\.to: service "orders" has no subset "v3" \(did you mean "v[12]"\?\)$/,
  ]);
  t.match(await check([routing({ subset: 'v3' })], []), [/rules\[0\]\.to: no service has a subset "v3"$/]);
  t.strictSame(await check([routing({ subset: 'v2' })], []), []);
  t.match(await check([use('nope')], [use('body-limit', { max: 'x' })], [use('metrics', { maxSeries: 0 })]), [
    /nope/,
    /metrics\.maxSeries/,
    /body-limit\.max/,
  ]);
});
