import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { rollRoot } from '../../src/identity/authority-directory.ts';
import { builtinSource } from '../../src/identity/builtin.ts';
import type { IdentitySource } from '../../src/identity/source.ts';
import { verifyPeer } from '../../src/identity/verify.ts';
import { watchFiles } from '../../src/watch.ts';
import { chainOf } from './support/authorities.ts';
import { FakeTime } from './support/fake-time.ts';
import { listeningLog, until } from './support/log.ts';

const HOUR_MS = 3_600_000;
const ORDERS = 'spiffe://shop.internal/service/orders';
const CART = 'spiffe://shop.internal/service/cart';

/** `time`: shared by the processes of one machine. */
function source(t: Test, dir: string, time = new FakeTime()) {
  const log = listeningLog();
  const opened = builtinSource(
    { dir },
    {
      ...{ trustDomain: 'shop.internal', log, clock: time, random: () => 0 },
      watchFiles: (onChange, deps) => watchFiles(onChange, { ...deps, debounceMs: 5, pollMs: 50 }),
    },
  );
  // A watch never keeps a process alive by itself.
  const alive = setInterval(() => {}, 60_000);
  t.teardown(() => {
    clearInterval(alive);
    opened.close();
  });
  let changes = 0;
  opened.onChange(() => {
    changes += 1;
  });
  return { source: opened, time, log, changes: () => changes };
}

function idOf(from: IdentitySource, id: string, at: number, judge: IdentitySource = from): string {
  const verdict = verifyPeer(chainOf(from.svid(id)?.cert ?? ''), judge.bundles(), at);
  return verdict.ok ? verdict.id.id : verdict.reason;
}

t.test('gives a certificate for each id that is needed, now and at a later reload', async (t) => {
  const { source: own, time, changes } = source(t, join(t.testdir(), 'identity'));
  t.equal(own.svid(ORDERS), null);
  await own.need([ORDERS]);
  await own.need([CART, ORDERS]);
  t.equal(idOf(own, ORDERS, time.now()), ORDERS);
  t.equal(idOf(own, CART, time.now()), CART);
  t.strictSame([...own.bundles().keys()], ['shop.internal']);
  t.strictSame(own.warnings(), []);
  t.equal(changes(), 1, 'what the first need brought is no change');
});

t.test('two processes of a machine know each other', async (t) => {
  const dir = join(t.testdir(), 'identity');
  const time = new FakeTime();
  const [a, b] = [source(t, dir, time).source, source(t, dir, time).source];
  await Promise.all([a.need([ORDERS]), b.need([CART])]);
  t.equal(idOf(a, ORDERS, time.now(), b), ORDERS);
  t.equal(idOf(b, CART, time.now(), a), CART);
});

t.test('rotates at two thirds of the life, and the old certificate is still good then', async (t) => {
  const { source: own, time, changes } = source(t, join(t.testdir(), 'identity'));
  await own.need([ORDERS]);
  const before = own.svid(ORDERS);
  await time.advance(16 * HOUR_MS);
  await until(() => changes() === 1);
  t.not(own.svid(ORDERS)?.cert, before?.cert);
  t.not(own.svid(ORDERS)?.key, before?.key, 'with a new key');
  t.ok((before?.expiresAt ?? 0) > time.now() + 7 * HOUR_MS);
  t.equal(idOf(own, ORDERS, time.now()), ORDERS);
});

t.test('refuses ids of another trust domain', async (t) => {
  const { source: own } = source(t, join(t.testdir(), 'identity'));
  await t.rejects(
    own.need(['spiffe://other.internal/service/a']),
    /other\.internal\/service\/a is not of the trust domain shop\.internal/,
  );
});

t.test('refuses a directory that cannot be used', async (t) => {
  const dir = join(t.testdir(), 'identity');
  await source(t, dir).source.need([ORDERS]);
  chmodSync(join(dir, 'root.pem'), 0o640);
  await t.rejects(source(t, dir).source.need([ORDERS]), /root\.pem can be read or changed by others/);
});

t.test('hears of a rollover that another process has begun, and takes its steps', async (t) => {
  const dir = join(t.testdir(), 'identity');
  const { source: own, time, changes, log } = source(t, dir);
  await own.need([ORDERS]);
  const roots = (): number => chainOf(own.bundles().get('shop.internal') ?? '').length;
  const before = own.bundles();
  await rollRoot(dir, 'shop.internal', time.now());
  await until(() => roots() === 2);
  t.not(own.bundles(), before, 'another map');
  t.ok(changes() >= 1);
  t.match(log.lines, [/^info: the roots of shop\.internal have changed: 2 are trusted now/]);
  const issuerOf = (): string => chainOf(own.svid(ORDERS)?.cert ?? '')[0].issuer;
  const oldIssuer = issuerOf();
  for (let hour = 0; hour < 60; hour++) {
    await time.advance(HOUR_MS);
    // Renewals read files: real time has to pass.
    await until(() => own.warnings().length === 0 && (own.svid(ORDERS)?.expiresAt ?? 0) > time.now() + 7 * HOUR_MS);
    if (idOf(own, ORDERS, time.now()) !== ORDERS) t.fail(`refused in hour ${hour}`);
  }
  await until(() => roots() === 1);
  t.not(issuerOf(), oldIssuer);
});

t.test('goes on with what it has when its directory breaks, and says so', async (t) => {
  const dir = join(t.testdir(), 'identity');
  const { source: own, time, log, changes } = source(t, dir);
  await own.need([ORDERS]);
  const whole = readFileSync(join(dir, 'intermediate.pem'));
  writeFileSync(join(dir, 'intermediate.pem'), 'half');
  await until(() => own.warnings().length === 1);
  t.match(own.warnings(), [/intermediate\.pem cannot be used/]);
  t.match(log.lines, [/^warn: the CA in .* cannot be read, what was read before stays: .*intermediate\.pem/]);
  await time.advance(16 * HOUR_MS);
  await until(() => changes() === 1);
  t.equal(idOf(own, ORDERS, time.now()), ORDERS);
  writeFileSync(join(dir, 'intermediate.pem'), whole);
  await until(() => own.warnings().length === 0);
});

t.test('has other certificates at once when another CA has taken the place of its own', async (t) => {
  const dir = join(t.testdir(), 'identity');
  const { source: own, time } = source(t, dir);
  await own.need([ORDERS]);
  rmSync(dir, { recursive: true });
  await until(() => own.warnings().length === 1);
  t.match(own.warnings(), [/identity cannot be used: ENOENT/]);
  const { source: other } = source(t, dir, time);
  await other.need([CART]);
  await until(() => own.warnings().length === 0);
  await time.advance(1);
  await until(() => idOf(own, ORDERS, time.now(), other) === ORDERS);
  t.pass();
});

t.test('a user of certificates that fails does not keep the others from hearing of changes', async (t) => {
  const { source: own, log, changes } = source(t, join(t.testdir(), 'identity'));
  own.onChange(() => {
    throw new Error('broken');
  });
  let heard = 0;
  const stop = own.onChange(() => {
    heard += 1;
  });
  await own.need([ORDERS]);
  await own.need([CART]);
  stop();
  await own.need(['spiffe://shop.internal/service/third']);
  t.equal(changes(), 2);
  t.equal(heard, 1);
  t.match(log.lines, [/broken/, /broken/]);
});
