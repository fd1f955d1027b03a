// Keys of an issuer over time, by a clock that the test moves.
import t, { type Test } from 'tap';
import { KeySet, publishedKeys } from '../../../src/plugins/jwt/keys.ts';
import { RemoteKeys } from '../../../src/plugins/jwt/remote-keys.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { jwkSet, signer } from './support.ts';

const OLD = publishedKeys(jwkSet(signer('ES256', 'old')));
const NEW = publishedKeys(jwkSet(signer('ES256', 'new')));

function keysOf(t: Test, first: KeySet | Error | Promise<KeySet>) {
  const clock = new FakeClock();
  const state = { answer: first, fetches: 0, told: [] as [string | null, boolean][] };
  const keys = new RemoteKeys({
    fetch: async () => {
      state.fetches++;
      if (state.answer instanceof Error) throw state.answer;
      return state.answer;
    },
    refreshMs: 600_000,
    clock,
    onFetched: (error, changed) => state.told.push([error?.message ?? null, changed]),
  });
  t.teardown(() => keys.close());
  return { keys, clock, state };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

t.test('keys are fetched at once, and again when they are as old as the config says', async (t) => {
  const { keys, clock, state } = keysOf(t, OLD);
  t.equal(state.fetches, 1);
  await settled();
  t.ok(keys.keys.knows('old'));
  state.answer = NEW;
  clock.advance(599_000);
  t.equal(state.fetches, 1);
  clock.advance(1_000);
  await settled();
  t.equal(state.fetches, 2);
  t.ok(keys.keys.knows('new'));
  t.notOk(keys.keys.knows('old'), 'a key that was taken back is gone');
});

t.test('unknown keys cause at most one fetch a second, which all who ask wait for', async (t) => {
  const { keys, clock, state } = keysOf(t, OLD);
  await settled();
  for (let i = 0; i < 100; i++) await keys.refetch();
  t.equal(state.fetches, 1, 'the first fetch was just now');
  clock.advance(1_000);
  state.answer = NEW;
  await Promise.all(Array.from({ length: 100 }, () => keys.refetch()));
  t.equal(state.fetches, 2);
  t.ok(keys.keys.knows('new'));
  for (let i = 0; i < 10; i++) {
    clock.advance(100);
    await keys.refetch();
  }
  t.equal(state.fetches, 3);
});

t.test('an outage takes no key away; fetching goes on, ever more slowly', async (t) => {
  const { keys, clock, state } = keysOf(t, OLD);
  await settled();
  state.answer = new Error('down');
  for (let i = 0; i < 3_600; i++) {
    clock.advance(1_000);
    await settled();
  }
  t.ok(keys.keys.knows('old'));
  t.equal(keys.failing, true);
  t.ok(state.fetches > 30 && state.fetches < 70, `${state.fetches} fetches in an hour, 50 minutes of it down`);
  t.strictSame(state.told.slice(0, 3), [
    [null, false],
    ['down', true],
    ['down', false],
  ]);
  state.answer = NEW;
  clock.advance(60_000);
  await settled();
  t.equal(keys.failing, false);
  t.strictSame(state.told.at(-1), [null, true]);
});

t.test('a start without the issuer is made up for within seconds', async (t) => {
  const { keys, clock, state } = keysOf(t, new Error('down'));
  await settled();
  t.equal(keys.failing, true);
  state.answer = OLD;
  clock.advance(1_000);
  await settled();
  t.ok(keys.keys.knows('old'));
});

t.test('a fetch that takes long is not joined by another', async (t) => {
  const { clock, state } = keysOf(t, new Promise(() => {}));
  clock.advance(3_600_000);
  t.equal(state.fetches, 1);
});

t.test('once closed it fetches nothing and says nothing', async (t) => {
  let finish: (keys: KeySet) => void = () => {};
  const { keys, clock, state } = keysOf(
    t,
    new Promise<KeySet>((resolve) => {
      finish = resolve;
    }),
  );
  keys.close();
  t.equal(clock.timers, 0);
  finish(OLD);
  await settled();
  t.strictSame(state.told, []);
  await keys.refetch();
  t.equal(state.fetches, 1);
});

t.test('a set finds keys by name and algorithm', async (t) => {
  const [a, b, nameless] = [signer('ES256', 'a'), signer('RS256', 'b'), signer('ES256', 'c')];
  const set = publishedKeys(
    JSON.stringify({ keys: [a.jwk, { ...b.jwk, alg: 'RS512' }, { ...nameless.jwk, kid: undefined }] }),
  );
  const names = (kid: string | null, alg: 'ES256' | 'RS256' | 'RS512') =>
    set.candidates(kid, alg).map((key) => key.kid);
  t.strictSame(names('a', 'ES256'), ['a']);
  t.strictSame(names('a', 'RS256'), []);
  t.strictSame(names('b', 'RS512'), ['b']);
  t.strictSame(names('b', 'RS256'), [], 'the issuer says which algorithm the key is for');
  t.strictSame(names(null, 'ES256'), ['a', null]);
  t.strictSame(names('z', 'ES256'), [null], 'a key without a name may be meant');
  t.equal(new KeySet([]).candidates(null, 'ES256').length, 0);
});
