// The cache of verified tokens: bounded, and never longer than the token or its key is good.
import t from 'tap';
import { KeySet, publishedKeys } from '../../../src/plugins/jwt/keys.ts';
import { VerifiedTokens } from '../../../src/plugins/jwt/verified-tokens.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { jwkSet, signer } from './support.ts';

const KEYS = publishedKeys(jwkSet(signer('ES256', 'a')));
const [KEY] = KEYS.keys;

t.test('a token is known until it expires', async (t) => {
  const clock = new FakeClock();
  const verified = new VerifiedTokens(clock.now);
  const claims = { sub: 'ada' };
  verified.add('t.o.k', claims, 11_000, KEY, { keys: KEYS, failing: false });
  t.equal(verified.get('t.o.k'), claims);
  t.equal(verified.get('t.o.K'), undefined);
  clock.advance(10_000);
  t.equal(verified.get('t.o.k'), claims);
  clock.advance(1);
  t.equal(verified.get('t.o.k'), undefined);
  t.equal(verified.size, 0);
});

t.test(
  'a token is forgotten once its key is taken back, and stays known while the same key is published anew',
  async (t) => {
    const verified = new VerifiedTokens(() => 0);
    const source = { keys: KEYS, failing: false };
    verified.add('t.o.k', {}, 1, KEY, source);
    source.keys = new KeySet([...KEYS.keys]);
    t.ok(verified.get('t.o.k'));
    source.keys = publishedKeys(jwkSet(signer('ES256', 'a')));
    t.equal(verified.get('t.o.k'), undefined, 'another key of the same name');
  },
);

t.test('its number and its size are bounded; what was not used since it was added goes first', async (t) => {
  const source = { keys: KEYS, failing: false };
  const many = new VerifiedTokens(() => 0);
  many.add('first', {}, 1, KEY, source);
  many.add('second', {}, 1, KEY, source);
  for (let i = 0; i < 39_998; i++) many.add(`token ${i}`, {}, 1, KEY, source);
  many.get('first');
  many.add('one more', {}, 1, KEY, source);
  t.equal(many.size, 40_000);
  t.ok(many.get('first'));
  t.equal(many.get('second'), undefined);
  for (let i = 0; i < 39_998; i++) many.get(`token ${i}`);
  for (let i = 0; i < 100; i++) many.add(`stranger ${i}`, {}, 1, KEY, source);
  t.equal(many.size, 40_000, 'when all are in use some go all the same');

  const large = new VerifiedTokens(() => 0);
  for (let i = 0; i < 5_000; i++) large.add(String(i).padEnd(8_192), {}, 1, KEY, source);
  t.equal(large.size, 4_096, '32 MiB');
  for (let i = 0; i < 2_000; i++) large.add('again and again', {}, 1, KEY, source);
  t.equal(large.size, 4_096);
});

t.test('claims are frozen as deep as they go', async (t) => {
  const verified = new VerifiedTokens(() => 0);
  const claims = JSON.parse(`{"a":${'['.repeat(3_000)}${']'.repeat(3_000)},"b":{"c":[1]}}`);
  verified.add('t', claims, 1, KEY, { keys: KEYS, failing: false });
  t.ok(Object.isFrozen(claims.b.c));
});
