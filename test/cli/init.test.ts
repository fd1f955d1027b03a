// `selvedge init`: a first config that works, and never at the cost of one that is there.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { checkConfig } from '../../src/cli/check-config.ts';
import { command as init } from '../../src/cli/init.ts';
import { runCommand } from './support/io.ts';

t.test('writes a config without a single problem, with its schema line and the schema beside it', async (t) => {
  const dir = t.testdir({});
  const { code, stdout } = await runCommand(init, [], dir);
  t.equal(code, 0);
  t.equal(stdout, 'wrote selvedge.yaml and selvedge.schema.json\nnext: selvedge check, then selvedge run\n');
  const text = readFileSync(join(dir, 'selvedge.yaml'), 'utf8');
  t.match(text, /^# yaml-language-server: \$schema=\.\/selvedge\.schema\.json\n/);
  t.match(JSON.parse(readFileSync(join(dir, 'selvedge.schema.json'), 'utf8')), { title: 'Selvedge config' });
  const { config, problems } = await checkConfig('selvedge.yaml', { cwd: dir, env: {} });
  t.strictSame(problems, []);
  t.match(config, {
    gateways: [{ listeners: [{ port: 8080 }] }],
    services: [{ endpoints: [{ address: 'localhost:3000' }] }],
  });
});

t.test('what the starter has as comments works as well', async (t) => {
  const dir = t.testdir({});
  await runCommand(init, [], dir);
  const text = readFileSync(join(dir, 'selvedge.yaml'), 'utf8');
  const uncommented = text
    .split('\n')
    // TLS wants certificates that are not there.
    .filter((line) => !/^ +# (- name: https| {2}port: 8443| {2}tls:)/.test(line))
    .map((line) => line.replace(/^( +)# /, '$1'))
    .join('\n');
  t.not(uncommented, text);
  writeFileSync(join(dir, 'all.yaml'), uncommented);
  const { config, problems } = await checkConfig('all.yaml', { cwd: dir, env: {} });
  t.strictSame(problems, []);
  t.equal(config?.routes.length, 3);
});

t.test('never overwrites without --force', async (t) => {
  const dir = t.testdir({ 'selvedge.yaml': 'mine' });
  t.strictSame(await runCommand(init, [], dir), {
    code: 1,
    stdout: '',
    stderr: 'selvedge.yaml exists already; --force overwrites it\n',
  });
  t.equal(readFileSync(join(dir, 'selvedge.yaml'), 'utf8'), 'mine');
  t.strictSame(readdirSync(dir), ['selvedge.yaml']);
  t.equal((await runCommand(init, ['--force'], dir)).code, 0);
  t.not(readFileSync(join(dir, 'selvedge.yaml'), 'utf8'), 'mine');
  t.match(await runCommand(init, ['other.yaml'], dir), { code: 1, stderr: /^selvedge\.schema\.json exists already/ });
});

t.test('writes where it is told to', async (t) => {
  const dir = t.testdir({ shop: {} });
  t.match(await runCommand(init, ['shop'], dir), {
    code: 0,
    stdout: /wrote shop\/selvedge\.yaml and shop\/selvedge\.schema\.json\nnext: selvedge check -c shop\/selvedge\.yaml/,
  });
  t.match(await runCommand(init, ['new/edge.yml'], dir), { code: 0 });
  t.match(await runCommand(init, ['edge.json'], dir), { code: 2, stderr: /does not end in \.yaml/ });
  t.match(await runCommand(init, ['a', 'b'], dir), { code: 2, stderr: /no second argument "b"/ });
  writeFileSync(join(dir, 'file'), '');
  t.match(await runCommand(init, ['file/a.yaml'], dir), { code: 1, stderr: /^cannot write file\/a\.yaml: / });
});
