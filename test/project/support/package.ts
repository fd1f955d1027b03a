// What tests of the published package and of its launcher share: folders outside of this checkout, processes without the test runner's hooks.
import { type ChildProcess, execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';

/** The test runner hooks itself into every Node below it by NODE_OPTIONS, whatever `env` a spawn is given: `env -u` takes that out. */
export const unhooked = (file: string, args: readonly string[]): [string, string[]] => [
  'env',
  ['-u', 'NODE_OPTIONS', '-u', 'NODE_COMPILE_CACHE', file, ...args],
];

const exec = promisify(execFile);
export const run = (file: string, args: readonly string[], options: { readonly cwd?: string } = {}) =>
  exec(...unhooked(file, args), options);
export const root = join(import.meta.dirname, '../../..');
export const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** The machine's own Node, which npm scripts do not use: as a rule an older one. */
const systemNode = (process.env.PATH ?? '')
  .split(delimiter)
  .filter((folder) => !folder.includes('node_modules'))
  .map((folder) => join(folder, 'node'))
  .find(existsSync);
export const nodes = new Set([process.execPath, systemNode ?? process.execPath]);

/** A folder outside of this checkout, whose node_modules must not be in reach. */
export function temporary(t: Test, files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'selvedge-test-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

/** An empty project with the packed package and its declared dependencies, and nothing else, in reach. */
export async function emptyProject(t: Test): Promise<{ project: string; files: string[] }> {
  const folder = temporary(t, { 'project/package.json': '{ "type": "module", "private": true }' });
  const { stdout } = await run('npm', ['pack', '--json', '--silent', '--pack-destination', folder], { cwd: root });
  const report = JSON.parse(stdout.slice(stdout.indexOf('['))) as [{ filename: string; files: { path: string }[] }];
  const project = join(folder, 'project');
  const modules = join(project, 'node_modules');
  mkdirSync(join(modules, 'selvedge'), { recursive: true });
  await run('tar', ['-xzf', join(folder, report[0].filename), '-C', join(modules, 'selvedge'), '--strip-components=1']);
  const names = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });
  for (const name of names.filter((name) => existsSync(join(root, 'node_modules', name)))) {
    mkdirSync(dirname(join(modules, name)), { recursive: true });
    symlinkSync(join(root, 'node_modules', name), join(modules, name), 'dir');
  }
  return { project, files: report[0].files.map(({ path }) => path) };
}

/** The first response; a process that starts refuses until it listens. Rejects when the process ends instead. */
export async function answering(url: string, process: ChildProcess): Promise<Response> {
  for (;;) {
    try {
      return await fetch(url);
    } catch {
      if (process.exitCode !== null) throw new Error(`the process ended with ${process.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
