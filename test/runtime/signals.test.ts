import { spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import { openProcessLog, textOf } from '../../src/runtime/process-log.ts';
import { surviveUnhandledErrors, untilStopped } from '../../src/runtime/signals.ts';

class FakeProcess extends EventEmitter {
  readonly exits: number[] = [];
  readonly exit = ((code: number) => {
    this.exits.push(code);
  }) as NodeJS.Process['exit'];
}

/** A log into a file, read back line by line once it has ended. */
function fileLog(t: Test) {
  const path = join(t.testdir({ log: '' }), 'log');
  const fd = openSync(path, 'a');
  const log = openProcessLog({ to: fd, format: 'json' });
  t.teardown(() => log.end().then(() => closeSync(fd)));
  const lines = () =>
    readFileSync(path, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  return { log, lines };
}

function running(t: Test) {
  const process = new FakeProcess();
  const calls: string[] = [];
  let ended = (): void => {};
  const drained = new Promise<void>((resolve) => {
    ended = resolve;
  });
  const { log, lines } = fileLog(t);
  const drainable = {
    async close({ grace }: { readonly grace: boolean }) {
      calls.push(grace ? 'close with grace' : 'close');
      await drained;
    },
    async reload(reason: string) {
      calls.push(`reload ${reason}`);
    },
  };
  const stop = untilStopped(drainable, {
    log,
    registry: new Registry(),
    process: process as unknown as NodeJS.Process,
  });
  return { process, calls, ended, stop, log, lines };
}

t.test('SIGTERM drains with the grace time, then the exit code is 0', async (t) => {
  const { process, calls, ended, stop } = running(t);
  process.emit('SIGTERM');
  t.same(calls, ['close with grace']);
  ended();
  t.equal(await stop.code, 0);
  t.same(process.exits, []);
});

t.test('SIGINT drains without the grace time: a person waits', async (t) => {
  const { process, calls, ended, stop } = running(t);
  process.emit('SIGINT');
  ended();
  t.equal(await stop.code, 0);
  t.same(calls, ['close']);
});

t.test('a second signal exits at once, with its own number', async (t) => {
  const { process, calls, log, lines } = running(t);
  process.emit('SIGTERM');
  process.emit('SIGTERM');
  t.same(process.exits, [143]);
  process.emit('SIGINT');
  t.same(process.exits, [143, 130]);
  t.same(calls, ['close with grace'], 'and drains only once');
  await log.end();
  t.match(
    lines().map(({ msg }) => msg),
    ['draining', /second signal/, /second signal/],
  );
});

t.test('SIGHUP reloads, but not while draining', async (t) => {
  const { process, calls } = running(t);
  process.emit('SIGHUP');
  process.emit('SIGTERM');
  process.emit('SIGHUP');
  t.same(calls, ['reload SIGHUP', 'close with grace']);
});

t.test('a drain that fails exits 1 and says why', async (t) => {
  const process = new FakeProcess();
  const { log, lines } = fileLog(t);
  const stop = untilStopped(
    { close: () => Promise.reject(new Error('stuck')), reload: async () => {} },
    { log, registry: new Registry(), process: process as unknown as NodeJS.Process },
  );
  process.emit('SIGTERM');
  t.equal(await stop.code, 1);
  await log.end();
  t.equal(lines().at(-1).err.message, 'stuck');
});

t.test('lets go of every signal when asked', async (t) => {
  const { process, stop } = running(t);
  stop.detach();
  t.same(process.eventNames(), []);
});

t.test('unhandled errors are logged with their stack and counted, and the process goes on', async (t) => {
  const process = new FakeProcess();
  const registry = new Registry();
  const { log, lines } = fileLog(t);
  const errors = surviveUnhandledErrors({ log, registry, process: process as unknown as NodeJS.Process });
  process.emit('uncaughtException', new Error('from a timer'));
  process.emit('unhandledRejection', new Error('from a promise'));
  process.emit('unhandledRejection', 'no error at all');
  t.same(process.exits, []);
  const { values } = await registry.getSingleMetric('selvedge_unhandled_errors_total')!.get();
  t.same(
    values.map(({ labels, value }) => [labels.source, value]),
    [
      ['exception', 1],
      ['rejection', 2],
    ],
  );
  await log.end();
  t.match(
    lines().map(({ err }) => err.stack),
    [/from a timer\n +at /, /from a promise\n +at /, /thrown: no error at all\n +at /],
  );
  errors.detach();
  t.same(process.eventNames(), []);
});

t.test('without memory the process ends', async (t) => {
  const process = new FakeProcess();
  const { log } = fileLog(t);
  surviveUnhandledErrors({ log, registry: new Registry(), process: process as unknown as NodeJS.Process });
  process.emit('uncaughtException', Object.assign(new Error('full'), { code: 'ERR_MEMORY_ALLOCATION_FAILED' }));
  t.same(process.exits, [1]);
});

t.test('the log keeps every line, in order, also those written just before its end', async (t) => {
  const { log, lines } = fileLog(t);
  for (let index = 0; index < 5_000; index++) log.logger.info({ index }, 'line');
  await log.end();
  t.same(
    lines().map(({ index }) => index),
    Array.from({ length: 5_000 }, (_, index) => index),
  );
});

t.test('what waits is written at once for an exit that waits for nothing', async (t) => {
  const { log, lines } = fileLog(t);
  log.logger.info('on its way');
  log.logger.info('last words');
  log.flushSync();
  t.ok(lines().some(({ msg }) => msg === 'last words'));
  await log.end();
  t.equal(lines().length, 2, 'each line once');
});

t.test('a full disk loses lines, not the process, and the exit does not wait for it', async (t) => {
  const fd = openSync('/dev/full', 'w');
  t.teardown(() => closeSync(fd));
  const log = openProcessLog({ to: fd, format: 'json' });
  log.logger.info('nowhere to go');
  log.logger.info('nowhere to go either');
  log.flushSync();
  await log.end();
  log.logger.info('still alive');
});

t.test('a reader that goes away ends the log, not the process', async (t) => {
  const reader = spawn('sh', ['-c', 'read line'], { stdio: ['pipe', 'ignore', 'ignore'] });
  const { fd } = (reader.stdin as unknown as { _handle: { fd: number } })._handle;
  const log = openProcessLog({ to: fd, format: 'json' });
  log.logger.info('read');
  await once(reader, 'exit');
  for (let index = 0; index < 1_000; index++) log.logger.info('not read');
  log.flushSync();
  await log.end();
  t.pass('EPIPE reaches nobody');
});

t.test('a person at a terminal reads short lines', async (t) => {
  const time = new Date(2026, 10, 21, 9, 5, 7).getTime();
  t.equal(
    textOf(JSON.stringify({ level: 30, time, msg: 'listening on 0.0.0.0:8080', listener: 'gateway/public/http' })),
    '09:05:07 listening on 0.0.0.0:8080  listener=gateway/public/http',
  );
  t.equal(
    textOf(JSON.stringify({ level: 40, time, msg: 'shadowed', at: { line: 3 } })),
    '09:05:07 WARN shadowed  at={"line":3}',
  );
  t.equal(
    textOf(JSON.stringify({ level: 50, time, msg: 'failed', err: { message: 'x', stack: 'Error: x\n    at y' } })),
    '09:05:07 ERROR failed\nError: x\n    at y',
  );
});
