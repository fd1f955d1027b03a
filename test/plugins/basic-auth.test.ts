// basic-auth: one right name and password passes, nothing else does, and hashing is bounded and never on the event loop.
import { spawnSync } from 'node:child_process';
import { scryptSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import { PasswordVerifier, parsePasswordHash } from '../../src/plugins/password-hash.ts';
import { VerifiedCredentials } from '../../src/plugins/verified-credentials.ts';
import { SharedStore } from '../../src/runtime/shared.ts';
import { type ChainOptions, sentValues, type TestChain, testChain } from '../support/chain.ts';

const base64 = (bytes: Buffer) => bytes.toString('base64').replace(/=+$/, '');

function hashOf(password: string, { ln = 14, r = 8, p = 1, saltBytes = 16, hashBytes = 32 } = {}): string {
  const salt = Buffer.alloc(saltBytes, ln + r + p);
  const hash = scryptSync(password, salt, hashBytes, { N: 2 ** ln, r, p, maxmem: 2 ** 28 });
  return `$scrypt$ln=${ln},r=${r},p=${p}$${base64(salt)}$${base64(hash)}`;
}

/** The very cheapest that is taken. */
const alice = `alice:${hashOf('open: sesame')}`;
const bob = `bob:${hashOf('pässwörd')}`;
const users = [alice, bob];

const basic = (pair: string) => `Basic ${Buffer.from(pair).toString('base64')}`;
const GOOD = basic('alice:open: sesame');

async function chainOf(t: Test, options: Record<string, unknown> = {}, more: ChainOptions = {}) {
  const chain = await testChain([['basic-auth', { users, ...options }]], more);
  t.teardown(() => chain.close());
  return chain;
}

const ask = (chain: TestChain, authorization: string | string[]) =>
  chain.inject({ url: '/', headers: { authorization } as never });

t.test('a user of the list passes, and the service gets the name instead', async (t) => {
  const chain = await chainOf(t, { identityHeader: 'X-User' });
  for (const [line, name] of [
    [GOOD, 'alice'],
    [basic('bob:pässwörd'), 'bob'],
    [GOOD.replace('Basic', 'bASIC  '), 'alice'],
    [GOOD.replace(/=+$/, ''), 'alice'],
    [GOOD, 'alice'],
  ]) {
    const response = await chain.inject({ url: '/', headers: { authorization: line, 'x-user': 'root' } });
    t.equal(response.statusCode, 200, line);
    const sent = chain.sent[chain.sent.length - 1];
    t.strictSame(sentValues(sent, 'authorization'), []);
    t.strictSame(sentValues(sent, 'x-user'), [name]);
  }
});

t.test('an emptied list lets nobody in', async (t) => {
  const chain = await chainOf(t, { users: [' \n# nobody any more\n'] });
  for (const authorization of [GOOD, basic('alice:'), basic(':')])
    t.equal((await chain.inject({ url: '/', headers: { authorization } })).statusCode, 401);
  t.equal((await chain.inject({ url: '/' })).statusCode, 401);
  t.equal(chain.sent.length, 0);
});

t.test('anything else is 401 with a challenge, and reaches no service', async (t) => {
  const chain = await chainOf(t, { realm: 'Back office' });
  const encoded = GOOD.slice('Basic '.length);
  const wrong: Record<string, string | string[]> = {
    'wrong password': basic('alice:open sesame'),
    'a beginning of it': basic('alice:open: sesam'),
    'more than it': basic('alice:open: sesame!'),
    'empty password': basic('alice:'),
    'of another user': basic('bob:open: sesame'),
    'unknown name': basic('mallory:open: sesame'),
    'name in other case': basic('Alice:open: sesame'),
    'no name': basic(':open: sesame'),
    'no colon': basic('alice'),
    'an inherited name': basic('__proto__:x'),
    nothing: 'Basic',
    'no base64': 'Basic ?',
    'a space inside': GOOD.replace(encoded, `${encoded.slice(0, 4)} ${encoded.slice(4)}`),
    'a tab': `Basic\t${encoded}`,
    'joined with a comma': `${GOOD}, ${GOOD}`,
    'joined after another scheme': `Bearer x, ${GOOD}`,
    'another scheme': `Bearer ${encoded}`,
    'a longer scheme': `Basic-x ${encoded}`,
    'url-safe base64': basic('bob:pässwörd').replace(/[+/]/g, '-').concat('_'),
    repeated: [GOOD, GOOD],
    'repeated, wrong second': [GOOD, basic('bob:x')],
    'repeated, other scheme second': [GOOD, 'Bearer x'],
    'repeated, other scheme first': ['Bearer x', GOOD],
    long: basic(`alice:${'x'.repeat(2_000)}`),
    hash: basic(alice),
  };
  for (const [what, authorization] of Object.entries(wrong)) {
    const response = await ask(chain, authorization);
    t.equal(response.statusCode, 401, what);
    t.equal(response.headers['www-authenticate'], 'Basic realm="Back office", charset="UTF-8"', what);
    t.equal(response.json().code, 'SLV_UNAUTHORIZED');
    const shown = /^basic(?!-)/i.test(String([authorization].flat()[0])) || Array.isArray(authorization);
    t.equal(chain.exchanges.at(-1)?.because, shown ? 'basic_auth_refused' : 'basic_auth_missing', what);
  }
  const without = await chain.inject({ url: '/', headers: { 'proxy-authorization': GOOD, 'x-authorization': GOOD } });
  t.equal(without.statusCode, 401);
  t.equal(chain.sent.length, 0);
  t.ok(chain.exchanges.every(({ reason }) => reason === 'unauthorized'));
});

t.test('optional lets pass who shows nothing, with what others may read; never a wrong password', async (t) => {
  const chain = await chainOf(t, { optional: true });
  t.equal((await chain.inject({ url: '/' })).statusCode, 200);
  t.equal((await ask(chain, 'Bearer token')).statusCode, 200);
  t.strictSame(sentValues(chain.sent[1], 'authorization'), ['Bearer token']);
  t.equal((await ask(chain, GOOD)).statusCode, 200);
  for (const line of [basic('alice:wrong'), 'Basic', 'Basic\tx', `${GOOD},Bearer x`, ['Bearer x', GOOD]])
    t.equal((await ask(chain, line)).statusCode, 401, String(line));
});

t.test('with forward the service gets the header as it came', async (t) => {
  const chain = await chainOf(t, { forward: true });
  t.equal((await ask(chain, GOOD)).statusCode, 200);
  t.strictSame(sentValues(chain.sent[0], 'authorization'), [GOOD]);
});

t.test('plugins that follow know the name', async (t) => {
  const rules = [{ claim: 'sub', value: 'bob', to: { service: 'bobs' } }];
  const chain = await testChain([
    ['basic-auth', { users }],
    ['header-routing', { rules }],
  ]);
  t.teardown(() => chain.close());
  await ask(chain, basic('bob:pässwörd'));
  t.match(chain.exchanges[0].sentTo, { service: 'bobs' });
});

t.test('a name that nobody has costs a hash of the list, and always the same one', async (t) => {
  const costs: number[] = [];
  const { verify } = PasswordVerifier.prototype;
  t.teardown(() => {
    PasswordVerifier.prototype.verify = verify;
  });
  PasswordVerifier.prototype.verify = async (_password, { cost }) => {
    costs.push(cost.p);
    return true;
  };
  const chain = await chainOf(t, { users: [1, 2, 3].map((p) => `user${p}:${hashOf('x', { p })}`) });
  for (const name of ['user2', 'nobody', 'nobody', 'nobody', 'user3'])
    t.equal((await ask(chain, basic(`${name}:${Math.random()}`))).statusCode, name === 'nobody' ? 401 : 200);
  t.equal(costs.length, 5, 'each request was hashed');
  t.strictSame([costs[0], costs[4]], [2, 3]);
  t.ok(costs[1] === costs[2] && costs[2] === costs[3]);
  for (let i = 0; i < 100; i++) await ask(chain, basic(`nobody${i}:x`));
  t.strictSame([...new Set(costs)].sort(), [1, 2, 3], 'as one user or another');
});

t.test('the event loop goes on while passwords are hashed', async (t) => {
  const chain = await chainOf(t);
  let turns = 0;
  const counting = setInterval(() => turns++, 1);
  await Promise.all([1, 2, 3, 4].map((n) => ask(chain, basic(`alice:${n}`))));
  clearInterval(counting);
  t.ok(turns >= 5, `${turns} turns`);
});

t.test('a flood of passwords is answered 503, and who is remembered passes meanwhile', async (t) => {
  const registry = new Registry();
  const store = new SharedStore();
  store.use({}, 'basic-auth verifier', () => new PasswordVerifier(2, 6));
  const chain = await chainOf(t, {}, { registry, store });
  t.equal((await ask(chain, GOOD)).statusCode, 200);
  const flood = Array.from({ length: 20 }, (_, index) => ask(chain, basic(`alice:${index}`)));
  t.equal((await ask(chain, GOOD)).statusCode, 200);
  const answers = await Promise.all(flood);
  const of = (status: number) => answers.filter(({ statusCode }) => statusCode === status);
  t.equal(of(401).length, 8, 'two at work, six waiting');
  t.equal(of(503).length, 12);
  t.match(of(503)[0].json(), { code: 'SLV_VERIFICATION_LIMIT' });
  t.equal(of(503)[0].headers['retry-after'], '1');
  t.equal(chain.exchanges.filter(({ because }) => because === 'basic_auth_unverified').length, 12);
  const metrics = await registry.metrics();
  for (const [result, count] of Object.entries({ accepted: 2, refused: 8, unverified: 12 }))
    t.match(metrics, `selvedge_basic_auth_total{owner="public",result="${result}"} ${count}\n`);
  t.equal((await ask(chain, basic('bob:pässwörd'))).statusCode, 200, 'it recovers');
});

t.test('what was right is hashed once, for its time; what was wrong each time', async (t) => {
  let now = 0;
  let asked = 0;
  const remembered = new VerifiedCredentials(1_000, () => now);
  const verify = (id: string, right: boolean) =>
    remembered.verify(id, async () => {
      asked++;
      await new Promise((resolve) => setImmediate(resolve));
      return right;
    });
  t.strictSame(await Promise.all([verify('a', true), verify('a', true), verify('b', false)]), [true, true, false]);
  t.equal(asked, 2, 'once for those who ask meanwhile');
  t.strictSame([remembered.has('a'), remembered.has('b')], [true, false]);
  now = 999;
  t.ok(remembered.has('a'));
  now = 1_000;
  t.notOk(remembered.has('a'));
  t.ok(await verify('a', true));
  for (let i = 0; i < 1_000; i++) await verify(`many ${i}`, true);
  t.notOk(remembered.has('a'), 'the oldest is forgotten');
  t.ok(remembered.has('many 0'));
  await t.rejects(
    remembered.verify('c', () => Promise.reject(new Error('no'))),
    { message: 'no' },
  );
  t.ok(await verify('c', true), 'a failure is not remembered');
  const never = new VerifiedCredentials(0, () => now);
  t.ok(await never.verify('a', async () => true));
  t.notOk(never.has('a'));
  t.notSame(never.digest('a'), remembered.digest('a'), 'each with a key of its own');
});

t.test('hashes of other programs are taken', async (t) => {
  const passlib = '$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E';
  const chain = await chainOf(t, { users: [`carol:${passlib}`] });
  t.equal((await ask(chain, basic('carol:password'))).statusCode, 200);
  t.equal((await ask(chain, basic('carol:Password'))).statusCode, 401);
});

t.test('a file has one user a line; the script of the page makes such a line', async (t) => {
  const root = join(import.meta.dirname, '../..');
  const script = join(root, 'docs/examples/hash-password.mjs');
  t.ok(
    readFileSync(join(root, 'docs/plugins/basic-auth.md'), 'utf8').includes(
      `\`\`\`js\n${readFileSync(script, 'utf8')}\`\`\``,
    ),
  );
  const made = spawnSync(process.execPath, [script, 'dave'], { input: 'tr0ub4dor\n', encoding: 'utf8' });
  const example = readFileSync(join(root, 'docs/examples/users.txt'), 'utf8');
  const chain = await chainOf(t, { users: [`# ours\r\n\r\n${alice}\r\n${made.stdout}`, example] });
  for (const pair of ['alice:open: sesame', 'dave:tr0ub4dor', 'bob:correct horse'])
    t.equal((await ask(chain, basic(pair))).statusCode, 200, pair);
});

t.test('the metric goes with the last chain', async (t) => {
  const registry = new Registry();
  const store = new SharedStore();
  const chain = await testChain([['basic-auth', { users }]], { registry, store });
  const second = await testChain([['basic-auth', { users, optional: true }]], { registry, store });
  await chain.inject({ url: '/' });
  await second.inject({ url: '/' });
  const metrics = await registry.metrics();
  for (const result of ['missing', 'anonymous'])
    t.match(metrics, `selvedge_basic_auth_total{owner="public",result="${result}"} 1\n`);
  await chain.close();
  await second.close();
  t.notMatch(await registry.metrics(), 'selvedge_basic_auth_total');
});

t.test('a list with a mistake is refused, and no message repeats what may be a password', async (t) => {
  const secret = 'kept-to-ourselves';
  const refused = async (options: Record<string, unknown>, message: RegExp) => {
    const error = await testChain([['basic-auth', { users, ...options }]]).then(
      () => t.fail(`${message} was let through`),
      (thrown: Error) => thrown,
    );
    t.match((error as Error).message, message);
    t.notMatch((error as Error).message, secret);
  };
  await refused({ users: [] }, /basic-auth\.users: must have at least one item/);
  await refused({ users: [secret] }, /basic-auth\.users\[0\]: write a name, a colon and the scrypt hash/);
  await refused({ users: [`alice:${secret}`] }, /basic-auth\.users\[0\]: what follows "alice" is no scrypt hash/);
  await refused(
    { users: [`${alice}\nbob:${secret}`] },
    /basic-auth\.users\[0\]: line 2: what follows "bob" is no scrypt/,
  );
  for (const other of ['$apr1$abcdefgh$0123456789012345678901', '$2y$05$abc', '{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=', 'x'])
    await refused({ users: [`bob:${other}`] }, /is no scrypt hash/);
  await refused({ users: [alice, alice] }, /basic-auth\.users\[1\]: "alice" is there twice/);
  await refused({ users: [`al ice:${hashOf('x')}`] }, /a name has up to 64 characters of ASCII/);
  await refused({ users: [`älice:${hashOf('x')}`] }, /a name has up to 64 characters of ASCII/);
  await refused({ realm: 'a "b"' }, /basic-auth\.realm: must be up to 128 characters/);
  await refused({ rememberFor: '2h' }, /basic-auth\.rememberFor: must be at most 1h/);
  await refused({ rememberFor: 'long' }, /basic-auth\.rememberFor: must be a duration/);
  await refused({ identityHeader: 'Authorization' }, /basic-auth\.identityHeader: "Authorization" is needed/);
  await refused({ password: secret }, /unknown key "password"/);
  const many = Array.from({ length: 1_001 }, (_, index) => `u${index}${alice.slice(5)}`);
  await refused({ users: [many.join('\n')] }, /basic-auth\.users: has 1001 lines, more than 1000/);
});

t.test('a hash is taken within its bounds only', async (t) => {
  const tail = `$${'A'.repeat(22)}$${'A'.repeat(43)}`;
  const parsed = (cost: string, rest = tail) => parsePasswordHash(`$scrypt$${cost}${rest}`);
  for (const cost of ['ln=14,r=8,p=1', 'ln=17,r=8,p=1', 'ln=16,r=8,p=2', 'ln=15,r=8,p=3', 'ln=16,r=16,p=1'])
    t.type(parsed(cost), 'object', cost);
  for (const cost of ['ln=13,r=8,p=1', 'ln=1,r=8,p=1', 'ln=0,r=99,p=99', 'ln=14,r=0,p=1', 'ln=14,r=8,p=0'])
    t.match(parsed(cost), /costs too little/, cost);
  for (const cost of ['ln=18,r=8,p=1', 'ln=17,r=16,p=1', 'ln=14,r=8,p=99', 'ln=99,r=8,p=1'])
    t.match(parsed(cost), /costs too much/, cost);
  for (const rest of [`$AAAA$${'A'.repeat(43)}`, `$${'A'.repeat(22)}$AAAA`, '', `${tail}=`, `${tail}\n`])
    t.match(parsed('ln=14,r=8,p=1', rest), /is no scrypt hash/, JSON.stringify(rest));
  for (const [ln, r, p] of [
    [17, 8, 2],
    [16, 16, 1],
    [14, 64, 2],
  ])
    t.type(
      await new PasswordVerifier().verify(
        Buffer.from('x'),
        parsePasswordHash(`$scrypt$ln=${ln},r=${r},p=${p}${tail}`) as never,
      ),
      'boolean',
      'the largest fit',
    );
});
