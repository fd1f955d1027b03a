// Plugins of a gateway, its listeners and its routes together: who is asked, also where no route takes a request, and what a failure costs.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { type ConfigInput, createSelvedge } from '../../src/index.ts';
import { edgeTo, run } from './support/gateway.ts';
import { eventually, httpUpstream } from './support/sockets.ts';

const mark = (name: string) => ({ 'response-headers': { set: { 'x-mark': name } } });

/** Two listeners of one gateway, each with its own plugins. */
async function twoListeners(t: Test, one: readonly unknown[], two: readonly unknown[], gateway: readonly unknown[]) {
  const { port } = await httpUpstream(t, (_req, res) => res.end('served'));
  const listener = (name: string, plugins: readonly unknown[]) => ({ name, host: '127.0.0.1', port: 0, plugins });
  const config = edgeTo([port], {
    gateway: { plugins: gateway, listeners: [listener('one', one), listener('two', two)] },
    route: { match: [{ path: '/served' }] },
  });
  const { selvedge } = await run(t, config);
  const addresses = selvedge.addresses() as Record<string, { port: number }>;
  const ask = (name: string, path: string, init?: RequestInit) =>
    fetch(`http://127.0.0.1:${addresses[`gateway/edge/${name}`].port}${path}`, init);
  return { selvedge, ask };
}

t.test('each listener has its own plugins after those of the gateway, for requests without a route too', async (t) => {
  const { ask } = await twoListeners(
    t,
    [mark('one')],
    [{ 'security-headers': false }, { 'ip-rules': { deny: ['127.0.0.0/8'] } }],
    [mark('gateway'), 'security-headers'],
  );
  for (const [path, status] of [
    ['/served', 200],
    ['/nowhere', 404],
    ['/a%2Fb%00', 400],
  ] as const) {
    const one = await ask('one', path);
    t.equal(one.status, status, path);
    t.equal(one.headers.get('x-mark'), 'one', `${path}: the listener replaces what it names again`);
    t.equal(one.headers.get('x-content-type-options'), 'nosniff', path);
    const two = await ask('two', path);
    t.equal(two.status, 403, `${path}: who may not come in learns nothing of paths`);
    t.equal(two.headers.get('x-mark'), 'gateway', path);
    t.equal(two.headers.get('x-content-type-options'), null, `${path}: switched off`);
  }
});

t.test('a flood of requests without a route is limited, and counts on the account of the others', async (t) => {
  const limit = { 'rate-limit': { max: 4, window: '1h' } };
  const { ask } = await twoListeners(t, [], [{ 'rate-limit': false }], [limit]);
  const statuses: number[] = [];
  for (const path of ['/nowhere', '/served', '/elsewhere', '/nowhere', '/nowhere', '/served'])
    statuses.push((await ask('one', path)).status);
  t.strictSame(statuses, [404, 200, 404, 404, 429, 429]);
  t.equal((await ask('two', '/nowhere')).status, 404, 'where it is switched off nobody counts');
});

t.test('who somebody is, is asked by routes alone', async (t) => {
  const keys = [`mobile ${createHash('sha256').update('k'.repeat(32)).digest('hex')}`];
  const { ask } = await twoListeners(t, [], [], [{ 'api-key': { keys } }]);
  t.equal((await ask('one', '/served')).status, 401);
  t.equal((await ask('one', '/nowhere')).status, 404);
});

t.test('what a gateway says of a plugin that all begin with holds without a route too', async (t) => {
  const id = { 'request-id': { trust: true } };
  const { ask } = await twoListeners(t, [id], [], []);
  const headers = { 'x-request-id': 'given-by-the-client' };
  const idOf = async (name: string) =>
    ((await (await ask(name, '/nowhere', { headers })).json()) as { requestId: string }).requestId;
  t.equal(await idOf('one'), 'given-by-the-client');
  t.not(await idOf('two'), 'given-by-the-client');
});

t.test('a list of keys whose file is emptied lets nobody in from the next reload on', async (t) => {
  const { port } = await httpUpstream(t, (_req, res) => res.end('served'));
  const dir = t.testdir({ 'keys.txt': `mobile ${createHash('sha256').update('k'.repeat(32)).digest('hex')}\n` });
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a reference as configs write it.
  const keys = ['${file:keys.txt}'];
  const config: ConfigInput = edgeTo([port], { gateway: { plugins: [{ 'api-key': { keys } }] } });
  writeFileSync(join(dir, 'selvedge.json'), JSON.stringify(config));
  const selvedge = await createSelvedge({ config: join(dir, 'selvedge.json'), logger: false });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  const [address] = Object.values(selvedge.addresses());
  const status = async () =>
    (await fetch(`http://127.0.0.1:${address.port}/`, { headers: { 'x-api-key': 'k'.repeat(32) } })).status;
  t.equal(await status(), 200);
  writeFileSync(join(dir, 'keys.txt'), '');
  const { applied, problems } = await selvedge.reload();
  t.ok(applied);
  t.match(problems, [{ severity: 'warning', message: 'is empty: nobody passes' }]);
  t.equal(await status(), 401);
});

/** Where a plugin fails → what the client gets; null: its answer is on its way already. */
const FAILURES: readonly (readonly [phase: string, status: number])[] = [
  ['onRequest', 500],
  ['onRequest async', 500],
  ['onRequest callback', 500],
  ['preParsing', 500],
  ['preParsing async', 500],
  ['preValidation', 500],
  ['preValidation async', 500],
  ['preHandler', 500],
  ['preHandler async', 500],
  ['preHandler callback', 500],
  ['onSend', 500],
  ['onSend async', 500],
  ['onSend callback', 500],
  ['perRequest', 500],
  ['perAttempt', 500],
  ['onResponseStart', 500],
  ['onResponse', 200],
  ['onResponse async', 200],
  ['observe', 200],
];

t.test('a plugin that throws, wherever it does, costs its own request and is named in the log', async (t) => {
  const lines: { level: number; msg: string; plugin?: string; err?: { message: string } }[] = [];
  const logger = pino({}, { write: (line) => void lines.push(JSON.parse(line)) });
  const { port } = await httpUpstream(t, (_req, res) => res.end('served'));
  const plugin = new URL('./support/failing-plugin.ts', import.meta.url).pathname;
  const selvedge = await createSelvedge({ config: edgeTo([port], { route: { plugins: [plugin] } }), logger });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  const [address] = Object.values(selvedge.addresses());
  const ask = (headers: Record<string, string>) => fetch(`http://127.0.0.1:${address.port}/`, { headers });
  for (const [phase, expected] of FAILURES) {
    lines.length = 0;
    const [failed, beside] = await Promise.all([ask({ 'x-fail': phase }), ask({})]);
    const body = await failed.text();
    t.equal(failed.status, expected, phase);
    t.notMatch(body, /thrown in/, `${phase}: the error is nobody's business`);
    if (expected === 500) t.match(JSON.parse(body), { code: 'SLV_PLUGIN_FAILED' }, phase);
    t.equal(beside.status, 200, `${phase}: the request beside it`);
    await beside.text();
    await eventually(
      () => lines.some((line) => line.level >= 40 && JSON.stringify(line).includes(`thrown in ${phase}`)),
      `${phase} is logged`,
    );
    const logged = lines.find((line) => JSON.stringify(line).includes(`thrown in ${phase}`));
    // Of the upstream side nobody knows whose function it was.
    if (/^on(?!ResponseStart)|^pre/.test(phase)) t.equal(logged?.plugin, 'failing', `${phase}: named`);
  }
  await eventually(() => selvedge.status.inFlight === 0, 'nothing is in flight');
});

t.test('an answer before the body is read leaves no client hanging, whoever gives it', async (t) => {
  const { port } = await httpUpstream(t, (req, res) => req.on('end', () => res.end('served')).resume());
  const secret = 'a-secret-that-is-long-enough-for-hs256';
  const jwt = { jwt: { issuer: 'https://id.example.com', audience: 'shop', secret, jwksDir: false } };
  const own = new URL('./support/answering-plugin.ts', import.meta.url).pathname;
  const routes = [
    { name: 'jwt', match: [{ path: '/jwt' }], plugins: [jwt], to: 'app' },
    { name: 'own', match: [{ path: '/own' }], plugins: [own], to: 'app' },
    { name: 'fixed', match: [{ path: '/fixed' }], respond: { status: 200 } },
    { name: 'open', match: [{ path: '/open' }], to: 'app' },
  ];
  const edge = await run(t, edgeTo([port], { routes } as never));
  for (const [size, framing] of [10_000_000, 60_000].flatMap((bytes) => [
    [bytes, []] as const,
    [bytes, ['-H', 'Expect:']] as const,
    [bytes, ['-H', 'Transfer-Encoding: chunked']] as const,
  ])) {
    const file = join(t.testdir({ body: 'x'.repeat(size) }), 'body');
    for (const [path, status] of Object.entries({ jwt: '401', own: '202', fixed: '200' })) {
      const sent = ['-s', '-o', '-', '-w', '\n%{http_code}\n', '-m', '10', ...framing, '--data-binary', `@${file}`];
      const { stdout } = await promisify(execFile)('curl', [
        ...sent,
        `${edge.url}/${path}`,
        ...['--next', '-s', '-w', '\n%{http_code}\n', '-m', '10', `${edge.url}/open`],
      ]);
      const codes = stdout.split('\n').filter((line) => /^\d{3}$/.test(line));
      t.strictSame(codes, [status, '200'], `${path}, ${size} bytes, ${framing}: and the next request is served`);
      t.match(stdout, 'served');
    }
  }
  await eventually(() => edge.selvedge.status.inFlight === 0, 'nothing is in flight');
});
