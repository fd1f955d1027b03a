// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references as configs write them.
// `selvedge print`: what takes effect, and where it came from.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { command as print } from '../../src/cli/print.ts';
import { loadConfig } from '../../src/config/load.ts';
import { formatProblem } from '../../src/config/problem.ts';
import { runCommand } from './support/io.ts';

const CONFIG = `version: 1
mesh: { mtls: off }
gateways:
  public: { listeners: [{ name: http, port: \${PORT} }] }
  private: { listeners: [{ name: http, port: 8081 }] }
services:
  orders:
    endpoints: [{ address: "a:1", hop: "b:15001" }]
    internal: { inbound: { port: 15001 } }
  web: { endpoints: ["w:1"] }
routes:
  - { name: orders, gateways: [public], to: orders, requestHeaders: { set: { x-key: "\${API_KEY}" } } }
  - { name: web, gateways: [private], to: web }
  - { name: inside, internal: [orders], to: orders }
`;
const env = { PORT: '8080', API_KEY: 'hush' };

t.test('every value is followed by where it came from, secrets are not shown', async (t) => {
  const dir = t.testdir({ config: { 'shop.yaml': CONFIG } });
  const { code, stdout } = await runCommand(print, [], dir, env);
  t.equal(code, 0);
  for (const line of [
    '        port: 8080 # ${PORT} config/shop.yaml:4:45',
    '        host: 0.0.0.0 # default',
    '      - address: a:1 # config/shop.yaml:8:28',
    '        x-key: "[redacted]" # ${API_KEY} config/shop.yaml:12:85',
    '  port: 9901 # default',
    '    hosts: [] # default',
  ]) {
    t.ok(stdout.includes(`${line}\n`), line);
  }
  t.notMatch(stdout, 'hush');
});

t.test('what the collector is to know is shown to nobody, however it was written', async (t) => {
  const tracing =
    'telemetry: { tracing: { otlp: "http://a", headers: { authorization: Bearer hush, x-tenant: "hu${API_KEY}" } } }\n';
  const own = CONFIG.replace(
    'to: web }',
    'to: web, plugins: [tracing: { otlp: "http://a", headers: { Authorization: hush } }] }',
  );
  const dir = t.testdir({ 'selvedge.yaml': `${own}${tracing}` });
  for (const args of [[], ['--json']]) {
    const { code, stdout } = await runCommand(print, args, dir, env);
    t.equal(code, 0);
    t.notMatch(stdout, 'hush');
    t.match(stdout, 'x-tenant');
  }
});

t.test('what is printed is a config that means the same', async (t) => {
  const dir = t.testdir({ 'selvedge.yaml': CONFIG });
  const { stdout } = await runCommand(print, [], dir, { ...env, API_KEY: '[redacted]' });
  writeFileSync(join(dir, 'again.yaml'), stdout);
  const meaning = async (path: string) => {
    const { config, problems } = await loadConfig(path, { cwd: dir, env: { ...env, API_KEY: '[redacted]' } });
    t.strictSame(
      problems.filter(({ severity }) => severity === 'error'),
      [],
    );
    return JSON.parse(JSON.stringify(config, (key, value) => (key === 'at' ? undefined : value)));
  };
  t.strictSame(await meaning('again.yaml'), await meaning('selvedge.yaml'));
});

t.test('every key of the format can be printed and read again', async (t) => {
  const golden = readFileSync(join(import.meta.dirname, '../config/golden/whole.yaml'), 'utf8');
  const variables = { EDGE_PORT: '8443', ZONE: 'eu-1a', SESSION_SECRET: '0123456789abcdef' };
  const dir = t.testdir({ 'selvedge.yaml': golden });
  const { code, stdout } = await runCommand(print, [], dir, variables);
  t.equal(code, 0);
  t.notMatch(stdout, variables.SESSION_SECRET);
  writeFileSync(
    join(dir, 'again.yaml'),
    stdout
      .replace(/secret: "\[redacted\]"/, `secret: ${variables.SESSION_SECRET}`)
      .replace(/X-Tenant: "\[redacted\]"/, 'X-Tenant: acme'),
  );
  const meaning = async (path: string) => {
    const { config, problems } = await loadConfig(path, { cwd: dir, env: variables });
    t.strictSame(problems.filter(({ severity }) => severity === 'error').map(formatProblem), []);
    const plain = (key: string, value: unknown) =>
      key === 'at' ? undefined : value instanceof Set ? [...value] : value;
    return JSON.parse(JSON.stringify(config, plain));
  };
  t.strictSame(await meaning('again.yaml'), await meaning('selvedge.yaml'));
});

t.test('--route tells the plugins that a request meets at each listener, and what became of the others', async (t) => {
  const dir = t.testdir({
    'selvedge.yaml': `version: 1
gateways:
  public:
    listeners:
      - { name: http, port: 8080, plugins: [response-headers: { set: { a: b } }] }
      - { name: https, port: 8081, plugins: [cors: false, { ip-rules: { deny: [10.0.0.0/8] }, locked: true }] }
      - { name: other, port: 8082, plugins: [cors: false, { ip-rules: { deny: [10.0.0.0/8] }, locked: true }] }
      - { name: alike, port: 8083 }
      - { name: same, port: 8084 }
    plugins: [{ rate-limit: { max: 5, window: 1m }, locked: true }, cors: { origins: ["*"] }]
services: { web: { endpoints: ["w:1"] } }
routes:
  - { name: a, to: web, plugins: [access-log: false, cors: { origins: ["https://a.example"] }] }
`,
  });
  const { code, stdout } = await runCommand(print, ['--route', 'a'], dir, env);
  t.equal(code, 0);
  t.ok(parse(stdout), 'still a config');
  const told = stdout.slice(stdout.indexOf('# chain'));
  t.match(told, /^# chain at gateway\/public\/http:$/m);
  t.match(told, /^# chain at gateway\/public\/https:$/m);
  t.match(told, /^# chain at gateway\/public\/alike, gateway\/public\/same:$/m, 'one for what is the same');
  for (const line of [
    '#    1  request-id        default',
    '#    4  rate-limit        gateway public (selvedge.yaml:10:15), locked',
    '#    5  cors              route a (selvedge.yaml:13:54), replaces that of gateway public (selvedge.yaml:10:69)',
    '#    6  response-headers  listener http (selvedge.yaml:5:45)',
    '#    -  access-log        default, switched off by route a (selvedge.yaml:13:35)',
    '#    5  ip-rules       listener https (selvedge.yaml:6:59), locked',
    '#    -  cors           gateway public (selvedge.yaml:10:69), switched off by listener https (selvedge.yaml:6:46)',
  ])
    t.ok(told.includes(`${line}\n`), line);
  const json = JSON.parse((await runCommand(print, ['--route', 'a', '--json'], dir, env)).stdout);
  t.match(json.chains[0], { listeners: ['gateway/public/http'], chain: { 3: { plugin: 'rate-limit', locked: true } } });
  t.equal(json.chains.length, 4);
});

t.test('--route and --role print the part that matters', async (t) => {
  const dir = t.testdir({ 'selvedge.yaml': CONFIG });
  const part = async (...args: string[]) => {
    const { stdout } = await runCommand(print, args, dir, env);
    const printed = parse(stdout) as Record<string, object>;
    return {
      keys: Object.keys(printed),
      gateways: Object.keys(printed.gateways ?? {}),
      services: Object.keys(printed.services ?? {}),
      routes: (printed.routes as { name: string }[]).map(({ name }) => name),
    };
  };
  t.strictSame(await part('--route', 'web'), { keys: ['routes'], gateways: [], services: [], routes: ['web'] });
  t.match(await part('--role', 'gateway/public'), { gateways: ['public'], services: ['orders'], routes: ['orders'] });
  t.match(await part('--role', 'internal/orders'), { gateways: [], services: ['orders', 'web'], routes: ['inside'] });
  writeFileSync(
    join(dir, 'selvedge.yaml'),
    CONFIG.replace('gateways: [private], to: web', 'gateways: [private], to: web, mirror: [{ service: orders }]'),
  );
  t.match(await part('--role', 'gateway/private'), { services: ['orders', 'web'] }, 'what gets copies is reached too');
  const refused = async (...args: string[]) => (await runCommand(print, args, dir, env)).stderr.split('\n')[0];
  t.equal(await refused('--route', 'wbe'), 'selvedge print: no route "wbe" (did you mean "web"?)');
  t.equal(
    await refused('--role', 'gateway/pubic'),
    'selvedge print: no role "gateway/pubic" (did you mean "gateway/public"?)',
  );
  t.equal(await refused('--role', 'internal/web'), 'selvedge print: no role "internal/web"');
  t.equal(await refused('--role', 'edge'), 'selvedge print: "edge" is no role: write gateway/NAME or internal/SERVICE');
  t.equal(
    await refused('--role', 'gateway/public', '--route', 'web'),
    'selvedge print: --route and --role exclude each other',
  );
});

t.test('--json has the config and the origin of every value by path', async (t) => {
  const dir = t.testdir({ 'selvedge.yaml': CONFIG });
  const { stdout } = await runCommand(print, ['--json', '--route', 'orders'], dir, env);
  const { config, origins } = JSON.parse(stdout);
  t.equal(config.routes[0].requestHeaders.set['x-key'], '[redacted]');
  t.match(origins, {
    'routes[0].name': 'selvedge.yaml:12:13',
    'routes[0].requestHeaders.set.x-key': '${API_KEY} selvedge.yaml:12:85',
    'routes[0].timeout.request': 'default',
  });
});

t.test('a config with errors is not printed', async (t) => {
  const dir = t.testdir({ 'selvedge.yaml': CONFIG });
  t.match(await runCommand(print, [], dir), { code: 1, stdout: '', stderr: /environment variable PORT is not set/ });
});
