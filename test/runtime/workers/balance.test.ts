import t from 'tap';
import { addressOf, type Handle, Share, Shares } from '../../../src/runtime/workers/balance.ts';

interface Connection extends Handle {
  closed: boolean;
}

function connection(): Connection {
  const made = {
    closed: false,
    close: () => {
      made.closed = true;
    },
  };
  return made;
}

/** A supervisor and workers whose channels are calls; every worker keeps what it accepts. */
function fleet(t: { teardown(end: () => void): void }, count: number) {
  const accepted: Connection[][] = [];
  const told: [number, string, unknown][] = [];
  const shares: Share[] = [];
  const doors: Handle[] = [];
  const hanging = new Set<number>();
  const stuck = new Set<number>();
  const supervisor = new Shares(
    (worker, about, argument, client, sent) => {
      if (stuck.has(worker) && about === 'connection') return;
      sent?.();
      told.push([worker, about, argument]);
      if (about === 'fewest') shares[worker].fewest(argument as number);
      else shares[worker].handed(argument as string, client as Handle);
    },
    (worker) => !hanging.has(worker),
  );
  for (let worker = 0; worker < count; worker++) {
    const mine: Connection[] = [];
    accepted.push(mine);
    const tell = (_about: string, argument: unknown, handle?: unknown): void =>
      supervisor.hand(worker, argument as never, handle as Handle);
    const share = new Share({ tell }, () => mine.length);
    t.teardown(() => share.close());
    shares.push(share);
    const door: Handle = {
      onconnection: (_error, client) => {
        mine.push(client as Connection);
      },
      close() {},
    };
    share.opened('127.0.0.1 80', door);
    doors.push(door);
  }
  for (let worker = 0; worker < count; worker++) supervisor.joined(worker);
  const arrive = (worker: number) => doors[worker].onconnection?.(0, connection());
  return { accepted, arrive, supervisor, shares, doors, told, hanging, stuck };
}

t.test('a burst that one worker takes ends up with all of them', async (t) => {
  const { accepted, arrive } = fleet(t, 3);
  for (let i = 0; i < 90; i++) arrive(0);
  const counts = accepted.map((mine) => mine.length);
  t.equal(
    counts.reduce((sum, count) => sum + count),
    90,
    'none is lost',
  );
  t.ok(Math.max(...counts) - Math.min(...counts) <= 9, `about as many each: ${counts}`);
});

t.test('who has about as many as the others keeps what comes', async (t) => {
  const { arrive, told } = fleet(t, 2);
  for (let i = 0; i < 4; i++) arrive(0);
  t.strictSame(
    told.filter(([, about]) => about === 'connection'),
    [],
  );
});

t.test('a worker without others keeps everything, and so do those that are left', async (t) => {
  const alone = fleet(t, 1);
  for (let i = 0; i < 50; i++) alone.arrive(0);
  t.equal(alone.accepted[0].length, 50);
  const { accepted, arrive, supervisor } = fleet(t, 2);
  supervisor.gone(1);
  for (let i = 0; i < 50; i++) arrive(0);
  t.strictSame(
    accepted.map((mine) => mine.length),
    [50, 0],
  );
});

t.test('a worker that hangs is handed nothing', async (t) => {
  const { accepted, arrive, hanging } = fleet(t, 2);
  hanging.add(1);
  for (let i = 0; i < 50; i++) arrive(0);
  t.strictSame(
    accepted.map((mine) => mine.length),
    [50, 0],
  );
});

t.test('what was on its way to a worker that ended goes to another one', async (t) => {
  const { accepted, arrive, stuck, supervisor } = fleet(t, 2);
  stuck.add(1);
  for (let i = 0; i < 50; i++) arrive(0);
  t.ok(accepted[0].length < 50);
  supervisor.gone(1);
  t.equal(accepted[0].length, 50);
});

t.test('what was on its way to a supervisor that ended stays', async (t) => {
  let kept = 0;
  const share = new Share({ tell() {} }, () => 100);
  const door: Handle = { onconnection: () => kept++, close() {} };
  share.opened('127.0.0.1 80', door);
  share.fewest(0);
  for (let i = 0; i < 3; i++) door.onconnection?.(0, connection());
  t.equal(kept, 0);
  share.alone();
  t.equal(kept, 3);
});

t.test('a supervisor that says nothing is handed no more than it may lose', async (t) => {
  let handed = 0;
  let kept = 0;
  const share = new Share({ tell: () => handed++ }, () => 100);
  t.teardown(() => share.close());
  const door: Handle = { onconnection: () => kept++, close() {} };
  share.opened('127.0.0.1 80', door);
  share.fewest(0);
  for (let i = 0; i < 50; i++) door.onconnection?.(0, connection());
  t.strictSame([handed, kept], [32, 18]);
  share.fewest(0);
  door.onconnection?.(0, connection());
  t.equal(handed, 33);
});

t.test('a failed accept is whoever listens to hear of; what no listener takes any more is closed', async (t) => {
  const { doors, shares, accepted } = fleet(t, 2);
  doors[0].onconnection?.(-24, undefined);
  t.strictSame(accepted[0], [undefined], 'as Node has it');
  const late = connection();
  shares[0].handed('127.0.0.1 81', late);
  t.ok(late.closed);
});

t.test('an address is the same under another name, any free port is not', async (t) => {
  t.equal(addressOf({ key: 'a', host: '::', port: 80 }), addressOf({ key: 'b', host: '::', port: 80 }));
  t.not(addressOf({ key: 'a', host: '::', port: 0 }), addressOf({ key: 'b', host: '::', port: 0 }));
});
