// `npm run bench`: plain proxying beside its peers in one run, alternating rounds, CPU per request as medians and ratios.
// `npm run bench -- start`: how long a start takes.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { median, memoryMiB, type Sample, sample } from './measure.ts';
import { type Peer, startBackend, startPeers } from './peers.ts';
import { saveResults } from './results.ts';
import { benchStart } from './start.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    only: { type: 'string' },
  },
});
const rounds = Number(values.rounds ?? (values.quick ? 3 : 7));
const seconds = Number(values.seconds ?? (values.quick ? 2 : 5));

if (positionals[0] === 'start') await benchStart(Number(values.rounds ?? (values.quick ? 3 : 11)));
else await benchProxies();

async function benchProxies(): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-bench-'));
  const backend = await startBackend(dir);
  const peers: Peer[] = [];
  try {
    const all = await startPeers(dir);
    peers.push(...all);
    const measured = values.only === undefined ? all : all.filter((peer) => peer.name.includes(values.only as string));
    const samples = new Map<string, Sample[]>(measured.map((peer) => [peer.name, []]));
    for (const peer of measured) await sample(peer.child.pid as number, peer.url, values.quick ? 1 : 3);
    for (let round = 1; round <= rounds; round++) {
      for (const peer of measured) {
        const taken = await sample(peer.child.pid as number, peer.url, seconds);
        samples.get(peer.name)?.push(taken);
        process.stderr.write(`round ${round}/${rounds}  ${peer.name.padEnd(28)} ${taken.cpuMicros.toFixed(1)} µs\n`);
      }
    }
    report(measured, samples);
  } finally {
    for (const { child } of [...peers, { child: backend }]) {
      if (child.exitCode === null && child.kill('SIGTERM'))
        await Promise.race([once(child, 'exit'), new Promise((resolve) => setTimeout(resolve, 8000))]);
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    }
    rmSync(dir, { recursive: true, force: true });
  }
}

interface Row {
  readonly name: string;
  readonly version: string;
  readonly cpuMicros: number;
  readonly requestsPerSecond: number;
  readonly p99Ms: number;
  readonly rssMiB: number;
  readonly ownMiB: number;
  /** CPU per request over nginx's with the same logging. */
  readonly overNginx: number | null;
}

function report(measured: readonly Peer[], samples: ReadonlyMap<string, readonly Sample[]>): void {
  const cpu = (name: string): number | null => {
    const taken = samples.get(name);
    return taken === undefined || taken.length === 0 ? null : median(taken.map((one) => one.cpuMicros));
  };
  const table = measured.map(({ name, version, child }): Row => {
    const taken = samples.get(name) as readonly Sample[];
    const base = cpu(name.endsWith('JSON log') ? 'nginx + JSON log' : 'nginx');
    const own = cpu(name) as number;
    const memory = memoryMiB(child.pid as number);
    return {
      name,
      version,
      cpuMicros: round(own),
      requestsPerSecond: Math.round(median(taken.map((one) => one.perSecond))),
      p99Ms: round(median(taken.map((one) => one.p99Ms))),
      rssMiB: Math.round(memory.rss),
      ownMiB: Math.round(memory.own),
      overNginx: base === null ? null : round(own / base),
    };
  });
  process.stdout.write(
    '| proxy | version | CPU µs a request | × nginx | requests/s | p99 ms | RSS MiB (own) |\n|---|---|---|---|---|---|---|\n',
  );
  for (const row of table) {
    process.stdout.write(
      `| ${row.name} | ${row.version} | ${row.cpuMicros} | ${row.overNginx ?? '-'} | ${row.requestsPerSecond} | ${row.p99Ms} | ${row.rssMiB} (${row.ownMiB}) |\n`,
    );
  }
  const result = {
    at: new Date().toISOString(),
    node: process.version,
    cpu: cpus()[0]?.model,
    rounds,
    seconds,
    connections: 32,
    bodyBytes: 1024,
    table,
  };
  saveResults(result);
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
