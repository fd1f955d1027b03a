import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import t from 'tap';
import { EXIT, UsageError } from '../../src/cli/command.ts';
import { command } from '../../src/cli/explain.ts';
import type { Explanation } from '../../src/routing/explanation.ts';

const SHOP = `
version: 1
mesh: { mtls: off }
telemetry: { accessLog: false }
gateways:
  public:
    listeners:
      - { name: http, port: 8080 }
      - { name: alt, port: 8081 }
    plugins: [request-headers: { set: { x-edge: public } }, body-limit: { max: 1MiB }]
services:
  orders:
    endpoints:
      - { address: 127.0.0.1:3001, labels: { version: v1 } }
      - { address: 127.0.0.1:3002, labels: { version: v2 }, weight: 3, hop: 127.0.0.1:15001 }
    subsets: { v1: { version: v1 }, v2: { version: v2 } }
    internal:
      inbound: { host: 127.0.0.1, port: 15001 }
      outbound: { host: 127.0.0.1, port: 15002, ports: { cart: 127.0.0.1:7001 } }
  cart:
    endpoints: [127.0.0.1:3003]
routes:
  - name: orders-beta
    hosts: [shop.example.com]
    match: [{ path: /orders, headers: { x-group: beta }, methods: [GET] }]
    to: [{ service: orders, subset: v2 }]
  - name: orders
    hosts: [shop.example.com]
    match: [{ path: /orders }]
    plugins: [body-limit: { max: 10MiB }, request-id: false]
    to:
      - { service: orders, subset: v1, weight: 90 }
      - { service: orders, subset: v2, weight: 10, rewrite: { host: v2.orders } }
    rewrite: { prefix: /api/orders }
    timeout: { request: 2s, perTry: 500ms, idle: 0s }
  - name: old
    match: [{ path: /old }]
    redirect: { scheme: https, prefix: /new, status: 301 }
  - name: closed
    listeners: [alt]
    match: [{ path: { regex: '/closed/[0-9]+' }, cookies: { ab: b } }]
    respond: { status: 403, body: closed, headers: { x-why: closed } }
`;

const dir = mkdtempSync(join(tmpdir(), 'selvedge-explain-'));
writeFileSync(join(dir, 'selvedge.yaml'), SHOP);
t.teardown(() => rmSync(dir, { recursive: true }));

class Text extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

async function explain(method: string, url: string, values: Record<string, string | boolean | string[]> = {}) {
  const stdout = new Text();
  const stderr = new Text();
  const io = { stdout, stderr, env: {}, cwd: dir };
  const code = await command.run({ values, positionals: [method, url], rest: [] }, io);
  return { code, out: stdout.text, err: stderr.text };
}

async function explained(method: string, url: string, values: Record<string, string | string[]> = {}) {
  const { code, out } = await explain(method, url, { ...values, json: true });
  return { code, explanation: JSON.parse(out) as Explanation };
}

t.test('prints the way of a forwarded request', async (t) => {
  const { code, out, err } = await explain('get', 'http://shop.example.com:8080//orders/%31?x=y', {
    header: ['x-group: alpha'],
  });
  t.equal(code, EXIT.good);
  t.equal(err, '');
  t.equal(
    out,
    `listener    gateway public, http (0.0.0.0:8080)
host        shop.example.com
path        /orders/1
query       x=y
considered
  - orders-beta [prefix /orders, GET, header x-group exact "beta"] (selvedge.yaml:25:13): header x-group: wanted exact "beta", got "alpha"
  + orders [prefix /orders] (selvedge.yaml:29:13): chosen
  - old [prefix /old] (selvedge.yaml:37:13): path: wanted prefix "/old", got "/orders/1"
route       orders (selvedge.yaml:27:5), by prefix /orders
chain
   1  metrics          default
   2  load-shedding    default
   3  request-headers  gateway public (selvedge.yaml:10:15)
   4  body-limit       route orders (selvedge.yaml:30:15), replaces that of gateway public (selvedge.yaml:10:61)
   -  request-id       default, switched off by route orders (selvedge.yaml:30:43)
forward     orders, subset v1, 90% of requests, as /api/orders/1 of shop.example.com:8080
  endpoint  127.0.0.1:3001
forward     orders, subset v2, 10% of requests, as /orders/1 of v2.orders
  endpoint  127.0.0.1:3002 through its hop 127.0.0.1:15001, weight 3
timeouts    request 2s, per try 500ms, idle none
retry       1 more try on connect-failure, refused-stream (default)
`,
  );
});

t.test('says what is answered by a route that does not forward', async (t) => {
  const old = await explain('GET', '/old/x', { header: ['Host: shop.example.com:8080'] });
  t.match(old.out, /^answer {6}301, location: https:\/\/shop\.example\.com\/new\/x$/m);
  t.equal(old.code, EXIT.good);
  const closed = await explain('GET', 'http://any:8081/closed/7', { header: ['cookie: x=1', 'cookie: ab=b'] });
  t.match(closed.out, /answer {6}403, 6 bytes of body\n {12}x-why: closed\n/);
});

t.test('says what is refused and why, and exits 1', async (t) => {
  const refused = async (url: string, values = {}) => {
    const { code, explanation } = await explained('GET', url, values);
    t.equal(code, EXIT.checkFailed, url);
    t.equal(explanation.route, null, url);
    return `${explanation.refused?.status} ${explanation.refused?.code}: ${explanation.refused?.why}`;
  };
  t.equal(await refused('/nowhere'), '404 SLV_ROUTE_NOT_FOUND: no route matches');
  t.equal(await refused('http://nobody/', { internal: 'orders' }), '404 SLV_SERVICE_NOT_FOUND: no route matches');
  t.equal(await refused('/a%00b'), '400 SLV_BAD_PATH: the path has a NUL');
  t.equal(await refused('/a%zz'), '400 SLV_BAD_PATH: the path has the invalid escape "%zz"');
  t.equal(await refused('/a b'), '400 SLV_BAD_PATH: the path has a space, a control character, "#" or "?"');
  t.match(await refused('/old/a%2Fb'), /^400 SLV_BAD_PATH: .* route "old" does not say encodedSlashes: keep$/);
  t.equal(await refused('http://a..b/'), '400 SLV_BAD_HOST: the host "a..b" is malformed');
});

t.test('explains the hops of a service', async (t) => {
  const outbound = await explained('GET', 'http://cart/a', { internal: 'orders' });
  t.match(outbound.explanation, {
    listener: { role: 'outbound', name: 'outbound', address: '127.0.0.1:15002' },
    route: { name: 'internal/cart' },
  });
  const local = await explained('GET', 'http://whatever/a', { internal: 'orders', listener: 'cart' });
  t.match(local.explanation.route, {
    name: 'internal/cart',
    action: { backends: [{ service: 'cart', share: 1, endpoints: [{ address: '127.0.0.1:3003' }] }] },
  });
  const inbound = await explained('GET', '/a%2Fb', { internal: 'orders', listener: 'inbound' });
  t.match(inbound.explanation.route, {
    name: 'inbound/orders',
    action: { backends: [{ path: '/a%2Fb', endpoints: [{ address: '127.0.0.1:3002', hop: null }] }] },
  });
});

t.test('chooses the listener by name, else by port', async (t) => {
  const name = async (url: string, values = {}) => (await explained('GET', url, values)).explanation.listener.name;
  t.equal(await name('http://a:8081/'), 'alt');
  t.equal(await name('http://a/'), 'http', 'else the first');
  t.equal(await name('a:8081/x'), 'alt', 'a URL needs no scheme');
  t.equal(await name('/', { listener: 'alt', gateway: 'public' }), 'alt');
});

t.test('wrong usage is told apart from an answer', async (t) => {
  const usage = async (method: string, url: string, values = {}) => t.rejects(explain(method, url, values), UsageError);
  await usage('GET', '/', { gateway: 'nobody' });
  await usage('GET', '/', { listener: 'nobody' });
  await usage('GET', '/', { internal: 'cart' });
  await usage('GET', '/', { internal: 'orders', listener: 'nobody' });
  await usage('GET', '/', { internal: 'orders', gateway: 'public' });
  await usage('GET', '/', { header: ['no colon'] });
  await usage('G T', '/');
  await usage('GET', 'ftp://a/');
  await t.rejects(
    command.run(
      { values: {}, positionals: ['GET'], rest: [] },
      { stdout: new Text(), stderr: new Text(), env: {}, cwd: dir },
    ),
    UsageError,
  );
});

t.test('a config with errors is not explained', async (t) => {
  writeFileSync(join(dir, 'broken.yaml'), 'version: 1\nroutes: [{ name: a, to: [nobody] }]\n');
  const { code, out, err } = await explain('GET', '/', { config: 'broken.yaml' });
  t.equal(code, EXIT.couldNotStart);
  t.equal(out, '');
  t.match(err, /broken\.yaml:2:/);
});

t.test('says what is in force for a request: retries, hedges, sessions and rollouts', async (t) => {
  const route = (keys: string) => SHOP.replace('    match: [{ path: /old }]', `    match: [{ path: /old }]\n${keys}`);
  const asked = async (keys: string, values = {}) => {
    const text = route(keys).replace(
      '    redirect: { scheme: https, prefix: /new, status: 301 }\n',
      '    to: orders\n',
    );
    writeFileSync(join(dir, 'policies.yaml'), text);
    const { out, err } = await explain('GET', '/old', { config: 'policies.yaml', ...values });
    t.equal(err, '');
    return out;
  };
  const all = await asked(`    retry: { attempts: 2, on: [reset, { status: [503] }, { grpc: [unavailable] }] }
    hedge: { after: p99.5 }
    session: { cookie: slv, secret: 0123456789abcdef-hush }
    rollout: { from: v1, to: v2, steps: [0.5%, 100%], every: 90s, abortOn: { errorRate: 1% } }`);
  t.match(
    all,
    `retry       2 more tries on reset, 503, grpc unavailable (of the route)
hedge       a second try after p99.5
session     by cookie slv
rollout     from subset v1 to v2: 0.5%, 100%, each for 90s
`,
  );
  t.match(
    await asked('    retry: false\n    hedge: { after: 200ms }\n    session: { header: X-User }'),
    /retry {7}none \(of the route\)\nhedge {7}a second try after 200ms\nsession {5}by header x-user\n$/,
  );
  t.match(await asked('    plugins: [retry: { attempts: 3 }]'), /^retry {7}as plugin "retry" says$/m);
  const json = await asked('    session: { cookie: slv, secret: 0123456789abcdef-hush }', { json: true });
  t.match(JSON.parse(json).route.action.policies, {
    retry: { from: 'default', attempts: 1, bufferBytes: 65_536 },
    session: { kind: 'cookie', name: 'slv' },
  });
  t.notMatch(all + json, 'hush');
});

t.test('an address at an outbound side is explained as the service that it belongs to', async (t) => {
  const { explanation } = await explained('GET', 'http://127.0.0.1:3003/x', { internal: 'orders' });
  t.equal(explanation.request.host, 'cart');
  t.equal(explanation.route?.name, 'internal/cart');
  const edge = await explained('GET', 'http://127.0.0.1:3003/x');
  t.equal(edge.explanation.request.host, '127.0.0.1', 'at the edge it is a host like others');
});

t.test('a listener that sends everybody to https is explained as one', async (t) => {
  writeFileSync(
    join(dir, 'moved.yaml'),
    `version: 1
gateways: { public: { listeners: [{ name: http, port: 8080, redirect: { scheme: https, port: 8443 } }, { name: other, port: 8081 }] } }
services: { web: { endpoints: ['127.0.0.1:1'] } }
routes: [{ name: web, hosts: [shop.example.com], to: web }]
`,
  );
  const asked = (method: string, url: string) => explain(method, url, { config: 'moved.yaml' });
  const { code, out } = await asked('GET', 'http://shop.example.com:8080/a?b');
  t.equal(code, EXIT.good);
  t.match(out, 'answer      301, location: https://shop.example.com:8443/a?b (the listener has "redirect")');
  t.match((await asked('POST', 'http://shop.example.com:8080/a')).out, 'answer      308, location');
  const nobody = await asked('GET', 'http://other.example.com:8080/');
  t.equal(nobody.code, EXIT.checkFailed);
  t.match(nobody.out, '404 SLV_ROUTE_NOT_FOUND: this listener sends requests to https');
});

t.test('a request that no route takes meets the plugins that are for it', async (t) => {
  const dir = t.testdir({
    'mine.mjs': `
      const mine = Object.assign(async () => {}, { [Symbol.for('skip-override')]: true });
      export default mine;`,
    'selvedge.yaml': `
version: 1
telemetry: { accessLog: false }
gateways:
  public:
    plugins: [rate-limit: { max: 5, window: 1s }, api-key: { keys: ["a ${'a'.repeat(64)}"] }, ./mine.mjs, metrics: {}]
    listeners:
      - { name: http, port: 8080, plugins: [ip-rules: { deny: [203.0.113.0/24] }] }
      - { name: open, port: 8081, plugins: [rate-limit: false] }
services: { web: { endpoints: ["127.0.0.1:3000"] } }
routes: [{ name: web, match: [{ path: /web }], to: web }]
`,
  });
  const chainOf = async (url: string) => {
    const out = new Text();
    const input = { values: { json: true }, positionals: ['GET', url] };
    await command.run(input as never, { stdout: out, stderr: out, env: {}, cwd: dir } as never);
    const { unrouted } = JSON.parse(out.text) as Explanation;
    return unrouted?.map(({ plugin }) => plugin);
  };
  const defaults = ['request-id', 'metrics', 'load-shedding'];
  t.strictSame(await chainOf('http://a:8080/nowhere'), [...defaults, 'rate-limit', 'ip-rules']);
  t.strictSame(await chainOf('http://a:8081/nowhere'), defaults, 'switched off');
  t.strictSame(
    await chainOf('http://a:8080/web%2fx'),
    [...defaults, 'rate-limit', 'ip-rules'],
    'a path that is refused',
  );
  t.equal(await chainOf('http://a:8080/web'), undefined, 'a route has its own');
  const out = new Text();
  const input = { values: {}, positionals: ['GET', 'http://a:8080/nowhere'] };
  await command.run(input as never, { stdout: out, stderr: out, env: {}, cwd: dir } as never);
  t.match(out.text, /answer {6}404 [\s\S]*\nchain\n[\s\S]*rate-limit +gateway public/);
});
