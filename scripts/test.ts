// `npm test`: every check of the project, one after the other; `npm test -- FILE…` runs only these test files.
// The last line is `N passed, N failed`, counting each check and each assertion of the suite.
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, globSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { failedPoints, runTests } from './run-tests.ts';

const root = join(import.meta.dirname, '..');
const bin = join(root, 'node_modules/.bin');
/** Each test file loads much the same modules: stripped of their types and compiled once. */
const compileCache = join(root, '.tap/compile-cache');
const files = process.argv.slice(2);

const checks: readonly { readonly name: string; readonly command: readonly string[] }[] = [
  { name: 'lint', command: ['biome', 'check', '--error-on-warnings', '.'] },
  { name: 'typecheck', command: ['tsc', '--noEmit', '-p', '.'] },
  { name: 'knip', command: ['knip', '--no-progress'] },
  { name: 'docs:check', command: ['node', 'scripts/docs-check.ts'] },
];

const failures: string[] = [];
let passed = 0;
let failed = 0;
let skipped = 0;

const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}`, NODE_COMPILE_CACHE: compileCache };

function run(command: readonly string[]): boolean {
  const { status, error } = spawnSync(command[0], command.slice(1), {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    env,
  });
  if (error !== undefined) console.log(`${command[0]}: ${error.message}`);
  return status === 0;
}

function check(name: string, command: readonly string[]): void {
  const startedAt = performance.now();
  console.log(`\n── ${name}`);
  const good = run(command);
  console.log(`${good ? '✓' : '✗'} ${name} (${((performance.now() - startedAt) / 1000).toFixed(1)} s)`);
  if (good) passed += 1;
  else {
    failed += 1;
    failures.push(name);
  }
}

/**
 * tap compiles its set of plugins into its own package. A fresh install holds the default set, which cannot load TypeScript 7
 * and slows the loading of modules in each process.
 */
function tapIsBuilt(): boolean {
  const built = join(root, 'node_modules/@tapjs/test/test-built/src/index.ts');
  return (
    existsSync(join(root, '.tap/plugins')) &&
    existsSync(built) &&
    !/@tapjs\/(?:typescript|mock)\b/.test(readFileSync(built, 'utf8'))
  );
}

/** Those that wait for processes and sockets first, so that the others fill the gaps. */
function testFiles(): string[] {
  const all = globSync('test/**/*.test.ts', { cwd: root }).sort();
  const slow = (file: string): boolean => /^test\/(?:e2e|project|cli)\//.test(file);
  return [...all.filter(slow), ...all.filter((file) => !slow(file))];
}

async function suite(): Promise<void> {
  mkdirSync(join(root, '.tap'), { recursive: true });
  const startedAt = performance.now();
  console.log('\n── tests');
  if (!tapIsBuilt() && !run(['tap', 'build'])) {
    failed += 1;
    failures.push('tests (tap build)');
    return;
  }
  const log = openSync(join(root, '.tap/results.tap'), 'w');
  const chosen = files.length === 0 ? testFiles() : files;
  let done = 0;
  let bad = 0;
  await runTests(chosen, {
    cwd: root,
    env,
    onResult(result) {
      writeSync(log, `# File: ${result.file} ${result.seconds.toFixed(1)} s\n${result.tap}\n`);
      done += 1;
      passed += result.passed;
      failed += result.failed;
      skipped += result.skipped;
      if (process.stdout.isTTY)
        process.stdout.write(`\r${done} of ${chosen.length} files\x1b[K${result.good ? '' : '\n'}`);
      if (result.good) return;
      bad += 1;
      if (result.trouble !== null) console.log(`\n✗ ${result.file} ${result.trouble}`);
      for (const point of failedPoints(result.tap)) console.log(`\n✗ ${result.file} › ${point}`);
    },
  });
  closeSync(log);
  if (process.stdout.isTTY) process.stdout.write('\r\x1b[K');
  if (bad > 0) failures.push('tests');
  const took = ((performance.now() - startedAt) / 1000).toFixed(1);
  console.log(`${bad === 0 ? '✓' : '✗'} tests: ${chosen.length} files (${took} s)`);
}

if (files.length === 0) for (const { name, command } of checks) check(name, command);
await suite();

console.log('');
if (failures.length > 0) console.log(`failed: ${failures.join(', ')}`);
if (skipped > 0) console.log(`${skipped} skipped`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
