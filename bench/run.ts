// `npm run bench`: plain proxying beside its peers in one run, alternating rounds, CPU per request as medians and ratios.
// `npm run bench -- start`: how long a start takes.
// `npm run bench -- mesh`: whether requests fail while certificates, CA and root change. `-- hop`: what a hop costs.
// `npm run bench -- edge`: the edge job (tokens, limits, log, metrics) beside HAProxy and Envoy.
// `npm run bench -- reload`: what an edit costs while requests are served, with 1,000 and 10,000 routes.
// `npm run bench -- armed`: what resilience costs, all of it switched on beside all of it switched off.
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { benchEdge } from './edge.ts';
import { benchHop } from './hop.ts';
import { median, memoryMiB, type Sample, sample } from './measure.ts';
import { benchMesh } from './mesh.ts';
import { type Peer, startArmed, startBackend, startPeers, stop } from './peers.ts';
import { benchReload } from './reload.ts';
import { saveResults } from './results.ts';
import { benchStart } from './start.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    only: { type: 'string' },
    /** Requests a second. */
    rate: { type: 'string' },
  },
});
const rounds = Number(values.rounds ?? (values.quick ? 3 : 7));
const seconds = Number(values.seconds ?? (values.quick ? 2 : 5));

if (positionals[0] === 'start') await benchStart(Number(values.rounds ?? (values.quick ? 3 : 11)));
else if (positionals[0] === 'mesh')
  await benchMesh({ rate: Number(values.rate ?? 200), seconds: Number(values.seconds ?? 20) });
else if (positionals[0] === 'hop')
  await benchHop({ rate: Number(values.rate ?? 1_000), rounds, seconds, only: values.only });
else if (positionals[0] === 'reload')
  await benchReload({ rounds: Number(values.rounds ?? (values.quick ? 5 : 11)), rate: Number(values.rate ?? 300) });
else if (positionals[0] === 'edge') await benchEdge({ rounds, seconds, only: values.only });
else await benchProxies(positionals[0] === 'armed');

async function benchProxies(armed: boolean): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-bench-'));
  const backend = await startBackend(dir);
  const peers: Peer[] = [];
  try {
    await (armed ? startArmed(dir, peers) : startPeers(dir, peers));
    const measured =
      values.only === undefined ? peers : peers.filter((peer) => peer.name.includes(values.only as string));
    const samples = new Map<string, Sample[]>(measured.map((peer) => [peer.name, []]));
    for (const peer of measured) await sample(peer.child.pid as number, peer.url, values.quick ? 1 : 3);
    for (let round = 1; round <= rounds; round++) {
      for (const peer of measured) {
        const taken = await sample(peer.child.pid as number, peer.url, seconds);
        samples.get(peer.name)?.push(taken);
        process.stderr.write(`round ${round}/${rounds}  ${peer.name.padEnd(28)} ${taken.cpuMicros.toFixed(1)} µs\n`);
      }
    }
    const table = report(measured, samples);
    if (armed && measured.length > 1) reportRatio(samples);
    if (!armed) save(table);
  } finally {
    for (const { child } of [...peers, { child: backend }]) await stop(child);
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

function report(measured: readonly Peer[], samples: ReadonlyMap<string, readonly Sample[]>): readonly Row[] {
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
  return table;
}

function save(table: readonly Row[]): void {
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

/** By rounds: what disturbs one of a pair most likely disturbs the other. */
function reportRatio(samples: ReadonlyMap<string, readonly Sample[]>): void {
  const unarmed = samples.get('selvedge unarmed') ?? [];
  const ratios = (samples.get('selvedge armed') ?? []).map(({ cpuMicros }, at) => cpuMicros / unarmed[at].cpuMicros);
  const spread = `${round(Math.min(...ratios))} to ${round(Math.max(...ratios))}`;
  process.stdout.write(`\narmed over unarmed, CPU a request: ${round(median(ratios))} (rounds: ${spread})\n`);
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
