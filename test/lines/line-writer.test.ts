// The way of a line out of the process: in order, whole, within bounds, and not lost.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { openLines } from '../../src/lines/line-writer.ts';

const folder = mkdtempSync(join(tmpdir(), 'selvedge-lines-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;
const newFile = (): string => join(folder, `${files++}.log`);

const OPTIONS = { maxPending: 8 * 1_048_576 };

const linesOf = (file: string): string[] => readFileSync(file, 'utf8').split('\n').slice(0, -1);

const waitFor = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await sleep(5);
};

/** A file that runs `body` with `openLines` and `options` at hand. */
const script = (body: string): string => {
  const file = join(folder, `script-${files++}.mjs`);
  const module = pathToFileURL(join(import.meta.dirname, '../../src/lines/line-writer.ts')).href;
  writeFileSync(
    file,
    `import { openLines } from ${JSON.stringify(module)};\nconst options = ${JSON.stringify(OPTIONS)};\n${body}`,
  );
  return file;
};

t.test('writes large and small amounts in order', async (t) => {
  const file = newFile();
  const writer = openLines(file, OPTIONS);
  for (let line = 0; line < 5_000; line++) {
    writer.write(`${line} ${'x'.repeat(40)}\n`);
    if (line % 1_000 === 0) await sleep(1);
  }
  await waitFor(() => linesOf(file).length === 5_000);
  writer.close();
  t.strictSame(
    linesOf(file).map(Number.parseFloat),
    Array.from({ length: 5_000 }, (_, line) => line),
  );
});

t.test('all writers to one destination share it until the last of them ends', async (t) => {
  const file = newFile();
  const before = process.listenerCount('exit');
  const first = openLines(file, OPTIONS);
  const second = openLines(file, { ...OPTIONS, prompt: true });
  t.equal(process.listenerCount('exit'), before + 1);
  first.write('1\n');
  second.write('2\n');
  first.write('3\n');
  await second.end();
  second.write('not heard\n');
  first.write('4\n');
  t.equal(process.listenerCount('exit'), before + 1);
  first.close();
  first.close();
  t.strictSame(linesOf(file), ['1', '2', '3', '4']);
  t.equal(process.listenerCount('exit'), before);
});

t.test('what is prompt does not wait for company, nor does what waits before it', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const file = newFile();
  const [patient, prompt] = [openLines(file, OPTIONS), openLines(file, { ...OPTIONS, prompt: true })];
  patient.write('patient\n');
  prompt.write('prompt\n');
  while (linesOf(file).length < 2) await new Promise((resolve) => setImmediate(resolve));
  t.strictSame(linesOf(file), ['patient', 'prompt']);
  patient.close();
  prompt.close();
});

t.test('follows a file that was rotated away', async (t) => {
  mock.timers.enable({ apis: ['setInterval'] });
  t.teardown(() => mock.timers.reset());
  const file = newFile();
  const writer = openLines(file, OPTIONS);
  writer.write('before\n');
  writer.flushSync();
  renameSync(file, `${file}.1`);
  mock.timers.tick(5_000);
  await waitFor(() => {
    try {
      return readFileSync(file, 'utf8') === '';
    } catch {
      return false;
    }
  });
  writer.write('after\n');
  writer.close();
  t.equal(readFileSync(`${file}.1`, 'utf8'), 'before\n');
  t.equal(readFileSync(file, 'utf8'), 'after\n');
});

t.test('holds a bounded amount for a destination that fails, reports it once and counts what is lost', async (t) => {
  const troubles: string[] = [];
  let dropped = 0;
  const writer = openLines('/dev/full', {
    ...OPTIONS,
    onTrouble: (error) => troubles.push(error.message),
    onDrop: (lines) => {
      dropped += lines;
    },
  });
  const line = `${'x'.repeat(1_023)}\n`;
  for (let count = 0; count < 100; count++) writer.write(line);
  await waitFor(() => troubles.length > 0);
  for (let count = 0; count < 10_000; count++) writer.write(line);
  const overflow = dropped;
  t.ok(overflow > 1_500 && overflow < 2_000, `${overflow} of 10,100 lines did not fit 8 MiB`);
  writer.close();
  t.match(troubles, [/ENOSPC/]);
  t.equal(dropped, 10_100, 'every line is accounted for');
});

t.test('what one writer may fill leaves room for another', async (t) => {
  const dropped = { greedy: 0, modest: 0 };
  const greedy = openLines('/dev/full', { maxPending: 1_000, onDrop: () => dropped.greedy++ });
  for (let count = 0; count < 100; count++) greedy.write(`${'x'.repeat(99)}\n`);
  t.equal(dropped.greedy, 90);
  const modest = openLines('/dev/full', { maxPending: 2_000, onDrop: () => dropped.modest++ });
  modest.write('room for me\n');
  t.equal(dropped.modest, 0);
  await Promise.all([greedy.end(), modest.end()]);
});

t.test('loses nothing when the process exits or crashes with a write under way', async (t) => {
  for (const end of ['process.exit(0)', 'throw new Error("crash")', '']) {
    const file = newFile();
    const body = `const writer = openLines(${JSON.stringify(file)}, options);
      for (let line = 0; line < 5000; line++) writer.write(line + ' ' + 'x'.repeat(40) + '\\n');
      setImmediate(() => { writer.write('last\\n'); ${end} });`;
    spawnSync(process.execPath, [script(body)], { timeout: 20_000 });
    const lines = linesOf(file);
    t.equal(new Set(lines).size, 5_001, end || 'by itself');
    t.equal(lines.length, 5_001);
  }
});

t.test(
  'two writers to a slow reader of stdout: every line whole, in order, none lost, however the process ends',
  async (t) => {
    const ends = ['process.exit(0)', 'throw new Error("crash")', 'await Promise.all([access.end(), log.end()])'];
    for (const end of ends) {
      const body = `import { writeSync } from 'node:fs';
      process.stdout.on('error', () => {});
      const access = openLines(process.platform === 'linux' ? '/dev/stdout' : 1, options);
      const log = openLines(1, { ...options, prompt: true });
      for (let line = 0; line < 20_000; line++) {
        (line % 3 === 0 ? log : access).write(JSON.stringify({ line, fill: 'é'.repeat(line % 97) }) + '\\n');
        if (line % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      writeSync(2, 'the pipe is full');
      ${end};`;
      const child = spawn(process.execPath, [script(body)], { stdio: ['ignore', 'pipe', 'pipe'] });
      t.teardown(() => child.kill('SIGKILL'));
      child.stderr.resume();
      await once(child.stderr, 'data');
      let text = '';
      child.stdout.setEncoding('utf8').on('data', (chunk) => {
        text += chunk;
      });
      await once(child, 'close');
      const lines = text.split('\n').slice(0, -1);
      t.equal(
        lines.findIndex((line, index) => JSON.parse(line).line !== index),
        -1,
        end,
      );
      t.equal(lines.length, 20_000);
    }
  },
);

t.test('does not hang when nobody reads stdout any more', async (t) => {
  const body = `const writer = openLines(1, options);
    process.stdin.once('end', () => { writer.write('line\\n'); process.exit(7); });
    process.stdin.resume();`;
  const { status } = spawnSync(
    '/bin/sh',
    ['-c', `"${process.execPath}" "${script(body)}" < /dev/null | true; exit 7`],
    {
      timeout: 20_000,
    },
  );
  t.equal(status, 7);
});
