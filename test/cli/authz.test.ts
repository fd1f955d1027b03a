// `selvedge authz`: the verdict and what led to it; and policies suggested from access logs.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { command } from '../../src/cli/authz.ts';
import { policiesFor } from '../../src/config/authorization-use.ts';
import { loadConfig } from '../../src/config/load.ts';
import { formatProblem } from '../../src/config/problem.ts';
import { createSelvedge } from '../../src/index.ts';
import { authorize, compileAuthorization } from '../../src/policies/authorization.ts';
import { peer, request } from '../policies/support/authorization.ts';
import { runCommand } from './support/io.ts';

const SHOP = `version: 1
mesh: { mtls: off }
gateways:
  public: { listeners: [{ name: http, port: 8080 }] }
services:
  cart: { endpoints: ["127.0.0.1:3001"] }
  orders:
    endpoints: [{ address: "127.0.0.1:3000", hop: "127.0.0.1:15001" }]
    internal: { inbound: { port: 15001 } }
routes:
  - { name: all, to: orders }
  - { name: cart, match: [{ path: /cart }], to: cart }
authorization:
  - name: cart-may-read
    service: orders
    allow:
      - { from: [service/cart], methods: [GET], paths: [/orders] }
      - { claims: { role: admin }, clientAddress: [10.0.0.0/8], headers: { x-a: { present: true } } }
  - { name: no-admin, service: "*", deny: [{ paths: [/admin] }] }
  - { name: get-only, gateway: public, audit: true, allow: [{ methods: [GET], hosts: [shop.example.com] }] }
`;

const dir = mkdtempSync(join(tmpdir(), 'selvedge-authz-'));
writeFileSync(join(dir, 'selvedge.yaml'), SHOP);
t.teardown(() => rmSync(dir, { recursive: true }));
const authz = (...args: string[]) => runCommand(command, args, dir);

t.test('an allowed request: the policy that decides, and what became of the others', async (t) => {
  const { code, stdout } = await authz('--from', 'service/cart', '--to', 'orders', '--path', '/x/../orders/1');
  t.equal(code, 0);
  t.equal(
    stdout,
    `target      service orders
caller      spiffe://mesh.internal/service/cart
request     GET /orders/1 of orders
considered
  - no-admin (selvedge.yaml:19:5) deny: path: wanted prefix "/admin", got "/orders/1"
  + cart-may-read (selvedge.yaml:14:5) allow: matches
verdict     allowed by cart-may-read
note        while "mesh.mtls" is off, no caller has an identity
`,
  );
});

t.test('a denied request: the first condition that failed in every rule', async (t) => {
  const { code, stdout } = await authz(
    '--from',
    'gateway/public',
    '--to',
    'service/orders',
    '--method',
    'post',
    '--path',
    '/orders',
  );
  t.equal(code, 1);
  t.match(stdout, 'allow: rule 1: method: wanted GET, got POST; rule 2: header x-a: wanted present, got none\n');
  t.match(stdout, 'verdict     denied by default deny of service orders\n');
});

t.test('a path that a service may take for another is told with that', async (t) => {
  const { code, stdout } = await authz('--from', 'service/cart', '--to', 'orders', '--path', '/orders/..;/admin');
  t.equal(code, 1);
  t.match(stdout, 'judged as   /admin, which a service may take that path for\n');
  t.match(stdout, '  + no-admin (selvedge.yaml:19:5) deny: matches\n');
});

t.test('claims, headers and address count; a repeated claim is a list', async (t) => {
  const admin = ['--to', 'orders', '--method', 'POST', '--claim', 'role=user', '--claim', 'role=admin', '-H', 'X-A: 1'];
  t.equal((await authz(...admin, '--client-address', '10.1.2.3')).code, 0);
  t.equal((await authz(...admin, '--client-address', '192.0.2.1')).code, 1);
  t.equal((await authz(...admin)).code, 1, 'an unknown address is in no network');
});

t.test('under audit the answer is yes, with what it would be', async (t) => {
  const { code, stdout } = await authz('--to', 'gateway/public', '--method', 'POST', '--host', 'shop.example.com');
  t.equal(code, 0);
  t.match(stdout, '  - get-only (selvedge.yaml:20:5) allow, audit: method: wanted GET, got POST\n');
  t.match(stdout, 'verdict     allowed; without audit it would be denied by default deny of gateway public\n');
});

t.test('where nothing applies policies it says so', async (t) => {
  const { code, stdout } = await authz('--to', 'cart', '--path', '/a');
  t.equal(code, 0);
  t.match(
    stdout,
    'verdict     allowed by no policy\nnote        service "cart" has no hop, so nothing applies its policies\n',
  );
});

t.test('--json is the whole explanation', async (t) => {
  const { code, stdout } = await authz('--to', 'orders', '--json');
  t.equal(code, 1);
  t.strictSame(JSON.parse(stdout), {
    target: { kind: 'service', name: 'orders' },
    request: {
      from: null,
      method: 'GET',
      path: '/',
      host: 'orders',
      clientAddress: '',
      headers: { host: 'orders' },
      claims: {},
    },
    verdict: { verdict: 'denied', policy: 'default deny of service orders' },
    path: '/',
    policies: [
      {
        name: 'no-admin',
        effect: 'deny',
        audit: false,
        matched: false,
        rules: ['path: wanted prefix "/admin", got "/"'],
      },
      {
        name: 'cart-may-read',
        effect: 'allow',
        audit: false,
        matched: false,
        rules: [
          'from: wanted spiffe://mesh.internal/service/cart, got no identity',
          'header x-a: wanted present, got none',
        ],
      },
    ],
    notes: [],
  });
});

t.test('wrong usage is told with what is right', async (t) => {
  const cases: [string[], string][] = [
    [[], 'authz needs a target: --to service/orders or --to gateway/public'],
    [['--to', 'ordrs'], 'no service "ordrs" in the config (did you mean "orders"?)'],
    [['--to', 'gateway/publc'], 'no gateway "publc" in the config (did you mean "public"?)'],
    [['--to', 'orders', '--from', 'service/crat'], 'no service "crat" in the config (did you mean "cart"?)'],
    [
      ['--to', 'orders', '--from', 'cart'],
      '"cart" is no caller: write service/NAME, gateway/NAME or a whole id, spiffe://…',
    ],
    [['--to', 'orders', '--path', 'orders'], '"orders" is no path of a request: it begins with "/"'],
    [['--to', 'orders', '--method', 'G T'], '"G T" is no HTTP method'],
    [['--to', 'orders', '--host', 'a b'], '"a b" is no host'],
    [['--to', 'orders', '--claim', 'admin'], '--claim takes NAME=VALUE, got "admin"'],
    [['--to', 'orders', '--client-address', '10.0.0.0/8'], '"10.0.0.0/8" is no IP address'],
    [['--to', 'orders', '--log', 'a'], '--log is for authz suggest'],
    [['sugest'], 'authz has no "sugest" (did you mean "suggest"?); it has: suggest'],
    [['suggest'], 'authz suggest needs one source: access logs, --log FILE, or a running process, --admin URL'],
    [['suggest', '--admin', 'localhost'], '"localhost" is no URL of an admin API: write http://127.0.0.1:9901'],
    [['suggest', '--log', 'a', '--to', 'orders'], 'authz suggest takes no --to'],
    [['suggest', '--log', 'nowhere.ndjson'], 'nowhere.ndjson cannot be read: no such file'],
  ];
  for (const [args, message] of cases) {
    const { code, stderr } = await authz(...args);
    t.strictSame([code, stderr.split('\n')[0]], [2, `selvedge authz: ${message}`], args.join(' '));
  }
});

t.test('a config with errors is answered with them', async (t) => {
  writeFileSync(join(dir, 'bad.yaml'), SHOP.replace('service/cart', 'service/crat'));
  const { code, stderr } = await authz('--to', 'orders', '-c', 'bad.yaml');
  t.equal(code, 3);
  t.match(stderr, 'no service "crat" (did you mean "service/cart"?)');
});

/** Lines of an access log, and what is suggested from them. */
async function suggested(lines: readonly object[], more = '') {
  const file = 'access.ndjson';
  writeFileSync(join(dir, file), `${lines.map((line) => JSON.stringify(line)).join('\n')}\n${more}`);
  return authz('suggest', '--log', file);
}

const CART = 'spiffe://mesh.internal/service/cart';
const seen = (path: string, parts: object = {}) => ({
  msg: 'request',
  role: 'inbound',
  owner: 'orders',
  peer: CART,
  method: 'GET',
  path,
  status: 200,
  verdict: 'audit_denied',
  policy: 'default deny of service orders',
  ...parts,
});
const atGateway = { role: 'gateway', owner: 'public', peer: undefined, policy: 'default deny of gateway public' };

t.test('what was denied under audit is suggested, a rule for every caller and path, with its count', async (t) => {
  const { code, stdout } = await suggested([
    ...Array.from({ length: 12 }, (_, i) => seen(`/orders/${i}`)),
    seen('/orders'),
    seen('/orders', { method: 'POST' }),
    seen('/orders', { peer: 'spiffe://mesh.internal/gateway/public' }),
    seen('/cart', atGateway),
    seen('/orders', { verdict: 'allowed', policy: 'cart-may-read' }),
    seen('/orders', { verdict: 'denied' }),
  ]);
  t.equal(code, 0);
  t.equal(
    stdout,
    `# Suggested by "selvedge authz suggest": what was asked under audit, not what should be allowed. Read every line.
authorization:
  - name: public-callers
    gateway: "public"
    allow:
      - { methods: [GET], paths: [{ exact: "/cart" }] } # GET 1
  - name: orders-callers
    service: "orders"
    allow:
      - { from: ["gateway/public"], methods: [GET], paths: [{ exact: "/orders" }] } # GET 1
      - { from: ["service/cart"], methods: [GET, POST], paths: [{ exact: "/orders" }] } # GET 1, POST 1
      - { from: ["service/cart"], methods: [GET], paths: [{ regex: "/orders/[^/]+" }] } # GET 12
`,
  );
});

t.test('what no rule should come of is counted and said', async (t) => {
  const { stdout } = await suggested([
    seen('/good'),
    seen('/a', { peer: undefined }),
    seen('/a', { peer: 'spiffe://mesh.internal/service/stranger' }),
    seen('/a', { peer: 'spiffe://elsewhere/service/cart' }),
    seen('/a', { policy: 'no-admin' }),
    seen('/wp-login.php', { status: 404 }),
    seen('/a/..;/b'),
    seen('/a/../b'),
    seen('/a', { owner: 'nobody' }),
    seen('/a', { role: 'outbound' }),
    seen('/a', { method: '"]}' }),
  ]);
  t.strictSame(
    stdout.split('\n').filter((line) => line.startsWith('  #')),
    [
      'a deny policy under audit would deny them',
      'the service itself refused them (400, 401, 403, 404, 405)',
      'services may read their path in two ways',
      'their path is cut off or malformed',
      'their callers have no identity',
      'the config does not know their callers',
    ].map((why) => `  # No rule for ${why.startsWith('the config') ? 2 : 1} of the requests to service orders: ${why}`),
  );
  t.equal(stdout.split('\n').filter((line) => line.startsWith('      - ')).length, 1);
});

t.test('a running process tells what it has seen', async (t) => {
  const selvedge = await createSelvedge({
    logger: false,
    config: {
      version: 1,
      admin: { port: 0 },
      telemetry: { accessLog: false },
      gateways: { public: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] } },
      routes: [{ name: 'all', respond: { status: 200 } }],
      authorization: [
        { name: 'audit', gateway: 'public', audit: true, allow: [{ methods: ['GET'] }] },
        { name: 'no-trace', gateway: 'public', audit: true, deny: [{ methods: ['OPTIONS'] }] },
      ],
    },
  });
  await selvedge.start();
  t.teardown(() => selvedge.close());
  const url = `http://127.0.0.1:${selvedge.addresses()['gateway/public/http'].port}`;
  for (const [method, path] of [
    ['POST', '/orders/1'],
    ['POST', '/orders/2'],
    ['PUT', '/orders/2'],
    ['GET', '/orders/3'],
    ['OPTIONS', '/orders'],
  ])
    await (await fetch(`${url}${path}`, { method })).text();
  const { port } = selvedge.adminAddress() as { port: number };
  const { code, stdout } = await authz('suggest', '--admin', `http://127.0.0.1:${port}`);
  t.equal(code, 0);
  t.equal(
    stdout.slice(stdout.indexOf('\n') + 1),
    `authorization:
  # No rule for 1 of the requests to gateway public: a deny policy under audit would deny them
  - name: public-callers
    gateway: "public"
    allow:
      - { methods: [POST, PUT], paths: [{ regex: "/orders/[^/]+" }] } # POST 2, PUT 1
`,
  );
});

t.test('no process, or something else in its place, is told', async (t) => {
  const server = createServer((_req, res) => res.end('{"seen":[{"target":1}]}'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const other = await authz('suggest', '--admin', url);
  t.strictSame(
    [other.code, other.stderr],
    [3, `selvedge authz: no admin API answers at ${url}: it knows nothing of authorization\n`],
  );
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  const nobody = await authz('suggest', '--admin', url);
  t.strictSame([nobody.code, nobody.stderr], [3, `selvedge authz: no admin API answers at ${url}: ECONNREFUSED\n`]);
});

t.test('nothing to suggest is told, with what to do', async (t) => {
  const { code, stdout, stderr } = await suggested([seen('/a', { verdict: 'allowed' })], 'no JSON "audit_denied"\n');
  t.strictSame([code, stdout], [1, '']);
  t.match(stderr, /put a policy with "audit: true" in force/);
});

t.test('what is suggested loads, beside the config, and lets in what was seen and nothing else', async (t) => {
  const paths = ['/items/"]}', "/it's", '/a,b', '/{x}', '/%C3%A9', '/100%25', '/', '/$a.b(c)/7', '/a/b/c/1/d/'];
  const { stdout } = await suggested([...paths.map((path) => seen(path)), seen('/cart', atGateway)]);
  const folder = t.testdir({ 'a.yaml': SHOP, 'b.yaml': stdout });
  const { config, problems } = await loadConfig(folder, { env: {}, cwd: folder });
  t.strictSame(problems.filter(({ severity }) => severity === 'error').map(formatProblem), []);
  const policies = policiesFor(config!, 'service', 'orders');
  const verdictOf = (path: string, who = 'service/cart') =>
    authorize(compileAuthorization('service orders', policies), request({ path, peer: peer(who, 'mesh.internal') }))
      .policy;
  for (const path of paths) t.equal(verdictOf(path), 'orders-callers', path);
  t.equal(verdictOf('/$aXb(c)/7'), 'default deny of service orders');
  t.equal(verdictOf('/a/b/c/1/d/e'), 'default deny of service orders');
  t.equal(verdictOf('/a,b', 'gateway/public'), 'default deny of service orders');
});
