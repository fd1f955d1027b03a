// Builds dist/ once a checkout is installed, so that it starts from few files. Never fails: without a build it runs from src/.
// Plain JavaScript: `npm ci` runs this on whatever Node the machine has.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);

if (canBuild()) {
  const script = join(dirname(fileURLToPath(import.meta.url)), 'build.ts');
  const { status } = spawnSync(process.execPath, [script, '--if-needed'], { stdio: 'inherit' });
  if (status !== 0) process.stderr.write('selvedge: dist/ was not built; this checkout runs from src/\n');
}

/** Not with --omit=dev, and not where --omit=optional leaves a Node that cannot run TypeScript. */
function canBuild() {
  if (!process.features.typescript) return false;
  try {
    for (const name of ['esbuild', 'typescript', 'ajv']) require.resolve(`${name}/package.json`);
    return true;
  } catch {
    return false;
  }
}
