// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references as configs write them.
// From files and objects to a config, or to everything that is wrong with it.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { defineConfig } from '../../src/config/define.ts';
import { findConfig, type LoadOptions, type LoadResult, loadConfig, resolveConfig } from '../../src/config/load.ts';
import { formatProblem } from '../../src/config/problem.ts';
import { MAX_FILE } from '../../src/config/read-files.ts';
import { TestCa } from '../support/tls-fixture.ts';
import { BAD_INPUTS } from './bad-inputs.ts';

const GOOD = `version: 1
gateways: { public: { listeners: [{ name: http, port: 8080 }] } }
services: { orders: { endpoints: ["10.0.0.5:3000"] } }
routes: [{ name: orders, to: orders }]
`;

type Files = Readonly<Record<string, string | Buffer>>;

/** Loads `path` of a fresh folder with these files. */
async function load(
  t: Test,
  files: Files,
  path: string,
  options: LoadOptions = {},
): Promise<LoadResult & { lines: string[]; dir: string }> {
  const dir = t.testdir({});
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(dir, name, '..'), { recursive: true });
    writeFileSync(join(dir, name), content);
  }
  const result = await loadConfig(path, { env: {}, cwd: dir, ...options });
  return { ...result, dir, lines: result.problems.map(formatProblem) };
}

t.test('every mistake is reported at its place, with what to do', async (t) => {
  const dir = t.testdir({});
  for (const { name, text, lines } of BAD_INPUTS) {
    writeFileSync(join(dir, 'c.yaml'), text);
    const { config, problems } = await loadConfig('c.yaml', { env: { NAME: 'many' }, cwd: dir });
    t.strictSame(
      problems.map((problem) => formatProblem(problem).replaceAll('c.yaml', '~')),
      lines,
      name,
    );
    t.equal(
      config === null,
      problems.some(({ severity }) => severity === 'error'),
      `${name}: errors alone keep a config from running`,
    );
  }
  t.ok(BAD_INPUTS.length >= 60);
});

t.test('a whole config resolves to what its golden file says', async (t) => {
  const folder = join(import.meta.dirname, 'golden');
  const env = { EDGE_PORT: '8443', ZONE: 'eu-1a', SESSION_SECRET: '0123456789abcdef' };
  const { config, problems } = await loadConfig('whole.yaml', { cwd: folder, env });
  t.strictSame(problems.map(formatProblem), [
    'whole.yaml:36:21 warning: services.orders.authorization[0]: requests to orders.internal:3000 of service "orders" go past its hop, where nothing applies this policy',
  ]);
  const plain = (_: string, value: unknown): unknown => {
    if (value instanceof Set) return { set: [...value] };
    return value === Number.POSITIVE_INFINITY ? 'Infinity' : value;
  };
  const text = JSON.stringify(config, plain, 2).replaceAll(folder, '.');
  const golden = join(folder, 'whole.json');
  if (process.env.UPDATE_GOLDEN === '1') writeFileSync(golden, `${text}\n`);
  t.strictSame(JSON.parse(text), JSON.parse(readFileSync(golden, 'utf8')), 'UPDATE_GOLDEN=1 rewrites it');
});

t.test('connections of a TCP service may rest for an hour unless something else is said', async (t) => {
  const text = (service: string) =>
    GOOD.replace('services: {', `services: { db: { protocol: tcp, endpoints: ["a:1"]${service} },`);
  const idle = async (service: string) => {
    const { config } = await load(t, { 'c.yaml': text(service) }, 'c.yaml');
    return config?.services.map(({ name, connections }) => [name, connections.idleTimeoutMs]);
  };
  t.strictSame(await idle(''), [
    ['db', 3_600_000],
    ['orders', 60_000],
  ]);
  t.strictSame((await idle(', connections: { max: 3 }'))?.[0], ['db', 3_600_000]);
  t.strictSame((await idle(', connections: { idleTimeout: 0s }'))?.[0], ['db', 0]);
});

t.test('a config is frozen all the way down', async (t) => {
  const text = GOOD.replace('to: orders', 'to: orders, retry: { on: [reset] }, mirror: [{ service: other }]').replace(
    'services: {',
    'services: { other: { endpoints: ["a:1"] },',
  );
  const { config } = await load(t, { 'c.yaml': text }, 'c.yaml');
  const open: string[] = [];
  const visit = (value: unknown, path: string): void => {
    // A set cannot be frozen; its type is read-only.
    if (typeof value !== 'object' || value === null || value instanceof Set) return;
    if (!Object.isFrozen(value)) open.push(path);
    for (const [key, inner] of Object.entries(value)) visit(inner, `${path}.${key}`);
  };
  visit(config, 'config');
  t.strictSame(open, []);
  t.strictSame([...(config?.routes[0].retry?.conditions ?? [])], ['reset']);
});

t.test('JSON, YAML, TypeScript and an object say the same thing', async (t) => {
  const input = defineConfig({
    version: 1,
    gateways: { public: { listeners: [{ name: 'http', port: 8080 }] } },
    services: { orders: { endpoints: ['10.0.0.5:3000'] } },
    routes: [{ name: 'orders', to: 'orders' }],
  });
  const files = {
    'c.yaml': GOOD,
    'c.json': JSON.stringify({ $schema: './selvedge.schema.json', ...input }, null, '\t'),
    'c.ts': `const port: number = 8080;\nexport default { ...${JSON.stringify(input)}, gateways: { public: { listeners: [{ name: 'http', port }] } } };\n`,
    'c.mjs': `export default ${JSON.stringify(input)};\n`,
  };
  const withoutPlaces = (config: unknown): unknown =>
    // Where this process keeps its certificates starts from its working folder, which differs here.
    JSON.parse(JSON.stringify(config, (key, value) => (key === 'at' || key === 'dir' ? undefined : value)));
  const expected = withoutPlaces((await resolveConfig(input)).config);
  for (const name of Object.keys(files)) {
    const { config, lines } = await load(t, files, name);
    t.strictSame(lines, [], name);
    t.strictSame(withoutPlaces(config), expected, name);
  }
});

t.test('a mistake in JSON has its line and column, tabs included', async (t) => {
  const { lines } = await load(t, { 'c.json': '{\n\t"version": 1,\n\t"gatways": {}\n}' }, 'c.json');
  t.strictSame(lines, [
    'c.json:1:1 gateways: nothing to run: define a gateway here, or a hop by "internal" of a service',
    'c.json:3:2 gatways: unknown key "gatways" (did you mean "gateways"?)',
  ]);
});

t.test('an object is reported by path, under the name of who made it', async (t) => {
  const { problems, config } = await resolveConfig(
    {
      version: 1,
      gateways: { public: { listeners: [{ name: 'http', port: 80 }] } },
      routes: [{ name: 'a', to: 'nowhere' }],
    },
    { name: '(command line)' },
  );
  t.equal(config, null);
  t.strictSame(problems.map(formatProblem), ['(command line) routes[0].to: no service "nowhere"']);
  const cyclic: Record<string, unknown> = { version: 1 };
  cyclic.admin = cyclic;
  t.match((await resolveConfig(cyclic as never)).problems.map(formatProblem), ['(config) nested more than 64 deep']);
});

t.test('a module is read again after an edit, and says what is wrong with it', async (t) => {
  const module = (port: number): string =>
    `export default { version: 1, admin: { port: ${port} }, gateways: { a: { listeners: [{ name: 'a', port: 80 }] } } };`;
  const { dir, config } = await load(t, { 'c.mjs': module(1) }, 'c.mjs');
  t.equal(config?.admin?.port, 1);
  writeFileSync(join(dir, 'c.mjs'), module(2));
  t.equal((await loadConfig('c.mjs', { cwd: dir })).config?.admin?.port, 2);
  const cases: Files = {
    'none.mjs': 'export const config = {};',
    'throws.mjs': 'throw new TypeError("no such shop");',
    'imports.mjs': 'import "./nowhere.mjs"; export default {};',
    'function.mjs':
      'export default { version: 1, routes: () => [], gateways: { a: { listeners: [{ name: "a", port: 80 }] } } };',
  };
  const found: (string | undefined)[] = [];
  for (const name of Object.keys(cases)) found.push((await load(t, cases, name)).lines[0]?.replace(/'[^']*'/g, '…'));
  t.match(found, [
    'none.mjs has no default export: write "export default defineConfig({ … })"',
    'throws.mjs failed while it was read: TypeError: no such shop',
    /^imports\.mjs imports what does not exist: Cannot find module … imported from /,
    'function.mjs routes: must be a list, not a function',
  ]);
});

t.test('the files of a directory are one config', async (t) => {
  const files = {
    'config/a.yaml':
      'version: 1\ngateways: { public: { listeners: [{ name: http, port: 8080 }] } }\n---\nroutes: [{ name: one, to: orders }]\n',
    'config/b.yml':
      'version: 1\nservices: { orders: { endpoints: ["10.0.0.5:3000"] } }\ntelemetry: { accessLog: false }\n',
    'config/c.json':
      '{ "services": { "web": { "endpoints": ["10.0.0.6:3000"] } }, "telemetry": { "metrics": { "maxSeries": 500 } } }',
    'config/d.config.mjs': 'export default { routes: [{ name: "two", match: [{ path: "/web" }], to: "web" }] };',
    'config/.hidden.yaml': '][',
    'config/selvedge.schema.json': '{}',
    'config/plugin.ts': 'throw new Error("a plugin is no config");',
    'config/notes.txt': 'not read',
  };
  const { config, lines, files: read, dir } = await load(t, files, 'config');
  t.strictSame(lines, []);
  t.strictSame(
    config?.routes.map(({ name, at }) => `${name} ${at.file}:${at.line}`),
    ['one config/a.yaml:4', 'two config/d.config.mjs:0'],
  );
  t.strictSame(
    config?.services.map(({ name }) => name),
    ['orders', 'web'],
  );
  t.equal(config?.accessLog, null);
  t.equal(config?.metrics.maxSeries, 500);
  t.strictSame(
    read,
    ['config', 'config/a.yaml', 'config/b.yml', 'config/c.json', 'config/d.config.mjs'].map((name) => join(dir, name)),
  );
});

t.test('what two files define is an error that names both places', async (t) => {
  const files = {
    'config/a.yaml': `${GOOD}admin: { port: 1 }\n`,
    'config/b.yaml':
      'version: 1\nservices:\n  orders: { endpoints: ["10.0.0.6:3000"] }\nadmin: { port: 1 }\nroutes: [{ name: orders, to: orders, match: [{ path: /x }] }]\n',
  };
  const { lines } = await load(t, files, 'config');
  t.strictSame(lines, [
    'config/b.yaml:3:3 services.orders: service "orders" is defined twice, also at config/a.yaml:3:13',
    'config/b.yaml:4:1 admin: "admin" is defined twice, also at config/a.yaml:5:1',
    'config/b.yaml:5:18 routes[1].name: another route has the name "orders", at config/a.yaml:4:18',
  ]);
});

t.test('one broken file does not hide the mistakes of the others, nor make up new ones', async (t) => {
  const files = {
    'config/a.yaml':
      'version: 1\ngateways: { public: { listeners: [{ name: http, port: 8080 }] } }\nroutes: [{ name: a, to: orders, timeout: { request: soon } }]\n',
    'config/b.yaml': 'services: { orders: [\n',
    'config/c.yaml': 'apiVersion: v1\nkind: Service\n',
    'config/d.yaml': '# nothing yet\n',
    'config/e.yaml': Buffer.from([0x61, 0x3a, 0xff, 0xfe]),
  };
  const { config, lines } = await load(t, files, 'config');
  t.equal(config, null);
  t.strictSame(lines, [
    'config/a.yaml:3:53 routes[0].timeout.request: must be a duration such as 250ms, 10s or 5m (0s: none), not "soon"',
    'config/b.yaml:2:1 not valid YAML: flow sequence in block collection must be sufficiently indented and end with a ]',
    'config/c.yaml:1:1 Kubernetes documents (apiVersion, kind) are not supported by this version',
    'config/d.yaml warning: is empty',
    'config/e.yaml cannot be read: it is not UTF-8 text',
  ]);
});

t.test('what cannot be a config is refused, and still watched', async (t) => {
  const files: Files = {
    'big.yaml': `#${' '.repeat(MAX_FILE)}`,
    'notes.txt': 'hello',
    'empty/notes.txt': '',
    'bom.yaml': `\ufeff${GOOD}`,
  };
  const linesOf = async (path: string): Promise<readonly string[]> => (await load(t, files, path)).lines;
  t.strictSame(await linesOf('missing.yaml'), ['missing.yaml cannot be read: no such file']);
  t.strictSame(await linesOf('big.yaml'), ['big.yaml is larger than 8 MiB, more than a config may be']);
  t.strictSame(await linesOf('notes.txt'), [
    'notes.txt is no config: its name must end in .yaml, .yml, .json, .ts, .mts, .js or .mjs',
  ]);
  t.strictSame(await linesOf('empty'), [
    'empty holds no config: no .yaml, .yml, .json or .config.ts file lies in this directory',
  ]);
  t.strictSame(await linesOf('bom.yaml'), []);
  const { files: watched, dir } = await load(t, {}, 'missing.yaml');
  t.strictSame(watched, [join(dir, 'missing.yaml')]);
});

t.test('a mounted ConfigMap is a directory of symbolic links', async (t) => {
  const dir = t.testdir({ '..2026': { 'c.yaml': GOOD } });
  symlinkSync('..2026', join(dir, '..data'));
  symlinkSync('..data/c.yaml', join(dir, 'c.yaml'));
  const { config, problems } = await loadConfig(dir, { cwd: dir });
  t.strictSame(problems, []);
  t.equal(config?.routes.length, 1);
});

t.test('the config of a folder is selvedge.yaml, then selvedge.config.ts, then config/', async (t) => {
  const dir = t.testdir({ 'selvedge.yaml': '', 'selvedge.config.ts': '', config: {} });
  for (const name of ['selvedge.yaml', 'selvedge.config.ts', 'config']) {
    t.equal(findConfig(dir), join(dir, name));
    rmSync(join(dir, name), { recursive: true });
  }
  t.equal(findConfig(dir), null);
});

t.test('references fill numbers, booleans and parts of text; braces need no quotes', async (t) => {
  const text = `version: 1
admin: \${ADMIN}
gateways: { public: { listeners: [{ name: http, port: \${PORT} }], limits: { connections: \${MAX:-7}, bodyBytes: "\${SIZE}KiB" } } }
services:
  orders:
    endpoints: ["\${HOST:-10.0.0.5}:\${UPSTREAM:-3000}", { address: "a:1", weight: \${file:secrets/weight} }]
    tls: { verify: \${VERIFY}, serverName: "$\${literal}" }
routes: [{ name: orders, to: orders, requestHeaders: { set: { x-key: "\${file:secrets/key}" } } }]
`;
  const files = { 'deep/c.yaml': text, 'deep/secrets/weight': '3\n', 'deep/secrets/key': 'a ${PORT} b\r\n' };
  const env = { ADMIN: 'false', PORT: '8081', SIZE: '64', VERIFY: 'true', HOST: '', UPSTREAM: '4000' };
  const { config, lines, files: watched, dir } = await load(t, files, 'deep/c.yaml', { env });
  t.strictSame(lines, []);
  t.equal(config?.admin, null);
  t.equal(config?.gateways[0].listeners[0].port, 8081);
  t.equal(config?.gateways[0].listeners[0].limits.connections, 7);
  t.equal(config?.gateways[0].listeners[0].limits.bodyBytes, 65_536);
  t.strictSame(
    config?.services[0].endpoints.map(({ address, weight }) => [address, weight]),
    [
      ['10.0.0.5:4000', 1],
      ['a:1', 3],
    ],
  );
  t.equal(config?.services[0].tls?.serverName, '${literal}');
  t.equal(
    config?.routes[0].requestHeaders?.set['x-key'],
    'a ${PORT} b',
    'what a file holds is not looked at for references',
  );
  t.strictSame(
    watched,
    ['deep/c.yaml', 'deep/secrets/weight', 'deep/secrets/key'].map((name) => join(dir, name)),
  );
});

t.test('an escaped reference without its brace does not swallow the braces of YAML', async (t) => {
  const text = GOOD.replace('to: orders', () => 'to: orders, requestHeaders: { set: { x-a: "$${b" } }');
  const { config, lines } = await load(t, { 'c.yaml': text }, 'c.yaml');
  t.strictSame(lines, []);
  t.equal(config?.routes[0].requestHeaders?.set['x-a'], '${b');
  const own = await load(
    t,
    { 'c.yaml': GOOD.replace('name: orders', 'name: orders, hosts: ["${HOST}.\uf77b"]') },
    'c.yaml',
    { env: { HOST: 'a' } },
  );
  t.match(
    own.lines,
    [/hosts\[0\]: "a\.\uf77b" is not a host name/],
    'private-use characters of the file stay what they are',
  );
});

t.test('text is never made a number because of its look', async (t) => {
  const { lines } = await load(t, { 'c.yaml': GOOD.replace('port: 8080', 'port: "8080"') }, 'c.yaml');
  t.strictSame(lines, ['c.yaml:2:55 gateways.public.listeners[0].port: must be a whole number, not "8080"']);
});

t.test('anchors, merges and empty values work as YAML users expect', async (t) => {
  const text = `version: 1
gateways: { public: { listeners: [{ name: http, port: 8080 }] } }
services:
  orders: &base
    endpoints: ["10.0.0.5:3000"]
    connections: { max: 5, pending: }
    tls: { serverName: orders.example, cert: , key: , ca: }
  web:
    <<: *base
    tls:
routes:
  - { name: a, to: orders }
  - { name: b, to: web, match: [{ path: /b }], plugins: [cors:, { x: { keep: null } }] }
`;
  const { config, lines } = await load(t, { 'c.yaml': text }, 'c.yaml');
  t.strictSame(lines, []);
  const [orders, web] = config?.services ?? [];
  t.match(orders, { connections: { max: 5, pending: 1024 }, tls: { serverName: 'orders.example', cert: null } });
  t.match(web, { connections: { max: 5 }, tls: null });
  t.match(config?.routes[1].plugins, [
    { name: 'cors', options: {} },
    { name: 'x', options: { keep: null } },
  ]);
});

t.test('names that objects already have are names like any other', async (t) => {
  const text = GOOD.replace('orders: {', 'constructor: { subsets: { __proto__: {} },').replace(
    'to: orders',
    'to: { service: constructor, subset: __proto__ }',
  );
  const { config, lines } = await load(t, { 'c.yaml': text }, 'c.yaml');
  t.strictSame(lines.length, 1, lines.join());
  t.match(lines[0], /services\.constructor\.subsets\.__proto__: "__proto__" must be a name/);
  t.equal(config, null);
  const { config: good } = await load(t, { 'c.yaml': GOOD.replaceAll('orders', 'constructor') }, 'c.yaml');
  t.equal(good?.routes[0].action.kind === 'forward' && good.routes[0].action.backends[0].service, 'constructor');
});

t.test('hops: an inbound side serves the endpoints that name it', async (t) => {
  const hop = (endpoints: string, internal: string): Files => ({
    'c.yaml': `version: 1\nmesh: { mtls: off }\nservices:\n  orders:\n    endpoints: ${endpoints}\n    internal: ${internal}\n`,
  });
  const apps = async (endpoints: string, internal: string) => {
    const { config, lines } = await load(t, hop(endpoints, internal), 'c.yaml');
    return { apps: config?.services[0].internal?.apps, lines };
  };
  const local =
    '[{ address: "127.0.0.1:1", hop: "10.0.0.6:15001" }, { address: "127.0.0.1:2", hop: "10.0.0.6:15001" }, "10.0.0.9:3"]';
  t.strictSame(await apps(local, '{ inbound: { port: 15001 } }'), { apps: ['127.0.0.1:1', '127.0.0.1:2'], lines: [] });
  t.strictSame(await apps(local, '{ inbound: { port: 15001 }, app: "localhost:9" }'), {
    apps: ['localhost:9'],
    lines: [],
  });
  t.strictSame((await apps(local, '{ inbound: { host: 10.0.0.6, port: 15001 } }')).apps, [
    '127.0.0.1:1',
    '127.0.0.1:2',
  ]);
  t.match(await apps(local, '{ inbound: { host: 10.0.0.7, port: 15001 } }'), {
    apps: undefined,
    lines: [
      /warning: services.orders.endpoints\[0\].hop: the hop of "orders" does not listen here but at 10.0.0.7:15001/,
      /endpoints\[1\]/,
      /nothing stands behind this hop/,
    ],
  });
  t.match(
    await apps('[{ address: "a:1", hop: "h1:5" }, { address: "a:2", hop: "h2:5" }]', '{ inbound: { port: 5 } }'),
    {
      apps: ['a:1', 'a:2'],
      lines: [/warning: services.orders.internal: each hop of "orders" would send to all of a:1, a:2/],
    },
  );
  t.match(
    await apps(
      '[{ address: "a:1", hop: "h1:5" }]\n    tls:',
      '{ inbound: { port: 5 }, outbound: { port: 6, ports: { ordres: "127.0.0.1:7" } } }',
    ),
    {
      lines: [/services.orders.internal.outbound.ports.ordres: no service "ordres" \(did you mean "orders"\?\)/],
    },
  );
  const without = await load(
    t,
    { 'c.yaml': GOOD.replace('"10.0.0.5:3000"', '{ address: "a:1", hop: "b:2" }') },
    'c.yaml',
  );
  t.match(without.lines, [/warning: .*endpoints\[0\].hop: this service has no "internal"/]);
});

t.test('two hops may have the same ports on machines of their own, not on one', async (t) => {
  const mesh = (a: string, b: string): Files => ({
    'c.yaml': `version: 1
mesh: { mtls: off }
gateways: { public: { listeners: [{ name: http, host: 127.0.0.1, port: 15002 }] } }
services:
  a: { endpoints: [{ address: "127.0.0.1:1", hop: "${a}:15001" }], internal: { inbound: { port: 15001 }, outbound: { port: 15009 } } }
  b: { endpoints: [{ address: "127.0.0.1:2", hop: "${b}:15001" }], internal: { inbound: { port: 15001 }, outbound: { port: 15009 } } }
`,
  });
  t.strictSame((await load(t, mesh('a-hop', 'b-hop'), 'c.yaml')).lines, []);
  const together = await load(t, mesh('localhost', 'localhost'), 'c.yaml');
  t.strictSame(together.lines, [
    'c.yaml:6:102 services.b.internal.inbound.port: the inbound side of the hop of "b" and the inbound side of the hop of "a" both listen on 0.0.0.0:15001',
    'c.yaml:6:129 services.b.internal.outbound.port: the outbound side of the hop of "b" and the outbound side of the hop of "a" both listen on 127.0.0.1:15009',
  ]);
  const alone = await load(t, mesh('localhost', 'localhost'), 'c.yaml', {
    roles: { gateways: ['public'], internal: ['b'] },
  });
  t.strictSame(alone.lines, [], 'of roles that one process runs, only theirs can collide');
});

t.test('certificates are looked at before anything is served with them', async (t) => {
  const ca = new TestCa(t);
  const one = ca.issue({ name: 'one', altNames: ['DNS:one.test'] });
  const two = ca.issue({ name: 'two', altNames: ['DNS:two.test'] });
  const dir = ca.dir;
  writeFileSync(join(dir, 'junk.crt'), 'not a certificate');
  writeFileSync(join(dir, 'broken.crt'), '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
  execFileSync('openssl', ['ec', '-in', one.key, '-aes128', '-passout', 'pass:x', '-out', join(dir, 'locked.key')], {
    stdio: 'pipe',
  });
  execFileSync(
    'openssl',
    ['req', '-x509', '-key', one.key, '-subj', '/CN=long', '-days', '90', '-out', join(dir, 'long.crt')],
    { stdio: 'pipe' },
  );
  const messages = async (cert: string, key: string, options: LoadOptions = {}, more = '', tail = '') => {
    const text = GOOD.replace(
      'port: 8080',
      `port: 8443, tls: { certificates: [{ cert: "${cert}", key: "${key}" }]${more} }`,
    );
    writeFileSync(join(dir, 'c.yaml'), `${text}${tail}`);
    const { problems, files } = await loadConfig('c.yaml', { env: {}, cwd: dir, ...options });
    return {
      lines: problems.map(
        ({ severity, path, message }) =>
          `${severity} ${path.replace(/^.*certificates\[0\]\.|^.*tls\./, '')} ${message.replaceAll(`${dir}/`, '')}`,
      ),
      files,
    };
  };
  const day = 86_400_000;
  const soon = /^warning cert the certificate "leaf-1.crt" expires on \d{4}-\d\d-\d\d$/;
  t.strictSame((await messages('long.crt', one.key)).lines, []);
  t.match((await messages(one.cert, one.key)).lines, [soon]);
  t.match((await messages(one.cert, one.key, { clock: { now: () => Date.now() + 2 * day } })).lines, [
    /^error cert .* expired on/,
  ]);
  t.match((await messages(one.cert, one.key, { clock: { now: () => Date.now() - 2 * day } })).lines, [
    /^error cert .* is not valid before/,
  ]);
  t.match((await messages('long.crt', two.key)).lines, [
    'error key "leaf-2.key" is not the key of the certificate "long.crt"',
  ]);
  t.strictSame((await messages('missing.crt', 'missing.key')).lines, [
    'error cert "missing.crt" cannot be read: no such file',
    'error key "missing.key" cannot be read: no such file',
  ]);
  t.match((await messages('junk.crt', 'locked.key')).lines, [
    'error cert "junk.crt" holds no certificate in PEM form',
    'error key "locked.key" is encrypted: store the key without a passphrase',
  ]);
  t.match((await messages('broken.crt', 'junk.crt')).lines, [
    /^error cert "broken.crt" holds a broken certificate: /,
    /^error key "junk.crt" is not a private key in PEM form: /,
  ]);
  const gatewayPolicy =
    'authorization: [{ name: a, gateway: "*", deny: [{ from: ["gateway/*", "spiffe://partner.internal/*"] }] }]';
  const own = await messages('long.crt', one.key, {}, `, clientCertificate: { ca: "${ca.cert}" }`, gatewayPolicy);
  t.match(own.lines, [
    /^warning authorization\[0\]\.deny\[0\]\.from\[0\] the clients of a gateway cannot prove ids of the mesh, so this never holds$/,
  ]);
  const clients = await messages('long.crt', one.key, {}, ', clientCertificate: { ca: junk.crt }');
  t.match(clients.lines, ['error clientCertificate.ca "junk.crt" holds no certificate in PEM form']);
  t.strictSame(
    clients.files,
    ['c.yaml', 'long.crt', 'leaf-1.key', 'junk.crt'].map((name) => join(dir, name)),
    'all of them are watched',
  );
  const expired = await messages(
    'long.crt',
    one.key,
    { clock: { now: () => Date.now() + 2 * day } },
    `, clientCertificate: { ca: "${ca.cert}" }`,
  );
  t.match(expired.lines, [/^error clientCertificate\.ca every certificate in "ca.crt" has expired$/]);
});

t.test('every value knows where it came from', async (t) => {
  const text = GOOD.replace('port: 8080', 'port: ${PORT}').replace(
    'to: orders',
    'to: orders, plugins: [{ p: { token: "abc", url: "redis://u:pw@h:1/", key: clientAddress, joined: "x${JOIN_TOKEN}", from: "${file:secret}" } }]',
  );
  const { provenance, lines } = await load(t, { 'c.yaml': text, secret: 'hush' }, 'c.yaml', {
    env: { PORT: '80', JOIN_TOKEN: 'j' },
  });
  t.strictSame(lines, []);
  const effective = provenance?.effective() as {
    routes: { plugins: Record<string, unknown>[] }[];
    gateways: { public: { listeners: { port: number; host: string }[] } };
  };
  t.strictSame(
    { ...(effective.routes[0].plugins[0].p as object) },
    {
      token: '[redacted]',
      url: 'redis://u:[redacted]@h:1/',
      key: 'clientAddress',
      joined: '[redacted]',
      from: '[redacted]',
    },
  );
  t.equal(effective.gateways.public.listeners[0].port, 80);
  t.equal(effective.gateways.public.listeners[0].host, '0.0.0.0');
  t.notOk(JSON.stringify(effective).includes('hush'));
  const raw = provenance?.raw as { gateways: { public: { listeners: object[] } } };
  t.match(provenance?.of(raw.gateways.public.listeners[0], 'port'), {
    place: { file: 'c.yaml', line: 2, column: 55 },
    variables: ['PORT'],
    redacted: null,
  });
  t.match(provenance?.of(raw.gateways.public.listeners[0], 'host'), { place: null, variables: [] });
  t.match(provenance?.locate(['routes', 0, 'plugins', 0, 'p', 'key', 'deeper']), { line: 4 });
});

t.test('the secret of a session is never shown, wherever it was written', async (t) => {
  const secret = 'kept-to-ourselves-0123';
  const text = GOOD.replace('to: orders', `to: orders, session: { cookie: slv, secret: "${secret}" }`);
  const { config, provenance, lines } = await load(t, { 'c.yaml': text }, 'c.yaml');
  t.strictSame(lines, []);
  t.match(config?.routes[0].session, { secret });
  const effective = provenance?.effective() as { routes: { session: Record<string, unknown> }[] };
  t.strictSame(
    { ...effective.routes[0].session },
    { cookie: 'slv', secret: '[redacted]', sameSite: 'lax', secure: 'auto', httpOnly: true },
  );
  const short = await load(t, { 'c.yaml': text.replace(secret, 'much2short') }, 'c.yaml');
  t.match(short.lines, [/session\.secret: is too short/]);
  t.notMatch(short.lines.join(), /much2short/);
  const { provenance: named } = await load(
    t,
    { 'c.yaml': GOOD.replaceAll('orders', 'session').replace('endpoints', 'subsets: { secret: {} }, endpoints') },
    'c.yaml',
  );
  t.notMatch(JSON.stringify(named?.effective()), /redacted/, 'a service may be called "session"');
});

t.test('the join token of the mesh is never shown', async (t) => {
  const ca = new TestCa(t);
  const text = `${GOOD}mesh: { identity: { ca: { url: "https://ca.test", token: "kept-to-ourselves", trust: "${ca.cert}" } } }`;
  const { config, provenance, lines } = await load(t, { 'c.yaml': text }, 'c.yaml');
  t.strictSame(lines, []);
  t.match(config?.mesh.identity, { token: 'kept-to-ourselves' });
  t.match(provenance?.effective(), { mesh: { identity: { ca: { token: '[redacted]', url: 'https://ca.test' } } } });
});

t.test('a session by header has no defaults of cookies', async (t) => {
  const text = GOOD.replace('to: orders', 'to: orders, session: { header: X-User }');
  const { provenance, config } = await load(t, { 'c.yaml': text }, 'c.yaml');
  t.strictSame(config?.routes[0].session, { kind: 'header', name: 'x-user' });
  const effective = provenance?.effective() as { routes: { session: object }[] };
  t.strictSame({ ...effective.routes[0].session }, { header: 'X-User' });
});

t.test('mirror and fault become plugins after those that the route lists', async (t) => {
  const text = `version: 1
gateways: { public: { listeners: [{ name: http, port: 8080 }], plugins: [fault: { abort: { status: 500 } }] } }
services: { orders: { endpoints: ["a:1"] }, copy: { endpoints: ["b:1"], subsets: { v1: {} } } }
routes:
  - { name: one, to: orders, plugins: [cors], fault: { abort: { status: 503 } }, mirror: [{ service: copy, subset: v1 }] }
  - { name: two, to: orders, match: [{ path: /two }], fault: false }
  - { name: moved, match: [{ path: /moved }], redirect: { path: /two } }
`;
  const { config, lines } = await load(t, { 'c.yaml': text }, 'c.yaml');
  t.strictSame(lines, [], 'a service that only gets copies is used');
  const [one, two, moved] = config?.routes ?? [];
  t.match(one.plugins, [
    { name: 'cors' },
    {
      name: 'mirror',
      written: 'mirror',
      options: { to: [{ service: 'copy', subset: 'v1', share: '100%' }] },
      at: { line: 5, column: 90 },
    },
    {
      name: 'fault',
      written: 'fault',
      options: { abort: { status: 503, share: '100%' } },
      at: { line: 5, column: 54 },
    },
  ]);
  t.strictSame(two.plugins, [{ off: 'fault', at: two.plugins[0].at }], 'and switches off what the gateway has');
  t.strictSame(moved.plugins, []);
});

t.test('what is wrong with a mirror is left out of the chain, so that nobody reports it once more', async (t) => {
  const text = GOOD.replace('to: orders', 'to: orders, mirror: [{ service: ordrs }], fault: { delay: { time: 0s } }');
  const { understood, lines } = await load(t, { 'c.yaml': text }, 'c.yaml');
  t.equal(lines.length, 2, lines.join());
  t.strictSame(understood?.routes[0].plugins, []);
});

t.test('abort of a rollout is abortOn, at its place', async (t) => {
  const text = GOOD.replace('{ orders: {', '{ orders: { subsets: { v1: {}, v2: {} },').replace(
    'to: orders',
    'to: orders, rollout: { from: v1, to: v2, abort: { errorRate: 2% } }',
  );
  const { config, provenance, lines } = await load(t, { 'c.yaml': text }, 'c.yaml');
  t.strictSame(lines, []);
  t.match(config?.routes[0].rollout, {
    service: 'orders',
    steps: [0.05, 0.25, 0.5, 1],
    everyMs: 120_000,
    abortOn: { errorRate: 0.02, p99Ms: null, minRequests: 50 },
  });
  const effective = provenance?.effective() as { routes: { rollout: Record<string, unknown> }[] };
  t.strictSame(Object.keys(effective.routes[0].rollout).sort(), ['abortOn', 'every', 'from', 'steps', 'to']);
  t.match(provenance?.locate(['routes', 0, 'rollout', 'abortOn', 'errorRate']), { line: 4, column: 87 });
});

t.test('false turns off what is there without being asked for', async (t) => {
  const text = GOOD.replace('"]', '"], outlierDetection: false, healthCheck: false').replace(
    'to: orders',
    'to: orders, retry: false, hedge: false',
  );
  const { config, lines } = await load(t, { 'c.yaml': text }, 'c.yaml');
  t.strictSame(lines, []);
  t.match(config?.services[0], { outlierDetection: null, healthCheck: null });
  t.match(config?.routes[0], { retry: { attempts: 0 }, hedge: false });
  const { config: silent } = await load(t, { 'c.yaml': GOOD }, 'c.yaml');
  t.match(silent?.services[0], { outlierDetection: { consecutive5xx: 5 }, healthCheck: null });
  t.match(silent?.routes[0], { retry: null, hedge: null }, 'not given is not the same as none');
});

t.test('hashes of credentials are never shown; a plugin that is switched off is', async (t) => {
  const plugins =
    '[{ api-key: { keys: ["mobile kept1"], header: x-key } }, { basic-auth: { users: ["alice:kept2"] } }]';
  const text = GOOD.replace('port: 8080 }]', `port: 8080 }], plugins: ${plugins}`).replace(
    'to: orders',
    'to: orders, plugins: [{ api-key: false }]',
  );
  const { provenance, lines } = await load(t, { 'c.yaml': text }, 'c.yaml');
  t.strictSame(lines, []);
  const keys = { properties: { keys: { writeOnly: true } } };
  const users = { properties: { users: { writeOnly: true } } };
  provenance?.hide((name) => (name === 'api-key' ? keys : users));
  const shown = JSON.stringify(provenance?.effective());
  t.notMatch(shown, /kept/);
  t.match(shown, '{"api-key":{"keys":["[redacted]"],"header":"x-key"}}');
  t.match(shown, '{"basic-auth":{"users":["[redacted]"]}}');
  t.match(shown, '{"api-key":false}');
});
