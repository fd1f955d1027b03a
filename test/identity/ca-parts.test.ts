// The bounds of a CA service's memory: of tokens on disk, of addresses and identities that are counted; and names in certificates.
import { readdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { checkToken, MAX_TOKENS, makeToken, readTokens } from '../../src/identity/ca/join-tokens.ts';
import { MAX_KEYS, makeRateLimiter } from '../../src/identity/ca/rate-limit.ts';
import { ipv6Octets } from '../../src/identity/host-name.ts';
import { CART, DOMAIN, ORDERS } from './support/ca-service.ts';

t.test('records of tokens are forgotten a day after their end, spent or not', async (t) => {
  const dir = t.testdir({});
  const now = Date.now();
  const make = (at: number) => makeToken(dir, ORDERS, { now: at, lifeMs: 60_000 });
  const spent = await make(now);
  const verdict = await checkToken(dir, spent, now);
  t.ok(verdict.ok && (await verdict.consume()));
  const unspent = await make(now);
  const files = () => readdirSync(join(dir, 'tokens')).length;
  await make(now + 86_400_000);
  t.equal(files(), 3);
  t.match(await checkToken(dir, spent, now + 86_400_000), { reason: 'token_used' });
  t.match(await checkToken(dir, unspent, now + 86_400_000), { reason: 'token_expired' });
  await make(now + 86_460_000);
  t.equal(files(), 2, 'the last two');
  t.match(await checkToken(dir, spent, now), { reason: 'token_invalid' });
});

t.test('there are never more tokens than the bound', async (t) => {
  const dir = t.testdir({});
  const now = Date.now();
  await mkdir(join(dir, 'tokens'), { mode: 0o700 });
  const record = JSON.stringify({ id: ORDERS, hash: '0'.repeat(64), expiresAt: now + 60_000 });
  const names = Array.from({ length: MAX_TOKENS }, (_, index) => index.toString(16).padStart(16, '0'));
  for (let at = 0; at < names.length; at += 500)
    await Promise.all(
      names.slice(at, at + 500).map((name) => writeFile(join(dir, 'tokens', `${name}.json`), record, { mode: 0o600 })),
    );
  await t.rejects(makeToken(dir, ORDERS, { now, lifeMs: 60_000 }), { message: /has 10000 join tokens/ });
});

t.test('a token says whom it is for; several are told apart by that', async (t) => {
  const dir = t.testdir({});
  const dates = { now: Date.now(), lifeMs: 60_000 };
  const [orders, cart] = [await makeToken(dir, ORDERS, dates), await makeToken(dir, CART, dates)];
  const expected = new Map([
    [CART, cart],
    [ORDERS, orders],
  ]);
  t.strictSame(readTokens(` ${cart}, ${orders}\n`, DOMAIN), expected);
  t.equal(readTokens('', DOMAIN).size, 0);
});

t.test('a bucket gives what it holds, fills as time passes, and never over its brim', (t) => {
  const take = makeRateLimiter({ burst: 2, perMinute: 60 });
  t.ok(take('a', 0).ok && take('a', 0).ok);
  t.strictSame(take('a', 0), { ok: false, first: true, retryAfterMs: 1_000 });
  t.strictSame(take('a', 400), { ok: false, first: false, retryAfterMs: 600 });
  t.ok(take('b', 400).ok, 'each has its own');
  t.ok(take('a', 1_000).ok);
  t.match(take('a', 1_000), { ok: false, first: true }, 'worth a line again');
  t.ok(take('a', 900_000).ok && take('a', 900_000).ok);
  t.notOk(take('a', 900_000).ok);
  t.notOk(take('a', 100).ok, 'a clock that was set back gives nothing');
  t.end();
});

t.test('whoever was seen longest ago is forgotten first', (t) => {
  const take = makeRateLimiter({ burst: 1, perMinute: 0.001 });
  take('first', 0);
  take('second', 0);
  for (let i = 0; i < MAX_KEYS - 2; i++) take(`stranger ${i}`, 0);
  t.notOk(take('first', 0).ok, 'all are remembered');
  take('one more', 0);
  t.notOk(take('first', 0).ok, 'it was seen just now');
  t.ok(take('second', 0).ok, 'it was not');
  t.end();
});

t.test('the octets of an IPv6 address are the same, however it is written', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.boolean(), (octets, zeros) => {
      // Runs of zeros are what its short forms are about.
      const address = Buffer.from(zeros ? octets.map((octet) => (octet < 170 ? 0 : octet)) : octets);
      const full = (address.toString('hex').match(/..../g) as string[]).join(':');
      const short = new URL(`http://[${full}]`).hostname.slice(1, -1);
      return isIPv6(short) && ipv6Octets(full).equals(address) && ipv6Octets(short).equals(address);
    }),
  );
  t.equal(ipv6Octets('::ffff:10.0.0.1').toString('hex'), '00000000000000000000ffff0a000001');
  t.equal(ipv6Octets('::').toString('hex'), '0'.repeat(32));
  t.end();
});
