// api-key: who shows a key passes, whoever shows anything else does not, and no key goes further.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import { SharedStore } from '../../src/runtime/shared.ts';
import { type ChainOptions, sentValues, testChain } from '../support/chain.ts';

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const KEY = 'a'.repeat(32);
const OTHER = 'b'.repeat(32);
const keys = [`mobile ${sha256(KEY)}`, `partner@acme ${sha256(OTHER).toUpperCase()}`];

async function chainOf(t: Test, options: Record<string, unknown> = {}, more: ChainOptions = {}) {
  const chain = await testChain([['api-key', { keys, ...options }]], more);
  t.teardown(() => chain.close());
  return chain;
}

t.test('a key of the list passes, and the service gets its label instead', async (t) => {
  const chain = await chainOf(t, { identityHeader: 'X-Api-Client' });
  for (const [key, label] of [
    [KEY, 'mobile'],
    [OTHER, 'partner@acme'],
  ]) {
    const { statusCode } = await chain.inject({ url: '/', headers: { 'X-API-Key': key, 'x-api-client': 'forged' } });
    t.equal(statusCode, 200);
    const sent = chain.sent[chain.sent.length - 1];
    t.strictSame(sentValues(sent, 'x-api-key'), []);
    t.strictSame(sentValues(sent, 'x-api-client'), [label]);
    t.notOk(JSON.stringify(sent.headers).includes(key));
  }
});

t.test('the log says what was wrong, the client does not', async (t) => {
  const chain = await chainOf(t, {});
  const refused = await chain.inject({ url: '/', headers: { 'x-api-key': 'wrong' } });
  t.equal(chain.exchanges.at(-1)?.because, 'api_key_refused');
  t.notMatch(refused.body, 'api_key');
  await chain.inject({ url: '/' });
  t.equal(chain.exchanges.at(-1)?.because, 'api_key_missing');
});

t.test('anything else is 401 with a challenge, and reaches no service', async (t) => {
  const chain = await chainOf(t);
  const wrong: Record<string, Record<string, string | string[]>> = {
    none: {},
    empty: { 'x-api-key': '' },
    unknown: { 'x-api-key': 'c'.repeat(32) },
    'in other case': { 'x-api-key': KEY.toUpperCase() },
    'a beginning': { 'x-api-key': KEY.slice(0, -1) },
    'more than a key': { 'x-api-key': `${KEY}a` },
    'the hash itself': { 'x-api-key': sha256(KEY) },
    'a label': { 'x-api-key': 'mobile' },
    'joined with a comma': { 'x-api-key': `${KEY}, ${OTHER}` },
    'joined with itself': { 'x-api-key': `${KEY},${KEY}` },
    repeated: { 'x-api-key': [KEY, KEY] },
    'repeated, wrong first': { 'x-api-key': ['wrong', KEY] },
    long: { 'x-api-key': 'a'.repeat(8_000) },
    'with a space inside': { 'x-api-key': `${KEY.slice(0, 16)} ${KEY.slice(16)}` },
    'beyond ASCII': { 'x-api-key': 'é'.repeat(32) },
    'in a header of another name': { 'x-api_key': KEY, authorization: `ApiKey ${KEY}` },
    'in places nobody asked for': { cookie: `x-api-key=${KEY}` },
    'an inherited name': { 'x-api-key': 'constructor' },
  };
  for (const [what, headers] of Object.entries(wrong)) {
    const response = await chain.inject({ url: `/?x-api-key=${KEY}`, headers });
    t.equal(response.statusCode, 401, what);
    t.equal(response.headers['www-authenticate'], 'ApiKey header="x-api-key"', what);
    t.equal(response.json().code, 'SLV_UNAUTHORIZED');
  }
  t.equal(chain.sent.length, 0);
  t.ok(chain.exchanges.every(({ reason }) => reason === 'unauthorized'));
});

t.test('an emptied list lets nobody in', async (t) => {
  const chain = await chainOf(t, { keys: ['# nobody any more\n\n'] });
  for (const headers of [{}, { 'x-api-key': KEY }, { 'x-api-key': '' }])
    t.equal((await chain.inject({ url: '/', headers })).statusCode, 401);
  t.equal(chain.sent.length, 0);
});

t.test('a header named like something that every object has is no key', async (t) => {
  const chain = await chainOf(t, { header: 'constructor', optional: true });
  t.equal((await chain.inject({ url: '/' })).statusCode, 200);
  t.equal((await chain.inject({ url: '/', headers: { constructor: 'x' } })).statusCode, 401);
});

t.test('a key may come as a parameter or a cookie where that was asked for', async (t) => {
  const chain = await chainOf(t, { query: 'api key', cookie: 'k' });
  const status = async (url: string, headers: Record<string, string> = {}) =>
    (await chain.inject({ url, headers })).statusCode;
  t.equal(await status(`/?a=1&api%20key=${KEY}&b=+`), 200);
  t.equal(chain.exchanges.at(-1)?.query, 'a=1&b=+', 'neither sent nor logged');
  t.equal(await status('/', { cookie: `a=1; k=${KEY}; b=2` }), 200);
  t.strictSame(sentValues(chain.sent[1], 'cookie'), ['a=1; b=2']);
  t.equal(await status('/', { cookie: `k="${KEY}"` }), 200);
  t.strictSame(sentValues(chain.sent[2], 'cookie'), []);
  t.equal(await status(`/?api+key=${KEY}&api%20key=${KEY}`), 401, 'twice');
  t.equal(chain.exchanges.at(-1)?.query, '');
  t.equal(await status(`/?api+key=${KEY}`, { 'x-api-key': KEY }), 401, 'in two places');
  t.equal(await status('/', { cookie: `k=${KEY}`, 'x-api-key': 'wrong' }), 401, 'in two places');
  t.equal(await status('/', { cookie: `k=${KEY}; k=x` }), 401, 'two cookies');
  t.equal(await status('/?api+key'), 401, 'empty');
});

t.test('with forward the service gets the key as it came', async (t) => {
  const chain = await chainOf(t, { forward: true, header: 'X-Key', cookie: 'k' });
  await chain.inject({ url: '/', headers: { 'x-key': KEY } });
  t.strictSame(sentValues(chain.sent[0], 'x-key'), [KEY]);
  await chain.inject({ url: '/', headers: { cookie: `k=${KEY}` } });
  t.strictSame(sentValues(chain.sent[1], 'cookie'), [`k=${KEY}`]);
});

t.test('optional lets pass who shows nothing, never who shows something wrong', async (t) => {
  const chain = await chainOf(t, { optional: true, identityHeader: 'x-api-client' });
  t.equal((await chain.inject({ url: '/' })).statusCode, 200);
  t.equal((await chain.inject({ url: '/', headers: { 'x-api-key': KEY } })).statusCode, 200);
  t.equal((await chain.inject({ url: '/', headers: { 'x-api-key': 'wrong' } })).statusCode, 401);
  t.equal((await chain.inject({ url: '/', headers: { 'x-api-key': '' } })).statusCode, 401);
  t.strictSame(sentValues(chain.sent[0], 'x-api-client'), []);
});

t.test('plugins that follow know the label; claims that another one has verified stay', async (t) => {
  const rules = [{ claim: 'sub', value: 'mobile', to: { service: 'mobile' } }];
  const route = async (user?: unknown) => {
    const chain = await testChain(
      [
        ['api-key', { keys }],
        ['header-routing', { rules }],
      ],
      { user },
    );
    t.teardown(() => chain.close());
    await chain.inject({ url: '/', headers: { 'x-api-key': KEY } });
    return chain.exchanges[0].sentTo;
  };
  t.match(await route(), { service: 'mobile' });
  t.equal(await route({ sub: 'of a token' }), null);
});

t.test('what a line says of a key is a claim, for limits by plan too', async (t) => {
  const limit = { max: 1, window: '1h', key: 'apiKey', plans: { by: { claim: 'plan' }, sizes: { gold: { max: 3 } } } };
  const gold = [
    `mobile ${sha256(KEY)} plan=gold team=a`,
    `partner ${sha256(OTHER)} plan=none`,
    `third ${sha256('third')}`,
  ];
  const chain = await testChain([
    ['rate-limit', limit],
    ['api-key', { keys: gold }],
  ]);
  t.teardown(() => chain.close());
  const statuses: Record<string, number[]> = {};
  for (const key of [KEY, OTHER, 'third', KEY, OTHER, 'third', KEY, KEY]) {
    const { statusCode } = await chain.inject({ url: '/', headers: { 'x-api-key': key } });
    statuses[key] = [...(statuses[key] ?? []), statusCode];
  }
  t.strictSame(statuses, { [KEY]: [200, 200, 200, 429], [OTHER]: [200, 429], third: [200, 429] });
});

t.test(
  'the label is charged whatever another plugin has verified, and a client without a key by its address',
  async (t) => {
    const chain = await testChain(
      [
        ['api-key', { keys, optional: true }],
        ['api-key', { keys, optional: true, header: 'x-other' }],
        ['rate-limit', { max: 1, window: '1h', key: 'apiKey' }],
      ],
      { user: { sub: 'of a token' } },
    );
    t.teardown(() => chain.close());
    const status = async (headers: Record<string, string>) => (await chain.inject({ url: '/', headers })).statusCode;
    t.equal(await status({ 'x-api-key': KEY }), 200);
    t.equal(await status({ 'x-api-key': KEY }), 429);
    t.equal(await status({ 'x-other': OTHER }), 200);
    t.equal(await status({}), 200);
    t.equal(await status({}), 429);
  },
);

t.test('a file has one key a line', async (t) => {
  const file = `# ours\r\n\r\n  mobile\t${sha256(KEY)}  \r\nsecond ${sha256(OTHER)}\r\n`;
  const chain = await chainOf(t, { keys: [file, `third ${sha256('third')}`] });
  for (const key of [KEY, OTHER, 'third'])
    t.equal((await chain.inject({ url: '/', headers: { 'x-api-key': key } })).statusCode, 200);
  const example = readFileSync(join(import.meta.dirname, '../../docs/examples/keys.txt'), 'utf8');
  await chainOf(t, { keys: [example] });
});

t.test('counts by label, and takes the metric away with the last chain', async (t) => {
  const registry = new Registry();
  const store = new SharedStore();
  const chain = await testChain([['api-key', { keys }]], { registry, store });
  const second = await testChain([['api-key', { keys, optional: true }]], { registry, store });
  for (const key of [KEY, KEY, 'wrong', OTHER]) await chain.inject({ url: '/', headers: { 'x-api-key': key } });
  await chain.inject({ url: '/' });
  await second.inject({ url: '/' });
  const metrics = await registry.metrics();
  const counted = (key: string, result: string, times: number) =>
    t.match(metrics, `selvedge_api_key_total{owner="public",key="${key}",result="${result}"} ${times}\n`);
  counted('mobile', 'accepted', 2);
  counted('partner@acme', 'accepted', 1);
  counted('', 'refused', 1);
  counted('', 'missing', 1);
  counted('', 'anonymous', 1);
  await chain.close();
  await second.close();
  t.notMatch(await registry.metrics(), 'selvedge_api_key_total');
});

t.test('a list with a mistake is refused, and no message repeats what may be a key', async (t) => {
  const secret = 'kept-to-ourselves';
  const refused = async (options: Record<string, unknown>, message: RegExp) => {
    const error = await testChain([['api-key', { keys, ...options }]]).then(
      () => t.fail(`${message} was let through`),
      (thrown: Error) => thrown,
    );
    t.match((error as Error).message, message);
    t.notMatch((error as Error).message, secret);
  };
  const good = keys[0];
  await refused({ keys: undefined }, /"keys" is missing|api-key/);
  await refused({ keys: [] }, /api-key\.keys: must have at least one item/);
  await refused({ keys: [good, secret] }, /api-key\.keys\[1\]: write a label, a space and the SHA-256/);
  await refused({ keys: [`mobile ${secret}`] }, /api-key\.keys\[0\]: what follows the label is no SHA-256/);
  await refused({ keys: [`# keys\n${good}\nother ${secret}`] }, /api-key\.keys\[0\]: line 3: what follows the label/);
  const line = `mobile ${sha256(secret)}`;
  await refused({ keys: [`${line} ${secret}`] }, /keys\[0\]: attribute 1 of "mobile" is not like plan=gold/);
  await refused({ keys: [`${line} a=1 b="${secret}"`] }, /attribute 2 of "mobile" is not like plan=gold/);
  await refused({ keys: [`${line} plan=`] }, /attribute 1 of "mobile" is not like plan=gold/);
  for (const name of ['sub', 'auth']) await refused({ keys: [`${line} ${name}=root`] }, /says whose key it is/);
  await refused({ keys: [`${line} plan=gold plan=free`] }, /attribute 2 of "mobile" is there twice/);
  await refused(
    {
      keys: [
        `${line} ${'abcdefghi'
          .split('')
          .map((name) => `${name}=1`)
          .join(' ')}`,
      ],
    },
    /more than 8 attributes/,
  );
  await refused({ keys: [`-mobile ${sha256(secret)}`] }, /a label has up to 64/);
  await refused({ keys: [`${'m'.repeat(65)} ${sha256(secret)}`] }, /a label has up to 64/);
  await refused({ keys: [`mobile ${sha256('')}`] }, /"mobile" has the SHA-256 of an empty key/);
  await refused({ keys: [good, `mobile ${sha256(secret)}`] }, /keys\[1\]: "mobile" is there twice/);
  await refused({ keys: [good, `other ${sha256(KEY).toUpperCase()}`] }, /keys\[1\]: "other" has the key of another/);
  const many = Array.from({ length: 10_001 }, (_, index) => `k${index} ${sha256(String(index))}`);
  await refused({ keys: [many.join('\n')] }, /api-key\.keys: has 10001 lines, more than 10000/);
  await refused({ header: 'x key' }, /api-key\.header: "x key" is not a header name/);
  await refused({ header: 'Authorization' }, /api-key\.header: "Authorization" is needed for something else/);
  await refused({ cookie: 'a=b' }, /api-key\.cookie: /);
  await refused({ query: '' }, /api-key\.query: /);
  for (const name of ['Via', 'x-forwarded-for', 'x-selvedge-user', 'X-API-Key', 'Cookie'])
    await refused({ identityHeader: name }, /api-key\.identityHeader: ".*" is needed for something else/);
  await refused({ identityHeader: 'Host' }, /api-key\.identityHeader: "host" is set by Selvedge/);
  await refused({ key: secret }, /unknown key "key"/);
});
