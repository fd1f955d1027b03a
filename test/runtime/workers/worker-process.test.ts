import t from 'tap';
import { WorkerProcess } from '../../../src/runtime/workers/worker-process.ts';
import { FakeChild, silent } from './support/fake-child.ts';

// The timers of what is tested keep no process alive.
const awake = setInterval(() => {}, 1_000);
t.teardown(() => clearInterval(awake));

t.test('one that does not answer is killed, and says why', async (t) => {
  const child = new FakeChild(7, { pulse: silent });
  const worker = new WorkerProcess(1, child, {}, () => 0, 1);
  const { code, signal, killed } = await worker.ended;
  t.strictSame([code, signal, killed], [null, 'SIGKILL', 'it did not answer for 0.006 s']);
});

t.test('one that answers is left alone', async (t) => {
  let asked = 0;
  const child = new FakeChild(7, { pulse: () => ({ inFlight: ++asked }) });
  const worker = new WorkerProcess(1, child, {}, () => 0, 1);
  await new Promise<void>((resolve) => {
    const look = setInterval(() => {
      if (asked < 20) return;
      clearInterval(look);
      resolve();
    }, 1);
  });
  t.strictSame(child.killed, []);
  t.ok(worker.inFlight > 0);
  child.exit(0, null);
  await worker.ended;
});

t.test('it serves from its first config until it ends', async (t) => {
  let now = 1_000;
  const child = new FakeChild(7);
  const worker = new WorkerProcess(1, child, {}, () => now);
  t.equal(worker.serving, false);
  await worker.prepare({} as never);
  await worker.commit();
  t.equal(worker.serving, true);
  now += 5_000;
  await worker.commit();
  t.equal(worker.servedMs, 5_000, 'later configs do not begin it anew');
  child.exit(1, null);
  t.strictSame(await worker.ended, { code: 1, signal: null, killed: null });
  t.equal(worker.serving, false);
  await t.rejects(worker.prepare({} as never), /has ended/);
});

t.test('a process that could not be started has ended', async (t) => {
  const child = new FakeChild(undefined);
  const worker = new WorkerProcess(1, child, {}, () => 0);
  child.emit('error', new Error('no more processes'));
  t.match(await worker.ended, { code: null, killed: 'it could not be started: no more processes' });
});
