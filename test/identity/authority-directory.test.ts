import { execFile } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { issueSvid } from '../../src/identity/authority.ts';
import { openAuthorityDirectory, rollRoot } from '../../src/identity/authority-directory.ts';
import { verifyPeer } from '../../src/identity/verify.ts';
import { chainOf } from './support/authorities.ts';

const DOMAIN = 'shop.internal';
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const ORDERS = 'spiffe://shop.internal/service/orders';
const now = Date.now();

function emptyDir(t: Test): string {
  return join(t.testdir(), 'deeper/identity');
}

const open = (dir: string, at = now, create = true) => openAuthorityDirectory(dir, DOMAIN, at, create);

async function accepts(cert: string, bundle: string, at: number): Promise<boolean> {
  return verifyPeer(chainOf(cert), new Map([[DOMAIN, bundle]]), at).ok;
}

t.test('an empty directory gets a CA that only its owner can read', async (t) => {
  const dir = emptyDir(t);
  const { issuer, bundle } = await open(dir);
  t.ok(await accepts((await issueSvid(issuer, ORDERS, { now })).cert, bundle, now));
  const modes = readdirSync(dir).map((name) => [name, statSync(join(dir, name)).mode & 0o777]);
  t.strictSame(modes.sort(), [
    ['.gitignore', 0o600],
    ['bundle.pem', 0o600],
    ['intermediate.pem', 0o600],
    ['root.pem', 0o600],
  ]);
  t.equal(statSync(dir).mode & 0o777, 0o700);
  t.equal(readFileSync(join(dir, '.gitignore'), 'utf8'), '*\n', 'its keys are never committed');
});

t.test('the CA is the same at the next start', async (t) => {
  const dir = emptyDir(t);
  const [first, second] = [await open(dir), await open(dir)];
  t.equal(second.bundle, first.bundle);
  t.equal(second.issuer.certificate.fingerprint256, first.issuer.certificate.fingerprint256);
});

t.test('processes that start at once on an empty directory have one CA', async (t) => {
  const dir = emptyDir(t);
  const module = pathToFileURL(join(import.meta.dirname, '../../src/identity/authority-directory.ts')).href;
  // All at the same moment, as far as that is possible.
  const code = `import { openAuthorityDirectory } from '${module}';
    while (Date.now() < ${Date.now() + 1_500});
    const { bundle, issuer } = await openAuthorityDirectory(${JSON.stringify(dir)}, '${DOMAIN}', Date.now());
    process.stdout.write(bundle + issuer.certificate.fingerprint256);`;
  const run = promisify(execFile);
  const outputs = await Promise.all(
    Array.from({ length: 4 }, () => run(process.execPath, ['--input-type=module', '-e', code])),
  );
  t.match(outputs[0].stdout, /BEGIN CERTIFICATE/);
  t.equal(new Set(outputs.map(({ stdout }) => stdout)).size, 1);
  t.strictSame(
    readdirSync(dir).sort(),
    ['.gitignore', 'bundle.pem', 'intermediate.pem', 'root.pem'],
    'and no lock is left',
  );
});

t.test('many openings in one process at once have one CA', async (t) => {
  const dir = emptyDir(t);
  const states = await Promise.all(Array.from({ length: 10 }, () => open(dir)));
  t.equal(new Set(states.map(({ issuer, bundle }) => issuer.certificate.fingerprint256 + bundle)).size, 1);
});

t.test('a key that others can read is refused', async (t) => {
  for (const name of ['root.pem', 'intermediate.pem']) {
    const dir = emptyDir(t);
    await open(dir);
    chmodSync(join(dir, name), 0o644);
    await t.rejects(open(dir), new RegExp(`${name} can be read or changed by others \\(mode 0644\\): chmod 600 it`));
  }
});

t.test('a directory that others can change is refused', async (t) => {
  const dir = emptyDir(t);
  mkdirSync(dir, { recursive: true });
  chmodSync(dir, 0o777);
  await t.rejects(open(dir), /identity cannot be used: others can change it \(mode 0777\): chmod 700 it/);
});

t.test('a file that is broken or half written is named, and no new CA is made', async (t) => {
  for (const name of ['root.pem', 'intermediate.pem', 'bundle.pem']) {
    const dir = emptyDir(t);
    await open(dir);
    const path = join(dir, name);
    const whole = readFileSync(path, 'utf8');
    for (const content of [
      '',
      whole.slice(0, whole.length / 2),
      whole.slice(0, -20),
      'nonsense',
      whole.replace(/[A-Z]{4}/, '!!!!'),
    ]) {
      writeFileSync(path, content);
      await t.rejects(open(dir), new RegExp(`${name} cannot be used: `), `${name}, ${content.length} bytes`);
      t.equal(readFileSync(path, 'utf8'), content, 'it is left as it is');
    }
  }
});

t.test('a certificate with the key of another one is refused', async (t) => {
  const dir = emptyDir(t);
  await open(dir);
  const [root, intermediate] = ['root.pem', 'intermediate.pem'].map((name) => readFileSync(join(dir, name), 'utf8'));
  const split = (text: string): readonly string[] => text.split(/(?=-----BEGIN PRIVATE KEY)/);
  writeFileSync(join(dir, 'root.pem'), split(root)[0] + split(intermediate)[1]);
  await t.rejects(open(dir), /root\.pem cannot be used: the key is not that of the certificate/);
});

t.test('a root that is missing beside its intermediate is not made anew', async (t) => {
  const dir = emptyDir(t);
  await open(dir);
  rmSync(join(dir, 'root.pem'));
  await t.rejects(open(dir), /root\.pem is missing, though intermediate\.pem is there: restore it, or empty /);
});

t.test('what a start was broken off at is made up for', async (t) => {
  const dir = emptyDir(t);
  const before = await open(dir);
  rmSync(join(dir, 'intermediate.pem'));
  rmSync(join(dir, 'bundle.pem'));
  writeFileSync(join(dir, '.root.pem.0123456789abcdef.tmp'), 'half');
  const after = await open(dir);
  t.equal(after.bundle, before.bundle);
  t.ok(await accepts((await issueSvid(after.issuer, ORDERS, { now })).cert, before.bundle, now));
  t.notOk(existsSync(join(dir, '.root.pem.0123456789abcdef.tmp')));
});

t.test('the directory of another trust domain is refused', async (t) => {
  const dir = emptyDir(t);
  await open(dir);
  await t.rejects(
    openAuthorityDirectory(dir, 'other.internal', now),
    /it belongs to spiffe:\/\/shop\.internal, not to spiffe:\/\/other\.internal: choose another directory/,
  );
});

t.test('a directory that was emptied under a running process gets no new CA from it', async (t) => {
  const dir = emptyDir(t);
  await t.rejects(open(dir, now, false), /identity cannot be used: ENOENT/);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  await t.rejects(open(dir, now, false), /its CA is gone/);
  t.strictSame(readdirSync(dir), []);
});

t.test('the lock of a process that is gone is taken over, that of a live one is not', async (t) => {
  const dir = emptyDir(t);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const lock = join(dir, 'lock');
  // Beyond the largest process id.
  writeFileSync(lock, `99999999 ${hostname()} aa\n`);
  await open(dir);
  t.notOk(existsSync(lock));

  rmSync(join(dir, 'bundle.pem'));
  writeFileSync(lock, `1 elsewhere.test bb\n`);
  let opened = false;
  const opening = open(dir).then(() => {
    opened = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.notOk(opened, 'waits for a process of another machine');
  const longAgo = new Date(Date.now() - 60_000);
  utimesSync(lock, longAgo, longAgo);
  await opening;
  t.notOk(existsSync(lock), 'which has died, after a minute');
});

t.test('the intermediate is renewed at two thirds of its life, below the same root', async (t) => {
  const dir = emptyDir(t);
  const before = await open(dir);
  const same = await open(dir, now + 240 * DAY_MS);
  t.equal(same.issuer.certificate.fingerprint256, before.issuer.certificate.fingerprint256);
  const at = now + 244 * DAY_MS;
  const after = await open(dir, at);
  t.not(after.issuer.certificate.fingerprint256, before.issuer.certificate.fingerprint256);
  t.equal(after.bundle, before.bundle);
  t.ok(await accepts((await issueSvid(after.issuer, ORDERS, { now: at })).cert, before.bundle, at));
});

/** Walks through a rollover in steps of an hour, as processes that look now and then: in none of them is any live certificate refused. */
async function rollover(t: Test, dir: string, begin: number, hours: number) {
  const live: { readonly cert: string; readonly expiresAt: number }[] = [];
  const roots: number[] = [];
  let refusals = 0;
  /** What somebody knows who heard of changes an hour late. */
  let staleBundle = (await open(dir, begin)).bundle;
  for (let hour = 0; hour <= hours; hour++) {
    const at = begin + hour * HOUR_MS;
    const { issuer, bundle } = await open(dir, at);
    if (hour % 4 === 0) live.push(await issueSvid(issuer, ORDERS, { now: at }));
    for (const { cert, expiresAt } of live)
      if (expiresAt > at && !((await accepts(cert, bundle, at)) && (await accepts(cert, staleBundle, at))))
        refusals += 1;
    staleBundle = bundle;
    roots.push(chainOf(bundle).length);
  }
  t.equal(refusals, 0);
  return roots;
}

t.test('a rollover trusts both roots, then issues from the new one, then lets the old one go', async (t) => {
  const dir = emptyDir(t);
  const before = await open(dir);
  t.equal(await rollRoot(dir, DOMAIN, now), true);
  t.equal(await rollRoot(dir, DOMAIN, now + HOUR_MS), false, 'one at a time');
  const roots = await rollover(t, dir, now, 60);
  t.equal(roots[0], 2);
  t.equal(roots[48], 2);
  t.equal(roots[50], 1);
  const after = await open(dir, now + 61 * HOUR_MS);
  t.notOk(after.bundle.includes(before.bundle));
  t.not(after.root.certificate.fingerprint256, before.root.certificate.fingerprint256);
  t.notOk(existsSync(join(dir, 'next-root.pem')));
  t.equal(await rollRoot(dir, DOMAIN, now + 61 * HOUR_MS), true, 'and then another may begin');
});

t.test('the old root issues for a day after a rollover has begun', async (t) => {
  const dir = emptyDir(t);
  const before = await open(dir);
  await rollRoot(dir, DOMAIN, now);
  const during = await open(dir, now + 23 * HOUR_MS);
  t.equal(during.issuer.certificate.fingerprint256, before.issuer.certificate.fingerprint256);
  const later = await open(dir, now + 24 * HOUR_MS);
  t.not(later.issuer.certificate.fingerprint256, before.issuer.certificate.fingerprint256);
});

t.test('a rollover that nobody looked at for a week still keeps the old root for a day after the change', async (t) => {
  const dir = emptyDir(t);
  await open(dir);
  await rollRoot(dir, DOMAIN, now);
  t.equal(chainOf((await open(dir, now + 7 * DAY_MS)).bundle).length, 2);
  t.equal(chainOf((await open(dir, now + 8 * DAY_MS)).bundle).length, 2);
  t.equal(chainOf((await open(dir, now + 8.1 * DAY_MS)).bundle).length, 1);
});

t.test('a rollover that breaks off in the middle of a step is gone on with', async (t) => {
  for (const lost of ['bundle.pem', 'intermediate.pem']) {
    const dir = emptyDir(t);
    await open(dir);
    await rollRoot(dir, DOMAIN, now);
    const kept = ['bundle.pem', 'intermediate.pem', 'root.pem', 'next-root.pem'].map((name) => join(dir, name));
    const old = kept.map((path) => readFileSync(path));
    await open(dir, now + DAY_MS);
    // As it is when the process dies before the last writes: what was renamed into place is new, the rest is as before.
    const newFile = readFileSync(join(dir, lost));
    for (const [index, path] of kept.entries()) writeFileSync(path, old[index], { mode: 0o600 });
    writeFileSync(join(dir, lost), newFile);
    const roots = await rollover(t, dir, now + DAY_MS, 27);
    t.equal(roots[0], 2);
    t.equal(roots[27], 1);
  }
});

t.test('a root near its end is followed by another one by itself', async (t) => {
  const dir = emptyDir(t);
  const before = await open(dir);
  const at = before.root.facts.notAfter - 366 * DAY_MS + HOUR_MS;
  await open(dir, at - 2 * HOUR_MS);
  t.notOk(existsSync(join(dir, 'next-root.pem')));
  const roots = await rollover(t, dir, at, 60);
  t.equal(roots[0], 2);
  t.equal(roots[60], 1);
  t.ok((await open(dir, at + 61 * HOUR_MS)).root.facts.notAfter > before.root.facts.notAfter);
});

t.test('a root that an operator adds to the bundle stays there', async (t) => {
  const [dir, other] = [emptyDir(t), join(t.testdir(), 'other')];
  await open(dir);
  const { bundle } = await open(other);
  writeFileSync(join(dir, 'bundle.pem'), readFileSync(join(dir, 'bundle.pem'), 'utf8') + bundle);
  t.ok((await open(dir, now + 300 * DAY_MS)).bundle.includes(bundle));
});
