// `npm run bench -- hop`: what a hop costs at a steady rate, plain and with mTLS on both sides, beside nginx and Envoy doing the same,
// and what it adds to the latency of a direct call in the same round. Then what a service costs that shares a hop with nine others.
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rounded, table as tableOf, timesOf } from './figures.ts';
import { makeCertificates } from './hop-certificates.ts';
import { envoyWays, HOST, nginxWays, selvedgeWays, type Way } from './hop-ways.ts';
import { cpuSeconds, median, memoryMiB, waitedMs } from './measure.ts';
import { BACKEND_PORT, startBackend } from './nginx.ts';
import { BACKEND_CORE, onCore, stop } from './processes.ts';
import { saveResults } from './results.ts';
import { shareHop } from './shared-hop.ts';
import { steadyLoad } from './steady.ts';

export interface HopBench {
  readonly rate: number;
  readonly rounds: number;
  readonly seconds: number;
  /** Seconds of load before the first round, however short the rounds: its code is compiled bit by bit over some 40,000 requests. */
  readonly warmUp: number;
  /** Only ways whose name has this in it. */
  readonly only: string | undefined;
  /** Neither added latency at a calm rate nor a shared hop. */
  readonly cpuOnly: boolean;
}

interface Sample {
  /** Percent of a core, for each hop. */
  readonly cpu: readonly number[];
  /** Milliseconds a second that each hop was ready to run and others had the core: what a shared machine adds to latencies. */
  readonly waited: readonly number[];
  /** Over the direct call of the round. */
  readonly addedP50Ms: number;
  readonly addedP99Ms: number;
}

/** As many callers keep open: a slow steady rate costs more for each request than saturation, where work comes in batches. */
const CONNECTIONS = 20;
/** Requests a second at which added latency is stated: slow enough that nobody waits in a queue of the load's own making. */
const CALM = 200;

export async function benchHop({ rate, rounds, seconds, warmUp, only = '', cpuOnly }: HopBench): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-bench-hop-'));
  const started: ChildProcess[] = [];
  const keep = (child: ChildProcess): unknown => started.push(child);
  try {
    await startBackend(dir, keep);
    const certificates = await makeCertificates(dir);
    const all = [
      ...(await selvedgeWays(dir, keep)),
      ...(await nginxWays(dir, certificates, keep)),
      ...(await envoyWays(dir, certificates, keep)),
    ];
    const ways = all.filter((way) => nameOf(way).includes(only));
    // The load shares a core with the application, hops have the other one.
    await onCore(BACKEND_CORE, async () => {
      for (const { port } of ways) await load(port, rate, warmUp);
      const steady = await measure(ways, rate, rounds, seconds);
      const memory = ways.flatMap(({ hops }) => hops.map(({ child }) => memoryMiB(child.pid as number)));
      const calm = cpuOnly ? null : await measure(ways, CALM, rounds, seconds);
      const table = [...report(ways, steady, rate, memory), ...(calm === null ? [] : report(ways, calm, CALM, memory))];
      const shared = cpuOnly || !ways.some(({ by }) => by === 'selvedge') ? null : await shareHop(dir, keep, seconds);
      saveResults({ hop: { rate, calm: CALM, rounds, seconds, connections: CONNECTIONS, table, shared } });
    });
  } finally {
    for (const child of started) await stop(child);
    rmSync(dir, { recursive: true, force: true });
  }
}

function nameOf({ by, kind }: Way): string {
  return `${by}, ${kind}`;
}

function load(port: number, rate: number, seconds: number): ReturnType<typeof steadyLoad> {
  return steadyLoad({ port, host: HOST, rate, connections: CONNECTIONS, seconds });
}

async function measure(
  ways: readonly Way[],
  rate: number,
  rounds: number,
  seconds: number,
): Promise<ReadonlyMap<string, readonly Sample[]>> {
  const samples = new Map<string, Sample[]>(ways.map((way) => [nameOf(way), []]));
  for (let round = 1; round <= rounds; round++) {
    const direct = await load(BACKEND_PORT, rate, seconds);
    for (const way of ways) {
      const pids = way.hops.map(({ child }) => child.pid as number);
      const cpuBefore = pids.map(cpuSeconds);
      const waitedBefore = pids.map(waitedMs);
      const startedAt = performance.now();
      const { p50Ms, p99Ms } = await load(way.port, rate, seconds);
      const elapsed = (performance.now() - startedAt) / 1_000;
      const cpu = pids.map((pid, at) => ((cpuSeconds(pid) - cpuBefore[at]) / elapsed) * 100);
      const waited = pids.map((pid, at) => (waitedMs(pid) - waitedBefore[at]) / elapsed);
      const added = { addedP50Ms: p50Ms - direct.p50Ms, addedP99Ms: p99Ms - direct.p99Ms };
      samples.get(nameOf(way))?.push({ cpu, waited, ...added });
      const used = cpu.map((percent) => `${percent.toFixed(1)} %`).join(', ');
      process.stderr.write(
        `${rate}/s, round ${round}/${rounds}  ${nameOf(way).padEnd(16)} ${used.padEnd(16)} +${added.addedP50Ms.toFixed(2)} ms, p99 +${added.addedP99Ms.toFixed(2)} ms\n`,
      );
    }
  }
  return samples;
}

function report(
  ways: readonly Way[],
  samples: ReadonlyMap<string, readonly Sample[]>,
  rate: number,
  memory: readonly { readonly rss: number; readonly own: number }[],
): object[] {
  const cpuOf = (name: string, at: number): number[] => (samples.get(name) ?? []).map(({ cpu }) => cpu[at]);
  const hops = ways.flatMap((way) => way.hops.map((hop, at) => ({ way, hop, at })));
  const rows = hops.map(({ way, hop, at }, index) => {
    const taken = samples.get(nameOf(way)) as readonly Sample[];
    const of = (pick: (sample: Sample) => number): number => rounded(median(taken.map(pick)));
    const own = cpuOf(nameOf(way), at);
    return {
      rate,
      name: nameOf(way),
      hop: hop.name,
      version: way.version,
      cpuPercent: rounded(median(own)),
      overNginx: timesOf(own, cpuOf(`nginx, ${way.kind}`, at)),
      overEnvoy: timesOf(own, cpuOf(`envoy, ${way.kind}`, at)),
      waitedMs: of(({ waited }) => waited[at]),
      rssMiB: Math.round(memory[index].rss),
      ownMiB: Math.round(memory[index].own),
      addedP50Ms: of(({ addedP50Ms }) => addedP50Ms),
      addedP99Ms: of(({ addedP99Ms }) => addedP99Ms),
    };
  });
  const costs = ['CPU, % of a core', '× nginx', '× envoy', 'waited for a core, ms/s', 'RSS MiB', 'own MiB'];
  const head = ['requests/s', 'way', 'hop', 'version', ...costs, 'added p50 ms (whole way)', 'added p99 ms'];
  process.stdout.write(
    `${tableOf(
      head,
      rows.map((row) => Object.values(row)),
    )}\n`,
  );
  return rows;
}
