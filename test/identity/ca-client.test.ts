// Certificates from a CA service, over real HTTPS: joining, renewing, restarts of both sides, rollovers, and what goes wrong.
import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { rollRoot } from '../../src/identity/authority-directory.ts';
import { caSource } from '../../src/identity/ca-client.ts';
import { type Clock, systemClock } from '../../src/identity/clock.ts';
import { openIdentity } from '../../src/identity/open.ts';
import type { IdentitySource } from '../../src/identity/source.ts';
import { verifyPeer } from '../../src/identity/verify.ts';
import { chainOf } from './support/authorities.ts';
import { CART, DOMAIN, ORDERS, openTestCa, type TestCaService, temporaryDirectory } from './support/ca-service.ts';
import { FakeTime } from './support/fake-time.ts';
import { listeningLog, until } from './support/log.ts';

const HOUR_MS = 3_600_000;

interface ClientOptions {
  readonly token?: string | null;
  readonly dir?: string;
  readonly clock?: Clock;
  readonly url?: string;
  readonly trust?: string;
}

function client(t: Test, ca: TestCaService, options: ClientOptions = {}) {
  const log = listeningLog();
  const dir = options.dir ?? temporaryDirectory(t);
  const { token = null, url = ca.url, trust = ca.trust, clock = systemClock } = options;
  const config = { kind: 'ca', url, token, trust, dir } as const;
  const source = caSource(config, { trustDomain: DOMAIN, log, clock, random: () => 0.5 });
  t.teardown(() => source.close());
  return { source, log, dir, config };
}

function isGood(source: IdentitySource, id: string, now = Date.now()): boolean {
  const svid = source.svid(id);
  const verdict = svid === null ? null : verifyPeer(chainOf(svid.cert), source.bundles(), now);
  return verdict?.ok === true && verdict.id.id === id;
}

t.test('joins by a token, and is who the token says', async (t) => {
  const ca = await openTestCa(t);
  const token = await ca.token(ORDERS);
  const { source, log } = client(t, ca, { token });
  t.equal(source.svid(ORDERS), null);
  t.equal(source.bundles().size, 0, 'nothing is known before it is needed');
  await source.need([ORDERS]);
  t.ok(isGood(source, ORDERS));
  t.equal(source.bundles().get(DOMAIN), ca.roots);
  t.strictSame(source.warnings(), []);
  t.notMatch(log.lines.join(), token.split('~')[2]);
});

t.test('the config chooses it', async (t) => {
  const ca = await openTestCa(t);
  const { config, log } = client(t, ca, { token: await ca.token(ORDERS) });
  const source = await openIdentity(config, { trustDomain: DOMAIN, log });
  t.teardown(() => source.close());
  await source.need([ORDERS]);
  t.ok(isGood(source, ORDERS));
});

t.test('a process with several roles has a token for each, in any order', async (t) => {
  const ca = await openTestCa(t);
  const token = `${await ca.token(CART)},\n ${await ca.token(ORDERS)}`;
  const { source } = client(t, ca, { token });
  await source.need([ORDERS]);
  await source.need([ORDERS, CART]);
  t.ok(isGood(source, ORDERS) && isGood(source, CART));
  t.equal(ca.audited.filter(({ event }) => event === 'issue').length, 2);
});

t.test('without a token for the id it says which one is missing and how to make it', async (t) => {
  const ca = await openTestCa(t);
  const token = await ca.token(CART);
  const wrong = client(t, ca, { token });
  await t.rejects(wrong.source.need([ORDERS]), {
    message: new RegExp(`${ORDERS}.*join tokens for ${CART} only; selvedge ca issue --id service/orders`),
  });
  await t.rejects(client(t, ca).source.need([ORDERS]), { message: /there is no join token/ });
  const senseless = await client(t, ca, { token: `${token},canary-secret` })
    .source.need([ORDERS])
    .catch((error: Error) => error.message);
  t.equal(senseless, 'join token 2 of 2 is not one: selvedge ca issue makes them');
  await t.rejects(client(t, ca).source.need(['spiffe://other/service/orders']), { message: /not of the trust domain/ });
  t.strictSame(ca.audited, [], 'the CA was not even asked');
});

t.test('a token that has been used is refused at once, and is not in the message', async (t) => {
  const ca = await openTestCa(t);
  const token = await ca.token(ORDERS);
  await client(t, ca, { token }).source.need([ORDERS]);
  const message = await client(t, ca, { token })
    .source.need([ORDERS])
    .catch((error: Error) => error.message);
  t.match(message, /no certificate for .*orders: the CA at .* refused: The join token has been used/);
  t.notMatch(message, token.split('~')[2]);
});

t.test('certificates outlive a restart, also while the CA is down, without another token', async (t) => {
  const ca = await openTestCa(t);
  const first = client(t, ca, { token: `${await ca.token(ORDERS)},${await ca.token(CART)}` });
  await first.source.need([ORDERS, CART]);
  const before = first.source.svid(ORDERS);
  first.source.close();
  for (const name of readdirSync(first.dir)) t.equal(statSync(join(first.dir, name)).mode & 0o777, 0o600, name);

  await ca.stop();
  const second = client(t, ca, { dir: first.dir });
  await second.source.need([ORDERS, CART]);
  t.strictSame(second.source.svid(ORDERS), before);
  t.ok(isGood(second.source, CART));
  t.strictSame(second.source.bundles(), first.source.bundles());
});

t.test('renews by its certificate at two thirds of its life, and keeps the new one', async (t) => {
  const clock = new FakeTime();
  // Later than its clients: TLS goes by real time, in which what it would make then is not valid yet.
  const ca = await openTestCa(t, { clock, random: () => 0 });
  const { source, dir } = client(t, ca, { token: await ca.token(ORDERS), clock });
  await source.need([ORDERS]);
  const before = source.svid(ORDERS)?.cert;
  let changes = 0;
  source.onChange(() => changes++);
  await clock.advance(15 * HOUR_MS);
  t.equal(source.svid(ORDERS)?.cert, before, 'not yet');
  await clock.advance(HOUR_MS / 2);
  await until(() => source.svid(ORDERS)?.cert !== before);
  t.equal(changes, 1);
  t.match(ca.audited.at(-1), { event: 'renew', id: ORDERS });
  t.ok(isGood(source, ORDERS, clock.now()));
  const again = client(t, ca, { dir, clock });
  await again.source.need([ORDERS]);
  t.equal(again.source.svid(ORDERS)?.cert, source.svid(ORDERS)?.cert);
});

t.test('keeps what it has while the CA is down, warns, and renews when it is back', async (t) => {
  const ca = await openTestCa(t);
  const clock = new FakeTime();
  const { source, log } = client(t, ca, { token: await ca.token(ORDERS), clock });
  await source.need([ORDERS]);
  const before = source.svid(ORDERS);
  await ca.stop();
  await clock.advance(16 * HOUR_MS);
  await until(() => source.warnings().some((warning) => warning.includes('could not be renewed')));
  t.match(log.lines.join('\n'), /warn: the certificate of .*orders expires at .* ECONNREFUSED/);
  t.equal(source.svid(ORDERS), before);
  await ca.start();
  while (source.svid(ORDERS) === before) await clock.advance(60_000);
  await clock.advance(HOUR_MS);
  await until(() => source.warnings().length === 0);
  t.ok(isGood(source, ORDERS));
});

t.test('the start waits for a CA that starts at the same time', async (t) => {
  const ca = await openTestCa(t);
  const { source } = client(t, ca, { token: await ca.token(ORDERS) });
  await ca.stop();
  const ready = source.need([ORDERS]);
  await ca.start();
  await ready;
  t.ok(isGood(source, ORDERS));
});

t.test('closing ends a start that waits', async (t) => {
  const ca = await openTestCa(t);
  const { source } = client(t, ca, { token: await ca.token(ORDERS) });
  await ca.stop();
  const ready = source.need([ORDERS]);
  source.close();
  await t.rejects(ready);
});

t.test('hears of a new root within minutes, and trusts both', async (t) => {
  const ca = await openTestCa(t);
  const clock = new FakeTime();
  const { source, dir } = client(t, ca, { token: await ca.token(ORDERS), clock });
  await source.need([ORDERS]);
  const before = source.svid(ORDERS);
  await rollRoot(ca.dir, DOMAIN, Date.now());
  await ca.stop();
  await ca.start();
  let changes = 0;
  source.onChange(() => changes++);
  await clock.advance(360_000);
  await until(() => chainOf(source.bundles().get(DOMAIN) ?? '').length === 2);
  t.equal(changes, 1);
  t.equal(source.svid(ORDERS), before, 'its certificate is as good as before');
  await until(() => chainOf(readFileSync(join(dir, 'ca-roots.pem'), 'utf8')).length === 2);
});

t.test('roots that cannot be refreshed again and again are a warning', async (t) => {
  const ca = await openTestCa(t);
  const clock = new FakeTime();
  const { source, log } = client(t, ca, { token: await ca.token(ORDERS), clock });
  await source.need([ORDERS]);
  await ca.stop();
  await clock.advance(300_000);
  t.strictSame(source.warnings(), [], 'once is nothing');
  while (source.warnings().length === 0) await clock.advance(300_000);
  t.match(source.warnings(), [/roots of shop\.internal could not be refreshed/]);
  t.equal(log.lines.filter((line) => line.includes('could not be refreshed')).length, 1);
  await ca.start();
  while (source.warnings().length > 0) await clock.advance(300_000);
  t.equal(chainOf(source.bundles().get(DOMAIN) ?? '').length, 1);
});

t.test('gives its token to nobody but the CA: neither to another root nor to another name', async (t) => {
  const ca = await openTestCa(t);
  const other = await openTestCa(t);
  const token = await ca.token(ORDERS);
  const wrongRoot = client(t, ca, { token, trust: other.trust });
  const everywhere = await openTestCa(t, { host: '0.0.0.0', dir: other.dir });
  const wrongHost = client(t, everywhere, { token, url: everywhere.url.replace('127.0.0.1', '127.0.0.2') });
  const plain = client(t, ca, { token, url: ca.url.replace('https', 'http') });
  const rejected = [
    [wrongRoot, /signature|verify|issuer|self-signed/],
    [wrongHost, /altnames/],
    [plain, /not one of https/],
  ] as const;
  await Promise.all(rejected.map(([{ source }, message]) => t.rejects(source.need([ORDERS]), { message })));
  t.strictSame([...ca.audited, ...other.audited, ...everywhere.audited], []);
});

t.test('a CA that was replaced is joined anew, with a new token', async (t) => {
  const ca = await openTestCa(t);
  const first = client(t, ca, { token: await ca.token(ORDERS) });
  await first.source.need([ORDERS]);
  first.source.close();
  const other = await openTestCa(t);
  const second = client(t, other, { dir: first.dir, token: await other.token(ORDERS) });
  await second.source.need([ORDERS]);
  await until(
    () => verifyPeer(chainOf(second.source.svid(ORDERS)?.cert ?? ''), new Map([[DOMAIN, other.roots]]), Date.now()).ok,
  );
  t.equal(second.source.bundles().get(DOMAIN), other.roots);
});

t.test('a kept certificate that has expired, is broken or is that of somebody else is not used', async (t) => {
  const ca = await openTestCa(t);
  const { source, dir } = client(t, ca, { token: `${await ca.token(ORDERS)} ${await ca.token(CART)}` });
  await source.need([ORDERS, CART]);
  const file = (part: string): string => join(dir, readdirSync(dir).find((name) => name.includes(part)) as string);
  const [orders, cart] = [file('orders'), file('cart')];

  const late = client(t, ca, { dir, clock: new FakeTime(Date.now() + 25 * HOUR_MS) });
  await t.rejects(late.source.need([ORDERS]), { message: /no join token/ });
  t.match(late.log.lines, [/svid-service\+orders-.* is not used.*expired/]);

  writeFileSync(orders, readFileSync(cart));
  await t.rejects(client(t, ca, { dir }).source.need([ORDERS]), { message: /no join token/ });
  writeFileSync(orders, 'broken');
  const fresh = client(t, ca, { dir, token: await ca.token(ORDERS) });
  await fresh.source.need([ORDERS]);
  t.ok(isGood(fresh.source, ORDERS), 'a token makes up for it');

  chmodSync(cart, 0o644);
  await t.rejects(client(t, ca, { dir }).source.need([CART]), { message: /can be read or changed by others/ });
});
