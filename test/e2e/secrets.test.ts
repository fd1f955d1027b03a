// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references as configs write them.
// No secret of a config leaves the process but to whom it is for. Every field that a schema calls secret gets a text of its own, and
// everything that is written or answered is searched for it.
import { createHash, scryptSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { stringify } from 'yaml';
import { command as check } from '../../src/cli/check.ts';
import { command as explain } from '../../src/cli/explain.ts';
import { command as print } from '../../src/cli/print.ts';
import { ConfigSchema } from '../../src/config/schema.ts';
import { eachSecret, type SchemaNode } from '../../src/config/secrets.ts';
import { createSelvedge } from '../../src/index.ts';
import { DESCRIPTION } from '../../src/plugin.ts';
import { builtins } from '../../src/plugins/index.ts';
import { runCommand } from '../cli/support/io.ts';
import { SelvedgeProcess } from '../cli/support/process.ts';
import { closedPort, eventually, exchange, httpUpstream } from './support/sockets.ts';

t.setTimeout(180_000);

/** A field by such a name holds a secret, or it is on the list below. */
const SOUNDS_SECRET = /(?:secrets?|tokens?|passwords?|passphrase|credentials?|users|keys?)$/i;

/** Sound like secrets and are none. Paths as the walk below writes them. */
const NO_SECRETS: Readonly<Record<string, string>> = {
  'config gateways.*.listeners[].tls.certificates[].key': 'path of a file',
  'config mesh.identity.files.key': 'path of a file',
  'config services.*.tls.key': 'path of a file',
  'cache key': 'what answers are kept by',
  'cors credentials': 'true or false',
  'jwt keys': 'public keys',
  'jwt issuers[].keys': 'public keys',
  'jwt token': 'where it is in a request',
  'rate-limit key': 'what is counted by',
  'rate-limit limits[].key': 'what is counted by',
  'rate-limit maxKeys': 'a number',
};

interface Field {
  readonly path: string;
  readonly secret: boolean;
}

function fieldsOf(schema: SchemaNode, path: string, hidden: boolean): Field[] {
  const secret = hidden || schema.writeOnly === true;
  const below = (key: string, inner: SchemaNode): Field[] =>
    fieldsOf(inner, path === '' ? key : `${path}.${key}`, secret);
  const { properties = {}, patternProperties = {}, additionalProperties, items, anyOf = [], allOf = [] } = schema;
  const own = /(?:\[\]|\*)$/.test(path) && !secret ? [] : [{ path, secret }];
  return [
    ...own,
    ...Object.entries(properties).flatMap(([key, inner]) => below(key, inner)),
    ...Object.values(patternProperties).flatMap((inner) => below('*', inner)),
    ...(typeof additionalProperties === 'object' ? below('*', additionalProperties) : []),
    ...(items === undefined ? [] : fieldsOf(items, `${path}[]`, secret)),
    ...[...anyOf, ...allOf].flatMap((inner) => fieldsOf(inner, path, secret)),
  ];
}

const schemas = new Map<string, SchemaNode>([['config', ConfigSchema as unknown as SchemaNode]]);
for (const [name, load] of builtins)
  schemas.set(name, ((await load()).default[DESCRIPTION].options ?? {}) as unknown as SchemaNode);

t.test('whatever sounds like a secret is one, or is known to be none', async (t) => {
  const found = new Set<string>();
  for (const [name, schema] of schemas) {
    for (const { path, secret } of fieldsOf(schema, '', false)) {
      const field = `${name} ${path}`;
      if (!SOUNDS_SECRET.test(path) || secret) continue;
      found.add(field);
      if (!(field in NO_SECRETS))
        t.fail(`${field}: say writeOnly: true in its schema, or put it on the list of this test with what it is`);
    }
  }
  t.strictSame(
    Object.keys(NO_SECRETS).filter((field) => !found.has(field)),
    [],
    'and the list has nothing else',
  );
});

/** By the field that it stands in. */
const canaries = new Map<string, string>();

/** A text that nothing else contains; 64 hexadecimal digits, which any secret may be. */
function canary(field: string): string {
  const text = createHash('sha256').update(`canary of ${field}`).digest('hex');
  canaries.set(field, text);
  return text;
}

/** As it is, and as base64 and hexadecimal digits write it wherever it begins. */
function formsOf(text: string): string[] {
  const base64 = [0, 1, 2].map((before) => {
    const whole = Buffer.from('x'.repeat(before) + text).toString('base64');
    return whole.slice(before === 0 ? 0 : 4, -4);
  });
  return [text, text.toUpperCase(), Buffer.from(text).toString('hex'), ...base64];
}

function search(t: Test, what: string, written: string): void {
  for (const [field, text] of canaries) {
    for (const form of formsOf(text)) {
      const at = written.indexOf(form);
      if (at >= 0) t.fail(`${what} has the canary of ${field}: …${written.slice(Math.max(0, at - 200), at + 20)}…`);
    }
  }
  t.pass(what);
}

function scryptHash(password: string): string {
  const salt = Buffer.alloc(16, 7);
  const hash = scryptSync(password, salt, 32, { N: 2 ** 14, r: 8, p: 1 });
  canaries.set('basic-auth users[] (the hash)', hash.toString('base64').replace(/=+$/, ''));
  return `$scrypt$ln=14,r=8,p=1$${salt.toString('base64').replace(/=+$/, '')}$${hash.toString('base64').replace(/=+$/, '')}`;
}

interface Ports {
  readonly upstream: number;
  readonly collector: number;
  readonly closed: number;
  readonly accessLog: string;
}

/** Options of a plugin with a canary in every secret field, that make a chain which works. */
const SAMPLES: Readonly<Record<string, (ports: Ports) => object>> = {
  'api-key': () => ({ keys: [`mobile ${canary('api-key keys[]')}`] }),
  'basic-auth': () => ({ users: [`ann:${scryptHash(canary('basic-auth users[]'))}`] }),
  jwt: () => ({ issuer: 'https://id.example.com', audience: 'shop', secret: canary('jwt secret') }),
  oidc: () => ({
    issuer: 'https://id.example.com',
    clientId: 'shop',
    clientSecret: canary('oidc clientSecret'),
    baseUrl: 'https://oidc.example.com',
    cookieSecret: [canary('oidc cookieSecret[]'), canary('oidc cookieSecret[] (the old one)')],
  }),
  tracing: ({ collector }) => ({
    otlp: `http://127.0.0.1:${collector}`,
    sample: '100%',
    headers: { 'x-tenant': canary('tracing headers.*') },
  }),
};

/** For plugins that are not among them: whatever the schema asks for, and everything that is secret. */
function sampleOf(name: string, schema: SchemaNode, path: string, hidden: boolean): unknown {
  const secret = hidden || schema.writeOnly === true;
  const leads = (inner: SchemaNode): boolean => fieldsOf(inner, '', false).some((field) => field.secret);
  const { type, properties, patternProperties = {}, items, anyOf, required = [], examples, enum: values } = schema;
  if (anyOf !== undefined) return sampleOf(name, anyOf.find(leads) ?? anyOf[0], path, secret);
  if (properties !== undefined) {
    const keys = Object.keys(properties).filter(
      (key) => secret || leads(properties[key]) || (required as readonly string[]).includes(key),
    );
    const below = (key: string) => (path === '' ? key : `${path}.${key}`);
    return Object.fromEntries(keys.map((key) => [key, sampleOf(name, properties[key], below(key), secret)]));
  }
  if (items !== undefined) return [sampleOf(name, items, `${path}[]`, secret)];
  const [values_] = Object.values(patternProperties);
  if (values_ !== undefined) return { name: sampleOf(name, values_, `${path}.*`, secret) };
  if (secret && type !== 'boolean') return canary(`${name} ${path}`);
  if (schema.default !== undefined) return schema.default;
  if (schema.const !== undefined) return schema.const;
  return (examples as unknown[] | undefined)?.[0] ?? (values as unknown[] | undefined)?.[0] ?? plain(type);
}

function plain(type: unknown): unknown {
  return type === 'integer' || type === 'number' ? 1 : type === 'boolean' ? true : 'text';
}

const secretPlugins = [...schemas].filter(
  ([name, schema]) => name !== 'config' && fieldsOf(schema, '', false).some(({ secret }) => secret),
);

/** Everything that is secret, each in a field of its own. `written`: how a value gets in. */
function configOf(ports: Ports, written: (value: string) => string, samples: readonly string[]) {
  const guarded = secretPlugins
    .filter(([name]) => samples.includes(name))
    .map(([name, schema]) => {
      const options = SAMPLES[name]?.(ports) ?? sampleOf(name, schema, '', false);
      eachSecret(
        schema,
        options,
        () => undefined,
        (container, key, value) => {
          (container as Record<string, unknown>)[key] = written(String(value));
        },
      );
      return {
        name,
        hosts: [`${name}.example.com`],
        plugins: [{ [name]: options }],
        to: 'app',
      };
    });
  return {
    version: 1,
    admin: { host: '127.0.0.1', port: 0 },
    mesh: { mtls: 'off' },
    redis: {
      url: `redis://selvedge:${written(canary('config redis.url'))}@127.0.0.1:${ports.closed}`,
      timeout: '50ms',
    },
    telemetry: {
      tracing: {
        otlp: `http://127.0.0.1:${ports.collector}`,
        sample: '100%',
        headers: { 'x-tenant': written(canary('config telemetry.tracing.headers.*')) },
      },
    },
    gateways: {
      public: {
        listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }],
        plugins: [
          { 'access-log': { destination: ports.accessLog, headers: ['authorization', 'x-api-key', 'cookie'] } },
        ],
      },
    },
    services: {
      app: { endpoints: [`127.0.0.1:${ports.upstream}`] },
      gone: { endpoints: [`127.0.0.1:${ports.closed}`] },
    },
    routes: [
      ...guarded,
      {
        name: 'sessions',
        hosts: ['sessions.example.com'],
        requestHeaders: { set: { authorization: written(`Bearer ${canary('config routes[].requestHeaders')}`) } },
        session: { cookie: 'slv', secret: written(canary('config routes[].session.secret')) },
        to: 'app',
      },
      {
        name: 'limited',
        hosts: ['limited.example.com'],
        plugins: [
          {
            'rate-limit': {
              max: 1,
              window: '1m',
              shared: true,
              redis: { url: `redis://:${written(canary('rate-limit redis.url'))}@127.0.0.1:${ports.closed}` },
            },
          },
        ],
        to: 'app',
      },
      { name: 'gone', hosts: ['gone.example.com'], to: 'gone' },
    ],
  };
}

interface Written {
  readonly env: Record<string, string>;
  readonly as: (value: string) => string;
}

/** By turns as it is, from a variable whose name says nothing, and from a file. */
function writer(dir: string): Written {
  const env: Record<string, string> = {};
  let turn = 0;
  const as = (value: string): string => {
    turn += 1;
    if (turn % 3 === 1) return value;
    if (turn % 3 === 2) {
      env[`VALUE_${turn}`] = value;
      return `\${VALUE_${turn}}`;
    }
    writeFileSync(join(dir, `value-${turn}`), `${value}\n`);
    return `\${file:value-${turn}}`;
  };
  return { env, as };
}

const all = secretPlugins.map(([name]) => name);
const NOWHERE: Ports = { upstream: 9, collector: 9, closed: 9, accessLog: 'stdout' };

const COMMANDS = [
  ...readFileSync(join(import.meta.dirname, '../../src/main.ts'), 'utf8').matchAll(/^ {2}(\w+): \(\) => import/gm),
].map(([, name]) => name);

t.test('commands show none of them, whether the config is good or bad', async (t) => {
  for (const how of ['as they are', 'by turns']) {
    const dir = t.testdir({});
    const { env, as } = how === 'by turns' ? writer(dir) : { env: {}, as: (value: string) => value };
    const config = configOf(NOWHERE, as, all);
    const file = join(dir, 'selvedge.yaml');
    writeFileSync(file, stringify(config));
    t.ok(COMMANDS.length > 10, 'the commands are known');
    const help = [];
    for (const args of [[], ...COMMANDS.map((name) => [name])]) {
      const asked = new SelvedgeProcess(t, [...args, '--help'], { cwd: dir, env });
      t.equal(await asked.ended, 0, `${args} --help`);
      help.push(asked.stdout + asked.stderr);
    }
    search(t, `--help, ${how}`, help.join('\n'));
    const run = async (what: string, good: boolean | null) => {
      const ran = [
        await runCommand(check, [], dir, env),
        await runCommand(check, ['--json'], dir, env),
        await runCommand(print, [], dir, env),
        await runCommand(print, ['--json'], dir, env),
        await runCommand(print, ['--route', 'sessions'], dir, env),
        await runCommand(explain, ['GET', 'http://sessions.example.com/'], dir, env),
      ];
      if (good !== null) for (const { code } of ran.slice(2)) t.equal(code === 0, good, what);
      search(t, `${what}, ${how}`, ran.map(({ stdout, stderr }) => stdout + stderr).join('\n'));
      return ran;
    };
    writeFileSync(file, stringify(config));
    const [, , printed] = await run('a good config', true);
    for (const field of ['secret', 'keys', 'x-tenant', 'authorization'])
      t.match(printed.stdout, new RegExp(`${field}:\\s*(?:- )?"?\\[redacted\\]`), field);

    writeFileSync(
      file,
      stringify({ ...config, unknown: 1, routes: [...config.routes, { name: 'gone', to: 'nobody' }] }),
    );
    await run('mistakes elsewhere', false);
    for (const [name, schema] of schemas) {
      if (name !== 'config' && !all.includes(name)) continue;
      const broken = structuredClone(config) as object;
      eachSecret(
        ConfigSchema,
        broken,
        (written) => schemas.get(written),
        (container, key, value) => {
          (container as Record<string, unknown>)[key] = name === 'config' ? [String(value)] : `  ${value} ${value} :\n`;
        },
      );
      writeFileSync(file, stringify(broken));
      await run(`mistakes in them (${name}, ${schema.type})`, null);
    }
    writeFileSync(file, stringify(config).replaceAll(/("?\[?[0-9a-f]{64}"?)/g, '"$1" : [ oops'));
    await run('no YAML', false);
    const misplaced = canary('a value where it does not belong');
    writeFileSync(join(dir, 'misplaced'), misplaced);
    const port = { name: 'b', port: '${file:misplaced}' };
    const long = `http://a-user-with-a-name-of-some-length:${misplaced}@a.example.com`;
    const rules = { name: 'rules', plugins: [{ 'ip-rules': { allow: ['${file:misplaced}'] } }], to: 'app' };
    const wrong = [
      { ...config, gateways: { public: { listeners: [port] } } },
      { ...config, redis: { url: long } },
      { ...config, routes: [...config.routes, rules] },
      { ...config, routes: [...config.routes, { name: '${file:misplaced}', to: '${file:misplaced}' }] },
    ];
    for (const [index, text] of wrong.entries()) {
      writeFileSync(file, stringify(text));
      const [checked] = await run(`a value at a wrong place (${index})`, null);
      t.match(checked.stderr, '[redacted]');
    }
    writeFileSync(file, stringify(config).replaceAll(/\b(redis:\/\/)/g, 'redis//$1'));
    await run('a URL that is none', null);
  }
});

t.test('a running process shows none of them: logs, admin API, answers, traces, reloads', async (t) => {
  const dir = t.testdir({});
  const traces: string[] = [];
  const { port: collector } = await httpUpstream(t, (req, res) => {
    req.on('data', (chunk) => traces.push(String(chunk)));
    req.on('end', () => res.end('{}'));
  });
  const { port: upstream } = await httpUpstream(t, (_req, res) => res.end('served'));
  const { env, as } = writer(dir);
  const accessLog = join(dir, 'access.log');
  const ports = { upstream, collector, closed: await closedPort(), accessLog };
  const config = configOf(ports, as, Object.keys(SAMPLES));
  const file = join(dir, 'selvedge.yaml');
  writeFileSync(file, stringify(config));
  let log = '';
  const sink = new Writable({
    write(chunk, _encoding, done) {
      log += chunk;
      done();
    },
  });
  const before = { ...process.env };
  Object.assign(process.env, env);
  t.teardown(() => {
    process.env = before;
  });
  const selvedge = await createSelvedge({ config: file, logger: pino({ level: 'trace' }, sink) });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  const { port } = selvedge.addresses()['gateway/public/http'];
  const admin = selvedge.adminAddress()?.port as number;

  const shown = canary('what clients show');
  const basic = Buffer.from(`ann:${shown}`).toString('base64');
  for (const { name } of config.routes) {
    for (const lines of [
      '',
      `X-Api-Key: ${shown}\r\nAuthorization: Basic ${basic}\r\n`,
      `Authorization: Bearer ${shown}\r\nCookie: session=${shown}\r\nTraceparent: 00-${'1'.repeat(32)}-${'2'.repeat(16)}-01\r\n`,
      `Authorization: Bearer ${shown}.${shown}.${shown}\r\nCookie: slv=${shown}\r\n`,
    ]) {
      const head = `GET /${name}?token=${shown} HTTP/1.1\r\nHost: ${name}.example.com\r\nConnection: close\r\n${lines}\r\n`;
      search(t, `an answer of ${name}`, await exchange(t, port, head));
    }
  }
  await eventually(() => traces.length > 0, 'traces come');

  for (const reload of [
    'x: [',
    'redis: { url: "redis://a:PASSWORD@b:c:d" }',
    'routes: [{ session: { secret: PASSWORD } }]',
  ]) {
    writeFileSync(file, stringify(config) + reload.replace('PASSWORD', shown));
    const { applied } = await selvedge.reload();
    t.notOk(applied, reload);
  }
  const shorter = structuredClone(config) as object;
  eachSecret(
    ConfigSchema,
    shorter,
    (written) => schemas.get(written),
    (container, key) => {
      (container as Record<string, unknown>)[key] = shown.slice(0, 9);
    },
  );
  writeFileSync(file, stringify(shorter));
  canaries.set('what is too short', shown.slice(0, 9));
  await selvedge.reload();

  const list = await exchange(t, admin, 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  const pages = [...new Set(list.match(/\/[a-z/]+(?=")/g) ?? [])].filter((page) => page !== '/drain');
  t.ok(pages.includes('/config') && pages.includes('/metrics'), pages.join(' '));
  for (const page of pages) {
    const head = `GET ${page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
    search(t, `the admin page ${page}`, await exchange(t, admin, head));
  }
  await selvedge.close({ timeoutMs: 0 });
  t.match(log, '"msg":"config rejected');
  search(t, 'the log', log);
  const accessed = readFileSync(accessLog, 'utf8');
  t.match(accessed, '"authorization":"[redacted]"');
  search(t, 'the access log', accessed);
  search(t, 'traces', traces.join(''));
});

t.test('a process that cannot start shows none of them', async (t) => {
  const dir = t.testdir({});
  const { env, as } = writer(dir);
  const ports = { ...NOWHERE, closed: await closedPort() };
  const config = configOf(ports, as, Object.keys(SAMPLES));
  const token = as(canary('config mesh.identity.ca.token'));
  const ca = { url: `https://127.0.0.1:${ports.closed}`, token, trust: 'ca.crt' };
  const hop = { endpoints: [{ address: '127.0.0.1:9', hop: '127.0.0.1:8' }], internal: { inbound: { port: 0 } } };
  const broken = {
    'no CA': { ...config, mesh: { identity: { ca } }, services: { ...config.services, hop } },
    'a plugin that fails': { ...config, routes: [...config.routes, { name: 'z', plugins: ['./fails.ts'], to: 'app' }] },
  };
  writeFileSync(join(dir, 'fails.ts'), 'throw new Error(process.env.VALUE_2);');
  for (const [what, text] of Object.entries(broken)) {
    writeFileSync(join(dir, 'selvedge.yaml'), stringify(text));
    const selvedge = new SelvedgeProcess(t, ['run'], { cwd: dir, env });
    t.equal(await selvedge.ended, 3, what);
    t.not(selvedge.stdout + selvedge.stderr, '');
    search(t, what, selvedge.stdout + selvedge.stderr);
  }
});

t.test('every secret field had its canary', async (t) => {
  const planted = [...canaries.keys()].map((field) => field.replace(/ \(.*/, ''));
  for (const [name, schema] of schemas)
    for (const { path, secret } of fieldsOf(schema, '', false)) {
      if (
        !secret ||
        fieldsOf(schema, '', false).some((other) => new RegExp(`^${escaped(path)}(?:\\[\\]|\\.)`).test(other.path))
      )
        continue;
      if (name === 'jwt' && path.startsWith('issuers')) continue;
      // A client shows a secret or a key.
      if (name === 'oidc' && path === 'privateKey') continue;
      t.ok(planted.includes(`${name} ${path}`), `${name} ${path}`);
    }
});

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
