// `egress suggest`: from what went out to the list that lets out the same and nothing more.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import t from 'tap';
import { checkConfig } from '../../src/cli/check-config.ts';
import { egressCommand } from '../../src/cli/egress.ts';
import { command as explainCommand } from '../../src/cli/explain.ts';
import { compileEgress } from '../../src/egress/policy.ts';
import { runCommand } from './support/io.ts';

const CONFIG = `version: 1
mesh: { mtls: off }
services:
  cart: &service
    endpoints: [{ address: "127.0.0.1:3000", hop: "127.0.0.1:15001" }]
    internal: { inbound: { port: 15001 }, outbound: { port: 15002 } }
  orders: { endpoints: ["127.0.0.1:3001"] }
`;

const LINE = {
  role: 'outbound',
  service: 'egress',
  owner: 'cart',
  method: 'GET',
  host: 'api.test',
  verdict: 'audit_denied',
};

function log(...lines: (object | string)[]): string {
  return lines.map((line) => `${typeof line === 'string' ? line : JSON.stringify({ ...LINE, ...line })}\n`).join('');
}

function suggest(t: { testdir(files: Record<string, string>): string }, text: string, ...args: string[]) {
  const dir = t.testdir({ 'access.ndjson': text, 'selvedge.yaml': CONFIG });
  return runCommand(egressCommand(Readable.from([text])), ['suggest', '--log', 'access.ndjson', ...args], dir);
}

t.test('each host has the ports and callers that were seen, with their count', async (t) => {
  const { code, stdout, stderr } = await suggest(
    t,
    log(
      { port: 443, method: 'CONNECT', host: 'api.stripe.com' },
      { port: 443, method: 'CONNECT', host: 'api.stripe.com', verdict: 'allowed' },
      { port: 443, method: 'CONNECT', host: 'api.stripe.com', owner: 'orders' },
      {},
      { port: 8080 },
      { owner: 'orders' },
      { host: '10.1.2.3', endpoint: '10.1.2.3:80' },
      { host: '[2606:4700::1]', port: 8080, endpoint: '[2606:4700::1]:8080' },
      { host: 'db.internal', endpoint: '10.0.0.7:80' },
      { host: 'db.internal', endpoint: '10.0.0.8:80' },
    ),
  );
  t.equal(stderr, '');
  t.equal(code, 0);
  t.equal(
    stdout,
    `egress:
  default: deny
  allow:
    - { from: [service/cart], hosts: ["10.1.2.3"], ports: [80], cidrs: ["10.1.2.3"] } # 1 call
    - { from: [service/cart], hosts: ["[2606:4700::1]"], ports: [8080] } # 1 call
    - { from: [service/cart, service/orders], hosts: [api.stripe.com], ports: [443] } # 3 calls
    - { from: [service/cart], hosts: [api.test], ports: [80, 8080] } # 2 calls
    - { from: [service/orders], hosts: [api.test], ports: [80] } # 1 call
    - { from: [service/cart], hosts: [db.internal], ports: [80], cidrs: ["10.0.0.7", "10.0.0.8"] } # 2 calls
`,
  );
});

t.test('what it prints loads, and lets out what was seen and nothing else', async (t) => {
  const seen = [
    { owner: 'cart', host: 'api.test', port: 80, address: '1.1.1.1' },
    { owner: 'orders', host: 'xn--mller-kva.example', port: 443, address: '8.8.8.8' },
    { owner: 'cart', host: '1e3.test', port: 80, address: '10.0.0.1' },
    { owner: 'cart', host: '[fd00::1]', port: 81, address: 'fd00::1' },
    { owner: 'cart', host: 'under_score.test', port: 80, address: '1.1.1.1' },
    { owner: 'cart', host: 'yes', port: 80, address: '1.1.1.1' },
  ];
  const lines = seen.map(({ owner, host, port, address }) => ({
    owner,
    host,
    port,
    endpoint: address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`,
  }));
  const { stdout } = await suggest(t, log(...lines), '-c', 'selvedge.yaml');
  const file = join(t.testdirName, 'selvedge.yaml');
  writeFileSync(file, readFileSync(file, 'utf8') + stdout);
  const { config, problems } = await checkConfig(file, { env: {}, cwd: t.testdirName });
  t.strictSame(problems, []);
  const policy = compileEgress(config?.egress as NonNullable<NonNullable<typeof config>['egress']>);
  const judge = (from: string, host: string, port: number, address: string): boolean =>
    policy.judge({ from, host: host.replace(/[[\]]/g, ''), port, http: null }, [address]).allowed;
  for (const { owner, host, port, address } of seen) {
    t.ok(judge(owner, host, port, address), host);
    t.notOk(judge(owner, host, port + 1, address), `${host}: another port`);
    t.notOk(judge('stock', host, port, address), `${host}: another caller`);
    t.notOk(judge(owner, host, port, '10.0.0.2'), `${host}: another private address`);
  }
});

t.test('what is left out is said: denied calls, tunnels without TLS, strangers, lines that are none', async (t) => {
  const { code, stdout, stderr } = await suggest(
    t,
    log(
      { host: 'kept.test' },
      { verdict: 'denied', host: 'denied.test' },
      { verdict: 'audit_denied', reason: 'egress_sni_mismatch', host: 'ssh.test', port: 22, method: 'CONNECT' },
      { owner: 'gone', host: 'gone.test' },
      { owner: 'no/service', host: 'forged.test' },
      { host: 'a], evil: [b' },
      { host: 'a.test', port: 'x' },
      { role: 'inbound' },
      { service: 'orders' },
      { verdict: undefined },
      'not json',
      '[]',
    ),
    '-c',
    'selvedge.yaml',
  );
  t.equal(code, 0);
  t.equal(
    stdout,
    'egress:\n  default: deny\n  allow:\n    - { from: [service/cart], hosts: [kept.test], ports: [80] } # 1 call\n',
  );
  t.strictSame(stderr.trim().split('\n'), [
    'left out: cart to ssh.test:22, 1 tunnel without TLS to that host; a rule with "tls: false" would allow them',
    'left out: 1 call denied already',
    'not read: 2 lines that are no JSON object',
    'left out: calls of "gone", which the config does not have',
  ]);
});

t.test('stdin and several logs are read, and nothing to say is no success', async (t) => {
  const dir = t.testdir({ 'one.ndjson': log({}), 'empty.ndjson': '' });
  const command = egressCommand(Readable.from([log({}, { port: 81 })]));
  t.match(
    (await runCommand(command, ['suggest', '--log', '-', '--log', 'one.ndjson'], dir)).stdout,
    /ports: \[80, 81\] \} # 3 calls/,
  );
  const empty = await runCommand(command, ['suggest', '--log', 'empty.ndjson'], dir);
  t.match(empty, { code: 1, stdout: '', stderr: /nothing to suggest/ });
});

t.test('wrong usage says what is right', async (t) => {
  const dir = t.testdir({});
  const command = egressCommand(Readable.from([]));
  for (const [args, message] of [
    [[], /egress needs "suggest"/],
    [['sugest'], /egress has no "sugest" \(did you mean "suggest"\?\)/],
    [['suggest'], /say which log/],
    [['suggest', 'access.ndjson'], /takes no argument "access.ndjson"/],
  ] as const) {
    t.match(await runCommand(command, args, dir), { code: 2, stderr: message });
  }
  t.match(await runCommand(command, ['suggest', '--log', 'nowhere.ndjson'], dir), {
    code: 3,
    stderr: /cannot read nowhere.ndjson: ENOENT/,
  });
});

t.test('explain says how a call leaves the mesh, or which rule keeps it in', async (t) => {
  const rules = `egress:
  deny: [{ name: no-mail, ports: [25] }]
  allow:
    - { hosts: [api.test], ports: [80], paths: [/v1] }
    - { hosts: [pay.test], ports: [443] }
    - { name: local, hosts: ["10.0.0.1"], cidrs: [10.0.0.1] }
`;
  const dir = t.testdir({
    'selvedge.yaml': CONFIG + rules,
    'audit.yaml': `${CONFIG}egress: { audit: true }\n`,
    'none.yaml': CONFIG,
  });
  const explain = async (url: string, file = 'selvedge.yaml'): Promise<string> => {
    const args = ['GET', url, '-c', file, '--internal', 'cart'];
    const { code, stdout } = await runCommand(explainCommand, args, dir);
    const said = stdout.split('\n').filter((line) => /^(?:answer|egress) /.test(line));
    return `${code} ${said.at(-1) ?? stdout.trim().split('\n').at(-1)}`;
  };
  t.equal(
    await explain('http://api.test/v1/x'),
    '0 egress      by plain HTTP to api.test, port 80, if what the name resolves to is allowed at the call',
  );
  t.equal(
    await explain('http://api.test/v2'),
    '1 answer      403 SLV_EGRESS_DENIED: by plain HTTP to api.test, port 80: egress.default',
  );
  t.match(await explain('https://pay.test/'), /^0 egress {6}as a tunnel \(CONNECT\) to pay\.test, port 443, if/);
  t.match(await explain('http://pay.test:25/'), /^1 answer {6}403 SLV_EGRESS_DENIED: .* port 25: no-mail$/);
  t.match(await explain('http://10.0.0.1/'), /^0 egress .* by local$/);
  t.match(await explain('http://127.1/'), /^1 answer {6}400 SLV_BAD_HOST/);
  t.match(
    await explain('http://api.test/', 'audit.yaml'),
    /^0 egress .* though egress\.default denies it: egress\.audit is on$/,
  );
  t.match(await explain('http://api.test/', 'none.yaml'), /^1 answer {6}404 SLV_SERVICE_NOT_FOUND/);
  t.match(await explain('http://orders/', 'selvedge.yaml'), /^0 /);
});
