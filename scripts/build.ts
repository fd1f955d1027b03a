// Makes what is published and what a checkout starts from: dist/ with JavaScript, declarations and the licences of what is in it.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { isBuilt } from '../bin/home.js';
import { bundle } from './bundle.ts';
import { licencesOf } from './licences.ts';
import { filesUnder, sourcesOf } from './sources.ts';

const root = join(import.meta.dirname, '..');
const target = join(root, 'dist');
// Built beside the target and then renamed: whoever imports dist/ meanwhile sees the old build or the new one, never half of one.
const staging = join(root, `node_modules/.cache/selvedge-build.${process.pid}`);
const replaced = `${staging}.old`;

const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');

try {
  // A build of exactly these sources is left alone: someone may be running from it.
  const needed = !(process.argv.includes('--if-needed') && isBuilt());
  if (needed) process.exitCode = (await build()) ? 0 : 1;
} finally {
  for (const folder of [staging, replaced]) rmSync(folder, { recursive: true, force: true });
}

async function build(): Promise<boolean> {
  mkdirSync(staging, { recursive: true });
  const sources = sourcesOf(root);
  if (!writeDeclarations()) return false;
  const inputs = await bundle(root, staging);
  writeFileSync(join(staging, 'THIRD-PARTY-LICENSES'), licencesOf(root, inputs));
  writeFileSync(join(staging, 'sources.json'), JSON.stringify(sources));
  if (existsSync(target)) renameSync(target, replaced);
  renameSync(staging, target);
  return true;
}

function writeDeclarations(): boolean {
  const options = { cwd: root, stdio: 'inherit' } as const;
  const { status } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--outDir', staging], options);
  if (status !== 0) return false;
  for (const file of filesUnder(staging, '')) {
    const path = join(staging, file);
    writeFileSync(path, rewriteDeclaration(readFileSync(path, 'utf8')));
  }
  return true;
}

/** The compiler rewrites `./x.ts` to `./x.js` in JavaScript only; a declaration that still says `.ts` resolves nowhere once published. */
function rewriteDeclaration(text: string): string {
  const relative = text.replace(/((?:from|import)\s*\(?\s*['"]\.{1,2}\/[^'"]*)\.ts(['"])/g, '$1.js$2');
  // TypeScript 6 and later load no ambient types unasked, so the declarations ask for Node's themselves.
  return `/// <reference types="node" />\n${relative}`;
}
