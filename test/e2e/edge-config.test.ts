// config/edge.yaml is for copying: it is checked and run as it stands, with an issuer, a Redis and services, all of them real.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Agent, type RequestOptions, request } from 'node:https';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { command as check } from '../../src/cli/check.ts';
import { runCommand } from '../cli/support/io.ts';
import { SelvedgeProcess } from '../cli/support/process.ts';
import { jwkSet, jwksServer, signer, token } from '../plugins/jwt/support.ts';
import { NO_REDIS, RedisServer } from '../support/redis-server.ts';
import { TestCa } from '../support/tls-fixture.ts';
import { freePort } from './support/ports.ts';
import { exchange, httpUpstream } from './support/sockets.ts';

const FOLDER = join(import.meta.dirname, '../../config');
const FILE = join(FOLDER, 'edge.yaml');
const SIGNER = signer('ES256', 'first');
const PARTNER = 'a-key-of-a-partner';
const digest = createHash('sha256').update(PARTNER).digest('hex');

function certificate(t: Test) {
  const ca = new TestCa(t);
  return { ca, ...ca.issue({ name: 'edge', altNames: ['DNS:*.example.com'] }) };
}

t.test('it is short, good without a warning, and nothing runs with the secret of an example', async (t) => {
  t.ok(readFileSync(FILE, 'utf8').trimEnd().split('\n').length < 80, 'under 80 lines');
  // A certificate that is about to expire is worth a warning, and those of tests are.
  const warnings = (text: string) => text.split('\n').filter((line) => line !== '' && !/expires on/.test(line));
  const { cert, key } = certificate(t);
  const env = {
    TLS_CERT: cert,
    TLS_KEY: key,
    ISSUER: 'https://id.example.com',
    REDIS_URL: 'rediss://10.0.0.5:6379',
    PARTNER_KEYS: `acme ${digest}`,
  };
  const good = await runCommand(check, ['-c', FILE], FOLDER, env);
  t.equal(good.code, 0, good.stderr);
  t.strictSame(warnings(good.stderr).slice(0, -1), [], 'no warning');
  for (const name of Object.keys(env)) {
    const bad = await runCommand(check, ['-c', FILE], FOLDER, { ...env, [name]: undefined as never });
    t.equal(bad.code, 1, name);
    t.match(bad.stderr, `environment variable ${name} is not set`);
  }
});

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

function client(port: number, agent: Agent) {
  return (host: string, path: string, options: RequestOptions = {}, body?: string): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const headers = { host, ...(options.headers as object) };
      const sent = request({ host: '127.0.0.1', port, servername: host, agent, path, ...options, headers }, (res) => {
        let text = '';
        res.on('data', (chunk) => {
          text += chunk;
        });
        res.on('end', () => resolve({ status: res.statusCode as number, headers: res.headers, body: text }));
      });
      sent.on('error', reject);
      sent.end(body);
    });
}

t.test('it serves: who gets in, how much, and where to', { skip: NO_REDIS }, async (t) => {
  const seen: { at: string; path: string; user?: string }[] = [];
  const service = async (at: string): Promise<string> => {
    const { port } = await httpUpstream(t, (req, res) => {
      const { 'x-user': user } = req.headers as Record<string, string>;
      if (req.url !== '/healthz') seen.push({ at, path: req.url as string, user });
      res.setHeader('content-type', 'text/plain');
      if (at === 'web') res.setHeader('cache-control', 'max-age=60');
      if (req.url === '/broken') res.destroy();
      else req.on('end', () => res.end(`${at} `.repeat(1_000))).resume();
    });
    return `127.0.0.1:${port}`;
  };
  const issuer = await jwksServer(t, jwkSet(SIGNER));
  issuer.answer = (req, res) => {
    const metadata = { issuer: issuer.origin, jwks_uri: issuer.url };
    res.end(req.url === '/jwks.json' ? jwkSet(SIGNER) : JSON.stringify(metadata));
  };
  const redis = await RedisServer.start(t);
  const { ca, cert, key } = certificate(t);
  const [http, https, admin] = [await freePort(), await freePort(), await freePort()];
  const selvedge = new SelvedgeProcess(t, ['run', '-c', FILE], {
    cwd: t.testdir(),
    env: {
      HOST: '127.0.0.1',
      HTTP_PORT: String(http),
      HTTPS_PORT: String(https),
      ADMIN_PORT: String(admin),
      PUBLIC_PORT: String(https),
      TLS_CERT: cert,
      TLS_KEY: key,
      JWKS_DIR: join(t.testdir(), 'jwks'),
      ISSUER: issuer.origin,
      REDIS_URL: redis.url,
      PARTNER_KEYS: `acme ${digest}`,
      WEB: await service('web'),
      API: await service('stable'),
      API_CANARY: await service('canary'),
    },
  });
  await selvedge.says('config in force');
  const agent = new Agent({ ca: ca.pem, keepAlive: true });
  t.teardown(() => agent.destroy());
  const ask = client(https, agent);
  const bearer = (claims: object = {}) => ({
    headers: { authorization: `Bearer ${token(SIGNER, { iss: issuer.origin, aud: 'api', ...claims })}` },
  });

  await t.test('plain HTTP is sent to https, and browsers stay there', async (t) => {
    const answer = await exchange(t, http, 'GET /a?b HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n');
    t.match(answer, /^HTTP\/1\.1 301 /);
    t.match(answer, `https://www.example.com:${https}/a?b`);
    const { headers } = await ask('www.example.com', '/');
    t.equal(headers['strict-transport-security'], 'max-age=31536000; includeSubDomains');
    t.equal(headers['x-content-type-options'], 'nosniff');
  });

  await t.test('a public page is kept and compressed', async (t) => {
    const options = { headers: { 'accept-encoding': 'gzip' } };
    await ask('www.example.com', '/page', options);
    const { status, headers } = await ask('www.example.com', '/page', options);
    t.equal(status, 200);
    t.equal(headers['content-encoding'], 'gzip');
    t.match(headers['cache-status'], /hit/);
    t.equal(seen.filter(({ path }) => path === '/page').length, 1);
    t.match(headers.ratelimit, /"per-client";r=\d+/);
  });

  await t.test('pages of one origin may call, before anybody asks for a token', async (t) => {
    const preflight = (origin: string) =>
      ask('api.example.com', '/', {
        method: 'OPTIONS',
        headers: { origin, 'access-control-request-method': 'GET' },
      });
    t.equal((await preflight('https://app.example.com')).status, 204);
    t.equal((await preflight('https://evil.example.com')).status, 403);
  });

  await t.test('the API is for who has a token, by plan, with a canary', async (t) => {
    t.equal((await ask('api.example.com', '/orders')).status, 401);
    t.equal((await ask('api.example.com', '/orders', bearer({ aud: 'other' }))).status, 401);
    const free = await ask('api.example.com', '/orders', bearer({ sub: 'ada' }));
    t.equal(free.status, 200);
    t.match(free.headers['ratelimit-policy'], /"per-user";q=600;w=60/);
    t.equal(seen.at(-1)?.user, 'ada');
    const gold = await ask('api.example.com', '/orders', bearer({ sub: 'bob', plan: 'gold' }));
    t.match(gold.headers['ratelimit-policy'], /"per-user";q=6000;w=60/);
    t.match(await redis.command('DBSIZE'), /^:[1-9]/, 'counted in Redis');
  });

  await t.test('a token is not enough for /admin, however it is written', async (t) => {
    const before = seen.length;
    for (const path of ['/admin', '/admin/users', '//admin', '/x/%2e%2e/admin', '/%61dmin/'])
      t.equal((await ask('api.example.com', path, bearer({ groups: ['admin'] }))).status, 403, path);
    for (const path of ['/x/..;/admin', '/admin;a=b', '/%2561dmin'])
      t.equal((await ask('api.example.com', path, bearer())).status, 403, `${path}: to some services the same`);
    t.equal(seen.length, before, 'nothing is sent: 127.0.0.1 is not the office');
    t.equal((await ask('api.example.com', '/administrators', bearer())).status, 200);
  });

  await t.test('bodies have the size of their route', async (t) => {
    const body = 'x'.repeat(2_000_000);
    const headers = { ...bearer().headers, 'content-length': String(body.length) };
    const small = await ask('api.example.com', '/orders', { method: 'POST', headers }, body);
    t.equal(small.status, 413);
    t.equal((await ask('api.example.com', '/uploads', { method: 'POST', headers }, body)).status, 200);
    const { authorization: _, ...nobody } = headers;
    t.equal((await ask('api.example.com', '/uploads', { method: 'POST', headers: nobody }, body)).status, 401);
  });

  await t.test('partners show a key, of which the service learns the label', async (t) => {
    t.equal((await ask('partners.example.com', '/')).status, 401);
    const { status } = await ask('partners.example.com', '/', { headers: { 'x-api-key': PARTNER, 'x-user': 'root' } });
    t.equal(status, 200);
    t.strictSame(seen.at(-1)?.user, 'acme');
  });

  await t.test('errors have a page for browsers and a problem for programs', async (t) => {
    const html = { headers: { accept: 'text/html' } };
    t.match((await ask('other.example.com', '/', html)).body, 'There is nothing here');
    t.match((await ask('other.example.com', '/')).body, '"code":"SLV_ROUTE_NOT_FOUND"');
    const broken = await ask('www.example.com', '/broken', html);
    t.equal(broken.status, 502);
    t.match(broken.body, 'tell us this number');
  });

  await t.test('without Redis the API goes on, uncounted; metrics say so, on loopback', async (t) => {
    await redis.stop();
    t.equal((await ask('api.example.com', '/orders', bearer())).status, 200);
    const metrics = await exchange(t, admin, 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    t.match(metrics, /selvedge_rate_limit_store_failures_total\{[^}]*result="allow"[^}]*\} [1-9]/);
    t.match(metrics, /selvedge_ip_rules_total\{[^}]*not_allowed[^}]*\} [1-9]/);
  });

  await t.test('one address has a burst, and no more', async (t) => {
    const statuses: number[] = [];
    // What a bucket grants comes back meanwhile: as long as it takes.
    while (!statuses.includes(429)) {
      const batch = Array.from({ length: 100 }, async () => (await ask('other.example.com', '/flood')).status);
      statuses.push(...(await Promise.all(batch)));
    }
    t.strictSame([...new Set(statuses)].sort(), [404, 429]);
  });

  await t.test('what failed is in the log, and no key or token is', async (t) => {
    selvedge.signal('SIGTERM');
    selvedge.signal('SIGTERM');
    await selvedge.ended;
    t.match(selvedge.stdout, /"path":"\/broken"[^\n]*"reason":"upstream_reset"/);
    t.notMatch(selvedge.stdout, PARTNER);
    t.notMatch(selvedge.stdout, /Bearer ey/);
  });
});
