import t, { type Test } from 'tap';
import { startRotation } from '../../src/identity/rotation.ts';
import type { Svid } from '../../src/identity/source.ts';
import { FakeTime } from './support/fake-time.ts';
import { listeningLog } from './support/log.ts';

const HOUR_MS = 3_600_000;
const [A, B] = ['spiffe://shop.internal/service/a', 'spiffe://shop.internal/service/b'];

/** Certificates of 24 h that are only numbered, from an issuer that can be told to fail. */
function rotating(t: Test, random = () => 0) {
  const time = new FakeTime(Date.UTC(2030, 0, 1));
  const log = listeningLog();
  const issued: { readonly id: string; readonly at: number }[] = [];
  const state = { failing: null as string | null, changes: 0, stuck: false };
  const start = time.now();
  const rotation = startRotation({
    clock: time,
    random,
    log,
    onChange: () => {
      state.changes += 1;
    },
    async issue(id): Promise<Svid> {
      issued.push({ id, at: (time.now() - start) / HOUR_MS });
      if (state.stuck) await new Promise(() => {});
      if (state.failing !== null) throw new Error(state.failing);
      const now = time.now();
      return { id, cert: `certificate ${issued.length}`, key: '', notBefore: now, expiresAt: now + 24 * HOUR_MS };
    },
  });
  t.teardown(() => rotation.close());
  return { time, log, issued, state, rotation };
}

t.test('a certificate is renewed at two thirds of its life, again and again', async (t) => {
  const { time, issued, state, rotation } = rotating(t);
  await rotation.need([A]);
  t.equal(rotation.svid(A)?.cert, 'certificate 1');
  await time.advance(15.99 * HOUR_MS);
  t.equal(issued.length, 1);
  await time.advance(0.02 * HOUR_MS);
  t.equal(rotation.svid(A)?.cert, 'certificate 2');
  await time.advance(16 * HOUR_MS);
  t.equal(rotation.svid(A)?.cert, 'certificate 3');
  t.equal(state.changes, 3);
  t.strictSame(rotation.warnings(), []);
});

t.test('jitter brings the renewal forward by a twentieth of the life at most', async (t) => {
  const { time, issued, rotation } = rotating(t, () => 1);
  await rotation.need([A]);
  await time.advance(15 * HOUR_MS);
  t.equal(issued.length, 2);
  t.ok(issued[1].at >= 14.8 && issued[1].at < 14.85, `${issued[1].at}`);
});

t.test('each id has its own certificate, and is asked for once', async (t) => {
  const { issued, state, rotation } = rotating(t);
  await rotation.need([A, B, A]);
  await rotation.need([A]);
  t.strictSame(issued.map(({ id }) => id).sort(), [A, B]);
  t.equal(state.changes, 1, 'told once');
  t.equal(rotation.svid('spiffe://shop.internal/service/c'), null);
});

t.test('a need that cannot be met is refused with the reason, and changes nothing', async (t) => {
  const { time, state, rotation, issued } = rotating(t);
  await rotation.need([A]);
  state.failing = 'the CA is away';
  await t.rejects(rotation.need([A, B]), /the CA is away/);
  t.equal(rotation.svid(B), null);
  t.ok(rotation.svid(A));
  state.failing = null;
  await time.advance(10 * HOUR_MS);
  t.strictSame(
    issued.map(({ id }) => id),
    [A, B],
    'nobody tries again for what was refused',
  );
});

t.test('a renewal that fails is tried again ever more seldom, the old certificate in use meanwhile', async (t) => {
  const { time, state, rotation, issued } = rotating(t, () => 1);
  await rotation.need([A]);
  state.failing = 'the CA is away';
  await time.advance(15.1 * HOUR_MS);
  const seconds = issued
    .slice(1, 12)
    .map(({ at }, index, all) => Math.round((at - all[Math.max(0, index - 1)].at) * 3_600));
  t.strictSame(seconds, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
  t.equal(rotation.svid(A)?.cert, 'certificate 1');
  t.match(rotation.warnings(), [
    /^the certificate of spiffe:\/\/shop\.internal\/service\/a expires at 2030-01-02T00:00:00\.000Z and could not be renewed: the CA is away$/,
  ]);
  state.failing = null;
  await time.advance(0.1 * HOUR_MS);
  t.not(rotation.svid(A)?.cert, 'certificate 1');
  t.strictSame(rotation.warnings(), []);
});

t.test('the nearer the end, the more often a renewal is tried again', async (t) => {
  const { time, state, rotation, issued } = rotating(t, () => 1);
  await rotation.need([A]);
  state.failing = 'the CA is away';
  const within = async (ms: number): Promise<number> => {
    const before = issued.length;
    await time.advance(ms);
    return issued.length - before;
  };
  await within(23.75 * HOUR_MS);
  const early = await within(300_000);
  t.ok(early >= 1 && early <= 3, `${early} in five minutes: every few minutes, with a quarter of an hour left`);
  await within(540_000);
  const last = await within(60_000);
  t.ok(last >= 10 && last <= 60, `${last} in the last minute`);
  t.ok((await within(60_000)) <= 1, 'not when it is over');
});

t.test('the retries of many do not come at the same time', async (t) => {
  const { time, state, rotation, issued } = rotating(t, () => 0);
  await rotation.need([A]);
  state.failing = 'the CA is away';
  await time.advance(16 * HOUR_MS + 500);
  t.equal(issued.length, 3, 'after half of a second with the lowest random number');
});

t.test('the operator is warned at once, then as the end comes nearer, and when all is well again', async (t) => {
  const { time, state, rotation, log } = rotating(t);
  await rotation.need([A]);
  state.failing = 'the CA is away';
  await time.advance(16.1 * HOUR_MS);
  t.equal(log.lines.length, 1);
  await time.advance(1 * HOUR_MS);
  t.equal(log.lines.length, 1, 'not with every try');
  await time.advance(5.5 * HOUR_MS);
  t.equal(log.lines.length, 3, 'a quarter and an eighth are left');
  await time.advance(2 * HOUR_MS);
  t.equal(log.lines.length, 5, 'an hour is left, and none');
  t.match(log.lines[4], /^warn: .* has expired at .* the CA is away$/);
  state.failing = null;
  await time.advance(HOUR_MS);
  t.match(log.lines[5], /^info: .* is renewed after \d+ failures$/);
  t.equal(log.lines.length, 6);
});

t.test('a machine that slept past the end gets a new certificate within a minute', async (t) => {
  const { time, rotation, issued } = rotating(t);
  await rotation.need([A]);
  time.sleep(48 * HOUR_MS);
  await time.advance(60_000);
  t.equal(issued.length, 2);
});

t.test('a need for an id whose certificate has expired asks anew', async (t) => {
  const { time, rotation, issued } = rotating(t);
  await rotation.need([A]);
  time.sleep(48 * HOUR_MS);
  await rotation.need([A]);
  t.equal(issued.length, 2);
  t.equal(rotation.svid(A)?.cert, 'certificate 2');
});

t.test('one renewal at a time for each id', async (t) => {
  const { time, state, rotation, issued } = rotating(t);
  await rotation.need([A]);
  state.stuck = true;
  await time.advance(20 * HOUR_MS);
  t.equal(issued.length, 2);
});

t.test('a certificate from a store is used until it is due, not when it has expired', async (t) => {
  const { time, rotation, issued } = rotating(t);
  const now = time.now();
  const stored = { cert: 'stored', key: '', notBefore: now - 12 * HOUR_MS, expiresAt: now + 12 * HOUR_MS };
  rotation.adopt({ ...stored, id: A });
  rotation.adopt({ ...stored, id: B, expiresAt: now });
  await rotation.need([A, B]);
  t.equal(rotation.svid(A)?.cert, 'stored');
  t.strictSame(
    issued.map(({ id }) => id),
    [B],
  );
  await time.advance(4.1 * HOUR_MS);
  t.equal(rotation.svid(A)?.cert, 'certificate 2');
});

t.test('all can be renewed before they are due', async (t) => {
  const { time, rotation, issued } = rotating(t);
  await rotation.need([A, B]);
  rotation.renewAll();
  await time.advance(1);
  t.equal(issued.length, 4);
});

t.test('an issuer that sends what is about to end is asked once a second at most', async (t) => {
  const time = new FakeTime();
  let issued = 0;
  const rotation = startRotation({
    ...{ clock: time, random: () => 0, log: listeningLog(), onChange: () => {} },
    async issue(id) {
      issued += 1;
      return { id, cert: '', key: '', notBefore: time.now() - HOUR_MS, expiresAt: time.now() + 9_000 - issued * 1_000 };
    },
  });
  t.teardown(() => rotation.close());
  await rotation.need([A]);
  await time.advance(5_400);
  t.equal(issued, 2, 'two thirds of the time that was left');
  await time.advance(60_000);
  t.ok(issued > 20 && issued < 65, `${issued}`);
});

t.test('a clock that is far ahead of the issuer is no reason to ask it in a loop', async (t) => {
  // By this share of a day. The issuer backdates as ours does.
  for (const [ahead, most] of [
    [0.5, 5],
    [0.67, 6],
    [0.99, 200],
  ]) {
    const time = new FakeTime();
    let issued = 0;
    const rotation = startRotation({
      ...{ clock: time, random: () => 0, log: listeningLog(), onChange: () => {} },
      async issue(id) {
        issued += 1;
        const now = time.now() - ahead * 24 * HOUR_MS;
        return { id, cert: `${issued}`, key: '', notBefore: now - 60_000, expiresAt: now + 24 * HOUR_MS };
      },
    });
    t.teardown(() => rotation.close());
    await rotation.need([A]);
    let expired = 0;
    for (let hour = 0; hour < 24; hour++) {
      await time.advance(HOUR_MS);
      if ((rotation.svid(A) as Svid).expiresAt <= time.now()) expired += 1;
    }
    t.equal(expired, 0, 'by its own clock there is always a good one');
    t.ok(issued > 1 && issued <= most, `${ahead} of a day ahead: ${issued} certificates a day`);
    rotation.close();
  }
});

t.test('nothing goes on after close', async (t) => {
  const { time, rotation, issued } = rotating(t);
  await rotation.need([A]);
  rotation.close();
  t.equal(time.waiting, 0);
  await time.advance(48 * HOUR_MS);
  t.equal(issued.length, 1);
});
