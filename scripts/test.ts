// `npm test`: every check of the project, one after the other; `npm test -- FILE…` runs only these test files.
// The last line is `N passed, N failed`, counting each check and each assertion of the suite.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const root = join(import.meta.dirname, '..');
const bin = join(root, 'node_modules/.bin');
const log = join(root, '.tap/results.tap');
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

function run(command: readonly string[], stdout: 'inherit' | 'ignore' = 'inherit'): boolean {
  const { status, error } = spawnSync(command[0], command.slice(1), {
    cwd: root,
    stdio: ['ignore', stdout, 'inherit'],
    env: { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}`, NODE_COMPILE_CACHE: compileCache },
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
 * and slows the loading of modules in each process; `tap run` would rebuild it but still use the old one, so the build
 * comes first.
 */
function tapIsBuilt(): boolean {
  const built = join(root, 'node_modules/@tapjs/test/test-built/src/index.ts');
  return (
    existsSync(join(root, '.tap/plugins')) &&
    existsSync(built) &&
    !/@tapjs\/(?:typescript|mock)\b/.test(readFileSync(built, 'utf8'))
  );
}

function suite(): void {
  mkdirSync(join(root, '.tap'), { recursive: true });
  rmSync(log, { force: true });
  const startedAt = performance.now();
  console.log('\n── tests');
  if (!tapIsBuilt() && !run(['tap', 'build'])) {
    failed += 1;
    failures.push('tests (tap build)');
    return;
  }
  // At a terminal tap shows how far it is; elsewhere its redrawn lines would bury what failed.
  const [reporter, stdout] = process.stdout.isTTY ? (['terse', 'inherit'] as const) : (['tap', 'ignore'] as const);
  const good = run(['tap', 'run', `--reporter=${reporter}`, `--output-file=${log}`, ...files], stdout);
  const raw = existsSync(log) ? readFileSync(log, 'utf8') : '';
  const count = (kind: string): number => Number(totals(raw).match(new RegExp(`\\b${kind}: (\\d+)`))?.[1] ?? 0);
  passed += count('pass');
  failed += count('fail');
  skipped += count('skip') + count('todo');
  // A file that crashed or ran out of time before its first assertion fails nothing by count.
  if (!good && count('fail') === 0) failed += 1;
  // No assertion at all means that no test ran: never a success.
  if (good && count('pass') === 0) {
    failed += 1;
    console.log('no assertion was made');
  }
  const verdict = good && count('pass') > 0;
  if (!verdict) {
    failures.push('tests');
    console.log(failedPoints(raw));
  }
  console.log(`${verdict ? '✓' : '✗'} tests (${((performance.now() - startedAt) / 1000).toFixed(1)} s)`);
}

/** `# { total: 20, pass: 19, fail: 1 }`: one per subtest, the run's own last and without indentation. */
function totals(raw: string): string {
  return raw.match(/^# \{ total: .*\}$/gm)?.at(-1) ?? '';
}

/** Every `not ok` with its diagnostics and the path of subtests to it; without those that only repeat one inside of them. */
function failedPoints(raw: string): string {
  const lines = raw.split('\n');
  const path: string[] = [];
  const told: string[] = [];
  for (const [index, line] of lines.entries()) {
    const depth = line.search(/\S/) / 4;
    const subtest = /^ *# Subtest: (.*)$/.exec(line);
    if (subtest !== null) path.splice(depth, Number.POSITIVE_INFINITY, subtest[1]);
    const point = /^ *not ok \d+ (?:- )?(.*)$/.exec(line);
    if (point === null) continue;
    path.length = Math.min(path.length, depth + 1);
    const name = point[1].replace(/ # time=.*/, '');
    // The end of a subtest bears the name of its beginning; what failed in it has been told, unless it ended without a point.
    if (path[depth] === name && told.at(-1)?.startsWith(path.join(' › '))) continue;
    const end = lines.findIndex((text, at) => at > index && text.trim() === '...');
    const diagnostics = lines[index + 1]?.trim() === '---' ? lines.slice(index + 2, end) : [];
    told.push([[...path.slice(0, depth), name].join(' › '), ...diagnostics.slice(0, 40)].join('\n'));
  }
  return told.map((text) => `\n✗ ${text}`).join('\n');
}

if (files.length === 0) for (const { name, command } of checks) check(name, command);
suite();

console.log('');
if (failures.length > 0) console.log(`failed: ${failures.join(', ')}`);
if (skipped > 0) console.log(`${skipped} skipped`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
