// `npm run bench -- hop`: what a hop costs at a steady rate, plain and with mTLS on both sides, beside nginx doing the same, and what it
// adds to the latency of a direct call in the same round.
import { type ChildProcess, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { HOST, nginxWays, selvedgeWays, type Way } from './hop-ways.ts';
import { cpuSeconds, median, memoryMiB, waitedMs } from './measure.ts';
import { BACKEND_CORE, BACKEND_PORT, startBackend, stop } from './peers.ts';
import { saveResults } from './results.ts';
import { steadyLoad } from './steady.ts';

export interface HopBench {
  readonly rate: number;
  readonly rounds: number;
  readonly seconds: number;
  readonly only: string | undefined;
}

interface Sample {
  /** Percent of a core, for each hop. */
  readonly cpu: readonly number[];
  /** Milliseconds a second that each hop was ready to run and others had the core: what a shared machine adds to latencies. */
  readonly waited: readonly number[];
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Over the direct call of the round. */
  readonly addedP50Ms: number;
  readonly addedP99Ms: number;
}

/** As many callers keep open: a slow steady rate costs more for each request than saturation, where work comes in batches. */
const CONNECTIONS = 20;

export async function benchHop({ rate, rounds, seconds, only = '' }: HopBench): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-bench-hop-'));
  const started: ChildProcess[] = [await startBackend(dir)];
  const keep = (child: ChildProcess): ChildProcess => {
    started.push(child);
    return child;
  };
  // The load shares a core with the application, hops have the other one.
  execFileSync('taskset', ['-acp', BACKEND_CORE, String(process.pid)], { stdio: 'ignore' });
  try {
    const all = [...(await selvedgeWays(dir, keep)), ...(await nginxWays(dir, keep))];
    const ways = all.filter(({ name }) => name.includes(only));
    const load = (port: number, seconds: number) =>
      steadyLoad({ port, host: HOST, rate, connections: CONNECTIONS, seconds });
    for (const { port } of ways) await load(port, 3);
    const samples = new Map<string, Sample[]>(ways.map(({ name }) => [name, []]));
    const directs: { p50Ms: number; p99Ms: number }[] = [];
    for (let round = 1; round <= rounds; round++) {
      const direct = await load(BACKEND_PORT, seconds);
      directs.push(direct);
      for (const { name, port, hops } of ways) {
        const before = hops.map(({ child }) => cpuSeconds(child.pid as number));
        const waitedBefore = hops.map(({ child }) => waitedMs(child.pid as number));
        const startedAt = performance.now();
        const { p50Ms, p99Ms } = await load(port, seconds);
        const elapsed = (performance.now() - startedAt) / 1_000;
        const cpu = hops.map(({ child }, at) => ((cpuSeconds(child.pid as number) - before[at]) / elapsed) * 100);
        const waited = hops.map(({ child }, at) => (waitedMs(child.pid as number) - waitedBefore[at]) / elapsed);
        const added = { addedP50Ms: p50Ms - direct.p50Ms, addedP99Ms: p99Ms - direct.p99Ms };
        samples.get(name)?.push({ cpu, waited, p50Ms, p99Ms, ...added });
        const used = cpu.map((percent) => `${percent.toFixed(1)} %`).join(', ');
        process.stderr.write(
          `round ${round}/${rounds}  ${name.padEnd(22)} ${used.padEnd(16)} +${added.addedP50Ms.toFixed(2)} ms, p99 +${added.addedP99Ms.toFixed(2)} ms\n`,
        );
      }
    }
    report({ ways, samples, directs, rate, rounds, seconds });
  } finally {
    for (const child of started) await stop(child);
    rmSync(dir, { recursive: true, force: true });
  }
}

interface Measured {
  readonly ways: readonly Way[];
  readonly samples: ReadonlyMap<string, readonly Sample[]>;
  readonly directs: readonly { readonly p50Ms: number; readonly p99Ms: number }[];
  readonly rate: number;
  readonly rounds: number;
  readonly seconds: number;
}

function report({ ways, samples, directs, rate, rounds, seconds }: Measured): void {
  const direct = {
    p50Ms: rounded(median(directs.map(({ p50Ms }) => p50Ms))),
    p99Ms: rounded(median(directs.map(({ p99Ms }) => p99Ms))),
  };
  const table = ways.flatMap(({ name, version, hops }) => {
    const taken = samples.get(name) as readonly Sample[];
    const base = samples.get(`nginx, ${name.split(', ')[1]}`);
    const of = (pick: (sample: Sample) => number): number => rounded(median(taken.map(pick)));
    return hops.map(({ name: hop, child }, at) => {
      const memory = memoryMiB(child.pid as number);
      return {
        name,
        hop,
        version,
        cpuPercent: of(({ cpu }) => cpu[at]),
        overNginx:
          base === undefined ? null : rounded(median(taken.map(({ cpu }, round) => cpu[at] / base[round].cpu[at]))),
        waitedMs: of(({ waited }) => waited[at]),
        rssMiB: Math.round(memory.rss),
        ownMiB: Math.round(memory.own),
        addedP50Ms: of(({ addedP50Ms }) => addedP50Ms),
        addedP99Ms: of(({ addedP99Ms }) => addedP99Ms),
      };
    });
  });
  const load = loadavg().map(rounded);
  process.stdout.write(
    `direct: p50 ${direct.p50Ms} ms, p99 ${direct.p99Ms} ms; load of the machine ${load.join(', ')}\n\n` +
      `| ${rate} requests/s | hop | CPU, % of a core | × nginx | waited for a core, ms/s | RSS MiB (own) | added p50 ms (whole way) | added p99 ms |\n|---|---|---|---|---|---|---|---|\n`,
  );
  for (const row of table)
    process.stdout.write(
      `| ${row.name} ${row.version} | ${row.hop} | ${row.cpuPercent} | ${row.overNginx ?? '-'} | ${row.waitedMs} | ${row.rssMiB} (${row.ownMiB}) | ${row.addedP50Ms} | ${row.addedP99Ms} |\n`,
    );
  const about = { at: new Date().toISOString(), node: process.version, cpu: cpus()[0]?.model, load };
  saveResults({ hop: { ...about, rate, rounds, seconds, connections: CONNECTIONS, direct, table } });
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
