import { EventEmitter } from 'node:events';
import { type FSWatcher, mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type DirectoryListener, type WatchDeps, watchFiles } from '../src/watch.ts';

/** A watch that keeps what it reports; `next` waits for the next report. Without `pollMs` only events and `check` report. */
function watching(t: Test, deps: WatchDeps = {}) {
  const reports: (readonly string[])[] = [];
  let arrived = (): void => {};
  const watch = watchFiles(
    (changed) => {
      reports.push(changed);
      arrived();
    },
    { debounceMs: 5, pollMs: 3_600_000, ...deps },
  );
  // A watch never keeps a process alive by itself.
  const alive = setInterval(() => {}, 60_000);
  t.teardown(() => {
    clearInterval(alive);
    watch.close();
  });
  const next = async (): Promise<readonly string[]> => {
    if (reports.length === 0)
      await new Promise<void>((resolve) => {
        arrived = resolve;
      });
    return reports.shift() as readonly string[];
  };
  return { watch, reports, next };
}

const deaf = (): FSWatcher => Object.assign(new EventEmitter(), { close() {} }) as unknown as FSWatcher;

t.test('reports a file that was written in place', async (t) => {
  const file = join(t.testdir({ 'a.yaml': 'one', 'b.yaml': 'same' }), 'a.yaml');
  const { watch, next } = watching(t);
  await watch.update([file, join(file, '../b.yaml')]);
  writeFileSync(file, 'two');
  t.same(await next(), [file]);
});

t.test('reports each of several renames into place, as editors save', async (t) => {
  const dir = t.testdir({ 'a.yaml': '0' });
  const file = join(dir, 'a.yaml');
  const { watch, next } = watching(t);
  await watch.update([file]);
  for (const content of ['1', '2', '3']) {
    writeFileSync(join(dir, '.a.yaml.tmp'), content);
    renameSync(join(dir, '.a.yaml.tmp'), file);
    t.same(await next(), [file], `save ${content}`);
  }
});

t.test('reports every swap of a Kubernetes ..data link', async (t) => {
  const dir = t.testdir({ '..2026_1': { 'a.yaml': '1' } });
  symlinkSync('..2026_1', join(dir, '..data'));
  symlinkSync('..data/a.yaml', join(dir, 'a.yaml'));
  const file = join(dir, 'a.yaml');
  const { watch, next } = watching(t);
  await watch.update([file]);
  for (const version of [2, 3, 4]) {
    mkdirSync(join(dir, `..2026_${version}`));
    writeFileSync(join(dir, `..2026_${version}/a.yaml`), String(version));
    symlinkSync(`..2026_${version}`, join(dir, '..data_tmp'));
    renameSync(join(dir, '..data_tmp'), join(dir, '..data'));
    rmSync(join(dir, `..2026_${version - 1}`), { recursive: true });
    t.same(await next(), [file], `swap to ${version}`);
  }
});

t.test('reports a file that is deleted, and again when it is back', async (t) => {
  const file = join(t.testdir({ 'a.yaml': 'one' }), 'a.yaml');
  const { watch, next } = watching(t);
  await watch.update([file]);
  unlinkSync(file);
  t.same(await next(), [file]);
  writeFileSync(file, 'one');
  t.same(await next(), [file]);
});

t.test('reports a file that did not exist when it was named', async (t) => {
  const dir = t.testdir({});
  const { watch, next } = watching(t);
  await watch.update([join(dir, 'later.yaml')]);
  writeFileSync(join(dir, 'later.yaml'), 'here');
  t.same(await next(), [join(dir, 'later.yaml')]);
});

t.test('reports a target that changes behind a link into another directory', async (t) => {
  const dir = t.testdir({ real: { 'a.yaml': 'one' }, config: {} });
  symlinkSync('../real/a.yaml', join(dir, 'config/a.yaml'));
  const { watch, next } = watching(t);
  await watch.update([join(dir, 'config/a.yaml')]);
  writeFileSync(join(dir, 'real/a.yaml'), 'two');
  t.same(await next(), [join(dir, 'config/a.yaml')]);
});

t.test(
  'a directory reports config files that come and go, and nothing that an editor leaves beside them',
  async (t) => {
    const dir = t.testdir({ 'a.yaml': 'one' });
    const { watch, reports } = watching(t, { watch: deaf });
    await watch.update([dir]);
    for (const litter of ['.a.yaml.swp', 'a.yaml~', '4913', 'notes.txt']) writeFileSync(join(dir, litter), 'x');
    await watch.check();
    t.same(reports, []);
    writeFileSync(join(dir, 'b.yaml'), 'new');
    await watch.check();
    unlinkSync(join(dir, 'a.yaml'));
    await watch.check();
    t.same(reports, [[dir], [dir]]);
  },
);

t.test('a log that grows beside the config is no reason to compare', async (t) => {
  const dir = t.testdir({ 'a.yaml': 'one' });
  const file = join(dir, 'a.yaml');
  let tell: DirectoryListener = () => {};
  const { watch, next, reports } = watching(t, {
    debounceMs: 1,
    watch(_directory, listener) {
      tell = listener;
      return deaf();
    },
  });
  await watch.update([file]);
  writeFileSync(file, 'two');
  tell('change', 'access.log');
  await wait(30);
  t.same(reports, [], 'not even what did change was looked at');
  tell('change', 'a.yaml');
  t.same(await next(), [file]);
  writeFileSync(file, 'three');
  tell('rename', '..data');
  t.same(await next(), [file], 'whatever is renamed may have become ours');
  writeFileSync(file, 'four');
  tell('change', null);
  t.same(await next(), [file], 'and where the system gives no name it may be ours');
});

t.test('says nothing when a file is written with the content that it had', async (t) => {
  const file = join(t.testdir({ 'a.yaml': 'one' }), 'a.yaml');
  const { watch, reports } = watching(t, { watch: deaf });
  await watch.update([file]);
  writeFileSync(file, 'one');
  await watch.check();
  t.same(reports, []);
});

/** A watch that is told of events by hand, and what it says of unrest. */
function told(t: Test) {
  let tell: DirectoryListener = () => {};
  const unrest: (readonly string[])[] = [];
  const foretold: boolean[] = [];
  const open: WatchDeps['watch'] = (_directory, listener) => {
    tell = listener;
    return deaf();
  };
  const watch = watchFiles((_changed, isForetold = false) => foretold.push(isForetold), {
    watch: open,
    debounceMs: 150,
    pollMs: 3_600_000,
    onUnrest: (changed) => unrest.push(changed),
  });
  const alive = setInterval(() => {}, 60_000);
  t.teardown(() => {
    clearInterval(alive);
    watch.close();
  });
  const until = async (met: () => boolean): Promise<void> => {
    while (!met()) await wait(1);
  };
  return { watch, tell: () => tell('change', null), unrest, foretold, until };
}

t.test('tells of unrest before the change has come to rest', async (t) => {
  const file = join(t.testdir({ 'a.yaml': 'one' }), 'a.yaml');
  const { watch, tell, unrest, foretold, until } = told(t);
  await watch.update([file]);
  writeFileSync(file, 'two');
  tell();
  await until(() => unrest.length === 1);
  t.same(unrest, [[file]]);
  t.same(foretold, [], 'not reported yet');
  await until(() => foretold.length === 1);
  t.same(foretold, [true], 'what was read meanwhile is what is there');
  await watch.check();
  t.same(foretold, [true], 'reported once');
});

t.test('what was read at an earlier unrest does not stand for what came after it, even the same text', async (t) => {
  const file = join(t.testdir({ 'a.yaml': 'one' }), 'a.yaml');
  const { watch, tell, unrest, foretold, until } = told(t);
  await watch.update([file]);
  writeFileSync(file, 'two');
  tell();
  await until(() => unrest.length === 1);
  tell();
  await watch.check();
  t.same(foretold, [false], 'whoever read may have seen a moment between two writes');
  writeFileSync(file, 'three');
  tell();
  await until(() => unrest.length === 2);
  writeFileSync(file, 'four');
  await watch.check();
  t.same(foretold, [false, false], 'also where no event came');
});

t.test('a file that is empty for a moment and then as before is no change', async (t) => {
  const file = join(t.testdir({ 'a.yaml': 'one' }), 'a.yaml');
  const { watch, tell, unrest, foretold, until } = told(t);
  await watch.update([file]);
  writeFileSync(file, '');
  tell();
  await until(() => unrest.length === 1);
  writeFileSync(file, 'one');
  tell();
  await watch.check();
  t.same(foretold, []);
});

/** Milliseconds from the last of these steps, one after the other, to the report; the waits are those of `QUIET_MS`. */
async function quietAfter(t: Test, steps: readonly ((file: string) => unknown)[]): Promise<number> {
  const file = join(t.testdir({ 'a.yaml': 'one\n' }), 'a.yaml');
  const { watch, next } = watching(t, { debounceMs: undefined });
  await watch.update([file]);
  let lastAt = 0;
  for (const step of steps) {
    await step(file);
    lastAt = performance.now();
  }
  t.same(await next(), [file]);
  return performance.now() - lastAt;
}

t.test(
  'waits longer the less is certain: for a rename, a write, a text that breaks off, a file that is empty',
  async (t) => {
    const replace = (file: string): void => {
      writeFileSync(`${file}.tmp`, 'two');
      renameSync(`${file}.tmp`, file);
    };
    const shortest = async (step: (file: string) => void): Promise<number> =>
      Math.min(await quietAfter(t, [step]), await quietAfter(t, [step]), await quietAfter(t, [step]));
    const renamed = await shortest(replace);
    const written = await shortest((file) => writeFileSync(file, 'two\n'));
    const unfinished = await quietAfter(t, [(file) => writeFileSync(file, 'two')]);
    const gone = await quietAfter(t, [unlinkSync]);
    const empty = await quietAfter(t, [(file) => writeFileSync(file, '')]);
    if (process.platform === 'linux') t.ok(renamed >= 19 && renamed < 39, `renamed: ${renamed}`);
    t.ok(written >= 39 && written < 74, `written: ${written}`);
    t.ok(unfinished >= 74, `unfinished: ${unfinished}`);
    t.ok(gone >= 74, `gone: ${gone}`);
    t.ok(empty >= 900, `empty: ${empty}`);
  },
);

t.test('a program that is slow to fill the file that the shell emptied for it is waited for', async (t) => {
  const quiet = await quietAfter(t, [
    (file) => writeFileSync(file, ''),
    () => wait(300),
    (file) => writeFileSync(file, 'two\n'),
  ]);
  t.ok(quiet < 600, `and no longer: ${quiet}`);
});

t.test('an endless stream of writes is reported after a second all the same', async (t) => {
  const file = join(t.testdir({ 'a.yaml': '0\n' }), 'a.yaml');
  const { watch, next } = watching(t, { debounceMs: undefined });
  await watch.update([file]);
  const startedAt = performance.now();
  let writes = 0;
  const writing = setInterval(() => writeFileSync(file, `${++writes}\n`), 10);
  t.teardown(() => clearInterval(writing));
  t.same(await next(), [file]);
  const took = performance.now() - startedAt;
  t.ok(took > 900 && took < 3_000, `${took} ms`);
});

t.test('sees two writes of one size within the same clock tick of the file system', async (t) => {
  const file = join(t.testdir({ 'a.yaml': 'aaa' }), 'a.yaml');
  const { watch, reports } = watching(t, { watch: deaf });
  await watch.update([file]);
  for (const content of ['bbb', 'ccc', 'ddd']) {
    writeFileSync(file, content);
    await watch.check();
  }
  t.equal(reports.length, 3);
});

t.test('polls where the file system sends no events', async (t) => {
  const file = join(t.testdir({ 'a.yaml': 'one' }), 'a.yaml');
  const { watch, next } = watching(t, { watch: deaf, pollMs: 5 });
  await watch.update([file]);
  writeFileSync(file, 'two');
  t.same(await next(), [file]);
});

t.test('says once per directory that it cannot be watched (EMFILE), and polls it', async (t) => {
  const dir = t.testdir({ 'a.yaml': 'one', 'b.yaml': 'one' });
  const files = [join(dir, 'a.yaml'), join(dir, 'b.yaml')];
  const complaints: string[] = [];
  const { watch, next } = watching(t, {
    pollMs: 5,
    watch() {
      throw Object.assign(new Error('too many open files'), { code: 'EMFILE' });
    },
    onError: (error, directory) => complaints.push(`${directory}: ${error.message}`),
  });
  await watch.update(files);
  writeFileSync(files[1], 'two');
  t.same(await next(), [files[1]]);
  t.same(complaints, [`${dir}: too many open files`]);
});

t.test('opens a new watcher when one fails', async (t) => {
  const dir = t.testdir({ 'a.yaml': 'one' });
  const opened: FSWatcher[] = [];
  const { watch } = watching(t, {
    watch() {
      opened.push(deaf());
      return opened[opened.length - 1];
    },
  });
  await watch.update([join(dir, 'a.yaml')]);
  opened[0].emit('error', new Error('gone'));
  await watch.check();
  t.equal(opened.length, 2);
});

t.test('follows a directory that is replaced by another one of its name', async (t) => {
  const root = t.testdir({ config: { 'a.yaml': 'one' } });
  const file = join(root, 'config/a.yaml');
  const { watch, next } = watching(t);
  await watch.update([file]);
  mkdirSync(join(root, 'new'));
  writeFileSync(join(root, 'new/a.yaml'), 'two');
  renameSync(join(root, 'config'), join(root, 'old'));
  renameSync(join(root, 'new'), join(root, 'config'));
  await watch.check();
  t.same(await next(), [file]);
  writeFileSync(file, 'three');
  t.same(await next(), [file], 'the new directory sends the events');
});

t.test(
  'the list of files changes: new ones are watched, dropped ones are not, kept ones keep what was seen',
  async (t) => {
    const dir = t.testdir({ 'a.yaml': 'a', 'b.yaml': 'b', 'c.yaml': 'c' });
    const [a, b, c] = ['a', 'b', 'c'].map((name) => join(dir, `${name}.yaml`));
    const { watch, reports } = watching(t, { watch: deaf });
    await watch.update([a, b]);
    writeFileSync(b, 'changed before the list does');
    await watch.update([b, c]);
    for (const file of [a, c]) writeFileSync(file, 'changed');
    await watch.check();
    t.same(reports, [[b, c]]);
  },
);

t.test('reports a file that changed while its config was being read', async (t) => {
  const file = join(t.testdir({ 'a.yaml': 'one' }), 'a.yaml');
  const { watch, next } = watching(t, { watch: deaf });
  await watch.update([file], Date.now() - 60_000);
  t.same(await next(), [file]);
});

t.test('reports nothing after close, whatever was under way', async (t) => {
  const file = join(t.testdir({ 'a.yaml': 'one' }), 'a.yaml');
  const { watch, reports } = watching(t, { watch: deaf });
  await watch.update([file]);
  writeFileSync(file, 'two');
  const checking = watch.check();
  watch.close();
  await checking;
  await watch.check();
  t.same(reports, []);
});
