// `selvedge check`, and what every command shares: help, wrong usage, output that nobody reads any more.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { checkCommand } from '../../src/cli/check.ts';
import type { Command } from '../../src/cli/command.ts';
import { command as schema } from '../../src/cli/schema.ts';
import { runCommand, runTable } from './support/io.ts';
import { SelvedgeProcess } from './support/process.ts';

/** Whatever listens at the admin address of this machine, it is not asked. */
const check = checkCommand(async () => null);

const GOOD = `version: 1
gateways: { public: { listeners: [{ name: http, port: 8080 }] } }
services: { orders: { endpoints: ["10.0.0.5:3000"] } }
routes: [{ name: orders, to: orders }]
`;

t.test('a good config is counted, on stdout', async (t) => {
  const dir = t.testdir({ 'selvedge.yaml': GOOD });
  t.strictSame(await runCommand(check, [], dir), {
    code: 0,
    stdout: 'good: 1 gateway, 1 service, 1 route\n',
    stderr: '',
  });
});

t.test('problems are lines on stderr, and errors fail the check', async (t) => {
  const dir = t.testdir({ shop: { 'a.yaml': `${GOOD.replace('to: orders', 'to: ordrs')}etcd: { url: x }\n` } });
  t.strictSame(await runCommand(check, ['-c', 'shop'], dir), {
    code: 1,
    stdout: '',
    stderr: `shop/a.yaml:4:30 routes[0].to: no service "ordrs" (did you mean "orders"?)\nshop/a.yaml:5:1 etcd: not supported by this version\n2 errors\n`,
  });
});

t.test('warnings are shown and do not fail the check', async (t) => {
  const dir = t.testdir({ 'selvedge.yaml': GOOD.replace('to: orders', 'respond: {}') });
  t.strictSame(await runCommand(check, [], dir), {
    code: 0,
    stdout: 'good: 1 gateway, 1 service, 1 route (1 warning)\n',
    stderr: 'selvedge.yaml:3:13 warning: services.orders: no route leads to service "orders"\n',
  });
});

t.test('routes that clash and plugins that do not fit are problems too, all at once', async (t) => {
  const routes = `routes:
  - { name: one, to: orders, plugins: [body-limit: { max: much }] }
  - { name: two, to: orders, plugins: [body-limt] }
`;
  const dir = t.testdir({ 'selvedge.yaml': GOOD.replace(/routes:.*\n/, routes) });
  const { code, stderr } = await runCommand(check, [], dir);
  t.equal(code, 1);
  t.match(stderr, /^selvedge\.yaml:5:\d+ routes\[0\]\.plugins\[0\]\.max: /m);
  t.match(stderr, /^selvedge\.yaml:6:40 routes\[1\]\.plugins\[0\]: plugin "body-limt" cannot be loaded.*body-limit/m);
  t.match(stderr, /^selvedge\.yaml:6:5 routes\[1\]\.match\[0\]: routes "two" and "one" .* cannot be told apart/m);
  t.match(
    stderr
      .trim()
      .split('\n')
      .map((line) => line.slice(0, 16)),
    ['selvedge.yaml:5:', 'selvedge.yaml:6:', 'selvedge.yaml:6:', '3 errors'],
    'in the order of the file',
  );
  t.match(stderr, /\b3 errors\n$/);
});

t.test('--json has the problems with their places', async (t) => {
  const dir = t.testdir({ 'selvedge.yaml': GOOD.replace('to: orders', 'to: ordrs') });
  const { code, stdout, stderr } = await runCommand(check, ['--json'], dir);
  t.equal(code, 1);
  t.equal(stderr, '');
  t.strictSame(JSON.parse(stdout), {
    good: false,
    errors: 1,
    warnings: 0,
    problems: [
      {
        severity: 'error',
        place: { file: 'selvedge.yaml', line: 4, column: 30 },
        path: 'routes[0].to',
        message: 'no service "ordrs" (did you mean "orders"?)',
      },
    ],
  });
});

t.test('only the addresses of the roles that are named can collide', async (t) => {
  const two = GOOD.replace('gateways: {', 'gateways: { other: { listeners: [{ name: http, port: 8080 }] },');
  const dir = t.testdir({ 'selvedge.yaml': two });
  t.match(await runCommand(check, [], dir), {
    code: 1,
    stderr: /listener "http" of gateway "public" and listener "http" of gateway "other" both listen on 0\.0\.0\.0:8080/,
  });
  t.match(await runCommand(check, ['--gateway', 'public'], dir), { code: 0 });
});

t.test('wrong usage is said in one line, with exit code 2', async (t) => {
  const dir = t.testdir({});
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [[], /^selvedge check: no config here: none of \.\/selvedge\.yaml, \.\/selvedge\.config\.ts, \.\/config exists/],
    [['file.yaml'], /^selvedge check: check takes no argument "file\.yaml"/],
    [['--confg', 'x'], /^selvedge check: unknown option "--confg" \(did you mean "--config"\?\)/],
    [['-c'], /^selvedge check: Option '-c, --config <value>' argument missing/],
    [['-x'], /^selvedge check: unknown option "-x"/],
  ];
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await runCommand(check, args, dir);
    t.equal(code, 2, args.join(' '));
    t.match(stderr, message);
    t.match(stderr, /\nsee: selvedge check --help\n$/);
    t.equal(stdout, '');
    t.notMatch(stderr, /\n\s+at /);
  }
});

t.test('help is there for all and for each', async (t) => {
  const table = { check: async () => ({ command: check }), schema: async () => ({ command: schema }) };
  const all = await runTable(table, ['--help'], '.');
  t.equal(all.code, 0);
  t.match(all.stdout, /check +Say everything that is wrong with a config\n +schema +Print/);
  t.strictSame(await runTable(table, ['help'], '.'), all);
  const one = await runTable(table, ['check', '--help'], '.');
  t.strictSame(one, { code: 0, stdout: `${check.help}\n`, stderr: '' });
  t.strictSame(await runTable(table, ['help', 'check'], '.'), one);
  t.match(await runTable(table, [], '.'), { code: 2, stdout: '', stderr: all.stdout });
  t.match(await runTable(table, ['chek'], '.'), {
    code: 2,
    stderr: /unknown command "chek" \(did you mean "check"\?\)/,
  });
  t.match(await runTable(table, ['--verbose'], '.'), { code: 2, stderr: /unknown option "--verbose"/ });
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8'));
  t.match(await runTable(table, ['--version'], '.'), { code: 0, stdout: `${version}\n` });
});

t.test('what stands behind -- is left to the command', async (t) => {
  const seen: unknown[] = [];
  const command: Command = {
    name: 'echo',
    summary: '',
    help: '',
    options: { loud: { type: 'boolean' } },
    run: async ({ values, positionals, rest }) => {
      seen.push({ ...values }, positionals, rest);
      return 7;
    },
  };
  t.equal((await runCommand(command, ['a', '--loud', '--', '--loud', 'b'], '.')).code, 7);
  t.strictSame(seen, [{ loud: true }, ['a'], ['--loud', 'b']]);
});

t.test('the process ends with the exit code, and quietly when its reader leaves', async (t) => {
  const dir = t.testdir({ 'selvedge.yaml': 'version: 1\n' });
  const failing = new SelvedgeProcess(t, ['check'], { cwd: dir });
  t.equal(await failing.ended, 1);
  t.match(failing.stderr, /selvedge\.yaml:1:1 gateways: nothing to run/);
  const bin = join(import.meta.dirname, '../../bin/selvedge.js');
  const child = spawn(process.execPath, [bin, 'schema'], { stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  child.stdout.destroy();
  let stderr = '';
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const [code] = await once(child, 'close');
  t.equal(code, 0);
  t.equal(stderr, '');
});
