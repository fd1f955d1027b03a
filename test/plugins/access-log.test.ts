// The access log: what its lines say, and which requests it leaves out.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { Registry } from 'prom-client';
import t from 'tap';
import { positionOf } from '../../src/http/position.ts';
import { SharedStore } from '../../src/runtime/shared.ts';
import { type ChainOptions, testChain } from '../support/chain.ts';

const folder = mkdtempSync(join(tmpdir(), 'selvedge-access-log-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;
const newFile = (): string => join(folder, `access-${files++}.log`);

const linesOf = (file: string): Record<string, unknown>[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));

interface Logged {
  options?: Record<string, unknown>;
  chain?: ChainOptions;
  url?: string;
  headers?: Record<string, string>;
}

/** The lines that one request leaves. */
async function logged({
  options = {},
  chain: facts = {},
  url = '/',
  headers = {},
}: Logged = {}): Promise<Record<string, unknown>[]> {
  const destination = newFile();
  const chain = await testChain([['access-log', { ...options, destination }]], facts);
  await chain.inject({ url, headers }).catch(() => undefined);
  await chain.close();
  return linesOf(destination);
}

t.test('a line says what was asked, who asked, where it went and how it ended', async (t) => {
  const [line] = await logged({
    url: '/orders/1?debug=1',
    headers: { 'user-agent': 'curl/8' },
    options: { fields: { env: 'test' } },
    chain: {
      answer: () => ({ status: 201 }),
      exchange: {
        attempts: [{ endpoint: '127.0.0.1:3000', outcome: 'ok', status: 201, durationMs: 1.23456 }],
        peer: {
          id: 'spiffe://shop/service/cart',
          trustDomain: 'shop',
          service: 'cart',
          subject: '',
          fingerprint256: '',
          verified: true,
          expiresAt: 0,
        },
        subset: 'v1',
        bytesIn: 3,
        bytesOut: 5,
      },
    },
  });
  const { time, durationMs, ...rest } = line;
  t.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  t.type(durationMs, 'number');
  t.strictSame(rest, {
    level: 30,
    msg: 'request',
    requestId: 'id-1',
    role: 'gateway',
    owner: 'public',
    listener: 'http',
    clientAddress: '192.0.2.1',
    peer: 'spiffe://shop/service/cart',
    method: 'GET',
    scheme: 'http',
    host: 'shop.example.com',
    path: '/orders/1',
    query: 'debug=[redacted]',
    protocol: 'HTTP/1.1',
    userAgent: 'curl/8',
    status: 201,
    route: 'orders',
    service: 'orders',
    subset: 'v1',
    endpoint: '127.0.0.1:3000',
    upstreamMs: 1.235,
    bytesIn: 3,
    bytesOut: 5,
    env: 'test',
  });
});

t.test('attempts are written when there were several, or when the only one failed', async (t) => {
  const refused = { endpoint: 'a:1', outcome: 'upstream_refused', status: 0, durationMs: 1 };
  const ok = { endpoint: 'b:1', outcome: 'ok', status: 200, durationMs: 2 };
  const attempts = async (list: (typeof ok)[]) =>
    (await logged({ chain: { exchange: { attempts: list } } }))[0].attempts;
  t.equal(await attempts([]), undefined);
  t.equal(await attempts([ok]), undefined);
  t.strictSame(await attempts([refused, ok]), [{ endpoint: 'a:1', outcome: 'upstream_refused', durationMs: 1 }, ok]);
  t.strictSame(await attempts([refused]), [{ endpoint: 'a:1', outcome: 'upstream_refused', durationMs: 1 }]);
});

t.test('a query is written whole, by names, or not at all', async (t) => {
  const query = async (mode: string, url: string) => (await logged({ options: { query: mode }, url }))[0].query;
  t.equal(await query('full', '/?token=s3cret&a'), 'token=s3cret&a');
  t.equal(await query('names', '/?token=s3cret&a&b==x'), 'token=[redacted]&a&b=[redacted]');
  t.equal(await query('none', '/?token=s3cret'), undefined);
  t.equal(await query('full', '/'), undefined);
});

t.test('chosen headers are written, redacted ones without their value', async (t) => {
  const headers = { Authorization: 'Bearer abc', 'X-Group': 'beta', 'x-secret': 's', cookie: 'a=1' };
  const write = async (options: Record<string, unknown>) => (await logged({ headers, options }))[0];
  t.strictSame((await write({ headers: ['authorization', 'X-Group', 'Cookie', 'absent', 'constructor'] })).headers, {
    authorization: '[redacted]',
    'x-group': 'beta',
    cookie: '[redacted]',
  });
  t.strictSame((await write({ headers: ['x-secret', 'authorization'], redact: ['X-Secret'] })).headers, {
    'x-secret': '[redacted]',
    authorization: 'Bearer abc',
  });
  t.notOk(JSON.stringify(await write({})).includes('Bearer'));
});

t.test('sampling leaves out ordinary requests, never those that "always" names', async (t) => {
  const slow = { exchange: { startedAt: performance.now() - 60_000 } };
  const failed = { answer: () => ({ status: 502 }) };
  const cases: readonly {
    readonly what: string;
    readonly options: object;
    readonly chain: ChainOptions;
    readonly lines: number;
  }[] = [
    { what: 'an ordinary one at 0', options: { sample: 0 }, chain: {}, lines: 0 },
    { what: 'an ordinary one at 0%', options: { sample: '0%' }, chain: {}, lines: 0 },
    { what: 'an ordinary one at 100%', options: { sample: '100%' }, chain: {}, lines: 1 },
    { what: 'a 5xx', options: { sample: 0 }, chain: failed, lines: 1 },
    { what: 'a 5xx without errors', options: { sample: 0, always: { errors: false } }, chain: failed, lines: 0 },
    {
      what: 'a response that broke off',
      options: { sample: 0 },
      chain: { exchange: { reason: 'upstream_incomplete' } },
      lines: 1,
    },
    { what: 'a client that left', options: { sample: 0 }, chain: { answer: () => 'abort' }, lines: 1 },
    {
      what: 'a refusal',
      options: { sample: 0 },
      chain: { exchange: { reason: 'rate_limited' }, answer: () => ({ status: 429 }) },
      lines: 0,
    },
    { what: 'a slow one', options: { sample: 0, always: { slowMs: 30_000 } }, chain: slow, lines: 1 },
    { what: 'a slow one that nobody asked for', options: { sample: 0 }, chain: slow, lines: 0 },
    { what: 'a fast one', options: { sample: 0, always: { slowMs: 30_000 } }, chain: {}, lines: 0 },
  ];
  for (const { what, options, chain, lines } of cases) {
    t.equal((await logged({ options: options as Record<string, unknown>, chain })).length, lines, what);
  }
});

t.test('the sample is drawn by request id, so that edge and hops draw the same', async (t) => {
  const drawn = async (role: 'gateway' | 'inbound') => {
    const destination = newFile();
    let request = 0;
    const exchange = {
      get id() {
        return `id-${request++}`;
      },
    };
    const chain = await testChain([['access-log', { sample: '25%', destination }]], { role, exchange });
    for (let count = 0; count < 400; count++) await chain.inject({ url: '/' });
    await chain.close();
    return linesOf(destination).map(({ requestId }) => requestId);
  };
  const expected = Array.from({ length: 400 }, (_, index) => `id-${index}`).filter((id) => positionOf(id) < 0.25);
  t.ok(expected.length > 70 && expected.length < 130, `${expected.length} of 400`);
  t.strictSame(await drawn('gateway'), expected);
  t.strictSame(await drawn('inbound'), expected);
});

t.test('whatever a client sends, a request is one line, valid JSON and bounded', async (t) => {
  const destination = newFile();
  const text = fc.string({ unit: 'binary', maxLength: 6_000 });
  const exchange: Record<string, unknown> = {};
  const chain = await testChain([['access-log', { query: 'full', headers: ['x-a', 'x-b'], destination }]], {
    exchange,
  });
  await fc.assert(
    fc.asyncProperty(text, text, text, text, async (path, query, host, id) => {
      Object.assign(exchange, { path, query, host, id, peer: { id }, upgrade: host });
      await chain.inject({
        url: '/',
        headers: { 'user-agent': 'é\u2028"\\'.repeat(500), 'x-a': 'a'.repeat(9_000), 'x-b': '{"level":60}' },
      });
    }),
    { numRuns: 150, seed: 20_261_121 },
  );
  await chain.close();
  const raw = readFileSync(destination, 'utf8').split('\n').slice(0, -1);
  t.equal(raw.length, 150);
  for (const line of raw) {
    if (line.length > 32_768) t.fail(`${line.length} characters`);
    t.equal(JSON.parse(line).level, 30);
  }
});

t.test('chains share one writer, which is flushed and let go with the last of them', async (t) => {
  const destination = newFile();
  const store = new SharedStore();
  const before = process.listenerCount('exit');
  const first = await testChain([['access-log', { destination }]], { store });
  const second = await testChain([['access-log', { destination }]], { store, owner: 'partners' });
  t.equal(process.listenerCount('exit'), before + 1);
  await first.inject({ url: '/1' });
  await second.inject({ url: '/2' });
  await first.close();
  await second.inject({ url: '/3' });
  await second.close();
  t.strictSame(
    linesOf(destination).map(({ path }) => path),
    ['/1', '/2', '/3'],
  );
  t.equal(process.listenerCount('exit'), before);
});

t.test('refuses fields that lines have already, shares over 100% and files that cannot be opened', async (t) => {
  await t.rejects(testChain([['access-log', { fields: { status: 'x' } }]]), {
    message: /access-log\.fields\.status: "status" is a field of every line already/,
  });
  await t.rejects(testChain([['access-log', { sample: '150%' }]]), {
    message: /access-log\.sample: "150%" is more than 100%/,
  });
  await t.rejects(testChain([['access-log', { sample: 20 }]]), { message: /access-log\.sample: must be at most 1/ });
  await t.rejects(testChain([['access-log', { always: { error: true } }]]), {
    message: /always\.error: unknown key "error" \(did you mean "errors"\?\)/,
  });
  await t.rejects(testChain([['access-log', { destination: join(folder, 'no/such/folder') }]]), { message: /ENOENT/ });
});

t.test('lost lines are a metric', async (t) => {
  const registry = new Registry();
  const chain = await testChain([['access-log', { destination: '/dev/full' }]], { registry });
  await chain.inject({ url: '/' });
  await chain.close();
  t.match(await registry.metrics(), /^selvedge_access_log_dropped_total 1$/m);
});

t.test('a line names the trace of its request, where there is one', async (t) => {
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
  t.match(await logged({ chain: { exchange: { traceId } } }), [{ traceId }]);
  t.notOk('traceId' in (await logged())[0]);
});
