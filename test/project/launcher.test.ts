// `bin/selvedge.js`: which Node runs, what signals reach it, how it ends.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import t from 'tap';
import { freePort } from '../e2e/support/ports.ts';
import { answering, manifest, root, temporary, unhooked } from './support/package.ts';

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
    'hop.yaml': `version: 1
admin: false
drain: { grace: 0s, timeout: 1s }
mesh: { mtls: "off" }
services:
  app:
    endpoints: ["127.0.0.1:9"]
    internal: { inbound: { host: 127.0.0.1, port: "\${PORT}" }, outbound: { host: 127.0.0.1, port: 0 }, app: "127.0.0.1:9" }
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

  const skip = existsSync('/proc/self/environ') ? false : 'only Linux shows what a process was started with';
  await t.test(
    'starts what serves with settings that spare memory, but leaves what the user has set',
    { skip },
    async (t) => {
      const started = async (config: string, ...roles: string[]) => {
        const port = await freePort();
        const own = ['--trace-uncaught', ...(roles.length === 0 ? [] : ['--max-semi-space-size=8'])];
        const words = [...own, bin, 'run', '-c', join(folder, config), ...roles];
        const child = spawn(...unhooked(process.execPath, words), {
          stdio: ['ignore', 'ignore', 'inherit'],
          env: { ...process.env, PORT: String(port), MALLOC_ARENA_MAX: '4' },
        });
        t.teardown(() => child.kill('SIGKILL'));
        await answering(`http://127.0.0.1:${port}/`, child);
        const read = (file: string) => readFileSync(`/proc/${child.pid}/${file}`, 'utf8').split('\0');
        const cmdline = read('cmdline');
        const environ = Object.fromEntries(read('environ').map((word) => word.split('=')));
        return { child, own, flags: cmdline.slice(1, cmdline.indexOf(bin)), environ };
      };
      const { child, own, flags, environ } = await started('config.yaml');
      t.same(flags, own, 'a gateway gets its memory back, and keeps the young generation of its engine');
      t.match(environ, {
        MALLOC_ARENA_MAX: '4',
        MALLOC_MMAP_THRESHOLD_: '8192',
        SELVEDGE_MALLOC: /^MALLOC_MMAP_THRESHOLD_ /,
      });
      const hop = await started('hop.yaml', '--internal', 'app');
      t.same(
        hop.flags,
        [...hop.own, '--v8-pool-size=1', '--expose-gc'],
        'a hop has a small one, unless the user wants another',
      );
      const exit = once(child, 'exit');
      child.kill('SIGTERM');
      t.strictSame(await exit, [0, null]);
    },
  );

  await t.test('a hop collects what its start left, once it is quiet', async (t) => {
    const words = ['--trace-gc', bin, 'run', '-c', join(folder, 'hop.yaml'), '--internal', 'app'];
    const child = spawn(...unhooked(process.execPath, words), {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, PORT: String(await freePort()) },
    });
    t.teardown(() => child.kill('SIGKILL'));
    let collected = false;
    for await (const line of createInterface({ input: child.stdout as Readable })) {
      // What the engine says of a collection that somebody asked for.
      collected = /Mark-Compact \(reduce\).* testing;/.test(line);
      if (collected) break;
    }
    t.ok(collected);
  });

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
