// Which copy of Selvedge runs: dist/, except in a checkout whose src/ is no longer what dist/ was built from.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** @returns {{ url: (name: string) => string }} The address of a module by its name: `main`, `index` or `plugin`. */
export function home() {
  // src/ is not published: where it exists this is a checkout.
  const checkout = process.features.typescript && existsSync(join(root, 'src/main.ts'));
  const [folder, extension] = checkout && !isBuilt() ? ['src', '.ts'] : ['dist', '.js'];
  return { url: (name) => pathToFileURL(join(root, folder, name + extension)).href };
}

/**
 * Whether dist/ was built from exactly the files that lie here now, by their sizes and times of change. Not by age: a file
 * that was moved or copied here may be older than the build and still another one.
 */
export function isBuilt() {
  try {
    const sources = JSON.parse(readFileSync(join(root, 'dist/sources.json'), 'utf8'));
    return sources.every(([file, size, mtimeMs]) => {
      const now = statSync(join(root, file));
      return now.size === size && now.mtimeMs === mtimeMs;
    });
  } catch {
    return false;
  }
}
