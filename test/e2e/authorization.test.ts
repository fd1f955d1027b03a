// Policies at a real gateway and a real hop: what gets past them is what the service is sent, however a client writes it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { ConfigInput } from '../../src/index.ts';
import { edgeTo, run } from './support/gateway.ts';
import { eventually, exchange, httpUpstream, statusOf } from './support/sockets.ts';

type Policies = NonNullable<ConfigInput['authorization']>;

async function gateway(t: Test, authorization: Policies, overrides: Parameters<typeof edgeTo>[1] = {}) {
  const paths: string[] = [];
  const { port: upstream } = await httpUpstream(t, (req, res) => {
    paths.push(req.url as string);
    res.end('served');
  });
  const edge = await run(t, edgeTo([upstream], { authorization, ...overrides }));
  const ask = async (path: string, headers = '', method = 'GET') =>
    statusOf(
      await exchange(
        t,
        edge.port,
        `${method} ${path} HTTP/1.1\r\nHost: shop.example.com\r\n${headers}Connection: close\r\n\r\n`,
      ),
    );
  return { ...edge, paths, ask };
}

/** Other ways to write `/admin/users`, and ways in which a service may take what is written for it. */
const DISGUISES = [
  '/admin/users',
  '//admin/users',
  '/admin//users',
  '/./admin/users',
  '/public/../admin/users',
  '/public/%2e%2e/admin/users',
  '/public/.%2E/admin/users',
  '/%61dmin/users',
  '/public/..;/admin/users',
  '/public/..;x=y/admin/users',
  '/admin;x=y/users',
  '/admin/..;/admin/users',
  '/%2561dmin/users',
  '/public/%252e%252e/admin/users',
  '/public%252f..%25252fadmin/users',
];
const WITH_ENCODED_SLASHES = [
  '/public%2f..%2fadmin/users',
  '/%2fadmin/users',
  '/admin%2fusers',
  '/public/..%5cadmin%5cusers',
  '/public\\..\\admin\\users',
];
/** Not that path to anybody who keeps to the RFCs; a service that ignores case or trailing dots needs an allow policy. */
const OTHERS = ['/ADMIN/users', '/admin./users', '/administrators'];

for (const encodedSlashes of ['refuse', 'keep'] as const) {
  const route = { encodedSlashes };
  const all = [...DISGUISES, ...WITH_ENCODED_SLASHES];
  t.test(`a denied path has no other way in, encoded slashes: ${encodedSlashes}`, async (t) => {
    const authorization: Policies = [{ name: 'no-admin', gateway: 'edge', deny: [{ paths: ['/admin'] }] }];
    const { ask, paths } = await gateway(t, authorization, { route });
    for (const path of all) {
      const refused = encodedSlashes === 'refuse' && WITH_ENCODED_SLASHES.includes(path);
      t.equal(await ask(path), refused ? 400 : 403, path);
    }
    t.strictSame(paths, [], 'nothing reached the service');
    for (const path of OTHERS) t.equal(await ask(path), 200, `${path} is another path`);
  });

  t.test(`an allowed path is no way to another one, encoded slashes: ${encodedSlashes}`, async (t) => {
    const authorization: Policies = [{ name: 'public', gateway: 'edge', allow: [{ paths: ['/public'] }] }];
    const { ask, paths } = await gateway(t, authorization, { route });
    for (const path of [...all, ...OTHERS]) t.not(await ask(path), 200, path);
    t.strictSame(paths, [], 'nothing reached the service');
    for (const path of ['/public', '/public/a', '/x/../public/a', '/public/a;v=1']) t.equal(await ask(path), 200, path);
    t.strictSame(paths, ['/public', '/public/a', '/public/a', '/public/a;v=1'], 'as they were judged');
  });
}

t.test('the path is judged before a rewrite', async (t) => {
  const authorization: Policies = [{ name: 'no-admin', gateway: 'edge', deny: [{ paths: ['/admin'] }] }];
  const { ask, paths } = await gateway(t, authorization, { route: { rewrite: { path: '/admin' } } });
  t.equal(await ask('/admin'), 403);
  t.equal(await ask('/x'), 200);
  t.strictSame(paths, ['/admin']);
});

t.test('address, header, host, method and claims decide, and a client cannot make itself another', async (t) => {
  const authorization: Policies = [
    {
      name: 'readers',
      gateway: 'edge',
      allow: [
        { methods: ['GET'], clientAddress: ['127.0.0.0/8'], hosts: ['*.example.com'], headers: { 'x-team': 'shop' } },
        { claims: { role: 'admin' } },
      ],
    },
    { name: 'not-from-outside', gateway: 'edge', deny: [{ clientAddress: ['203.0.113.0/24'] }] },
  ];
  const verifier = new URL('../plugins/support/verifier.ts', import.meta.url).pathname;
  const { ask } = await gateway(t, authorization, { gateway: { plugins: [verifier] } });
  t.equal(await ask('/', 'X-Team: shop\r\n'), 200);
  t.equal(await ask('/'), 403, 'without the header');
  t.equal(await ask('/', 'X-Team: shop\r\n', 'POST'), 403);
  t.equal(await ask('/', 'Authorization: admin\r\n', 'POST'), 200, 'by a claim');
  t.equal(await ask('/', 'Authorization: user\r\n', 'POST'), 403);
  t.equal(
    await ask('/', 'X-Team: shop\r\nX-Forwarded-For: 203.0.113.9\r\n'),
    200,
    'a stranger has no say in its address',
  );
});

t.test('an upgrade is judged like any request', async (t) => {
  const { ask } = await gateway(t, [{ name: 'nobody', gateway: '*', allow: [] }]);
  const upgrade =
    'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n';
  t.equal(await ask('/', upgrade), 403);
});

t.test('redirects and fixed answers are for whom policies let in, too', async (t) => {
  const route = { to: undefined, respond: { status: 200, body: 'secret' } };
  const { ask } = await gateway(t, [{ name: 'nobody', gateway: 'edge', allow: [] }], { route });
  t.equal(await ask('/'), 403);
});

t.test('what no route takes is answered as before', async (t) => {
  const { ask } = await gateway(t, [{ name: 'nobody', gateway: 'edge', allow: [] }], {
    route: { match: [{ path: '/a' }] },
  });
  t.equal(await ask('/b'), 404);
  t.equal(await ask('/a'), 403);
});

t.test('policies of a service hold at its hop, for every caller', async (t) => {
  const { port: app } = await httpUpstream(t, (_req, res) => void res.end('served'));
  const authorization: Policies = [{ name: 'no-admin', service: '*', deny: [{ paths: ['/admin'] }] }];
  const config = edgeTo([app], {
    mesh: { mtls: 'off' },
    authorization,
    service: { internal: { inbound: { host: '127.0.0.1', port: 0 }, app: `127.0.0.1:${app}` } },
  } as never);
  const { selvedge } = await run(t, config);
  const hop = Object.entries(selvedge.addresses()).find(([key]) => key.startsWith('inbound/'))?.[1].port as number;
  const ask = async (path: string) =>
    statusOf(await exchange(t, hop, `GET ${path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n`));
  t.equal(await ask('/a'), 200);
  for (const path of [...DISGUISES, ...WITH_ENCODED_SLASHES]) t.equal(await ask(path), 403, path);
});

t.test('the log says which policy denied, and the client does not learn it', async (t) => {
  const file = join(t.testdir(), 'access.log');
  const authorization: Policies = [
    { name: 'no-admin', gateway: 'edge', deny: [{ paths: ['/admin'] }] },
    { name: 'only-get', gateway: 'edge', audit: true, allow: [{ methods: ['GET'] }] },
  ];
  const { port } = await gateway(t, authorization, { gateway: { plugins: [{ 'access-log': { destination: file } }] } });
  const asked = (method: string, path: string) =>
    exchange(t, port, `${method} ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
  const denied = await asked('GET', '/admin');
  t.match(denied, /SLV_FORBIDDEN/);
  t.notMatch(denied, /no-admin/);
  t.match(await asked('POST', '/a'), /served/);
  t.match(await asked('GET', '/a'), /served/);
  const written = () => readFileSync(file, 'utf8').split('\n').slice(0, -1);
  await eventually(() => written().length === 3, 'three lines are written');
  const lines = written().map((line) => JSON.parse(line));
  t.match(lines, [
    { path: '/admin', status: 403, reason: 'forbidden', verdict: 'denied', policy: 'no-admin' },
    { path: '/a', status: 200, verdict: 'audit_denied', policy: 'default deny of gateway edge' },
    { path: '/a', status: 200, verdict: 'allowed' },
  ]);
});
