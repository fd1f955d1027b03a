// Runs test files, a few at a time, each in a process of its own, and reads what they say in TAP.
//
// `tap run` is not used: it hooks itself into the loading of every module of every process that a test starts, and costs the suite a
// third of its time.
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';

/** Waiting tests leave a core to others. */
const JOBS = availableParallelism() + 1;
/** For a test inside of a file, which tap ends by itself; and for a file, which may be in a loop. */
const TEST_SECONDS = 60;
const FILE_SECONDS = 180;
/** Octets of what a file says that are kept. */
const MAX_OUTPUT = 64 * 1_024 * 1_024;

export interface FileResult {
  readonly file: string;
  readonly good: boolean;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly tap: string;
  readonly seconds: number;
  /** What ended it, where it did not end by itself with a plan that it kept. */
  readonly trouble: string | null;
}

export interface RunOptions {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  readonly onResult: (result: FileResult) => void;
}

/** In the order in which they are given. */
export async function runTests(files: readonly string[], options: RunOptions): Promise<void> {
  const waiting = [...files];
  const work = async (lane: number): Promise<void> => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      options.onResult(await runFile(file, lane, options));
    }
  };
  await Promise.all(Array.from({ length: Math.min(JOBS, files.length) }, (_, lane) => work(lane)));
}

/** `TEST_LANE` tells a file which ports are its own among those that run beside it. */
function runFile(file: string, lane: number, { cwd, env }: RunOptions): Promise<FileResult> {
  const startedAt = performance.now();
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [file], {
      cwd,
      env: { ...env, TAP_TIMEOUT: String(TEST_SECONDS), TEST_LANE: String(lane) },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const output: Buffer[] = [];
    let octets = 0;
    let trouble: string | null = null;
    const end = (why: string): void => {
      trouble ??= why;
      child.kill('SIGKILL');
    };
    const timer = setTimeout(() => end(`did not end within ${FILE_SECONDS} s`), FILE_SECONDS * 1_000);
    child.stdout.on('data', (chunk: Buffer) => {
      octets += chunk.length;
      if (octets > MAX_OUTPUT) end(`said more than ${MAX_OUTPUT} octets`);
      else output.push(chunk);
    });
    child.on('error', (error) => end(error.message));
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const tap = Buffer.concat(output).toString();
      const count = countsOf(tap);
      if (code !== 0 && count.failed === 0) trouble ??= `ended with ${signal ?? `exit code ${code}`}`;
      if (trouble === null && count.passed + count.skipped + count.failed === 0) trouble = 'made no assertion';
      const failed = trouble === null ? count.failed : Math.max(1, count.failed);
      const seconds = (performance.now() - startedAt) / 1_000;
      resolve({ file, good: code === 0 && failed === 0, ...count, failed, tap, seconds, trouble });
    });
  });
}

/** `# { total: 20, pass: 19, fail: 1 }`: one per subtest, the file's own last and without indentation. */
export function countsOf(tap: string): { readonly passed: number; readonly failed: number; readonly skipped: number } {
  const totals = tap.match(/^# \{ total: .*\}$/gm)?.at(-1) ?? '';
  const count = (kind: string): number => Number(totals.match(new RegExp(`\\b${kind}: (\\d+)`))?.[1] ?? 0);
  return { passed: count('pass'), failed: count('fail'), skipped: count('skip') + count('todo') };
}

/** Every `not ok` with its diagnostics and the path of subtests to it; without those that only repeat one inside of them. */
export function failedPoints(tap: string): string[] {
  const lines = tap.split('\n');
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
  return told;
}
