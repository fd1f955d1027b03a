// `npm run bench -- plain`: plain proxying beside its peers. `-- armed`: what resilience costs, all of it on beside all of it off.
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rounded, table as tableOf, timesOf } from './figures.ts';
import { median, memoryMiB, type Sample, sample } from './measure.ts';
import { startBackend } from './nginx.ts';
import { type Peer, startArmed, startPeers } from './peers.ts';
import { stop } from './processes.ts';
import { saveResults } from './results.ts';

export interface PlainBench {
  readonly rounds: number;
  readonly seconds: number;
  /** Only peers whose name has this in it. */
  readonly only: string | undefined;
}

/** Until the compiler of Node has seen the paths of a request; hasty runs need it as well. */
const WARM_UP_SECONDS = 3;
const STOCK = 'stock @fastify/http-proxy';

export async function benchPlain(bench: PlainBench): Promise<void> {
  const rows = await measure(startPeers, bench);
  const { rounds, seconds } = bench;
  saveResults({ plain: { rounds, seconds, connections: 32, bodyBytes: 1024, table: rows } });
}

export async function benchArmed(bench: PlainBench): Promise<void> {
  const rows = await measure(startArmed, bench, 'selvedge unarmed');
  const { rounds, seconds } = bench;
  saveResults({ armed: { rounds, seconds, connections: 32, bodyBytes: 1024, table: rows } });
}

async function measure(
  startAll: (dir: string, peers: Peer[]) => Promise<void>,
  { rounds, seconds, only = '' }: PlainBench,
  base = 'nginx',
): Promise<object[]> {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-bench-'));
  const peers: Peer[] = [];
  const started: ChildProcess[] = [];
  try {
    await startBackend(dir, (child) => started.push(child));
    await startAll(dir, peers);
    const measured = peers.filter(({ name }) => name.includes(only));
    const samples = new Map<string, Sample[]>(measured.map(({ name }) => [name, []]));
    for (const { child, url } of measured) await sample(child.pid as number, url, WARM_UP_SECONDS);
    for (let round = 1; round <= rounds; round++) {
      for (const { name, child, url } of measured) {
        const taken = await sample(child.pid as number, url, seconds);
        samples.get(name)?.push(taken);
        process.stderr.write(`round ${round}/${rounds}  ${name.padEnd(28)} ${taken.cpuMicros.toFixed(1)} µs\n`);
      }
    }
    return report(measured, samples, base);
  } finally {
    for (const child of [...peers.map((peer) => peer.child), ...started]) await stop(child);
    rmSync(dir, { recursive: true, force: true });
  }
}

function report(measured: readonly Peer[], samples: ReadonlyMap<string, readonly Sample[]>, base: string): object[] {
  const cpu = (name: string): number[] => (samples.get(name) ?? []).map(({ cpuMicros }) => cpuMicros);
  const rows = measured.map(({ name, version, child }) => {
    const taken = samples.get(name) as readonly Sample[];
    const memory = memoryMiB(child.pid as number);
    // With the same logging.
    const like = base === 'nginx' && name.endsWith('JSON log') ? 'nginx + JSON log' : base;
    return {
      name,
      version,
      cpuMicros: rounded(median(cpu(name))),
      ...(base === 'nginx'
        ? { overNginx: timesOf(cpu(name), cpu(like)), overStock: timesOf(cpu(name), cpu(STOCK)) }
        : { overUnarmed: timesOf(cpu(name), cpu(like)) }),
      requestsPerSecond: Math.round(median(taken.map(({ perSecond }) => perSecond))),
      p99Ms: rounded(median(taken.map(({ p99Ms }) => p99Ms))),
      rssMiB: Math.round(memory.rss),
      ownMiB: Math.round(memory.own),
    };
  });
  const over = base === 'nginx' ? ['× nginx, same logging', '× stock'] : ['× unarmed'];
  process.stdout.write(
    tableOf(
      ['proxy', 'version', 'CPU µs a request', ...over, 'requests/s', 'p99 ms', 'RSS MiB', 'own MiB'],
      rows.map((row) => Object.values(row)),
    ),
  );
  return rows;
}
