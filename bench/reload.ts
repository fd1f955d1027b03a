// `npm run bench -- reload`: what an edit of a large config costs the process that serves meanwhile, and what a request pays for many routes.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { freePort } from '../test/e2e/support/ports.ts';
import { openLoad } from '../test/support/open-load.ts';
import { lookupCosts } from './lookup.ts';
import { median } from './measure.ts';
import { largeConfig } from './reload-config.ts';
import { saveResults } from './results.ts';
import { build } from './selvedge.ts';

const SIZES = [1_000, 10_000];
/** Milliseconds between two edits: the old snapshot is put away, the garbage of the reload collected. */
const PAUSE_MS = 1_500;

export interface ReloadBench {
  /** Edits of each size, after the first. */
  readonly rounds: number;
  readonly rate: number;
}

/** Reloads are timed from the moment that the file is written to the line of the log that says `config in force`. */
interface Row {
  readonly routes: number;
  /** The thread that reads the config has to be started first. */
  readonly firstReloadMs: number;
  readonly reloadMs: number;
  /** The median where every line of the config moved, by one more or less above them. */
  readonly movedMs: number;
  /** The part of `reloadMs` that the log states: from the beginning of reading. */
  readonly loggedMs: number;
  readonly longestReloadMs: number;
  /** The median of the longest of each reload. */
  readonly stallMs: number;
  readonly longestStallMs: number;
  /** The longest in as much time without a reload, under the same load. */
  readonly quietStallMs: number;
  readonly requests: number;
  readonly failed: number;
  readonly p99Ms: number;
}

export async function benchReload({ rounds, rate }: ReloadBench): Promise<void> {
  build();
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-bench-reload-'));
  const backendPort = await freePort();
  const backend = spawn(process.execPath, [join(import.meta.dirname, 'backend.ts'), String(backendPort)]);
  try {
    const table: Row[] = [];
    for (const routes of SIZES) table.push(await measure(dir, routes, `127.0.0.1:${backendPort}`, rounds, rate));
    const lookups = await lookupCosts(dir);
    report(table, lookups, rate);
    saveResults({ reload: { rounds, rate, table, lookups } });
  } finally {
    await end(backend);
    rmSync(dir, { recursive: true, force: true });
  }
}

async function measure(dir: string, routes: number, backend: string, rounds: number, rate: number): Promise<Row> {
  const port = await freePort();
  const file = join(dir, `${routes}.yaml`);
  const write = (edition: number, linesAbove = 0): void =>
    writeFileSync(file, '# Moved.\n'.repeat(linesAbove) + largeConfig(routes, port, 0, backend, edition));
  write(0);
  const serving = await Serving.start(file);
  try {
    const load = openLoad({ port, rate, seconds: 600 });
    await wait(3_000);
    await serving.longestStallMs();
    await wait(PAUSE_MS * rounds);
    const quietStallMs = await serving.longestStallMs();
    const logged: number[] = [];
    const stalls: number[] = [];
    const reload = async (...edit: Parameters<typeof write>): Promise<number> => {
      const inForce = serving.nextConfig();
      write(...edit);
      const writtenAt = performance.now();
      logged.push(await inForce);
      const time = Math.round(performance.now() - writtenAt);
      await wait(PAUSE_MS);
      stalls.push(await serving.longestStallMs());
      process.stderr.write(
        `${routes} routes, reload: ${time} ms, logged ${logged.at(-1)} ms, longest stall ${ms(stalls.at(-1))} ms\n`,
      );
      return time;
    };
    const times: number[] = [];
    for (let edition = 1; edition <= rounds + 1; edition++) times.push(await reload(edition));
    const moved: number[] = [];
    for (let round = 1; round <= rounds; round++) moved.push(await reload(rounds + 1, round % 2));
    load.stop();
    const answers = await load.done;
    const latencies = answers.map(({ latencyMs }) => latencyMs).sort((a, b) => a - b);
    const [firstReloadMs, ...later] = times;
    return {
      routes,
      firstReloadMs,
      reloadMs: median(later),
      movedMs: median(moved),
      loggedMs: median(logged.slice(1, rounds + 1)),
      longestReloadMs: Math.max(...later),
      stallMs: ms(median(stalls)),
      longestStallMs: ms(Math.max(...stalls)),
      quietStallMs: ms(quietStallMs),
      requests: answers.length,
      failed: answers.filter(({ status }) => status !== 200).length,
      p99Ms: ms(latencies[Math.ceil(latencies.length * 0.99) - 1]),
    };
  } finally {
    await serving.end();
  }
}

/** `selvedge run` with its log, and with the watch over its event loop. */
class Serving {
  readonly #child: ChildProcess;
  readonly #watched: Server;
  /** Where the event loop tells of itself: the last that came, because a process that starts itself anew comes twice. */
  #watch: Socket | null = null;
  #onConfig: (durationMs: number) => void = () => {};

  private constructor(file: string) {
    const watch = join(import.meta.dirname, 'loop-watch.ts');
    const bin = join(import.meta.dirname, '../bin/selvedge.js');
    const socket = `${file}.sock`;
    this.#watched = createServer((socket) => {
      this.#watch = socket.on('error', () => {});
    }).listen(socket);
    this.#child = spawn(process.execPath, ['--import', watch, bin, 'run', '-c', file], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, LOOP_WATCH: socket },
    });
    let rest = '';
    this.#child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() as string;
      for (const line of lines) {
        const { msg, durationMs } = JSON.parse(line) as { readonly msg: string; readonly durationMs?: number };
        if (msg === 'config in force') this.#onConfig(durationMs ?? 0);
        if (msg.startsWith('config rejected')) process.stderr.write(`${line}\n`);
      }
    });
  }

  static async start(file: string): Promise<Serving> {
    const serving = new Serving(file);
    await serving.nextConfig();
    return serving;
  }

  /** Resolves with the milliseconds that it took, as the log has them. */
  nextConfig(): Promise<number> {
    return new Promise((resolve, reject) => {
      const onExit = (code: number | null): void => reject(new Error(`selvedge ended with ${code}`));
      this.#child.once('exit', onExit);
      this.#onConfig = (durationMs) => {
        this.#child.off('exit', onExit);
        resolve(durationMs);
      };
    });
  }

  async longestStallMs(): Promise<number> {
    if (this.#watch === null) throw new Error('nothing watches the event loop');
    const answer = once(this.#watch, 'data');
    this.#watch.write('?');
    const [longestMs] = await answer;
    return Number(longestMs);
  }

  async end(): Promise<void> {
    this.#child.removeAllListeners('exit');
    this.#watched.close();
    await end(this.#child);
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}

function ms(value = Number.NaN): number {
  return Math.round(value * 10) / 10;
}

function report(table: readonly Row[], lookups: Awaited<ReturnType<typeof lookupCosts>>, rate: number): void {
  const print = (line: string): boolean => process.stdout.write(`${line}\n`);
  print(
    `| reload at ${rate} requests/s | first ms | a route changed: median ms (logged), longest | every line moved: median ms | stall ms: median, longest (without reload) | p99 ms | requests, failed |`,
  );
  print('|---|---|---|---|---|---|---|');
  for (const row of table) {
    const stall = `${row.stallMs}, ${row.longestStallMs} (${row.quietStallMs})`;
    print(
      `| ${row.routes} routes | ${row.firstReloadMs} | ${row.reloadMs} (${row.loggedMs}), ${row.longestReloadMs} | ${row.movedMs} | ${stall} | ${row.p99Ms} | ${row.requests}, ${row.failed} |`,
    );
  }
  print('\n| lookup | ns |\n|---|---|');
  for (const { routes, asked, nanoseconds } of lookups.table)
    print(`| ${routes} routes, requests for ${asked} of them | ${nanoseconds} |`);
  print(`| 10,000 routes over 10, the same ten asked for | ${lookups.ratio} |`);
}
