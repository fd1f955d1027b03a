// What is published, used as a stranger would: unpacked into an empty project, from JavaScript, from TypeScript and from the shell.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';

/** The test runner hooks itself into every Node below it by NODE_OPTIONS, whatever `env` a spawn is given: `env -u` takes that out. */
const unhooked = (file: string, args: readonly string[]): [string, string[]] => [
  'env',
  ['-u', 'NODE_OPTIONS', file, ...args],
];

const exec = promisify(execFile);
const run = (file: string, args: readonly string[], options: { readonly cwd?: string } = {}) =>
  exec(...unhooked(file, args), options);
const root = join(import.meta.dirname, '../..');
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** The machine's own Node, which npm scripts do not use: as a rule an older one. */
const systemNode = (process.env.PATH ?? '')
  .split(delimiter)
  .filter((folder) => !folder.includes('node_modules'))
  .map((folder) => join(folder, 'node'))
  .find(existsSync);
const nodes = new Set([process.execPath, systemNode ?? process.execPath]);

/** A folder outside of this checkout, whose node_modules must not be in reach. */
function temporary(t: Test, files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'selvedge-test-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

/** An empty project with the packed package and its declared dependencies, and nothing else, in reach. */
async function emptyProject(t: Test): Promise<{ project: string; files: string[] }> {
  const folder = temporary(t, { 'project/package.json': '{ "type": "module", "private": true }' });
  const { stdout } = await run('npm', ['pack', '--json', '--silent', '--pack-destination', folder], { cwd: root });
  const report = JSON.parse(stdout.slice(stdout.indexOf('['))) as [{ filename: string; files: { path: string }[] }];
  const project = join(folder, 'project');
  const modules = join(project, 'node_modules');
  mkdirSync(join(modules, 'selvedge'), { recursive: true });
  await run('tar', ['-xzf', join(folder, report[0].filename), '-C', join(modules, 'selvedge'), '--strip-components=1']);
  const names = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });
  for (const name of names.filter((name) => existsSync(join(root, 'node_modules', name)))) {
    mkdirSync(dirname(join(modules, name)), { recursive: true });
    symlinkSync(join(root, 'node_modules', name), join(modules, name), 'dir');
  }
  return { project, files: report[0].files.map(({ path }) => path) };
}

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
      'selvedge.schema.json',
      'LICENSE',
      'README.md',
    ]) {
      t.ok(files.includes(needed), needed);
    }
    const stray = files.filter(
      (file) =>
        !/^(?:dist\/.*\.(?:d\.ts|js|json|html|css|svg)|bin\/selvedge\.js|[^/]+\.(?:md|json)|LICENSE)$/.test(file),
    );
    t.strictSame(stray, []);
  });

  await t.test('runs nothing while it is installed', async (t) => {
    const scripts = Object.keys(JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')).scripts);
    t.strictSame(
      scripts.filter((name) => /^(?:pre|post)?(?:install|prepare)$/.test(name)),
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
});

t.test('the launcher on a Node that cannot load TypeScript', async (t) => {
  const folder = temporary(t, {
    'without-execve.cjs': 'delete process.execve;',
    'plugin.ts': `import { definePlugin, Type } from 'selvedge/plugin';
      export default definePlugin({ name: 'old', options: Type.Object({}) }, async (app) => {
        app.addHook('onSend', async (request, reply) => { reply.header('x-plugin', request.selvedge.owner as string); });
      });`,
    'config.yaml': `version: 1
admin: false
telemetry: { accessLog: false }
drain: { grace: 0s, timeout: 1s }
gateways: { public: { listeners: [{ name: http, host: 127.0.0.1, port: "\${PORT}" }] } }
services: { slow: { endpoints: ["127.0.0.1:\${SLOW:-9}"] } }
routes:
  - { name: all, plugins: [./plugin.ts], respond: { body: hello } }
  - { name: slow, match: [{ path: /slow }], to: slow }
`,
  });
  const bin = join(root, manifest.bin.selvedge);
  const old = ['--no-experimental-strip-types'];
  const start = (flags: readonly string[], port: number) =>
    spawn(...unhooked(process.execPath, [...old, ...flags, bin, 'run', '-c', join(folder, 'config.yaml')]), {
      stdio: ['ignore', 'ignore', 'inherit'],
      cwd: tmpdir(),
      env: { ...process.env, PORT: String(port) },
    });

  const flavours = [
    { name: 'replaces itself by the Node that came along', flags: [] },
    {
      name: 'starts the Node that came along and passes signals on',
      flags: ['--require', join(folder, 'without-execve.cjs')],
    },
  ];
  for (const { name, flags } of flavours) {
    await t.test(name, async (t) => {
      const port = await freePort();
      const child = start(flags, port);
      const exit = once(child, 'exit');
      t.teardown(() => child.kill('SIGKILL'));
      const response = await answering(`http://127.0.0.1:${port}/`, child);
      t.equal(await response.text(), 'hello');
      t.equal(response.headers.get('x-plugin'), 'public', 'a TypeScript plugin outside of any package was loaded');
      child.kill('SIGINT');
      t.strictSame(await exit, [0, null]);
      await t.rejects(fetch(`http://127.0.0.1:${port}/`), 'nothing is left behind');
    });
  }

  await t.test('takes a Ctrl-C that npm and the terminal both deliver for one', async (t) => {
    const port = await freePort();
    const env = { ...process.env, PORT: String(port), npm_lifecycle_event: 'start' };
    // A request that is never answered keeps the drain busy, so that a second signal would find it under way.
    const silent = createServer(() => {}).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    t.teardown(() => silent.close());
    const slow = (silent.address() as AddressInfo).port;
    const child = spawn(...unhooked(process.execPath, [bin, 'run', '-c', join(folder, 'config.yaml')]), {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...env, SLOW: String(slow) },
    });
    t.teardown(() => child.kill('SIGKILL'));
    await answering(`http://127.0.0.1:${port}/`, child);
    const arrived = once(silent, 'connection');
    const unanswered = fetch(`http://127.0.0.1:${port}/slow`).catch(() => null);
    await arrived;
    child.stdout.resume();
    const exit = once(child, 'exit');
    child.kill('SIGINT');
    // Sent in the same instant the two would be one to the kernel already.
    await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill('SIGINT');
    t.strictSame(await exit, [0, null]);
    await unanswered;
  });

  await t.test('ends when the shell of npx ends', async (t) => {
    const port = await freePort();
    const env = { ...process.env, PORT: String(port), npm_command: 'exec' };
    const script = '"$0" "$@"; true';
    const args = ['-c', script, process.execPath, bin, 'run', '-c', join(folder, 'config.yaml')];
    const shell = spawn(...unhooked('sh', args), { stdio: ['ignore', 'pipe', 'ignore'], env });
    t.teardown(() => shell.kill('SIGKILL'));
    await answering(`http://127.0.0.1:${port}/`, shell);
    // The pipe closes when the last process that holds it has ended: the shell's child, not the shell.
    const ended = once(shell.stdout.resume(), 'close');
    shell.kill('SIGKILL');
    await ended;
    await t.rejects(fetch(`http://127.0.0.1:${port}/`));
  });

  await t.test('passes the exit code on', async (t) => {
    const args = [...old, '--require', join(folder, 'without-execve.cjs'), bin, 'no-such-command'];
    const child = spawn(...unhooked(process.execPath, args), { stdio: 'ignore' });
    t.strictSame(await once(child, 'exit'), [2, null]);
  });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** The first response; a process that starts refuses until it listens. Rejects when the process ends instead. */
async function answering(url: string, process: ChildProcess): Promise<Response> {
  for (;;) {
    try {
      return await fetch(url);
    } catch {
      if (process.exitCode !== null) throw new Error(`the process ended with ${process.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
