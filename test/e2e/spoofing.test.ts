// What only the gateway may say, said by a stranger in every way that a service behind might take for it; and paths with two readings.
import t, { type Test } from 'tap';
import { jwkSet, jwksServer, signer, token } from '../plugins/jwt/support.ts';
import { edgeTo, run } from './support/gateway.ts';
import { eventually, exchange, httpUpstream, RawClient, statusOf } from './support/sockets.ts';

interface Seen {
  readonly url: string;
  readonly names: readonly string[];
  readonly values: readonly string[];
}

async function edge(t: Test, overrides: Parameters<typeof edgeTo>[1] = {}) {
  const seen: Seen[] = [];
  const { port } = await httpUpstream(t, ({ url, rawHeaders }, res) => {
    const names = rawHeaders.filter((_, i) => i % 2 === 0);
    seen.push({ url: url as string, names, values: rawHeaders.filter((_, i) => i % 2 === 1) });
    res.end('served');
  });
  const running = await run(t, edgeTo([port], overrides));
  const ask = (headers: string, path = '/'): Promise<string> =>
    exchange(t, running.port, `GET ${path} HTTP/1.1\r\nHost: a\r\n${headers}Connection: close\r\n\r\n`);
  return { seen, ask };
}

/** Values of every header that CGI or WSGI would take for `name`. */
const received = ({ names, values }: Seen, name: string): string[] =>
  values.filter((_, i) => names[i].toLowerCase().replaceAll('_', '-') === name);

/** Every way to write a header with this value. */
const forms = (name: string, value: string): string[] => [
  `${name}: ${value}\r\n`,
  `${name.toUpperCase()}: ${value}\r\n`,
  `${name.replaceAll('-', '_')}: ${value}\r\n`,
  `${name.replace('-', '_').toUpperCase()}: ${value}\r\n`,
  `${name.slice(0, 4)}${name.slice(4).replace('-', '_')}: ${value}\r\n`,
  `${name}: ${value}\r\n${name}: ${value}\r\n`,
  `${name}: ${value}\r\n${name.replaceAll('-', '_')}: ${value}\r\n`,
  `${name}: ok, ${value}\r\n`,
  `Connection: ${name}\r\n${name}: ${value}\r\n`,
  `Connection: close, ${name.replaceAll('-', '_')}\r\n${name.replaceAll('-', '_')}: ${value}\r\n`,
];

const NEVER = [
  'x-selvedge-timeout-ms',
  'x-selvedge-endpoint',
  'x-selvedge-attempt',
  'x-selvedge-path',
  'x-selvedge-anything',
  'x-forwarded-client-cert',
  'forwarded',
];

t.test('what only the mesh says is dropped, however a stranger writes it', async (t) => {
  const { seen, ask } = await edge(t);
  for (const name of NEVER) {
    for (const lines of forms(name, 'spiffe-of-a-stranger')) {
      t.equal(statusOf(await ask(lines)), 200, JSON.stringify(lines));
      const last = seen[seen.length - 1];
      const said = last.names.filter((_, i) => last.values[i].includes('spiffe-of-a-stranger'));
      t.strictSame(said, [], JSON.stringify(lines));
    }
  }
});

t.test('forwarding fields are the gateway’s own, however a stranger writes them', async (t) => {
  const { seen, ask } = await edge(t);
  const own = { 'x-forwarded-for': '127.0.0.1', 'x-forwarded-proto': 'http', 'x-forwarded-host': 'a' };
  for (const [name, value] of Object.entries(own)) {
    for (const lines of forms(name, '10.66.6.6')) {
      t.equal(statusOf(await ask(lines)), 200, JSON.stringify(lines));
      t.strictSame(received(seen[seen.length - 1], name), [value], JSON.stringify(lines));
    }
  }
});

t.test('a trusted proxy speaks for its clients by the one name, and passes nothing on under another', async (t) => {
  const { seen, ask } = await edge(t, { gateway: { clientAddress: { trustedProxies: ['127.0.0.1'] } } });
  await ask(
    'X-Forwarded-For: 203.0.113.7\r\nX_Forwarded_For: 10.66.6.6\r\nx-selvedge-attempt: 7\r\nX_Selvedge_Attempt: 7\r\n',
  );
  t.strictSame(received(seen[0], 'x-forwarded-for'), ['203.0.113.7, 127.0.0.1']);
  t.strictSame(
    received(seen[0], 'x-selvedge-attempt').filter((value) => value === '7'),
    [],
  );
});

t.test('what headers may not say, trailers may not say either', async (t) => {
  const told: string[][] = [];
  const { port } = await httpUpstream(t, (req, res) => {
    req.on('end', () => res.end(`served ${told.push(req.rawTrailers)}`)).resume();
  });
  const plugins = [{ 'api-key': { keys: [`a ${'a'.repeat(64)}`], optional: true, identityHeader: 'x-client' } }];
  const running = await run(t, edgeTo([port], { gateway: { plugins } }));
  const names = [...NEVER, 'x-forwarded-for', 'x-forwarded-host', 'authorization', 'host', 'x-client'];
  const trailers = names.flatMap((name) => [name, name.toUpperCase(), name.replaceAll('-', '_')]);
  const lines = trailers.map((name) => `${name}: of-a-stranger\r\n`).join('');
  const head = 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n';
  const inOne = await RawClient.open(t, running.port);
  await inOne.send(`${head}1\r\na\r\n0\r\nx-sum: 1\r\n${lines}\r\n`).until('served 1');
  const late = await RawClient.open(t, running.port);
  late.send(`${head}1\r\na\r\n`);
  await eventually(() => running.selvedge.status.inFlight > 0, 'the request is under way');
  await late.send(`0\r\nx-sum: 1\r\n${lines}\r\n`).until('served 2');
  t.strictSame(told, [
    ['x-sum', '1'],
    ['x-sum', '1'],
  ]);
});

const SIGNER = signer('ES256', 'first');
/** Ways to write `/admin/users`, those that are refused whatever the route says, and those that are another path to everybody who keeps to the RFCs. */
const SAME = [
  '/admin/users',
  '//admin/users',
  '/admin//users',
  '/./admin/users',
  '/x/../admin/users',
  '/x/%2e%2e/admin/users',
  '/x/.%2E/admin/users',
  '/%61dmin/users',
  '/admin/./users',
  '/admin/x/../users',
];
const REFUSED = [
  '/%2fadmin/users',
  '/x%2f..%2fadmin/users',
  '/x/..%5cadmin/users',
  '/x\\..\\admin/users',
  '/admin%2Fusers',
  '/admin%00/users',
  '/%zz/admin/users',
];
const OTHERS = [
  '/x/..;/admin/users',
  '/admin;a=b/users',
  '/%2561dmin/users',
  '/ADMIN/users',
  '/admin./users',
  '/administrators',
  '/.admin/users',
  '/admin%20/users',
  '/...//admin/users',
];

t.test(
  'a route that asks for a token cannot be walked around: one path is matched, asked about and sent',
  async (t) => {
    const server = await jwksServer(t, jwkSet(SIGNER));
    const jwt = { jwt: { issuer: server.origin, audience: 'shop', jwks: server.url, jwksDir: false } };
    const bearer = `Authorization: Bearer ${token(SIGNER, { iss: server.origin })}\r\n`;
    const routes = [
      { name: 'all', to: 'app' },
      { name: 'admin', match: [{ path: '/admin' }], plugins: [jwt], to: 'app' },
    ];
    const { seen, ask } = await edge(t, { routes } as never);
    for (const path of SAME) {
      t.equal(statusOf(await ask('', path)), 401, path);
      t.equal(seen.length, 0, `${path}: nothing is sent`);
    }
    for (const path of REFUSED) t.equal(statusOf(await ask('', path)), 400, path);
    t.equal(seen.length, 0);
    for (const path of SAME) {
      t.equal(statusOf(await ask(bearer, path)), 200, path);
      t.equal(seen.at(-1)?.url, '/admin/users', `${path}: sent as it was judged`);
    }
    for (const path of OTHERS) {
      const status = statusOf(await ask('', path));
      const last = seen.at(-1)?.url as string;
      t.equal(status, 200, `${path} is another path`);
      t.notMatch(last, /^\/admin(?:\/|$)/, `${path}: and stays one on the wire`);
    }
  },
);
