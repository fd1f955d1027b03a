// What is published, used as a stranger would: unpacked into an empty project, from JavaScript, from TypeScript and from the shell.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, globSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { freePort } from '../e2e/support/ports.ts';
import { answering, emptyProject, manifest, nodes, root, run, temporary, unhooked } from './support/package.ts';

const PROGRAM = `import { createSelvedge, defineConfig, type Selvedge, SelvedgeError } from 'selvedge';
import { definePlugin, Type } from 'selvedge/plugin';

export const plugin = definePlugin(
  { name: 'greeting', options: Type.Object({ word: Type.String() }) },
  async (app, { word }) => {
    app.addHook('onRequest', async (request, reply) => {
      if (request.selvedge.role !== 'gateway') throw new SelvedgeError('SLV_FORBIDDEN', app.chain.owner);
      reply.header('x-greeting', word.toUpperCase());
    });
    app.upstream.intercept('perRequest', (dispatch) => (options, handler) => dispatch(options, handler));
  },
);

const config = defineConfig({
  version: 1,
  admin: false,
  telemetry: { accessLog: false },
  gateways: { public: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] } },
  routes: [{ name: 'hello', respond: { body: 'hello from the package' } }],
});
const selvedge: Selvedge = await createSelvedge({ config, logger: false });
await selvedge.start();
const { port } = selvedge.addresses()['gateway/public/http'];
const response = await fetch(\`http://127.0.0.1:\${port}/\`);
console.log(response.status, await response.text(), typeof plugin);
await selvedge.close();
`;

/** Mixes what the package lends with the project's own copies of what is inside of it. */
const PLUGIN = `import fastifyPlugin from 'fastify-plugin';
import { Counter } from 'prom-client';
import { SelvedgeError as FromIndex } from 'selvedge';
import { definePlugin, Gauge, SelvedgeError, Type } from 'selvedge/plugin';
import { Type as OwnType } from 'typebox';

const inner = fastifyPlugin(async (app) => {
  new Counter({ name: 'guard_own_total', help: 'own', registers: [app.metrics] }).inc();
  new Gauge({ name: 'guard_lent', help: 'lent', registers: [app.metrics] }).set(1);
  app.addHook('onRequest', async (request, reply) => { reply.header('x-same', String(FromIndex === SelvedgeError)); });
});
export default definePlugin(
  { name: 'guard', options: Type.Object({ allow: OwnType.Array(OwnType.String(), { minItems: 1 }) }) },
  async (app, { allow }) => {
    await app.register(inner);
    app.addHook('onRequest', async (request) => {
      if (!allow.includes(request.headers['x-name'])) throw new SelvedgeError('SLV_FORBIDDEN', 'not on the list');
    });
  },
);
`;

const CONFIG = `version: 1
admin: { port: "\${ADMIN_PORT:-8}" }
telemetry: { accessLog: false }
drain: { grace: 0s, timeout: 1s }
gateways: { public: { listeners: [{ name: http, host: 127.0.0.1, port: "\${PORT:-9}" }] } }
services: { web: { endpoints: ["127.0.0.1:\${UPSTREAM:-9}"], subsets: { blue: { color: blue } } } }
routes:
  - name: guarded
    match: [{ path: /guarded }]
    plugins: [./guard.js: { allow: [ann] }]
    respond: { body: hello }
  - name: every-built-in
    plugins:
      - request-id
      - access-log
      - metrics
      - body-limit: { max: 1MiB }
      - request-headers: { set: { x-a: "1" } }
      - response-headers: { set: { x-b: "2" } }
      - header-routing: { rules: [{ header: x-color, value: { regex: "b.*" }, to: { subset: blue } }] }
    to: web
`;

/** Fastify compiles the schemas of routes; none of Selvedge's own has one. */
const WITH_SCHEMA = `import { createSelvedge } from 'selvedge';

const config = {
  version: 1,
  admin: false,
  telemetry: { accessLog: false },
  gateways: { public: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] } },
  routes: [{ name: 'all', plugins: [{ './own-route.js': {} }], respond: { body: 'hello' } }],
};
const selvedge = await createSelvedge({ config, logger: false });
await selvedge.start();
const { port } = selvedge.addresses()['gateway/public/http'];
const response = await fetch(\`http://127.0.0.1:\${port}/\`);
console.log(response.status, await response.text());
await selvedge.close();
`;
const OWN_ROUTE = `import { definePlugin } from 'selvedge/plugin';

const properties = { id: { type: 'integer' } };
const schema = {
  querystring: { type: 'object', properties, required: ['id'] },
  response: { 200: { type: 'object', properties } },
};
export default definePlugin({ name: 'own-route' }, async (app) => {
  app.get('/own', { schema }, async (request) => ({ id: request.query.id, unsaid: true }));
});
`;

/** One for each validator that the package reads only when it is needed. */
const MISTAKES = `version: 1
gateways: { public: { listeners: [{ name: http, port: 70000 }] } }
routes:
  - name: r
    match: [{ path: { regex: "/a(?=b)" } }, { path: { regex: "/a(b" } }]
    plugins: [./guard.js: { allow: [] }, body-limit: { max: huge }, access-log: { sample: 2, fields: { a: 1 } }, cors: { origin: x }]
    respond: { body: hello, status: 1000 }
`;

t.test('the published package', async (t) => {
  const { project, files } = await emptyProject(t);
  const home = join(project, 'node_modules/selvedge');
  const bin = join(home, manifest.bin.selvedge);

  await t.test('holds compiled JavaScript, declarations and the schema, and no sources or tests', async (t) => {
    for (const needed of [
      'dist/index.js',
      'dist/index.d.ts',
      'dist/plugin.d.ts',
      'dist/main.js',
      'dist/THIRD-PARTY-LICENSES',
      'selvedge.schema.json',
      'LICENSE',
      'README.md',
    ]) {
      t.ok(files.includes(needed), needed);
    }
    const stray = files.filter(
      (file) =>
        !/^(?:dist\/.*\.(?:d\.ts|c?js)|dist\/THIRD-PARTY-LICENSES|bin\/[^/]+\.js|[^/]+\.(?:md|json)|LICENSE)$/.test(
          file,
        ),
    );
    t.strictSame(stray, []);
  });

  await t.test('runs nothing while it is installed, and has nothing that npm would ask about', async (t) => {
    const scripts = Object.keys(JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')).scripts);
    t.strictSame(
      scripts.filter((name) => /^(?:(?:pre|post)?install|prepare)$/.test(name)),
      [],
    );
  });

  await t.test('names no source file in its declarations', async (t) => {
    const declarations = globSync('dist/**/*.d.ts', { cwd: home });
    t.ok(declarations.length > 0);
    const wrong = declarations.filter((file) =>
      /['"]\.[^'"]*(?<!\.d)\.ts['"]/.test(readFileSync(join(home, file), 'utf8')),
    );
    t.strictSame(wrong, []);
  });

  const compiled = join(project, 'out/program.js');
  writeFileSync(join(project, 'program.ts'), PROGRAM);
  for (const [module, resolution] of [
    ['nodenext', 'nodenext'],
    ['esnext', 'bundler'],
  ]) {
    await t.test(`type-checks in a strict project with ${resolution} resolution`, async (t) => {
      const compilerOptions = {
        module,
        moduleResolution: resolution,
        target: 'es2022',
        strict: true,
        skipLibCheck: false,
        outDir: 'out',
      };
      writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['program.ts'] }));
      const tsc = join(root, 'node_modules/typescript/bin/tsc');
      const result = await run(process.execPath, [tsc, '-p', '.'], { cwd: project }).catch((error) => error);
      t.equal(result.stdout, '');
      t.ok(existsSync(compiled));
    });
  }

  for (const node of nodes) {
    const { stdout: version } = await run(node, ['--version']);
    await t.test(`serves as a library and as a command on Node ${version.trim()}`, async (t) => {
      const library = await run(node, [compiled], { cwd: project });
      t.equal(library.stdout, '200 hello from the package function\n');
      const command = await run(node, [bin, '--version'], { cwd: project });
      t.match(command.stdout, manifest.version);
    });
  }

  writeFileSync(join(project, 'guard.js'), PLUGIN);
  writeFileSync(join(project, 'selvedge.yaml'), CONFIG);
  for (const node of nodes) {
    const { stdout: version } = await run(node, ['--version']);
    await t.test(`runs a config with plugins of the project on Node ${version.trim()}`, async (t) => {
      const [port, adminPort, upstream] = [await freePort(), await freePort(), await freePort()];
      const env = { ...process.env, PORT: `${port}`, ADMIN_PORT: `${adminPort}`, UPSTREAM: `${upstream}` };
      const child = spawn(...unhooked(node, [bin, 'run']), {
        cwd: project,
        env,
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      t.teardown(() => child.kill('SIGKILL'));
      const refused = await answering(`http://127.0.0.1:${port}/guarded`, child);
      t.equal(refused.status, 403, 'an error that the plugin made is known for what it is');
      t.match(await refused.json(), { code: 'SLV_FORBIDDEN' });
      t.equal(refused.headers.get('x-same'), 'true', 'selvedge and selvedge/plugin are one copy');
      const passed = await fetch(`http://127.0.0.1:${port}/guarded`, { headers: { 'x-name': 'ann' } });
      t.equal(await passed.text(), 'hello');
      const unreachable = await fetch(`http://127.0.0.1:${port}/`, { headers: { 'x-color': 'blue' } });
      t.equal(unreachable.status, 503, 'every built-in plugin was found, and the service is down');
      t.equal(unreachable.headers.get('x-b'), '2');
      const metrics = await (await fetch(`http://127.0.0.1:${adminPort}/metrics`)).text();
      for (const name of ['guard_own_total 1', 'guard_lent 1', 'selvedge_requests_total{'])
        t.ok(metrics.includes(name), name);
      const exit = once(child, 'exit');
      child.kill('SIGINT');
      t.strictSame(await exit, [0, null]);
    });
  }

  await t.test('says what is wrong with a config', async (t) => {
    t.match(
      (await run(process.execPath, [bin, 'check'], { cwd: project })).stdout,
      'good: 1 gateway, 1 service, 2 routes',
    );
    const wrong = CONFIG.replace('allow: [ann]', 'allow: []').replace('to: web', 'too: web').replace('b.*', 'b(');
    writeFileSync(join(project, 'wrong.yaml'), wrong);
    const { code, stderr } = await run(process.execPath, [bin, 'check', '-c', 'wrong.yaml'], { cwd: project }).then(
      () => ({ code: 0, stderr: '' }),
      (error) => error,
    );
    t.equal(code, 1);
    t.match(stderr, /^wrong\.yaml:\d+:\d+ .*unknown key "too" \(did you mean "to"\?\)$/m);
  });

  await t.test('says of every mistake the very words that the sources say', async (t) => {
    writeFileSync(join(project, 'mistakes.yaml'), MISTAKES);
    const words = ['check', '-c', join(project, 'mistakes.yaml')];
    const said = async (command: readonly string[]): Promise<string> => {
      const { code, stdout, stderr } = await run(process.execPath, [...command, ...words], { cwd: project }).then(
        () => ({ code: 0, stdout: '', stderr: '' }),
        (error) => error,
      );
      t.equal(code, 1);
      return stdout + stderr;
    };
    const [built, sources] = await Promise.all([said([bin]), said([join(root, 'src/main.ts')])]);
    t.equal(built, sources);
    for (const path of [
      'routes[0].match[0].path.regex',
      'routes[0].plugins[0]',
      'routes[0].plugins[1].max',
      'gateways.public',
    ])
      t.ok(built.includes(path), path);
  });

  await t.test('compiles what schemas a plugin brings along', async (t) => {
    writeFileSync(join(project, 'own-route.js'), OWN_ROUTE);
    writeFileSync(join(project, 'schema.js'), WITH_SCHEMA);
    const result = await run(process.execPath, ['schema.js'], { cwd: project });
    t.equal(result.stdout, '200 hello\n');
  });

  await t.test('has every package that it uses inside, with its licence', async (t) => {
    const folder = temporary(t, { 'selvedge.yaml': CONFIG.replace(/plugins: \[\.\/guard.*/, 'plugins: []') });
    cpSync(home, join(folder, 'selvedge'), { recursive: true });
    const alone = join(folder, 'selvedge', manifest.bin.selvedge);
    for (const args of [
      ['check'],
      ['print'],
      ['explain', 'GET', 'http://127.0.0.1/'],
      ['schema'],
      ['init', 'new.yaml'],
    ]) {
      const result = await run(process.execPath, [alone, ...args], { cwd: folder });
      t.ok(result.stdout.length > 0, args[0]);
    }
    const licences = readFileSync(join(home, 'dist/THIRD-PARTY-LICENSES'), 'utf8');
    for (const name of Object.keys(manifest.dependencies).filter((name) => !name.startsWith('@types/'))) {
      t.match(licences, new RegExp(`^${name} \\d`, 'm'), name);
    }
  });
});
