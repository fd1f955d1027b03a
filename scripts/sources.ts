// What a build is made from: bin/home.js compares the list with what lies there when it chooses between dist/ and src/.
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** What the build reads beside `src/`; the last one changes with every package that is installed or removed. */
const BESIDE = ['package.json', 'tsconfig.json', 'tsconfig.build.json', 'node_modules/.package-lock.json'];

/** Path, size and time of the last change (milliseconds). Taken before the build reads anything: a later edit must show. */
export type Source = readonly [file: string, size: number, mtimeMs: number];

export function sourcesOf(root: string): Source[] {
  const code = ['src', 'scripts'].flatMap((folder) => filesUnder(root, folder));
  return [...code, ...BESIDE].filter((file) => existsSync(join(root, file))).map((file) => sourceOf(root, file));
}

function sourceOf(root: string, file: string): Source {
  const { size, mtimeMs } = statSync(join(root, file));
  return [file, size, mtimeMs];
}

/** Paths from `root`. */
export function filesUnder(root: string, folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
}
