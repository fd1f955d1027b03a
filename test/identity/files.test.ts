import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { issueSvid, keyPem } from '../../src/identity/authority.ts';
import { filesSource } from '../../src/identity/files.ts';
import type { Svid } from '../../src/identity/source.ts';
import { watchFiles } from '../../src/watch.ts';
import { certificatePem, chainOf, type Domain, forge, makeDomain, noOpenssl } from './support/authorities.ts';
import { FakeTime } from './support/fake-time.ts';
import { listeningLog, until } from './support/log.ts';

const ORDERS = 'spiffe://shop.internal/service/orders';
const CART = 'spiffe://shop.internal/service/cart';
const HOUR_MS = 3_600_000;

const shop = await makeDomain('shop.internal');
const svid = (id = ORDERS, domain: Domain = shop): Promise<Svid> =>
  issueSvid(domain.intermediate, id, { now: Date.now() });

/** The three files with a source on them. */
async function files(t: Test, content: Partial<Pick<Svid, 'cert' | 'key'>> & { readonly ca?: string } = {}) {
  const first = await svid();
  const { cert, key, ca } = { ...first, ca: shop.bundle, ...content };
  const dir = t.testdir({ 'tls.crt': cert, 'tls.key': key, 'ca.crt': ca });
  const paths = { cert: join(dir, 'tls.crt'), key: join(dir, 'tls.key'), ca: join(dir, 'ca.crt') };
  const time = new FakeTime();
  const log = listeningLog();
  let compared = 0;
  const source = filesSource(paths, {
    ...{ trustDomain: 'shop.internal', log, clock: time },
    watchFiles: (onChange, deps) =>
      watchFiles(
        (changed) => {
          compared += 1;
          onChange(changed);
        },
        { ...deps, debounceMs: 5, pollMs: 20 },
      ),
  });
  const alive = setInterval(() => {}, 60_000);
  t.teardown(() => {
    clearInterval(alive);
    source.close();
  });
  let changes = 0;
  source.onChange(() => {
    changes += 1;
  });
  /** Writes and waits until it was noticed. */
  const write = async (path: string, content: string): Promise<void> => {
    const before = compared;
    writeFileSync(path, content);
    await until(() => compared > before);
    // Time for what was noticed to be read.
    await new Promise((resolve) => setTimeout(resolve, 20));
  };
  return { source, paths, time, log, first, write, changes: () => changes };
}

async function refused(
  t: Test,
  content: Parameters<typeof files>[1],
  reason: RegExp,
  needed = [ORDERS],
): Promise<void> {
  const { source } = await files(t, content);
  await t.rejects(source.need(needed), reason);
  t.equal(source.svid(ORDERS), null);
}

t.test('serves the certificate that lies there', async (t) => {
  const { source, first } = await files(t);
  await source.need([ORDERS]);
  t.strictSame(source.svid(ORDERS), first);
  t.equal(source.svid(CART), null);
  t.strictSame([...source.bundles()], [['shop.internal', shop.bundle]]);
  t.strictSame(source.warnings(), []);
});

t.test('refuses to serve another id than its own, or two', async (t) => {
  await refused(t, {}, /tls\.crt is the certificate of spiffe:.*orders, this process needs that of spiffe:.*cart$/, [
    CART,
  ]);
  await refused(t, {}, /can serve one id, this process needs spiffe:.*orders and spiffe:.*cart/, [ORDERS, CART]);
  const { source } = await files(t);
  await source.need([ORDERS]);
  await t.rejects(source.need([CART]), /can serve one id/, 'nor another one later');
  t.ok(source.svid(ORDERS), 'which changes nothing');
});

t.test('says what is wrong with files that cannot be used', async (t) => {
  const own = await svid();
  const [leaf, above] = chainOf(own.cert).map((certificate) => certificate.toString());
  const foreign = await makeDomain('shop.internal');
  await refused(t, { cert: '' }, /tls\.crt cannot be used: there is no certificate/);
  await refused(t, { cert: own.cert.slice(0, 300) }, /tls\.crt cannot be used: a PEM block has no end/);
  await refused(t, { key: 'nothing' }, /tls\.key cannot be used/);
  await refused(t, { cert: (await svid()).cert }, /tls\.crt cannot be used: the key is not that of the certificate/);
  await refused(
    t,
    { key: keyPem(shop.intermediate.key), cert: own.cert },
    /the key is that of certificate 2: the certificate of the workload must come first/,
  );
  await refused(
    t,
    { ...own, cert: leaf + certificatePem(shop.root) + above },
    /certificate 2 is not the issuer of the one before it/,
  );
  await refused(t, { ...own, cert: leaf }, /an intermediate is missing/);
  await refused(t, { ca: foreign.bundle }, /no known CA has signed it/);
  await refused(t, { ca: own.cert }, /ca\.crt cannot be used: certificate 1 is not one of a CA/);
  await refused(t, { ca: 'nothing' }, /ca\.crt cannot be used: there is no PEM certificate in it/);
  await refused(
    t,
    { cert: certificatePem(shop.intermediate), key: keyPem(shop.intermediate.key) },
    /a CA certificate, used as that of a workload/,
  );
  const old = await issueSvid({ ...shop.intermediate, facts: { ...shop.intermediate.facts, notBefore: 0 } }, ORDERS, {
    now: Date.now() - 48 * HOUR_MS,
  });
  await refused(t, old, /expired at/);
  const other = await makeDomain('other.internal');
  await refused(t, await svid('spiffe://other.internal/a', other), /the trust domain other\.internal is not known/);
});

t.test('says what is wrong with the names in a certificate', { skip: noOpenssl }, async (t) => {
  const usage = 'keyUsage=critical,digitalSignature';
  await refused(t, forge(t, shop.intermediate, [usage]), /no URI SAN/);
  await refused(t, forge(t, shop.intermediate, [usage, 'subjectAltName=DNS:orders']), /no URI SAN/);
  await refused(t, forge(t, shop.intermediate, [usage, `subjectAltName=URI:${ORDERS},URI:${CART}`]), /2 URI SANs/);
});

t.test('names a file that is not there', async (t) => {
  const { source, paths } = await files(t);
  rmSync(paths.key);
  await t.rejects(source.need([ORDERS]), /tls\.key cannot be used: ENOENT/);
});

t.test('a pair may be replaced in any order: the old one stays until the new one is whole', async (t) => {
  for (const order of [
    ['cert', 'key'],
    ['key', 'cert'],
  ] as const) {
    const { source, paths, write, first, changes, log } = await files(t);
    await source.need([ORDERS]);
    const next = await svid();
    await write(paths[order[0]], next[order[0]]);
    t.strictSame(source.svid(ORDERS), first);
    await write(paths[order[1]], next[order[1]]);
    await until(() => changes() === 1);
    t.strictSame(source.svid(ORDERS), next);
    t.strictSame(log.lines, [], 'nothing to tell');
  }
});

t.test('a half-written file is waited for', async (t) => {
  const { source, paths, write, first, changes, log } = await files(t);
  await source.need([ORDERS]);
  const next = await svid();
  await write(paths.key, next.key);
  await write(paths.cert, next.cert.slice(0, 200));
  t.strictSame(source.svid(ORDERS), first);
  await write(paths.cert, next.cert);
  await until(() => changes() === 1);
  t.strictSame(source.svid(ORDERS), next);
  t.strictSame(log.lines, []);
});

t.test('another CA may come with its certificate, in any order', async (t) => {
  const next = await makeDomain('shop.internal');
  const made = await svid(ORDERS, next);
  for (const order of [
    ['ca', 'cert', 'key'],
    ['key', 'cert', 'ca'],
  ] as const) {
    const { source, paths, write, changes } = await files(t);
    await source.need([ORDERS]);
    for (const name of order) await write(paths[name], name === 'ca' ? next.bundle : made[name]);
    await until(() => changes() === 1);
    t.strictSame(source.svid(ORDERS), made);
    t.equal(source.bundles().get('shop.internal'), next.bundle);
  }
});

t.test('a second root is trusted as soon as it lies there', async (t) => {
  const { source, paths, write, changes, first } = await files(t);
  await source.need([ORDERS]);
  const next = await makeDomain('shop.internal');
  await write(paths.ca, shop.bundle + next.bundle);
  await until(() => changes() === 1);
  t.equal(source.bundles().get('shop.internal'), shop.bundle + next.bundle);
  t.equal(source.svid(ORDERS)?.cert, first.cert);
});

t.test('warns of a pair that does not fit after some seconds, and says when it does again', async (t) => {
  const { source, paths, write, time, log, changes } = await files(t);
  await source.need([ORDERS]);
  const next = await svid();
  await write(paths.cert, next.cert);
  await time.advance(4_900);
  t.strictSame([source.warnings(), log.lines], [[], []]);
  await time.advance(200);
  await until(() => log.lines.length === 1);
  t.match(log.lines, [
    /^warn: .*tls\.crt cannot be used: the key is not that of the certificate; the certificate from before stays/,
  ]);
  t.match(source.warnings(), [/tls\.crt cannot be used/]);
  await time.advance(120_000);
  t.equal(log.lines.length, 1, 'once');
  await write(paths.key, next.key);
  await until(() => changes() === 1);
  t.match(log.lines[1], /^info: .*tls\.crt.* can be used again/);
  t.strictSame(source.warnings(), []);
});

t.test('a certificate of another id does not take the place of the one in use', async (t) => {
  const { source, paths, write, time, first } = await files(t);
  await source.need([ORDERS]);
  const other = await svid(CART);
  await write(paths.cert, other.cert);
  await write(paths.key, other.key);
  await time.advance(6_000);
  await until(() => source.warnings().length === 1);
  t.match(source.warnings(), [/is the certificate of spiffe:.*cart, this process needs that of spiffe:.*orders/]);
  t.strictSame(source.svid(ORDERS), first);
});

t.test('warns of a certificate that nobody replaces', async (t) => {
  const { source, time, log } = await files(t);
  await source.need([ORDERS]);
  await time.advance(19 * HOUR_MS);
  t.strictSame(source.warnings(), []);
  await time.advance(0.5 * HOUR_MS);
  t.match(source.warnings(), [/^the certificate of spiffe:.*orders expires at .* and .*tls\.crt has no newer one$/]);
  t.equal(log.lines.length, 1);
  await time.advance(5 * HOUR_MS);
  t.equal(log.lines.length, 2);
  t.match(log.lines[1], /has expired at/);
});

t.test('a file that is renamed into place is noticed like one that is written', async (t) => {
  const { source, paths, changes } = await files(t);
  await source.need([ORDERS]);
  const next = await svid();
  for (const name of ['cert', 'key'] as const) {
    writeFileSync(`${paths[name]}.new`, next[name]);
    renameSync(`${paths[name]}.new`, paths[name]);
  }
  await until(() => changes() === 1);
  t.equal(readFileSync(paths.cert, 'utf8'), source.svid(ORDERS)?.cert);
});
