// Tokens at a real gateway: an issuer that fails in every way, keys that change, policies on claims, and clients that lie.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type ConfigInput, createSelvedge } from '../../src/index.ts';
import { hmacToken, type JwksServer, jwkSet, jwksServer, signer, token } from '../plugins/jwt/support.ts';
import { edgeTo, run } from './support/gateway.ts';
import { eventually, exchange, httpUpstream, statusOf } from './support/sockets.ts';

const FIRST = signer('ES256', 'first');
const SECOND = signer('RS256', 'second');

type Overrides = Parameters<typeof edgeTo>[1];

async function service(t: Test) {
  const seen: Record<string, unknown>[] = [];
  const { port } = await httpUpstream(t, (req, res) => {
    seen.push({ ...req.headers });
    res.end('served');
  });
  return { seen, port };
}

async function gateway(t: Test, jwt: object, overrides: Overrides = {}) {
  const { seen, port: upstream } = await service(t);
  const edge = await run(t, edgeTo([upstream], { gateway: { plugins: [{ jwt }] }, ...overrides }));
  return { ...edge, seen, ...client(t, edge.port) };
}

function client(t: Test, port: number) {
  const raw = (headers: string, method = 'GET', path = '/') =>
    exchange(t, port, `${method} ${path} HTTP/1.1\r\nHost: a\r\n${headers}Connection: close\r\n\r\n`);
  const ask = async (jwt: string, method = 'GET', path = '/') =>
    statusOf(await raw(`Authorization: Bearer ${jwt}\r\n`, method, path));
  return { raw, ask };
}

function of(server: JwksServer, changes: object = {}) {
  return { issuer: server.origin, audience: 'shop', jwks: server.url, jwksDir: false, ...changes };
}

t.test('policies decide by claims of a verified token, and headers say who it is', async (t) => {
  const server = await jwksServer(t, jwkSet(FIRST));
  const file = join(t.testdir(), 'access.log');
  const authorization: NonNullable<ConfigInput['authorization']> = [
    { name: 'readers', gateway: 'edge', allow: [{ methods: ['GET'], claims: { 'realm.roles': 'reader' } }] },
    { name: 'admins', gateway: 'edge', allow: [{ claims: { 'realm.roles': 'admin' } }] },
  ];
  const { ask, raw, seen } = await gateway(
    t,
    {},
    {
      authorization,
      gateway: {
        plugins: [
          { 'access-log': { destination: file } },
          { jwt: of(server, { claimsToHeaders: { sub: 'x-auth-subject', email: 'x-auth-email' } }) },
        ],
      },
    },
  );
  const iss = server.origin;
  const reader = token(FIRST, { iss, realm: { roles: ['reader'] } });
  const admin = token(FIRST, { iss, realm: { roles: ['reader', 'admin'] } });
  t.equal(await ask(reader), 200);
  t.equal(await ask(reader, 'DELETE'), 403, 'a good token, and a policy that denies');
  t.equal(await ask(admin, 'DELETE'), 200);
  t.equal(await ask(token(FIRST, { iss })), 403);
  const [header, , signature] = reader.split('.');
  t.equal(await ask(`${header}.${admin.split('.')[1]}.${signature}`, 'DELETE'), 401, 'claims of another token');

  const forged = 'X-Auth-Subject: root\r\nX-AUTH-EMAIL: root@example.com\r\n';
  t.equal(statusOf(await raw(`${forged}Authorization: Bearer ${reader}\r\n`)), 200);
  t.equal(seen.at(-1)?.['x-auth-subject'], 'ada');
  t.equal(seen.at(-1)?.['x-auth-email'], undefined, 'the token says nothing of it, so nobody does');

  const before = seen.length;
  const bearer = `Authorization: Bearer ${reader}\r\n`;
  const twice = await raw(`${bearer}Authorization: Bearer ${admin}\r\n`);
  t.equal(statusOf(twice), 400);
  t.match(twice, /www-authenticate: Bearer realm="selvedge", error="invalid_request"/i);
  t.equal(statusOf(await raw(`${bearer}aUTHORIZATION: Basic eDp5\r\n`)), 400);
  const none = await raw('');
  t.equal(statusOf(none), 401);
  t.match(none, /www-authenticate: Bearer realm="selvedge"\r/i);
  t.match(none, /SLV_UNAUTHORIZED/);
  const confused = await raw(`Authorization: Bearer ${hmacToken('HS256', FIRST.pem, { iss }, { kid: 'first' })}\r\n`);
  t.match(confused, /401[\s\S]*error="invalid_token"/);
  t.notMatch(confused, /HS256|algorithm|127\.0\.0\.1/, 'the reason is for the log alone');
  t.equal(seen.length, before, 'nothing of these reached the service');

  const written = () => readFileSync(file, 'utf8').split('\n').slice(0, -1);
  await eventually(() => written().length === 10, 'ten lines are written');
  const reasons = written().map((line) => JSON.parse(line).because);
  t.strictSame(
    reasons.filter((reason) => reason !== undefined),
    ['jwt_signature', 'jwt_repeated', 'jwt_repeated', 'jwt_missing', 'jwt_algorithm'],
  );
});

t.test(
  'keys that change are followed, and tokens that name unknown ones cannot make it ask all the time',
  async (t) => {
    const server = await jwksServer(t, jwkSet(FIRST));
    const { ask } = await gateway(t, of(server));
    const iss = server.origin;
    const good = token(FIRST, { iss });
    t.equal(await ask(good), 200);
    const asked = server.asked.length;
    t.ok(asked <= 2);

    const guesses = Array.from({ length: 50 }, (_, index) => token(FIRST, { iss }, { kid: `guess ${index}` }));
    const before = performance.now();
    for (const guess of guesses) t.equal(await ask(guess), 401);
    const longest = Math.ceil((performance.now() - before) / 1_000) + 1;
    t.ok(server.asked.length - asked <= longest, `${server.asked.length - asked} fetches for fifty guesses`);

    server.answer = (_req, res) => void res.end(jwkSet(SECOND));
    const next = token(SECOND, { iss });
    await eventuallyIs(() => ask(next), 200);
    t.equal(await ask(good), 401, 'remembered or not: its key was taken back');
  },
);

t.test('keys that change are followed by tokens that name none, too', async (t) => {
  const server = await jwksServer(t, jwkSet(FIRST));
  const { ask } = await gateway(t, of(server));
  const iss = server.origin;
  const other = signer('ES256');
  const nameless = (by: typeof other) => token(by, { iss }, { kid: undefined });
  t.equal(await ask(nameless(FIRST)), 200);
  t.equal(await ask(nameless(other)), 401);
  server.answer = (_req, res) => void res.end(jwkSet(other));
  await eventuallyIs(() => ask(nameless(other)), 200);
  t.equal(await ask(nameless(FIRST)), 401);
});

t.test(
  'a key that is replaced under its own name is followed, and bad signatures ask at most once a second',
  async (t) => {
    const server = await jwksServer(t, jwkSet(FIRST));
    const { ask } = await gateway(t, of(server));
    const iss = server.origin;
    const old = token(FIRST, { iss });
    t.equal(await ask(old), 200);
    const next = signer('ES256', FIRST.kid);
    const began = performance.now();
    const asked = server.asked.length;
    for (let i = 0; i < 50; i++) t.equal(await ask(token(next, { iss, jti: String(i) })), 401);
    const seconds = Math.ceil((performance.now() - began) / 1_000) + 1;
    t.ok(server.asked.length - asked <= seconds, `${server.asked.length - asked} fetches for fifty bad signatures`);
    server.answer = (_req, res) => void res.end(jwkSet(next));
    await eventuallyIs(() => ask(token(next, { iss })), 200);
    t.equal(await ask(old), 401, 'remembered, but the key was taken back');
  },
);

t.test('a restart while the issuer is down has the keys of before', async (t) => {
  const server = await jwksServer(t, jwkSet(FIRST));
  const other = await jwksServer(t, jwkSet(SECOND));
  const { port: upstream } = await service(t);
  const jwksDir = join(t.testdir(), 'jwks');
  const issuers = [of(server), of(other)].map(({ jwksDir: _, ...issuer }) => issuer);
  const config = edgeTo([upstream], { gateway: { plugins: [{ jwt: { jwksDir, issuers } }] } });
  const start = async () => {
    const edge = await run(t, config);
    return { ...edge, ...client(t, edge.port) };
  };
  const first = await start();
  await eventuallyIs(() => first.ask(token(FIRST, { iss: server.origin })), 200);
  await eventuallyIs(() => first.ask(token(SECOND, { iss: other.origin })), 200);
  await first.selvedge.close();
  t.equal(readdirSync(jwksDir).length, 2);

  server.answer = () => {};
  other.answer = (_req, res) => void res.writeHead(500).end();
  for (const file of readdirSync(jwksDir))
    if (readFileSync(join(jwksDir, file), 'utf8').includes(other.origin))
      writeFileSync(join(jwksDir, file), '{"version":1');
  const second = await start();
  t.equal(await second.ask(token(FIRST, { iss: server.origin })), 200, 'at once, while its issuer says nothing');
  t.equal(await second.ask(token(SECOND, { iss: other.origin })), 503, 'of a file that is broken there are none');
  other.answer = (_req, res) => void res.end(jwkSet(SECOND));
  await eventuallyIs(() => second.ask(token(SECOND, { iss: other.origin })), 200);
  await second.selvedge.close();

  server.answer = (_req, res) => void res.end(jwkSet(SECOND));
  const third = await start();
  await eventuallyIs(() => third.ask(token(FIRST, { iss: server.origin, jti: 'late' })), 401);
});

t.test('an issuer that fails takes no known key away, and says nothing against tokens of unknown ones', async (t) => {
  const server = await jwksServer(t, jwkSet(FIRST));
  const { ask, raw } = await gateway(t, of(server));
  const iss = server.origin;
  t.equal(await ask(token(FIRST, { iss })), 200);
  const unknown = token(SECOND, { iss });
  const failures: [string, JwksServer['answer']][] = [
    ['errors', (_req, res) => void res.writeHead(503).end()],
    ['garbage', (_req, res) => void res.end('<html>')],
    ['an empty set', (_req, res) => void res.end('{"keys":[]}')],
    ['a huge set', (_req, res) => void res.end(jwkSet(SECOND).padEnd(1_000_000))],
    ['broken connections', (req) => void req.socket.destroy()],
    ['a redirect to keys', (_req, res) => void res.writeHead(302, { location: '/other' }).end()],
  ];
  for (const [name, answer] of failures) {
    let met = 0;
    server.answer = (req, res) => {
      if (req.url === '/other') return void res.end(jwkSet(SECOND));
      met++;
      answer(req, res);
    };
    // Until it was asked anew, the answer is by the failure before.
    while (met === 0) {
      await ask(unknown);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    t.equal(await ask(unknown), 503, name);
    t.equal(await ask(token(FIRST, { iss, jti: name })), 200, `${name}: a new token with the known key`);
    t.match(await raw(`Authorization: Bearer ${unknown}\r\n`), /SLV_AUTH_UNAVAILABLE/);
  }
  t.notOk(server.asked.includes('/other'));
  server.answer = (_req, res) => void res.end(jwkSet(FIRST, SECOND));
  await eventuallyIs(() => ask(unknown), 200);
});

t.test('an issuer that is silent holds up neither the start, nor another issuer, nor a reload', async (t) => {
  const silent = await jwksServer(t, () => {});
  const server = await jwksServer(t, (req, res) => {
    const document = { issuer: server.origin, jwks_uri: server.url };
    res.end(req.url === '/jwks.json' ? jwkSet(FIRST) : JSON.stringify(document));
  });
  const { port: upstream } = await service(t);
  const file = join(t.testdir(), 'selvedge.json');
  const write = (scopes: string[]) => {
    const issuers = [of(silent), of(server, { jwks: undefined })].map(({ jwksDir: _, ...issuer }) => issuer);
    writeFileSync(
      file,
      JSON.stringify(edgeTo([upstream], { gateway: { plugins: [{ jwt: { issuers, scopes, jwksDir: false } }] } })),
    );
  };
  write([]);
  const began = performance.now();
  const selvedge = await createSelvedge({ config: file, logger: false, watch: false });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  const { ask } = client(t, Object.values(selvedge.addresses())[0].port);
  const waiting = ask(token(SECOND, { iss: silent.origin }));
  t.equal(await ask(token(FIRST, { iss: server.origin })), 200, 'by discovery');
  const fetches = server.asked.length;
  write(['orders:read']);
  await selvedge.reload();
  t.equal(await ask(token(FIRST, { iss: server.origin })), 403, 'the new config is in force');
  t.equal(await ask(token(FIRST, { iss: server.origin, scope: 'orders:read' })), 200);
  t.equal(server.asked.length, fetches, 'with the keys that were there');
  t.ok(performance.now() - began < 4_000, 'nothing of this waited for the silent one');
  t.equal(await waiting, 503, 'its own tokens do, and not forever');
});

async function eventuallyIs(ask: () => Promise<number>, status: number): Promise<void> {
  const end = performance.now() + 10_000;
  let last = 0;
  while (performance.now() < end) {
    last = await ask();
    if (last === status) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`never answered ${status}, but ${last}`);
}
