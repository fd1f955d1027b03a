// One measurement: load a proxy for a while and read how much CPU its processes used for each request.
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { BACKEND_CORE } from './processes.ts';

const run = promisify(execFile);

/**
 * CPU seconds, user and system, of a process and its children: of all threads that are alive, which is every thread of the proxies
 * measured here. In nanoseconds from schedstat, because the ticks of /proc/PID/stat, 10 ms each, are a tenth of what nginx uses
 * in two seconds.
 */
export function cpuSeconds(pid: number): number {
  const threads = tree(pid).flatMap(threadsOf);
  return threads.reduce((sum, thread) => sum + scheduled(thread)[0], 0) / 1e9;
}

/** None once the process is gone. */
function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map((id) => `${pid}/task/${id}`);
  } catch {
    return [];
  }
}

/** Nanoseconds on a core, and nanoseconds ready to run without one; zeros once the thread is gone. */
function scheduled(thread: string): readonly number[] {
  try {
    return readFileSync(`/proc/${thread}/schedstat`, 'utf8').split(' ').map(Number);
  } catch {
    return [0, 0];
  }
}

/** Milliseconds that its threads were ready to run and did not, all together, since their start. */
export function waitedMs(pid: number): number {
  return threadsOf(pid).reduce((sum, thread) => sum + scheduled(thread)[1], 0) / 1e6;
}

/** Resident memory of the tree in MiB, and the part that is its own (RssAnon). */
export function memoryMiB(pid: number): { rss: number; own: number } {
  let rss = 0;
  let own = 0;
  for (const member of tree(pid)) {
    const status = readFileSync(`/proc/${member}/status`, 'utf8');
    rss += kib(status, 'VmRSS');
    own += kib(status, 'RssAnon');
  }
  return { rss: rss / 1024, own: own / 1024 };
}

/** The most that the process has had resident since it started or since `forgetPeak`, in MiB. */
export function peakMiB(pid: number): number {
  return kib(readFileSync(`/proc/${pid}/status`, 'utf8'), 'VmHWM') / 1024;
}

export function forgetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

function kib(status: string, key: string): number {
  return Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
}

/** Fields after the command name, whose own spaces and parentheses would confuse a split. */
function statFields(pid: number): string[] | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return null;
  }
}

function tree(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    const parent = Number(statFields(pid)?.[1]);
    children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const found: number[] = [];
  const queue = [root];
  for (let pid = queue.pop(); pid !== undefined; pid = queue.pop()) {
    found.push(pid);
    queue.push(...(children.get(pid) ?? []));
  }
  return found;
}

export interface Load {
  readonly requests: number;
  readonly seconds: number;
  /** Socket errors and answers that were not 2xx or 3xx. */
  readonly errors: number;
  readonly p99Ms: number;
}

/** wrk on the given cores. Rejects when wrk says nothing that can be read. */
export async function wrk(
  url: string,
  options: {
    readonly connections: number;
    readonly seconds: number;
    /** Null: wherever the kernel puts it. */
    readonly core: string | null;
    /** What wrk sends, in Lua; null: GET. */
    readonly script: string | null;
  },
): Promise<Load> {
  const { connections, seconds, core, script } = options;
  const args = ['wrk', '-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '15s', '--latency'];
  if (script !== null) args.push('-s', script);
  const [program, ...rest] = core === null ? args : ['taskset', '-c', core, ...args];
  const { stdout } = await run(program, [...rest, url]);
  const total = /(\d+) requests in ([\d.]+)(ms|s|m)/.exec(stdout);
  if (total === null) throw new Error(`wrk said nothing that can be read:\n${stdout}`);
  const unit = { ms: 0.001, s: 1, m: 60 }[total[3]] ?? 1;
  const errors = /Non-2xx or 3xx responses: (\d+)/.exec(stdout);
  const sockets = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(stdout);
  const socketErrors = sockets === null ? 0 : sockets.slice(1).reduce((sum, count) => sum + Number(count), 0);
  const p99 = /99%\s+([\d.]+)(us|ms|s)/.exec(stdout);
  const p99Ms = p99 === null ? 0 : Number(p99[1]) * ({ us: 0.001, ms: 1, s: 1000 }[p99[2]] ?? 1);
  return {
    requests: Number(total[1]),
    seconds: Number(total[2]) * unit,
    errors: Number(errors?.[1] ?? 0) + socketErrors,
    p99Ms,
  };
}

export interface Sample {
  readonly cpuMicros: number;
  readonly perSecond: number;
  readonly p99Ms: number;
}

/**
 * CPU microseconds of `pid` per request while wrk loads `url` from `core`. Any failed request makes the sample worthless: it throws.
 */
export async function sample(
  pid: number,
  url: string,
  seconds: number,
  script: string | null = null,
  core: string | null = BACKEND_CORE,
): Promise<Sample> {
  const before = cpuSeconds(pid);
  const load = await wrk(url, { connections: 32, seconds, core, script });
  const used = cpuSeconds(pid) - before;
  if (load.errors > 0) throw new Error(`${load.errors} of ${load.requests} requests failed at ${url}`);
  return { cpuMicros: (used * 1e6) / load.requests, perSecond: load.requests / load.seconds, p99Ms: load.p99Ms };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
