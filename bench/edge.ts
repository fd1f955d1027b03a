// `npm run bench -- edge`: the edge job beside HAProxy and Envoy, with tokens of several hundred clients and of twenty thousand.
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeKeys, mintTokens, startEdges } from './edge-peers.ts';
import { rounded, table as tableOf, timesOf } from './figures.ts';
import { median, memoryMiB, type Sample, sample } from './measure.ts';
import { startBackend } from './nginx.ts';
import type { Peer } from './peers.ts';
import { stop } from './processes.ts';
import { saveResults } from './results.ts';

export interface EdgeBench {
  readonly rounds: number;
  readonly seconds: number;
  readonly only: string | undefined;
}

const FEW = 500;
const MANY = 20_000;

export async function benchEdge({ rounds, seconds, only = '' }: EdgeBench): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-bench-edge-'));
  const peers: Peer[] = [];
  const started: ChildProcess[] = [];
  try {
    await startBackend(dir, (child) => started.push(child));
    const { key, keys } = makeKeys();
    const scripts = [FEW, MANY].map((tokens) => ({ tokens, script: mintTokens(dir, tokens, key) }));
    await startEdges(dir, keys, peers);
    const measured = peers.filter(({ name }) => name.includes(only));
    const samples = new Map<string, Sample[]>();
    for (const peer of measured) await provesItsJob(peer);
    for (const { tokens, script } of scripts) {
      for (const { child, url } of measured) await sample(child.pid as number, url, Math.min(seconds, 2), script);
      for (let round = 1; round <= rounds; round++) {
        for (const { name, child, url } of measured) {
          const taken = await sample(child.pid as number, url, seconds, script);
          const all = samples.get(`${name} ${tokens}`) ?? [];
          samples.set(`${name} ${tokens}`, [...all, taken]);
          process.stderr.write(
            `round ${round}/${rounds}  ${String(tokens).padStart(6)} tokens  ${name.padEnd(28)} ${taken.cpuMicros.toFixed(1)} µs\n`,
          );
        }
      }
    }
    report({ measured, samples, rounds, seconds });
  } finally {
    for (const child of [...peers.map((peer) => peer.child), ...started]) await stop(child);
    rmSync(dir, { recursive: true, force: true });
  }
}

/** What lets anybody through does another job. */
async function provesItsJob({ name, url }: Peer): Promise<void> {
  const unsigned = 'Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyLTEifQ.';
  for (const headers of [{}, { authorization: unsigned }]) {
    const { status } = await fetch(url, { headers });
    if (status !== 401) throw new Error(`${name} answers ${status} to a request without a good token`);
  }
}

interface Measured {
  readonly measured: readonly Peer[];
  readonly samples: ReadonlyMap<string, readonly Sample[]>;
  readonly rounds: number;
  readonly seconds: number;
}

function report({ measured, samples, rounds, seconds }: Measured): void {
  const cpu = (name: string, tokens: number): number[] =>
    (samples.get(`${name} ${tokens}`) ?? []).map(({ cpuMicros }) => cpuMicros);
  const rows = measured.flatMap(({ name, version, child }) =>
    [FEW, MANY].map((tokens) => {
      const own = cpu(name, tokens);
      const memory = memoryMiB(child.pid as number);
      const taken = samples.get(`${name} ${tokens}`) as readonly Sample[];
      return {
        name,
        version,
        tokens,
        cpuMicros: rounded(median(own)),
        overHaproxy: timesOf(own, cpu('haproxy', tokens)),
        overEnvoy: timesOf(own, cpu('envoy', tokens)),
        requestsPerSecond: Math.round(median(taken.map(({ perSecond }) => perSecond))),
        p99Ms: rounded(median(taken.map(({ p99Ms }) => p99Ms))),
        rssMiB: Math.round(memory.rss),
        ownMiB: Math.round(memory.own),
      };
    }),
  );
  process.stdout.write(
    tableOf(
      [
        'proxy',
        'version',
        'distinct tokens',
        'CPU µs a request',
        '× haproxy',
        '× envoy',
        'requests/s',
        'p99 ms',
        'RSS MiB',
        'own MiB',
      ],
      rows.map((row) => Object.values(row)),
    ),
  );
  saveResults({ edge: { rounds, seconds, table: rows } });
}
