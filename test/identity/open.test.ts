import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { IdentityConfig } from '../../src/config/model.ts';
import { issueSvid } from '../../src/identity/authority.ts';
import { openIdentity } from '../../src/identity/open.ts';
import { verifyPeer } from '../../src/identity/verify.ts';
import { watchFiles } from '../../src/watch.ts';
import { chainOf, makeDomain } from './support/authorities.ts';
import { listeningLog, until } from './support/log.ts';

const ORDERS = 'spiffe://shop.internal/service/orders';
const partner = await makeDomain('partner.internal');

async function open(t: Test, config: IdentityConfig, aliases: readonly { trustDomain: string; ca: string }[] = []) {
  const log = listeningLog();
  const source = await openIdentity(config, {
    ...{ trustDomain: 'shop.internal', aliases, log },
    watchFiles: (onChange, deps) => watchFiles(onChange, { ...deps, debounceMs: 5, pollMs: 20 }),
  });
  const alive = setInterval(() => {}, 60_000);
  t.teardown(() => {
    clearInterval(alive);
    source.close();
  });
  return { source, log };
}

t.test('opens the source that the config names', async (t) => {
  const dir = t.testdir();
  const { source } = await open(t, { kind: 'builtin', dir: join(dir, 'identity') });
  await source.need([ORDERS]);
  t.ok(source.svid(ORDERS));

  const shop = await makeDomain('shop.internal');
  const svid = await issueSvid(shop.intermediate, ORDERS, { now: Date.now() });
  const paths = { cert: join(dir, 'tls.crt'), key: join(dir, 'tls.key'), ca: join(dir, 'ca.crt') };
  for (const [name, content] of Object.entries({ ...svid, ca: shop.bundle }))
    if (name in paths) writeFileSync(paths[name as keyof typeof paths], String(content));
  const files = await open(t, { kind: 'files', ...paths });
  await files.source.need([ORDERS]);
  t.strictSame(files.source.svid(ORDERS), svid);

  const spiffe = await open(t, { kind: 'spiffe', socket: join(dir, 'none.sock') });
  spiffe.source.need([ORDERS]).catch(() => {});
  await until(() => spiffe.log.lines.length > 0);
  t.match(spiffe.log.lines, [/none\.sock/]);
});

t.test('peers of an alias are known by the roots in its file, as it is now', async (t) => {
  const dir = t.testdir({ 'partner.crt': partner.bundle });
  const ca = join(dir, 'partner.crt');
  const { source, log } = await open(t, { kind: 'builtin', dir: join(dir, 'identity') }, [
    { trustDomain: 'partner.internal', ca },
  ]);
  await source.need([ORDERS]);
  let changes = 0;
  source.onChange(() => {
    changes += 1;
  });
  const peer = async (domain: typeof partner): Promise<boolean> => {
    const { cert } = await issueSvid(domain.intermediate, 'spiffe://partner.internal/service/a', { now: Date.now() });
    return verifyPeer(chainOf(cert), source.bundles(), Date.now()).ok;
  };
  t.ok(await peer(partner));
  t.equal(source.bundles(), source.bundles(), 'one map until something changes');
  const next = await makeDomain('partner.internal');
  t.notOk(await peer(next));
  writeFileSync(ca, partner.bundle + next.bundle);
  await until(() => changes === 1);
  t.ok(await peer(next));
  t.ok(await peer(partner));

  writeFileSync(ca, next.bundle.slice(0, 100));
  await until(() => source.warnings().length === 1);
  t.match(source.warnings(), [/partner\.crt cannot be used: .*; the roots from before stay in use/]);
  t.match(log.lines, [/^warn: .*partner\.crt/]);
  t.ok(await peer(partner));
  writeFileSync(ca, next.bundle);
  await until(() => source.warnings().length === 0);
  t.notOk(await peer(partner));
});

t.test('an alias without usable roots is refused at the start', async (t) => {
  const dir = t.testdir({ 'partner.crt': 'nothing' });
  const config = { kind: 'builtin', dir: join(dir, 'identity') } as const;
  for (const [name, reason] of [
    ['partner.crt', /partner\.crt cannot be used: there is no PEM certificate in it/],
    ['none.crt', /none\.crt cannot be used: ENOENT/],
  ] as const) {
    const { source } = await open(t, config, [{ trustDomain: 'partner.internal', ca: join(dir, name) }]);
    await t.rejects(source.need([ORDERS]), reason);
  }
});

t.test('no alias can speak for the own trust domain', async (t) => {
  const dir = t.testdir({ 'other.crt': partner.bundle });
  const config = { kind: 'builtin', dir: join(dir, 'identity') } as const;
  const { source } = await open(t, config, [{ trustDomain: 'shop.internal', ca: join(dir, 'other.crt') }]);
  await source.need([ORDERS]);
  t.notOk(source.bundles().get('shop.internal')?.includes(partner.bundle));
  t.ok(verifyPeer(chainOf(source.svid(ORDERS)?.cert ?? ''), source.bundles(), Date.now()).ok);
});
