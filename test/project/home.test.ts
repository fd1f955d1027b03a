// `bin/home.js`: a checkout runs from dist/ while that is what its sources make, and from src/ otherwise.
import { cpSync, mkdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t, { type Test } from 'tap';
import { sourcesOf } from '../../scripts/sources.ts';
import { manifest, root, run, temporary } from './support/package.ts';

/** A checkout in small, built: what `home` of it says now. */
async function checkout(t: Test): Promise<{ folder: string; main: () => string; build: () => void }> {
  const folder = temporary(t, {
    'package.json': '{ "type": "module" }',
    'src/main.ts': 'export {};',
    'src/deep/part.ts': 'export {};',
    'scripts/build.ts': 'export {};',
  });
  for (const name of ['bin', 'dist']) mkdirSync(join(folder, name));
  cpSync(join(root, 'bin/home.js'), join(folder, 'bin/home.js'));
  const build = () => writeFileSync(join(folder, 'dist/sources.json'), JSON.stringify(sourcesOf(folder)));
  build();
  const { home } = (await import(
    pathToFileURL(join(folder, 'bin/home.js')).href
  )) as typeof import('../../bin/home.js');
  const main = () =>
    home()
      .url('main')
      .slice(pathToFileURL(folder).href.length + 1);
  return { folder, main, build };
}

t.test('a checkout that was built runs from dist/', async (t) => {
  const { main } = await checkout(t);
  t.equal(main(), 'dist/main.js');
});

t.test('a checkout that was not built runs from src/', async (t) => {
  const { folder, main } = await checkout(t);
  rmSync(join(folder, 'dist'), { recursive: true });
  t.equal(main(), 'src/main.ts');
});

t.test('a checkout runs from src/ once a source is another than the one that was built', async (t) => {
  const { folder, main, build } = await checkout(t);
  const part = join(folder, 'src/deep/part.ts');

  writeFileSync(part, 'export const x = 1;');
  t.equal(main(), 'src/main.ts', 'edited');
  build();
  t.equal(main(), 'dist/main.js', 'built again');

  const { atime, mtime } = statSync(part);
  utimesSync(part, atime, new Date(mtime.getTime() - 3_600_000));
  t.equal(main(), 'src/main.ts', 'replaced by an older one of the same size');
  build();

  rmSync(part);
  t.equal(main(), 'src/main.ts', 'removed');
  build();
  t.equal(main(), 'dist/main.js');

  writeFileSync(join(folder, 'package.json'), '{ "type": "module", "version": "2.0.0" }');
  t.equal(main(), 'src/main.ts', 'another version');
});

t.test('what is published runs from dist/', async (t) => {
  const { folder, main } = await checkout(t);
  for (const name of ['src', 'dist/sources.json']) rmSync(join(folder, name), { recursive: true });
  t.equal(main(), 'dist/main.js');
});

t.test('an install that cannot build succeeds', async (t) => {
  // `postprepare` because npm runs it for a checkout alone, and asks those who install a tarball about `prepare`.
  await t.test('without the packages that a build needs', async (t) => {
    const folder = temporary(t, { 'package.json': '{ "type": "module" }' });
    cpSync(join(root, 'scripts/prepare.js'), join(folder, 'scripts/prepare.js'));
    const { stdout, stderr } = await run('sh', ['-c', manifest.scripts.postprepare], { cwd: folder });
    t.equal(stdout + stderr, '');
  });

  await t.test('with nothing but package.json, as an image is built in layers', async (t) => {
    const { stdout, stderr } = await run('sh', ['-c', manifest.scripts.postprepare], { cwd: temporary(t, {}) });
    t.equal(stdout + stderr, '');
  });
});
