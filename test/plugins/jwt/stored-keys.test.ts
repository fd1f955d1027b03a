// Keys that outlive the process: written whole, read with care, and never a reason to be without what the issuer hands out.
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { publishedKeys } from '../../../src/plugins/jwt/keys.ts';
import { MAX_AGE_MS, StoredKeys } from '../../../src/plugins/jwt/stored-keys.ts';
import { ISSUER, jwkSet, signer } from './support.ts';

const OLD = publishedKeys(jwkSet(signer('ES256', 'old')));
const NEW = publishedKeys(JSON.stringify({ keys: [{ ...signer('RS256', 'new').jwk, alg: 'RS512', d: 'private' }] }));
const NOON = Date.parse('2026-11-26T12:00:00Z');

function storeIn(dir: string, changes: { jwks?: string | null; now?: () => number } = {}) {
  const problems: string[] = [];
  const { jwks = null, now = () => NOON } = changes;
  const store = new StoredKeys({
    dir,
    location: { issuer: ISSUER, jwks, allowHttp: false },
    now,
    onProblem: ({ message }) => problems.push(message),
  });
  return { store, problems };
}

/** A folder with the keys of an issuer, and their file. */
async function stored(t: Test) {
  const dir = join(t.testdir(), 'a', 'jwks');
  const { store } = storeIn(dir);
  store.keep(OLD);
  await store.settled();
  const [name] = readdirSync(dir);
  return { dir, path: join(dir, name) };
}

t.test('what was kept is there again, for its owner alone', async (t) => {
  const dir = join(t.testdir(), 'a', 'jwks');
  const { store, problems } = storeIn(dir);
  t.equal(await store.read(), null, 'none yet');
  store.keep(OLD);
  store.keep(publishedKeys(jwkSet(signer('EdDSA', 'between'))));
  store.keep(NEW);
  await store.settled();
  t.strictSame(problems, []);
  const names = readdirSync(dir);
  t.equal(names.length, 1, 'nothing half-written stays');
  const path = join(dir, names[0]);
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.equal(statSync(dir).mode & 0o777, 0o700);
  t.notMatch(readFileSync(path, 'utf8'), 'private');
  const keys = await storeIn(dir).store.read();
  t.strictSame(keys?.keys, NEW.keys, 'of several at once the last, with its algorithms');
  t.equal(await storeIn(dir, { jwks: 'https://id.example.com/other' }).store.read(), null, 'of that place alone');
});

t.test('what cannot be trusted is not used, and said', async (t) => {
  const { dir, path } = await stored(t);
  const good = readFileSync(path, 'utf8');
  const changed = (changes: object) => JSON.stringify({ ...JSON.parse(good), ...changes });
  const cases: [string, string, RegExp][] = [
    ['half a file', good.slice(0, good.length / 2), /not JSON/],
    ['an empty file', '', /not JSON/],
    ['null', 'null', /another issuer or version/],
    ['bytes', '\u0000\ufffd', /not JSON/],
    ['another issuer', changed({ issuer: 'https://evil.example.com' }), /another issuer/],
    ['another place', changed({ jwks: 'https://evil.example.com' }), /another issuer/],
    ['another version', changed({ version: 2 }), /version/],
    ['no time', changed({ fetchedAt: undefined }), /nobody knows how old/],
    ['a time that is none', changed({ fetchedAt: 'yesterday' }), /nobody knows how old/],
    ['a time to come', changed({ fetchedAt: '2027-01-01T00:00:00Z' }), /nobody knows how old/],
    ['too long ago', changed({ fetchedAt: '2026-11-19T11:59:59Z' }), /more than 7 days ago/],
    ['no keys', changed({ set: undefined }), /not used/],
    ['an empty set', changed({ set: { keys: [] } }), /no key that can be used/],
    ['a weak key', changed({ set: { keys: [{ kty: 'RSA', n: 'AQAB', e: 'AQAB' }] } }), /no key that can be used/],
    ['a secret', changed({ set: { keys: [{ kty: 'oct', k: 'AAAA' }] } }), /no key that can be used/],
    ['too many', changed({ set: { keys: Array.from({ length: 101 }, () => ({})) } }), /more than 100 keys/],
    ['too large', good + ' '.repeat(1_100_000), /more than 1048576 bytes/],
  ];
  for (const [name, text, problem] of cases) {
    writeFileSync(path, text);
    const { store, problems } = storeIn(dir);
    t.equal(await store.read(), null, name);
    t.match(problems, [problem], name);
  }
  writeFileSync(path, good);
  chmodSync(path, 0o644);
  const readable = storeIn(dir);
  t.equal(await readable.store.read(), null);
  t.match(readable.problems, [/chmod 600/]);
  chmodSync(path, 0o600);
  t.ok((await storeIn(dir).store.read())?.knows('old'));
  t.ok(
    (await storeIn(dir, { now: () => NOON + MAX_AGE_MS }).store.read())?.knows('old'),
    'seven days are not too long',
  );
});

t.test('a broken file is replaced by the next good keys', async (t) => {
  const { dir, path } = await stored(t);
  writeFileSync(path, '{');
  const { store, problems } = storeIn(dir);
  t.equal(await store.read(), null);
  store.keep(NEW);
  await store.settled();
  t.equal(problems.length, 1);
  t.ok((await storeIn(dir).store.read())?.knows('new'));
});

t.test('where nothing can be written, it is said, and tried again the next time', async (t) => {
  const root = t.testdir({ taken: 'a file' });
  const dir = join(root, 'taken', 'jwks');
  const { store, problems } = storeIn(dir);
  store.keep(OLD);
  await store.settled();
  t.match(problems, [/taken\/jwks cannot be used/]);
  const open = join(root, 'open');
  mkdirSync(open);
  chmodSync(open, 0o777);
  const other = storeIn(open);
  other.store.keep(OLD);
  await other.store.settled();
  t.match(other.problems, [/others can change it/], 'whoever can write there could sign any token');
  t.strictSame(readdirSync(open), []);
  chmodSync(open, 0o700);
  other.store.keep(OLD);
  await other.store.settled();
  t.equal(readdirSync(open).length, 1);
});

t.test('files of issuers that nobody has had for long go; those of others stay', async (t) => {
  const { dir, path } = await stored(t);
  const long = new Date(NOON - MAX_AGE_MS - 1_000);
  const [gone, torn, foreign] = [
    `${'x'.repeat(43)}.json`,
    `.${'x'.repeat(43)}.json.${'0'.repeat(16)}.tmp`,
    'notes.json',
  ];
  for (const name of [gone, torn, foreign]) {
    writeFileSync(join(dir, name), '');
    utimesSync(join(dir, name), long, long);
  }
  const fresh = `${'y'.repeat(43)}.json`;
  writeFileSync(join(dir, fresh), '');
  const { store } = storeIn(dir);
  store.keep(NEW);
  await store.settled();
  t.strictSame(readdirSync(dir).sort(), [path.slice(dir.length + 1), fresh, foreign].sort());
});
